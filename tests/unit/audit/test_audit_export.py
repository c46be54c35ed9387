"""Exports: encrypted, whole, recorded, and verified by whoever opens them, also with the standard tool."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import asdict
from errno import ENOSPC, EOPNOTSUPP, EROFS
from pathlib import Path
from typing import Any

import pyrage
import pytest

from clinic.audit import export as export_module
from clinic.audit.entry import Entry
from clinic.audit.events import AuditExported, from_canonical
from clinic.audit.export import Exported, export, open_export
from clinic.audit.export_file import ENTRIES, MANIFEST, TAR_END, line_of, raw_of, tar_header, tar_padding
from clinic.audit.export_out import OutFile
from clinic.audit.log import AuditLog
from clinic.audit.verify import Problem
from clinic.domain import OPERATOR
from clinic.errors import AuditError, ClinicError, InputError, StorageError
from tests.unit.audit.audit_store import OTHER_SEED, SteadyClock, Store, fill
from tests.unit.audit.export_parts import IDENTITY, KEY, RECIPIENT, Parts

ROOT = Path(__file__).resolve().parents[3]


def _export(log: AuditLog, out: Path, **options: Any) -> Exported:
    return export(log, [RECIPIENT], out, actor=OPERATOR, clock=SteadyClock(), **options)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where exports go: an empty folder."""
    folder = tmp_path / "usb"
    folder.mkdir()
    return folder / "audit.age"


def test_an_export_opens_and_verifies(filled: Store, out: Path) -> None:
    """All entries come back as they are in the log, with a manifest that says what they are."""
    log = filled.log()
    done = _export(log, out)
    opened = open_export(out, IDENTITY, vkey=log.vkey)
    assert (opened.report.ok, opened.report.entries, opened.key_known) == (True, 10, True)
    assert list(opened.entries) == list(log.entries(last=10))
    assert opened.manifest == done.manifest
    assert (done.manifest.first, done.manifest.last, done.manifest.count, len(opened.entries)) == (1, 10, 10, 10)
    assert done.manifest.vkey == log.vkey
    assert not open_export(out, IDENTITY).key_known


