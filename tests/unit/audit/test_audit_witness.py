"""Witnesses: what another device saw of the log, and that neither a rollback nor a fork gets past it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from clinic.audit.consistency import growth, note_in
from clinic.audit.events import BackupRestored
from clinic.audit.log import AuditLog
from clinic.audit.paths import consistency_proof
from clinic.audit.tree import leaf_hash, root_of
from clinic.audit.verify import Problem
from clinic.audit.witness import FOLDER, add, require_current, verify_witnessed, witnessed
from clinic.domain import OPERATOR
from clinic.errors import AuditError, ClinicError, InputError
from tests.conftest import ROOT
from tests.unit.audit.audit_store import OTHER_SEED, Store, fill, make_store, some_events

SCRIPT = ROOT / "deploy" / "witness.py"


class Device:
    """Another machine, with the script and nothing else of ours."""

    def __init__(self, folder: Path, vkey: str) -> None:
        self.folder, self.vkey = folder, vkey

    def see(self, text: str) -> subprocess.CompletedProcess[str]:
        """Show it a text."""
        first = [] if self.folder.exists() else ["--vkey", self.vkey]
        return self._run("see", str(self.folder), "-", *first, text=text)

    def last(self) -> str:
        """Return what it kept last."""
        return self._run("last", str(self.folder)).stdout

    def _run(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", str(SCRIPT), *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


@pytest.fixture
def device(filled: Store, tmp_path: Path) -> Device:
    """A witness that has seen nothing yet."""
    return Device(tmp_path / "device", filled.log().vkey)


def _code(action: object) -> str:
    assert callable(action)
    with pytest.raises(ClinicError) as caught:
        action()
    return caught.value.code


# --- the script ----------------------------------------------------------------------------------


def test_the_script_follows_a_log_that_grows(filled: Store, device: Device) -> None:
    """The first checkpoint is believed for its signature, each later one for its proof; the last one is given back."""
    log = filled.log()
    assert device.see(log.checkpoint()).returncode == 0
    for grown in (1, 1, 5, 8):
        before = log.head().size
        fill(log, grown)
        seen = device.see(growth(log, before))
        assert (seen.returncode, seen.stderr) == (0, "")
    assert device.last() == log.checkpoint()
    assert device.see(log.checkpoint()).returncode == 0, "the same once more is no news"


def test_the_script_refuses_a_rollback(filled: Store, device: Device) -> None:
    """A shorter log, rightly signed, is refused, and kept as evidence."""
    log = filled.log()
    older = log.checkpoint()
    fill(log, 3)
    assert device.see(log.checkpoint()).returncode == 0
    refused = device.see(older)
    assert (refused.returncode, "ROLLBACK" in refused.stderr) == (1, True)
    assert device.last() == log.checkpoint()
    assert [path.name.split("-")[1] for path in device.folder.glob("refused-*")] == ["10"]


@pytest.mark.parametrize("more", [0, 4])
def test_the_script_refuses_a_fork(filled: Store, device: Device, tmp_path: Path, more: int) -> None:
    """Another log of the same key, as long or longer, is refused, though its own proof is sound."""
    assert device.see(filled.log().checkpoint()).returncode == 0
    other = make_store(tmp_path / "other.db").log()
    for event in reversed(list(some_events(10))):
        other.append(event, actor=OPERATOR)
    if more:
        fill(other, more)
    refused = device.see(growth(other, 10) if more else other.checkpoint())
    assert (refused.returncode, "FORK" in refused.stderr) == (1, True)


def test_the_script_wants_a_proof_of_growth(filled: Store, device: Device) -> None:
    """A longer log without a proof, with one from elsewhere, or with a damaged one is refused."""
    log = filled.log()
    assert device.see(log.checkpoint()).returncode == 0
    fill(log, 7)
    good = growth(log, 10)
    assert "NO PROOF" in device.see(log.checkpoint()).stderr
    assert "NO PROOF" in device.see(growth(log, 9)).stderr
    head, _, note = good.partition("\n\n")
    lines = head.split("\n")
    for damaged in (lines[:-1], [lines[0], *lines[2:]], [lines[0], *reversed(lines[1:])], [*lines, lines[-1]]):
        assert "FORK" in device.see("\n".join(damaged) + "\n\n" + note).stderr
    assert device.see(good).returncode == 0, "the negative control: undamaged, it is believed"


def test_the_script_believes_only_its_own_key(filled: Store, device: Device) -> None:
    """A note of another key, and any changed byte of a good one, are refused."""
    note = filled.log().checkpoint()
    assert device.see(note).returncode == 0
    assert device.see(filled.log(seed=OTHER_SEED).checkpoint()).returncode == 1
    for place in range(0, len(note), 9):
        changed = note[:place] + ("A" if note[place] != "A" else "B") + note[place + 1 :]
        assert device.see(changed).returncode == 1, place


@pytest.mark.parametrize("size", [2, 3, 7, 8, 13, 33])
def test_every_proof_of_growth_is_believed_and_no_other(size: int) -> None:
    """From each earlier size the proof holds; for another earlier root, or another new one, it does not."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from witness import has_grown  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    leaves = [leaf_hash(bytes([number])) for number in range(size)]
    for old in range(1, size):
        proof = list(consistency_proof(leaves, old))
        before, after = root_of(leaves[:old]), root_of(leaves)
        assert has_grown(old, before, size, after, proof)
        assert not has_grown(old, after, size, after, proof)
        assert not has_grown(old, before, size, before, proof)
        assert not has_grown(old, before, size + 1, after, [*proof, after])


