"""`deploy/verify_export.py`: a second reader of exports, which shares no code with the first, and agrees with it."""

from __future__ import annotations

import ast
import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest

from clinic.audit.entry import RawEntry, entry_hash
from clinic.audit.export import export, open_export
from clinic.audit.export_file import MANIFEST, line_of, raw_of
from clinic.audit.log import AuditLog
from clinic.domain import OPERATOR, canonical_json
from clinic.errors import ClinicError
from tests.unit.audit.audit_store import OTHER_SEED, SteadyClock, Store, fill, make_store
from tests.unit.audit.export_parts import IDENTITY, KEY, PROGRAM, SCRIPT, Parts, flipped, verdict, write

MISTYPED = str(KEY)[:-1] + ("P" if str(KEY)[-1] == "Q" else "Q")


def program(*arguments: object) -> tuple[int, str]:
    """Run the script as an auditor does, in a process of its own that cannot import the clinic's program."""
    command = [sys.executable, "-I", str(PROGRAM), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd="/")
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def log(filled: Store) -> AuditLog:
    """A log of ten entries."""
    return filled.log()


@pytest.fixture
def out(log: AuditLog, tmp_path: Path) -> Path:
    """An export of that log."""
    path = tmp_path / "audit.age"
    export(log, [str(KEY.to_public())], path, actor=OPERATOR, clock=SteadyClock())
    return path


def rehashed(lines: list[bytes], start: int) -> list[bytes]:
    """Chain the lines anew from number `start`, as somebody with the whole database can."""
    made: list[RawEntry] = [raw_of(line) for line in lines[:start]]
    for line in lines[start:]:
        values = json.loads(line) | {"seq": len(made) + 1, "prev_hash": made[-1].hash.hex() if made else "0" * 64}
        raw = raw_of(canonical_json(values) + b"\n")
        made.append(raw._replace(hash=entry_hash(raw)))
    return [line_of(raw) for raw in made]


def changed(lines: list[bytes], place: int) -> list[bytes]:
    """Blame somebody else for one entry."""
    line = lines[place].replace(b'"actor":"operator"', b'"actor":"operatox"')
    return [*lines[:place], line, *lines[place + 1 :]]


def test_the_script_is_short_and_stands_alone() -> None:
    """At most 300 lines, the standard library and `cryptography`, not a line of the clinic's own program."""
    source = PROGRAM.read_text("utf-8")
    assert len(source.splitlines()) <= 300
    tree = ast.walk(ast.parse(source))
    names = {node.module or "" for node in tree if isinstance(node, ast.ImportFrom)}
    names |= {item.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for item in node.names}
    assert {name.split(".")[0] for name in names} <= {*sys.stdlib_module_names, "cryptography"}


def test_it_verifies_an_export_as_a_program(log: AuditLog, out: Path, tmp_path: Path) -> None:
    """Exit 0 with the clinic's key, 3 without it, 1 with another's; an earlier checkpoint is held against it."""
    identity, earlier = tmp_path / "auditor.key", tmp_path / "earlier.txt"
    identity.write_text(IDENTITY)
    earlier.write_text(log.checkpoint(size=4))
    code, said = program(out, "--identity", identity, "--vkey", log.vkey, "--checkpoint", earlier)
    assert (code, "entries 1 to 10: 10, none changed" in said, "VERIFIED" in said) == (0, True, True)
    code, said = program(out, "--identity", identity)
    assert (code, "WHOLE IN ITSELF" in said, log.vkey in said) == (3, True, True)
    code, said = program(out, "--identity", identity, "--vkey", filled_vkey(tmp_path))
    assert (code, "REFUSED (checkpoint)" in said) == (1, True)
    assert program(tmp_path / "nowhere.age", "--identity", identity)[0] == 2
    assert program(out)[0] == 2
    assert "Traceback" not in said


def filled_vkey(folder: Path) -> str:
    """Return the key of another clinic."""
    store = make_store(folder / "other.db")
    key = store.log(seed=OTHER_SEED).vkey
    store.engine.dispose()
    return key


@pytest.mark.parametrize(("first", "last"), [(1, 1), (2, 2), (6, 9), (10, 10)])
def test_ranges_verify(log: AuditLog, tmp_path: Path, first: int, last: int) -> None:
    """A range is anchored by the tree before it and the checkpoint at its end."""
    path = tmp_path / "range.age"
    export(log, [str(KEY.to_public())], path, actor=OPERATOR, first=first, last=last)
    assert verdict(path, vkey=log.vkey) == ("ok", None)