def test_an_export_is_recorded_before_it_appears(filled: Store, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log names range, digest and number of recipients, and was committed while the file had no name yet."""
    log = filled.log()
    publish = OutFile.publish
    seen: list[Entry] = []

    def check(file: OutFile) -> None:
        seen.extend(filled.log().entries(first=11))
        assert list(out.parent.iterdir()) == []
        publish(file)

    monkeypatch.setattr(OutFile, "publish", check)
    done = _export(log, out)
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert (done.sha256, seen) == (digest, [done.entry])
    event = from_canonical(done.entry.event, done.entry.body)
    assert event == AuditExported(first=1, last=10, sha256=digest, recipients=1)


def test_an_export_that_cannot_be_recorded_does_not_appear(filled: Store, out: Path) -> None:
    """If the log refuses the event, there is no file."""
    log = filled.log()
    with filled.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(AuditError):
        _export(log, out)
    assert list(out.parent.iterdir()) == []


def test_an_export_is_private_and_holds_nothing_in_the_clear(filled: Store, out: Path) -> None:
    """Mode 0600, and not one word of the entries can be read in the file."""
    done = _export(filled.log(), out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    data = out.read_bytes()
    assert data.startswith(b"age-encryption.org/v1\n")
    assert not any(word in data for word in (b"operator", b"patient", done.manifest.origin.encode(), b"manifest"))
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 10), (2, 2), (6, 9), (10, 10)])
def test_any_range_verifies_up_to_a_signed_root(filled: Store, out: Path, first: int, last: int) -> None:
    """A range is anchored by the compact tree before it and the checkpoint at its end."""
    log = filled.log()
    _export(log, out, first=first, last=last)
    opened = open_export(out, IDENTITY, vkey=log.vkey)
    assert opened.report.ok, opened.report.message
    assert [entry.seq for entry in opened.entries] == list(range(first, last + 1))


@pytest.mark.parametrize(("first", "last"), [(0, 3), (5, 4), (1, 11), (11, None)])
def test_ranges_outside_the_log_are_refused(filled: Store, out: Path, first: int, last: int | None) -> None:
    """An export never silently holds less than was asked for."""
    with pytest.raises(InputError) as caught:
        _export(filled.log(), out, first=first, last=last)
    assert caught.value.code == "range_invalid"


@pytest.mark.parametrize(
    "recipients",
    [
        pytest.param([], id="none"),
        pytest.param(["age1nobody"], id="no key"),
        pytest.param([RECIPIENT, "auditor@example.org"], id="one bad among good"),
        pytest.param([str(KEY)], id="the secret key"),
    ],
)
def test_bad_recipients_are_refused(filled: Store, out: Path, recipients: list[str]) -> None:
    """Nothing is written or recorded, and a secret key given by mistake is not repeated."""
    with pytest.raises(InputError) as caught:
        export(filled.log(), recipients, out, actor=OPERATOR)
    assert caught.value.code == "recipient_invalid"
    assert str(KEY) not in f"{caught.value!r}{caught.value.hint}"
    assert list(out.parent.iterdir()) == []
    assert filled.log().head().size == 10


def test_several_recipients_open_the_same_export(filled: Store, out: Path) -> None:
    """Each recipient opens it with his own identity; nobody else does."""
    second, stranger = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    done = export(filled.log(), [RECIPIENT, str(second.to_public()), RECIPIENT], out, actor=OPERATOR)
    assert b'"recipients":2' in done.entry.body
    assert open_export(out, IDENTITY).report.ok
    assert open_export(out, str(second)).report.ok
    with pytest.raises(InputError) as caught:
        open_export(out, str(stranger))
    assert caught.value.code == "export_unreadable"


def test_a_damaged_log_is_not_exported(filled: Store, out: Path) -> None:
    """Verification comes first."""
    filled.tamper("UPDATE audit_entries SET actor = 'mallory' WHERE seq = 5")
    with pytest.raises(AuditError, match="entry `5`") as caught:
        _export(filled.log(), out)
    assert caught.value.code == "audit_damaged"
    assert list(out.parent.iterdir()) == []


def test_a_log_that_changes_during_the_export_is_not_exported(
    filled: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was verified and what was written must be the same bytes."""
    archive = export_module._archive

    def late(manifest: Any, audit: AuditLog, sizes: Any) -> Any:
        filled.tamper("UPDATE audit_entries SET actor = 'mallory' WHERE seq = 5")
        return archive(manifest, audit, sizes)

    monkeypatch.setattr(export_module, "_archive", late)
    with pytest.raises(AuditError) as caught:
        _export(filled.log(), out)
    assert caught.value.code == "audit_damaged"
    assert list(out.parent.iterdir()) == []


def test_nothing_is_overwritten(filled: Store, out: Path) -> None:
    """An existing file stays as it is, a dangling link too."""
    out.write_text("mine")
    link = out.with_name("link.age")
    link.symlink_to("nowhere")
    for target in (out, link):
        with pytest.raises(InputError) as caught:
            _export(filled.log(), target)
        assert caught.value.code == "output_exists"
    assert out.read_text() == "mine"


def test_a_folder_that_is_not_there_is_an_input_error(filled: Store, tmp_path: Path) -> None:
    """The reader learns that the place cannot be written to."""
    with pytest.raises(InputError) as caught:
        _export(filled.log(), tmp_path / "nowhere" / "audit.age")
    assert caught.value.code == "output_unwritable"


def test_a_full_disk_leaves_nothing_behind(filled: Store, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device without room the export fails as `disk_full` and is not recorded."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    create = OutFile._create

    def full(file: OutFile) -> int:
        descriptor, device = create(file), os.open("/dev/full", os.O_WRONLY)
        os.dup2(device, descriptor)
        os.close(device)
        return descriptor

    monkeypatch.setattr(OutFile, "_create", full)
    with pytest.raises(StorageError) as caught:
        _export(filled.log(), out)
    assert caught.value.code == "disk_full"
    assert list(out.parent.iterdir()) == []
    assert filled.log().head().size == 10


def test_age_alone_would_not_notice_a_full_disk() -> None:
    """Negative control: pyrage reports success though its last chunk was refused, so the writer's own word counts."""
    refused: list[int] = []

    class Full:
        def write(self, data: bytes) -> int:
            refused.append(len(data))
            raise OSError(ENOSPC, "no space left on device")

        def flush(self) -> None: ...

    pyrage.encrypt_io(io.BytesIO(b"a small export"), Full(), [KEY.to_public()])
    assert refused


def _no_unnamed_files(monkeypatch: pytest.MonkeyPatch, number: int = EOPNOTSUPP) -> None:
    """Behave as a medium that cannot hold a file without a name (FAT)."""
    real = os.open

    def refuse(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(number, "as told")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_place_that_was_taken_meanwhile_stays_as_it_is(
    filled: Store, out: Path, monkeypatch: pytest.MonkeyPatch, *, unnamed: bool
) -> None:
    """If the finished file cannot get its name, the reader learns it, nothing is overwritten and no part is left."""
    fill_file = OutFile.fill

    def taken(file: OutFile, *rest: Any) -> str:
        out.write_text("mine")
        return fill_file(file, *rest)

    if not unnamed:
        _no_unnamed_files(monkeypatch)
    monkeypatch.setattr(OutFile, "fill", taken)
    with pytest.raises(InputError) as caught:
        _export(filled.log(), out)
    assert caught.value.code == "output_exists"
    assert (list(out.parent.iterdir()), out.read_text()) == ([out], "mine")


def test_a_medium_without_unnamed_files_gets_the_same_export(
    filled: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file must have a name from the start, a hidden one is given up for the real one at the end."""
    _no_unnamed_files(monkeypatch)
    _export(filled.log(), out)
    assert list(out.parent.iterdir()) == [out]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert open_export(out, IDENTITY, vkey=filled.log().vkey).report.ok


def test_a_medium_that_refuses_for_another_reason_is_an_input_error(
    filled: Store, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only disk is not tried again in another way."""
    _no_unnamed_files(monkeypatch, EROFS)
    with pytest.raises(InputError) as caught:
        _export(filled.log(), out)
    assert caught.value.code == "output_unwritable"
    assert list(out.parent.iterdir()) == []


_EXPORTER = """
import sys
from pathlib import Path
from clinic.audit.export import export
from clinic.audit.export_out import OutFile
from clinic.domain import OPERATOR
from tests.unit.audit.audit_store import Store, open_engine

def waiting(file):
    print("written", flush=True)
    sys.stdin.read()

OutFile.publish = waiting
if sys.argv[4] == "named":
    OutFile.__init__.__globals__["os"].O_TMPFILE = 0  # opens no folder for writing
path = Path(sys.argv[1])
export(Store(path, open_engine(path)).log(), [sys.argv[2]], Path(sys.argv[3]), actor=OPERATOR)
"""


@pytest.mark.parametrize(("how", "left"), [("unnamed", 0), ("named", 1)])
def test_an_export_that_is_killed_leaves_no_half_file(filled: Store, out: Path, how: str, left: int) -> None:
    """`kill -9` after the last byte, before the name: the folder is empty.

    Negative control: the way for media without unnamed files leaves its hidden `.part`, and never the name asked for.
    """
    command = [sys.executable, "-c", _EXPORTER, str(filled.path), RECIPIENT, str(out), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.kill()
    found = [path.name for path in out.parent.iterdir()]
    assert len(found) == left
    assert all(name.startswith(".audit.age.") and name.endswith(".part") for name in found)
    assert [entry.event for entry in filled.log().entries()][-1] == "log.exported"


def test_too_many_recipients_are_refused(filled: Store, out: Path) -> None:
    """A list that nobody oversees is a mistake."""
    many = [str(pyrage.x25519.Identity.generate().to_public()) for _ in range(21)]
    with pytest.raises(InputError) as caught:
        export(filled.log(), many, out, actor=OPERATOR)
    assert caught.value.code == "recipient_invalid"


# --- damage, and forgery by somebody who may encrypt to the auditor -----------------------------------


def test_a_cut_off_export_never_opens(filled: Store, out: Path) -> None:
    """No beginning of an export is ever a success, wherever it is cut."""
    _export(filled.log(), out)
    data = out.read_bytes()
    short = out.with_name("short.age")
    for length in [*range(0, 400, 7), *range(400, len(data), 97), *range(len(data) - 20, len(data))]:
        short.write_bytes(data[:length])
        with pytest.raises(ClinicError) as caught:
            open_export(short, IDENTITY)
        assert caught.value.code in {"export_unreadable", "export_damaged"}


def test_an_export_of_several_chunks_is_not_opened_in_part(store: Store, out: Path) -> None:
    """The age format releases whole chunks before the end is checked: still nothing of a cut file is accepted."""
    fill(store.log(), 400)
    _export(store.log(), out)
    data = out.read_bytes()
    assert len(data) > 2 * 65536
    short = out.with_name("short.age")
    header = data.index(b"\n---") + 4 + 43 + 1
    for length in (header + 16 + 65552, header + 16 + 2 * 65552, header + 16 + 65552 + 1, len(data) - 1):
        short.write_bytes(data[:length])
        with pytest.raises(AuditError) as caught:
            open_export(short, IDENTITY)
        assert caught.value.code == "export_damaged"
    assert open_export(out, IDENTITY).report.entries == 400


def test_a_changed_export_never_opens(filled: Store, out: Path) -> None:
    """A flipped bit anywhere in the encrypted file is an error."""
    _export(filled.log(), out)
    data = out.read_bytes()
    changed = out.with_name("changed.age")
    for place in range(0, len(data), 37):
        mutant = bytearray(data)
        mutant[place] ^= 0x04
        changed.write_bytes(mutant)
        with pytest.raises(ClinicError):
            open_export(changed, IDENTITY)
    changed.write_bytes(data + b"x")
    with pytest.raises(AuditError):
        open_export(changed, IDENTITY)


@pytest.mark.parametrize(
    ("attack", "problem"),
    [
        pytest.param(lambda e: e.but(lines=e.lines[:-1]), Problem.TRUNCATED, id="last line removed"),
        pytest.param(lambda e: e.fitted(e.lines[:-1]), Problem.TRUNCATED, id="and the manifest"),
        pytest.param(lambda e: e.but(lines=e.lines[:4] + e.lines[5:]), Problem.GAP, id="line removed"),
        pytest.param(lambda e: e.but(lines=e.lines + e.lines[-1:]), Problem.REORDERED, id="line repeated"),
        pytest.param(lambda e: e.but(lines=e.lines[1:2] + e.lines[:1] + e.lines[2:]), Problem.GAP, id="lines swapped"),
        pytest.param(lambda e: e.but(manifest={"count": 9}), Problem.MANIFEST, id="count"),
        pytest.param(lambda e: e.but(manifest={"head_hash": "0" * 64}), Problem.MANIFEST, id="head"),
        pytest.param(lambda e: e.but(manifest={"entries_sha256": "0" * 64}), Problem.MANIFEST, id="digest"),
        pytest.param(lambda e: e.but(manifest={"origin": "other"}), Problem.MANIFEST, id="origin"),
        pytest.param(lambda e: e.but(manifest={"proofs": 2}), Problem.MANIFEST, id="proofs"),
        pytest.param(lambda e: e.but(manifest={"vkey": "x"}), Problem.MANIFEST, id="key"),
        pytest.param(
            lambda e: e.but(manifest={"checkpoint": e.manifest["checkpoint"].replace("\n10\n", "\n9\n")}),
            Problem.CHECKPOINT_SIGNATURE,
            id="checkpoint",
        ),
        pytest.param(
            lambda e: e.but(lines=[e.lines[0].replace(b"operator", b"opera-or"), *e.lines[1:]]),
            Problem.CHANGED,
            id="actor",
        ),
    ],
)
def test_forged_content_is_named(filled: Store, out: Path, attack: Any, problem: Problem) -> None:
    """Whoever can encrypt to the auditor still cannot make up or leave out entries."""
    log = filled.log()
    _export(log, out)
    forged = attack(Parts.of(out)).write(out.with_name("forged.age"))
    opened = open_export(forged, IDENTITY, vkey=log.vkey)
    assert (opened.report.ok, opened.report.problem) == (False, problem)
    assert list(opened.entries) == []


def test_a_manifest_that_contradicts_itself_is_refused(filled: Store, out: Path) -> None:
    """A compact tree that cannot belong to the range is damage."""
    _export(filled.log(), out)
    Parts.of(out).but(manifest={"before": ["0" * 64]}).write(out)
    with pytest.raises(AuditError) as caught:
        open_export(out, IDENTITY)
    assert caught.value.code == "export_damaged"


def test_an_unchanged_forgery_opens(filled: Store, out: Path) -> None:
    """Negative control for the forgeries above: the same way of repacking, without a change, is accepted."""
    _export(filled.log(), out)
    forged = Parts.of(out).write(out.with_name("forged.age"))
    assert open_export(forged, IDENTITY, vkey=filled.log().vkey).report.ok


def test_an_export_of_a_made_up_log_needs_the_clinics_key(filled: Store, out: Path) -> None:
    """A whole log signed with another key is consistent in itself; the clinic's key tells."""
    _export(filled.log(seed=OTHER_SEED), out)
    assert open_export(out, IDENTITY).report.ok
    opened = open_export(out, IDENTITY, vkey=filled.log().vkey)
    assert (opened.report.ok, opened.report.problem) == (False, Problem.CHECKPOINT_SIGNATURE)


def test_an_export_is_checked_against_an_earlier_checkpoint(filled: Store, out: Path) -> None:
    """An auditor who kept a checkpoint notices an export of a shorter or another log."""
    log = filled.log()
    early, late = log.checkpoint(size=4), log.checkpoint()
    _export(log, out, last=8)
    assert open_export(out, IDENTITY, vkey=log.vkey, seen=[early]).report.ok
    assert open_export(out, IDENTITY, vkey=log.vkey, seen=[late]).report.problem is Problem.TRUNCATED


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"no archive", id="no archive"),
        pytest.param(tar_header("other.txt", 0) + TAR_END, id="another archive"),
        pytest.param(
            tar_header(MANIFEST, 2) + b"{}" + tar_padding(2) + tar_header(ENTRIES, 0) + TAR_END, id="no manifest"
        ),
    ],
)
def test_what_is_no_export_is_refused(out: Path, content: bytes) -> None:
    """Something else in an age file is an error, not an empty success."""
    out.write_bytes(pyrage.encrypt(content, [KEY.to_public()]))
    with pytest.raises(AuditError) as caught:
        open_export(out, IDENTITY)
    assert caught.value.code == "export_damaged"


@pytest.mark.parametrize(
    "identity",
    ["", "# only a comment\n", "AGE-SECRET-KEY-1NOPE", f"{KEY}\nrubbish"],
    ids=["empty", "comment", "malformed", "key-and-rubbish"],
)
def test_what_is_no_identity_is_refused(filled: Store, out: Path, identity: str) -> None:
    """The reader learns that the key file is none, without seeing the key."""
    _export(filled.log(), out)
    with pytest.raises(InputError) as caught:
        open_export(out, identity)
    assert caught.value.code == "identity_invalid"
    assert str(KEY) not in str(caught.value)


def test_a_missing_export_is_an_input_error(out: Path) -> None:
    """A path that leads nowhere is the caller's mistake."""
    with pytest.raises(InputError) as caught:
        open_export(out, IDENTITY)
    assert caught.value.code == "export_unreadable"


@pytest.mark.parametrize("line", [b"", b"{}\n", b"[]\n", b"\xff\n", b'{"seq":1}\n', b"null\n"])
def test_what_is_no_line_is_refused(line: bytes) -> None:
    """A line that is no entry is an error."""
    with pytest.raises(AuditError):
        raw_of(line)


def test_a_line_has_one_form(filled: Store) -> None:
    """A line written in any other way is not read."""
    raw = next(filled.log().raw_entries())
    line = line_of(raw)
    assert raw_of(line) == raw
    for other in (line.rstrip(), line.replace(b",", b", "), line.replace(b'"hash"', b'"extra":1,"hash"')):
        with pytest.raises(AuditError):
            raw_of(other)


# --- the standard tool --------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("age") is None or shutil.which("age-keygen") is None, reason="the age tool is absent")
def test_the_standard_age_tool_opens_an_export(filled: Store, tmp_path: Path, out: Path) -> None:
    """An auditor needs nothing of ours: `age-keygen`, `age -d`, `tar`."""
    key = tmp_path / "auditor.key"
    subprocess.run(["age-keygen", "-o", str(key)], check=True, capture_output=True, timeout=60)
    made = subprocess.run(["age-keygen", "-y", str(key)], check=True, capture_output=True, text=True, timeout=60)
    log = filled.log()
    export(log, [made.stdout], out, actor=OPERATOR)
    plain = subprocess.run(["age", "-d", "-i", str(key), str(out)], check=True, capture_output=True, timeout=60).stdout
    listing = subprocess.run(["tar", "t"], input=plain, check=True, capture_output=True, timeout=60).stdout
    assert listing.split() == [b"manifest.json", b"proofs.jsonl", b"entries.jsonl"]
    entries = subprocess.run(["tar", "xO", "entries.jsonl"], input=plain, check=True, capture_output=True, timeout=60)
    found = [json.loads(line) for line in entries.stdout.splitlines()]
    assert [line["hash"] for line in found] == [entry.hash.hex() for entry in log.entries(last=10)]
    columns = set(asdict(next(log.entries())))
    assert [set(line) for line in found[:4:3]] == [columns - {"sealed"}, columns]
    assert open_export(out, key.read_text(), vkey=log.vkey).report.ok


@pytest.mark.skipif(shutil.which("age") is None, reason="the age tool is absent")
def test_the_standard_age_tool_refuses_a_cut_off_export(filled: Store, tmp_path: Path, out: Path) -> None:
    """A truncated file fails with the standard tool too."""
    key = tmp_path / "auditor.key"
    key.write_text(IDENTITY)
    _export(filled.log(), out)
    out.chmod(0o600)
    out.write_bytes(out.read_bytes()[:-1])
    done = subprocess.run(["age", "-d", "-i", str(key), str(out)], check=False, capture_output=True, timeout=60)
    assert done.returncode != 0