# --- the data folder -----------------------------------------------------------------------------


def test_what_a_witness_gives_back_is_kept_and_compared(filled: Store, tmp_path: Path) -> None:
    """The newest of each witness stays; verification goes against it."""
    log = filled.log()
    add(tmp_path, log, name="front-desk", text=log.checkpoint())
    fill(log, 3)
    add(tmp_path, log, name="front-desk", text=growth(log, 10))
    add(tmp_path, log, name="tablet", text=log.checkpoint(size=4))
    kept = witnessed(tmp_path, vkey=log.vkey)
    assert [(each.name, each.checkpoint.size) for each in kept] == [("front-desk", 13), ("tablet", 4)]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / FOLDER).iterdir())
    report = verify_witnessed(tmp_path, log)
    assert (report.ok, report.entries) == (True, 13)


def test_an_older_log_is_refused_once_a_witness_has_spoken(filled: Store, tmp_path: Path) -> None:
    """The checkpoint is kept although the log does not fit it, and nothing starts from then on."""
    log = filled.log()
    fill(log, 3)
    seen = log.checkpoint()
    filled.tamper("DELETE FROM audit_entries WHERE seq > 10")
    older = filled.log()
    require_current(tmp_path, older)  # the negative control: alone, an older log looks well
    assert older.verify().ok
    assert _code(lambda: add(tmp_path, older, name="tablet", text=seen)) == "audit_rolled_back"
    assert _code(lambda: require_current(tmp_path, older)) == "audit_rolled_back"
    report = verify_witnessed(tmp_path, older)
    assert (report.ok, report.problem, report.first_bad) == (False, Problem.TRUNCATED, 11)
    for event in reversed(list(some_events(5))):
        older.append(event, actor=OPERATOR)
    assert _code(lambda: require_current(tmp_path, older)) == "audit_forked", "growing again does not help"
    assert verify_witnessed(tmp_path, older).problem is Problem.FORKED