def test_several_recipients_and_chunks(store: Store, tmp_path: Path) -> None:
    """A stanza among others is found, and an export of several chunks is read to its last tag."""
    fill(store.log(), 400)
    path, other = tmp_path / "many.age", pyrage.x25519.Identity.generate()
    export(store.log(), [str(other.to_public()), str(KEY.to_public())], path, actor=OPERATOR)
    assert path.stat().st_size > 2 * 65536
    assert verdict(path, vkey=store.log().vkey) == ("ok", None)
    data = path.read_bytes()
    for length in (len(data) - 1, len(data) - 65552, data.index(b"\n---") + 5 + 43 + 16 + 65552, 300, 20, 0):
        path.write_bytes(data[:length])
        # A header that ends early is malformed; where it ends depends on the random stanza that age may add.
        assert verdict(path, vkey=store.log().vkey)[0] in ({"age", "malformed"} if length == 300 else {"age"})
    for place in range(0, len(data), 1009):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert verdict(path, vkey=store.log().vkey)[0] in {"age", "malformed"}
    path.write_bytes(data + b"x")
    assert verdict(path, vkey=store.log().vkey)[0] == "age"


ATTACKS: list[Any] = [
    pytest.param(lambda e: e.but(lines=changed(e.lines, 4)), 5, id="changed"),
    pytest.param(lambda e: e.fitted(changed(e.lines, 4)), 5, id="changed, manifest too"),
    pytest.param(lambda e: e.fitted(e.lines[:-1]), 10, id="truncated"),
    pytest.param(lambda e: e.fitted([*e.lines[:4], *e.lines[5:]]), 5, id="removed"),
    pytest.param(lambda e: e.fitted([e.lines[0], e.lines[2], e.lines[1], *e.lines[3:]]), 2, id="reordered"),
    pytest.param(lambda e: e.fitted([*e.lines[:5], e.lines[4], *e.lines[5:]]), 5, id="duplicated"),
    pytest.param(lambda e: e.fitted(rehashed(changed(e.lines, 4), 4)), None, id="forked"),
    pytest.param(
        lambda e: e.fitted([*e.lines[:4], rehashed(changed(e.lines, 4), 4)[4], *e.lines[5:]]), 6, id="spliced"
    ),
    pytest.param(lambda e: e.but(manifest={"count": 9}), None, id="count"),
    pytest.param(lambda e: e.but(manifest={"head_hash": "0" * 64}), None, id="head"),
    pytest.param(lambda e: e.but(manifest={"before": ["0" * 64]}), None, id="tree before"),
    pytest.param(lambda e: e.but(manifest={"origin": "clinic.local/audit/0000"}), None, id="origin"),
    pytest.param(lambda e: e.but(manifest={"vkey": e.manifest["vkey"] + " "}), None, id="key"),
    pytest.param(lambda e: e.but(manifest={"more": 1}), None, id="unknown key"),
    pytest.param(lambda e: e.but(manifest={"first": True}), None, id="no number"),
    pytest.param(lambda e: e.but(manifest={"created_at": 1}), None, id="no text"),
    pytest.param(lambda e: e.but(manifest={"prev_hash": "A" * 64}), None, id="capitals"),
    pytest.param(lambda e: e.but(manifest={"format": "clinic-audit-export-v2"}), None, id="version 2 with proofs"),
    pytest.param(lambda e: e.but(manifest={"format": "clinic-audit-export-v4"}), None, id="version 4"),
    pytest.param(lambda e: e.but(manifest={"last": 9}), None, id="last"),
    pytest.param(lambda e: e.but(manifest={"first": 11, "last": 10, "count": 0}, lines=[]), None, id="nothing"),
    pytest.param(
        lambda e: e.but(manifest={"checkpoint": e.manifest["checkpoint"].replace("\n10\n", "\n9\n")}), None, id="size"
    ),
    pytest.param(lambda e: e.but(lines=[b"null\n", *e.lines[1:]]), 1, id="no entry"),
]


@pytest.mark.parametrize(("attack", "first_bad"), ATTACKS)
def test_both_verifiers_refuse_a_forgery(
    log: AuditLog, out: Path, tmp_path: Path, attack: Callable[[Parts], Parts], first_bad: int | None
) -> None:
    """Whoever can encrypt to the auditor can neither change nor leave out entries; the first bad one is named."""
    forged = attack(Parts.of(out)).write(tmp_path / "forged.age")
    problem, entry = verdict(forged, vkey=log.vkey)
    assert problem != "ok"
    assert entry == first_bad
    try:
        report = open_export(forged, IDENTITY, vkey=log.vkey).report
    except ClinicError:
        return
    assert not report.ok
    assert report.first_bad == first_bad


