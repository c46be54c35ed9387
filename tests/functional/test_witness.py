"""The witness as people meet it: the auditor's page, the commands, and a data folder that was put back whole."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clinic.cli import main
from clinic.config import Config
from clinic.domain import Role
from clinic.errors import AuditError
from clinic.home import open_records, record_unlock, unlock_home
from clinic.records.records import Records
from tests.functional.web_world import World


def clinic(config: Config, *arguments: str) -> Result:
    """Run one command."""
    return CliRunner().invoke(main, [*arguments, "--home", str(config.home)])


def put_back(config: Config, copy: Path) -> None:
    """Do what a thief of time does: the whole data folder as it was, with the witnesses it knew then."""
    shutil.rmtree(config.home)
    shutil.copytree(copy, config.home)


def test_a_data_folder_that_was_put_back_whole_does_not_start(config: Config, tmp_path: Path) -> None:
    """Without the witness's own copy it starts (the control); once that is given back, it refuses, and says why."""
    keyring = unlock_home(config)
    record_unlock(config, keyring)
    shutil.copytree(config.home, tmp_path / "old")
    record_unlock(config, keyring)
    seen = tmp_path / "seen.txt"
    seen.write_text(open_records(config, keyring).audit.checkpoint(), encoding="utf-8")
    put_back(config, tmp_path / "old")
    assert clinic(config, "audit", "verify").exit_code == 0
    size = open_records(config, keyring).audit.size()
    given_back = clinic(config, "audit", "witness", "add", str(seen), "--name", "tablet")
    assert (given_back.exit_code, "audit_rolled_back" in given_back.stderr) == (1, True)
    assert open_records(config, keyring).audit.size() == size, "a log that was caught out gets no entry more"
    with pytest.raises(AuditError) as caught:
        record_unlock(config, keyring)
    assert caught.value.code == "audit_rolled_back"
    started = clinic(config, "serve")
    assert (started.exit_code, "audit_rolled_back" in started.stderr) == (1, True)
    assert clinic(config, "audit", "verify").exit_code == 1


def test_a_witness_that_agrees_is_listed(config: Config, records: Records, tmp_path: Path) -> None:
    """`witness add`, recorded once, and `list`, and a checkpoint with the proof since an earlier one."""
    record_unlock(config, unlock_home(config))
    note = tmp_path / "note.txt"
    assert clinic(config, "audit", "checkpoint", "--since", "1", "--out", str(note)).exit_code == 0
    assert note.read_text(encoding="utf-8").startswith("old 1\n")
    seen = records.audit.head()
    assert clinic(config, "audit", "witness", "add", str(note), "--name", "tablet").exit_code == 0
    (entry,) = records.audit.named("witness.added")
    assert json.loads(entry.body) == {"witness": "tablet", "entries": seen.size, "root": seen.root.hex()}
    assert clinic(config, "audit", "witness", "add", str(tmp_path / "none.txt")).exit_code == 2
    assert len(list(records.audit.named("witness.added"))) == 1
    listed = clinic(config, "audit", "witness", "list")
    assert f"{seen.size} entries" in listed.stdout
    assert '"entries"' in clinic(config, "audit", "witness", "list", "--json").stdout
    assert clinic(config, "audit", "verify", "--checkpoint", str(note)).exit_code == 0
    record_unlock(config, unlock_home(config))


def test_a_file_that_is_no_checkpoint_is_a_usage_error(config: Config, tmp_path: Path) -> None:
    """Exit 2 and a stable code; a checkpoint of another clinic is a finding, exit 1."""
    bad = tmp_path / "bad.txt"
    bad.write_text("hello\n", encoding="utf-8")
    for command in (("verify", "--checkpoint"), ("witness", "add")):
        result = clinic(config, "audit", *command, str(bad))
        assert (result.exit_code, "(checkpoint_malformed)" in result.stderr) == (2, True)
    assert clinic(config, "audit", "checkpoint", "--since", "0").exit_code == 2
    for seq in ("0", "999"):
        result = clinic(config, "audit", "prove", seq)
        assert (result.exit_code, "(entry_unknown)" in result.stderr) == (2, True)
    opening = ("audit", "open", str(bad), "--identity", str(bad), "--checkpoint", str(bad), "--vkey")
    for vkey in (open_records(config, unlock_home(config)).audit.vkey, "no key"):
        result = CliRunner().invoke(main, [*opening, vkey])
        assert (result.exit_code, "(checkpoint_malformed)" in result.stderr) == (2, True)
    assert "(audit_rolled_back)" in clinic(config, "audit", "checkpoint", "--since", "999").stderr


def test_the_page_shows_the_checkpoint_as_a_code(world: World) -> None:
    """A QR code and the signed checkpoint beside it; with `seen`, the proof of growth; for the auditor alone."""
    auditor = world.browser(Role.AUDITOR)
    page = auditor.get("/audit/witness")
    assert page.status_code == 200
    assert world.records.audit.checkpoint().split("\n")[2] in page.text.replace("&#43;", "+")
    image = re.search(r'src="(data:image/svg\+xml[^"]+)"', page.text)
    assert image is not None
    assert "svg" in image[1]
    assert "old 1\n" in auditor.get("/audit/witness?seen=1").text
    assert auditor.get("/audit/witness?seen=x").status_code == 422
    behind = auditor.get("/audit/witness?seen=99999")
    assert (behind.status_code, "it was seen with 99999" in behind.text) == (409, True)
    for role in (Role.CLINICIAN, Role.ADMINISTRATOR):
        assert world.browser(role).get("/audit/witness").status_code == 403
