"""A restored clinic decides: the policy set that its log names comes back with it."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from clinic.backup import create as create_module
from clinic.backup.restore import Wish, restore
from clinic.domain import OPERATOR
from clinic.errors import PolicyError
from clinic.home import open_records
from clinic.services import PolicySource
from tests.unit.backup.backup_world import Clinic


def active_set(clinic: Clinic) -> str:
    """Activate what ships, then a set of the clinic's own; return the digest of that one."""
    config = clinic.site.config
    policies = PolicySource(config, clinic.site.records)
    own = Path(shutil.copytree(config.policy.directory, config.home.parent / "own-policies"))
    with (own / "consent.cedar").open("a", encoding="utf-8") as file:
        file.write("\n// Ours.\n")
    policies.activate(own, "strict", actor=OPERATOR)
    return policies().sha256


def test_the_active_policy_set_comes_back(clinic: Clinic, usb: Path, tmp_path: Path) -> None:
    """Restored elsewhere, the clinic decides by the same set, and can go back to the one before; files stay private."""
    wanted = active_set(clinic)
    made = clinic.back_up(usb)
    back = restore(made.folder, clinic.secret, Wish(tmp_path / "new"))
    policies = PolicySource(back.config, open_records(back.config, back.keyring))
    assert policies().sha256 == wanted
    folders = [path for path in back.config.policies_dir.rglob("*") if path.is_dir()]
    assert len(folders) > 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in (back.config.policies_dir, *folders)} == {0o700}
    policies.rollback(actor=OPERATOR)
    assert policies().sha256 != wanted


def test_without_its_files_the_restored_clinic_would_decide_nothing(
    clinic: Clinic, usb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a backup without `policies/` restores a clinic that denies everything."""
    active_set(clinic)
    plain = tuple(name for name in create_module.SMALL_FILES if not name.startswith("policies/"))
    monkeypatch.setattr(create_module, "SMALL_FILES", plain)
    made = clinic.back_up(usb)
    back = restore(made.folder, clinic.secret, Wish(tmp_path / "new"))
    with pytest.raises(PolicyError) as caught:
        PolicySource(back.config, open_records(back.config, back.keyring))()
    assert caught.value.code == "policy_set_damaged"