def test_the_same_repacking_without_a_change_verifies(log: AuditLog, out: Path, tmp_path: Path) -> None:
    """Negative control: neither packing, nor fitting, nor chaining anew what was not changed, is refused."""
    export = Parts.of(out)
    for content in (export, export.fitted(export.lines), export.fitted(rehashed(export.lines, 0))):
        forged = content.write(tmp_path / "forged.age")
        assert verdict(forged, vkey=log.vkey) == ("ok", None)
        assert open_export(forged, IDENTITY, vkey=log.vkey).report.ok


def test_rollback_and_fork_need_the_checkpoint_kept_earlier(log: AuditLog, filled: Store, tmp_path: Path) -> None:
    """An export of an older or of another history, signed with the real key, passes without it and fails with it."""
    older, other, kept = tmp_path / "older.age", tmp_path / "other.age", tmp_path / "kept.txt"
    kept.write_text(log.checkpoint())
    export(log, [str(KEY.to_public())], older, actor=OPERATOR, last=7)
    fork = make_store(tmp_path / "fork.db")
    fill(fork.log(), 9)
    fill(fork.log(), 3)
    export(fork.log(), [str(KEY.to_public())], other, actor=OPERATOR)
    for path, expected in ((older, ("truncated", 8)), (other, ("forked", None))):
        assert verdict(path, vkey=log.vkey) == ("ok", None)
        assert verdict(path, vkey=log.vkey, seen=[kept.read_text()]) == expected
        report = open_export(path, IDENTITY, vkey=log.vkey, seen=[kept.read_text()]).report
        assert (report.problem, report.first_bad) == expected
    fork.engine.dispose()
    assert filled.path.exists()


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.campaign)])
def test_every_byte_of_the_content_counts(log: AuditLog, out: Path, tmp_path: Path, step: int) -> None:
    """One bit flipped in the bytes of each line and of the manifest, encrypted again: refused, and the entry named.

    Only the date of the export (`created_at`) is vouched for by nobody; `FORMAT.md` says so.
    """
    export, forged = Parts.of(out), tmp_path / "forged.age"
    (_, described), *rest = export.members()
    tried = 0
    for number, line in enumerate(export.lines, start=1):
        for place in range(number % step, len(line), step):
            lines = [*export.lines[: number - 1], flipped(line, place), *export.lines[number:]]
            problem, entry = verdict(export.but(lines=lines).write(forged), vkey=log.vkey)
            assert (problem != "ok", entry) == (True, number), (number, place)
            tried += 1
    start = described.index(b'"created_at"')
    free = range(start, start + len('"created_at":"2026-01-02T03:04:05.678Z"'))
    for place in range(0, len(described) - 1, step):
        if place in free:
            continue
        write(forged, [(MANIFEST, flipped(described, place)), *rest])
        assert verdict(forged, vkey=log.vkey)[0] != "ok", place
        tried += 1
    assert tried > 4000 // step
    assert verdict(write(forged, [(MANIFEST, described), *rest]), vkey=log.vkey) == ("ok", None)


@pytest.mark.parametrize(
    "text",
    ["", "rubbish", MISTYPED, f"{KEY}\n{KEY}", "AGE-SECRET-KEY-1QQ"],
    ids=["empty", "rubbish", "mistyped", "two-keys", "short"],
)
def test_what_is_no_identity_is_refused(out: Path, tmp_path: Path, text: str) -> None:
    """A mistyped key is told from a wrong one, and never repeated."""
    identity = tmp_path / "bad.key"
    identity.write_text(text)
    code, said = program(out, "--identity", identity)
    assert (code, "REFUSED (identity)" in said, str(KEY)[20:40] in said) == (1, True, False)


def test_a_strangers_identity_and_a_changed_key_are_refused(log: AuditLog, out: Path, tmp_path: Path) -> None:
    """Only a recipient opens it, and a verifier key with a wrong letter is no key."""
    options = {"file": out, "seen": []}
    identity = tmp_path / "stranger.key"
    identity.write_text(str(pyrage.x25519.Identity.generate()))
    name, key_id, key = log.vkey.split("+", 2)
    wrong = base64.b64encode(bytes([1, *reversed(base64.b64decode(key)[1:])])).decode()
    for file, vkey, problem in ((identity, log.vkey, "age"), (None, f"{name}+{key_id}+{wrong}", "key")):
        own = tmp_path / "own.key"
        own.write_text(IDENTITY)
        with pytest.raises(SCRIPT["Refused"]) as caught:
            SCRIPT["run"](SCRIPT["argparse"].Namespace(**options, identity=file or own, vkey=vkey))
        assert caught.value.args[0] == problem