def test_a_recorded_loss_is_no_rollback(filled: Store, tmp_path: Path) -> None:
    """What `clinic backup restore` recorded as lost does not stop the clinic; one entry more than that does."""
    log = filled.log()
    fill(log, 3)
    seen = log.checkpoint()
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "tablet.checkpoint").write_text(seen, encoding="utf-8")
    filled.tamper("DELETE FROM audit_entries WHERE seq > 10")
    restored = filled.log()
    with filled.begin() as connection:
        loss = BackupRestored(backup="b1", entries=10, witnessed=12, reason="disk_lost")
        restored.append(loss, actor=OPERATOR, connection=connection)
    assert _code(lambda: require_current(tmp_path, restored)) == "audit_rolled_back"
    whole = BackupRestored(backup="b1", entries=10, witnessed=13, reason="disk_lost")
    restored.append(whole, actor=OPERATOR)
    require_current(tmp_path, restored)
    assert verify_witnessed(tmp_path, restored).ok


def test_one_checkpoint_more_is_held_against_the_log(filled: Store, tmp_path: Path) -> None:
    """Beside those of the witnesses, for this once: one of this log is fine, one of its lost future is not."""
    log = filled.log()
    add(tmp_path, log, name="tablet", text=log.checkpoint())
    assert verify_witnessed(tmp_path, log, checkpoint=log.checkpoint()).ok
    fill(log, 3)
    later = log.checkpoint()
    filled.tamper("DELETE FROM audit_entries WHERE seq > 10")
    cut = filled.log()
    assert verify_witnessed(tmp_path, cut).ok, "the control: what the tablet saw is still there"
    assert not verify_witnessed(tmp_path, cut, checkpoint=later).ok


def test_nothing_else_is_kept(filled: Store, tmp_path: Path) -> None:
    """A wrong name, no checkpoint, another clinic's checkpoint: one code each, and no file."""
    log = filled.log()
    note = log.checkpoint()
    assert _code(lambda: add(tmp_path, log, name="../up", text=note)) == "witness_name_invalid"
    with pytest.raises(InputError) as caught:
        add(tmp_path, log, name="tablet", text="not a checkpoint")
    assert caught.value.code == "checkpoint_malformed"
    other = filled.log(seed=OTHER_SEED)
    assert _code(lambda: add(tmp_path, log, name="tablet", text=other.checkpoint())) == "checkpoint_signature"
    assert list(tmp_path.rglob("*.checkpoint")) == []


def test_a_damaged_kept_checkpoint_is_no_pass(filled: Store, tmp_path: Path) -> None:
    """What lies there and is no checkpoint of this log stops the start; a link is not followed."""
    log = filled.log()
    kept = add(tmp_path, log, name="tablet", text=log.checkpoint())
    kept.path.write_text("gone", encoding="utf-8")
    assert _code(lambda: require_current(tmp_path, log)) == "witness_damaged"
    kept.path.unlink()
    (tmp_path / "elsewhere").write_text(log.checkpoint(), encoding="utf-8")
    kept.path.symlink_to(tmp_path / "elsewhere")
    assert _code(lambda: require_current(tmp_path, log)) == "witness_damaged"


def test_growth_is_asked_from_a_size_of_this_log(filled: Store) -> None:
    """None below one, none above the log: that witness saw what this log has lost."""
    log: AuditLog = filled.log()
    assert _code(lambda: growth(log, 0)) == "range_invalid"
    assert _code(lambda: growth(log, 11)) == "audit_rolled_back"
    assert note_in(growth(log, 10)) == log.checkpoint() == note_in(log.checkpoint())
    with pytest.raises(ValueError, match="own sizes"):
        consistency_proof([], 1)


def test_a_row_without_a_hash_fits_nothing(filled: Store, tmp_path: Path) -> None:
    """A row of which the hash is none ends the comparison: refused, not crashed."""
    log = filled.log()
    add(tmp_path, log, name="tablet", text=log.checkpoint())
    filled.tamper("UPDATE audit_entries SET hash = 7 WHERE seq = 5")
    with pytest.raises(AuditError):
        require_current(tmp_path, filled.log())
