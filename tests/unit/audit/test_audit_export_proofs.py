"""Proofs in exports: that each continues every checkpoint that somebody may hold, found by both verifiers."""

from __future__ import annotations

import io
import json
import random  # noqa: TID251 - the same cases each time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest

from clinic.audit import export as export_module
from clinic.audit.checkpoint import Checkpoint
from clinic.audit.events import WitnessAdded
from clinic.audit.export import Exported, export, open_export
from clinic.audit.export_file import TAR_END, tar_header
from clinic.audit.kept import Rhythm
from clinic.audit.links import Link, follow
from clinic.audit.log import AuditLog
from clinic.audit.reading import LogReader
from clinic.audit.signing import signer_of
from clinic.audit.tree import CompactTree
from clinic.domain import OPERATOR, canonical_json
from clinic.errors import AuditError, ClinicError
from tests.unit.audit.audit_store import DIGEST, OTHER_SEED, SEED, SteadyClock, Store, fill, make_store
from tests.unit.audit.export_parts import (
    IDENTITY,
    KEY,
    RECIPIENT,
    SCRIPT,
    Parts,
    both,
    flipped,
    verdict,
    verdict_of_the_program,
    write,
)

KEPT = (4, 9, 33, 99)
SIZE = 107
FIRST = 60  # of a range: behind a checkpoint that was kept, and before another


def _filled(folder: Path) -> AuditLog:
    """Return a log of 107 entries that kept four checkpoints; each call gives the same."""
    log, size = make_store(folder / "clinic.db").log(), 0
    for kept in KEPT:
        fill(log, kept - size)
        assert log.keep_checkpoint() == kept
        size = kept
    fill(log, SIZE - size)
    return log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> AuditLog:
    """That log; no test of this module adds to it."""
    return _filled(tmp_path_factory.mktemp("proofs"))


@pytest.fixture(scope="module")
def fork(tmp_path_factory: pytest.TempPathFactory) -> AuditLog:
    """Another log of the same key, as long."""
    log = make_store(tmp_path_factory.mktemp("fork") / "clinic.db").log()
    log.append(WitnessAdded(witness="w", entries=1, root=DIGEST), actor=OPERATOR)
    fill(log, SIZE - 1)
    return log


@pytest.fixture(scope="module")
def ranged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the last entries, from a log of its own, for it adds an entry."""
    folder = tmp_path_factory.mktemp("ranged")
    return _export(_filled(folder), folder / "audit.age", first=FIRST).path


def _export(log: AuditLog, out: Path, **options: Any) -> Exported:
    return export(log, [RECIPIENT], out, actor=OPERATOR, clock=SteadyClock(), **options)


def _sizes(parts: Parts) -> list[int]:
    return [int(json.loads(line)["note"].split("\n")[1]) for line in parts.proofs or ()]


# --- what is written ------------------------------------------------------------------------------


def test_an_export_proves_growth_from_every_kept_checkpoint(ranged: Path, log: AuditLog) -> None:
    """One line each, the shortest log first, the export's own checkpoint last; each note is the one that was kept."""
    parts = Parts.of(ranged)
    assert _sizes(parts) == [*KEPT, SIZE]
    assert parts.manifest["proofs"] == 5
    assert parts.manifest["format"] == "clinic-audit-export-v3"
    notes = [json.loads(line)["note"] for line in parts.proofs or ()]
    assert notes[:-1] == [kept.note.decode() for kept in log.kept_checkpoints()]
    assert notes[-1] == parts.manifest["checkpoint"]
    assert both(ranged, vkey=log.vkey) == "ok"


def test_what_went_out_and_came_back_is_proved_too(tmp_path: Path) -> None:
    """An earlier export's checkpoint, one that a witness gave back, and one that the auditor names; each once."""
    log = make_store(tmp_path / "clinic.db").log()
    fill(log, 12)
    _export(log, tmp_path / "1.age", last=5)
    _export(log, tmp_path / "2.age", as_fhir=True)
    root = log.tree(7).root().hex()
    log.append(WitnessAdded(witness="front-desk", entries=7, root=root), actor=OPERATOR)
    log.keep_checkpoint()
    done = _export(log, tmp_path / "3.age", first=15, seen=[3, 13, 7])
    assert _sizes(Parts.of(done.path)) == [3, 5, 7, 13, 15]
    last = json.loads((Parts.of(done.path).proofs or [])[-1])
    assert last["note"] == done.manifest.checkpoint
    for size in (3, 5, 7, 13, 14, 15):
        assert both(done.path, vkey=log.vkey, seen=[log.checkpoint(size=size)]) == "ok"
    assert both(done.path, vkey=log.vkey, seen=[log.checkpoint(size=6)]) == "undecided"


def test_an_export_of_an_earlier_state_proves_up_to_that(log: AuditLog, tmp_path: Path) -> None:
    """Checkpoints over more entries than it covers are no part of it."""
    done = _export(_filled(tmp_path), tmp_path / "audit.age", first=20, last=33)
    assert _sizes(Parts.of(done.path)) == [4, 9, 33]
    assert both(done.path, vkey=log.vkey, seen=[log.checkpoint(size=9)]) == "ok"
    assert both(done.path, vkey=log.vkey, seen=[log.checkpoint(size=34)]) == "truncated"


@pytest.mark.parametrize(
    ("seen", "last", "code"),
    [
        pytest.param([11], None, "audit_rolled_back", id="longer than the log"),
        pytest.param([0], None, "range_invalid", id="of nothing"),
        pytest.param([3, -1], None, "range_invalid", id="less than nothing"),
        pytest.param([9], 8, "range_invalid", id="longer than the export"),
    ],
)
def test_what_cannot_be_proved_is_said(
    filled: Store, tmp_path: Path, seen: list[int], last: int | None, code: str
) -> None:
    """No file, and nothing recorded."""
    with pytest.raises(ClinicError) as caught:
        _export(filled.log(), tmp_path / "audit.age", seen=seen, last=last)
    assert caught.value.code == code
    assert filled.log().size() == 10
    assert not (tmp_path / "audit.age").exists()


def test_a_log_that_changes_before_the_range_is_not_exported(
    fork: AuditLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if it was rewritten whole, between its verification and the walk for the proofs."""
    own, rows, archive = _filled(tmp_path), LogReader.raw_entries, export_module._archive

    def of_the_fork(_: LogReader, **bounds: Any) -> Any:
        return rows(fork, **bounds)

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(LogReader, "raw_entries", of_the_fork)
        return archive(*arguments)

    monkeypatch.setattr(export_module, "_archive", late)
    with pytest.raises(AuditError) as caught:
        _export(own, tmp_path / "audit.age", first=FIRST)
    assert caught.value.code == "audit_damaged"
    assert not (tmp_path / "audit.age").exists()


# --- what an auditor saw ----------------------------------------------------------------------------


def test_every_earlier_checkpoint_is_decided_or_said_to_be_undecided(ranged: Path, log: AuditLog) -> None:
    """Proved where a proof leads from it, derived within the range; both verifiers say the same for each size."""
    found = {size: both(ranged, vkey=log.vkey, seen=[log.checkpoint(size=size)]) for size in range(SIZE + 1)}
    decided = {0, *KEPT, *range(FIRST - 1, SIZE + 1)}
    assert {size for size, said in found.items() if said == "ok"} == decided
    assert {said for size, said in found.items() if size not in decided} == {"undecided"}


def test_every_fork_is_found_or_said_to_be_undecided(ranged: Path, log: AuditLog, fork: AuditLog) -> None:
    """The same sizes of another history, rightly signed: never accepted."""
    found = {size: both(ranged, vkey=log.vkey, seen=[fork.checkpoint(size=size)]) for size in range(1, SIZE + 1)}
    decided = {*KEPT, *range(FIRST - 1, SIZE + 1)}
    assert {size for size, said in found.items() if said == "forked"} == decided
    assert {said for size, said in found.items() if size not in decided} == {"undecided"}


def test_from_entry_1_everything_is_decided(log: AuditLog, fork: AuditLog, tmp_path: Path) -> None:
    """The verifier derives each earlier root itself: no proof is needed."""
    whole = _export(_filled(tmp_path), tmp_path / "audit.age").path
    for size in (1, 2, 8, 50, 98, SIZE):
        assert both(whole, vkey=log.vkey, seen=[log.checkpoint(size=size)]) == "ok"
        assert both(whole, vkey=log.vkey, seen=[fork.checkpoint(size=size)]) == "forked"


def test_all_that_was_seen_counts(ranged: Path, log: AuditLog, fork: AuditLog, filled: Store) -> None:
    """One that does not fit among those that do; one that nobody signed; one of a longer log; one of no form."""
    good, unknown = log.checkpoint(size=9), log.checkpoint(size=10)
    stranger = filled.log(seed=OTHER_SEED).checkpoint()
    longer = _note(SIZE + 1, bytes(32))
    for seen, expected in (
        ([good, log.checkpoint(size=4)], "ok"),
        ([good, fork.checkpoint(size=33)], "forked"),
        ([good, unknown], "undecided"),
        ([unknown, fork.checkpoint(size=99)], "forked"),
        ([good, stranger], "checkpoint"),
        ([longer], "truncated"),
        ([unknown, longer], "truncated"),
        ([_note(0, bytes(32))], "forked"),
        (["no note"], "malformed"),
    ):
        assert both(ranged, vkey=log.vkey, seen=seen) == expected


def _note(size: int, root: bytes) -> str:
    """Sign what the log's own key may sign, true or not."""
    signer = signer_of(SEED)
    return signer.sign(Checkpoint(origin=signer.name, size=size, root=root).text())


# --- versions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_older_exports_still_verify(ranged: Path, log: AuditLog, tmp_path: Path, version: int) -> None:
    """Without proofs: what was seen within the range is decided, before it is not."""
    parts = Parts.of(ranged)
    manifest = {name: value for name, value in parts.manifest.items() if name != "proofs"}
    old = Parts(manifest | {"format": f"clinic-audit-export-v{version}"}, None, parts.lines)
    path = old.write(tmp_path / "old.age")
    assert both(path, vkey=log.vkey) == "ok"
    assert both(path, vkey=log.vkey, seen=[log.checkpoint(size=FIRST - 1)]) == "ok"
    assert both(path, vkey=log.vkey, seen=[log.checkpoint(size=33)]) == "undecided"
    with_proofs = old.but(proofs=parts.proofs).write(path)
    assert both(with_proofs, vkey=log.vkey) == "manifest"
    assert both(parts.but(proofs=None).write(path), vkey=log.vkey) == "manifest"
    assert both(old.but(manifest={"proofs": 0}).write(path), vkey=log.vkey) == "manifest"


# --- tampering --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [(0,), pytest.param(range(8), marks=pytest.mark.campaign)], ids=["one", "all"])
def test_every_byte_of_the_proofs_counts(ranged: Path, log: AuditLog, bits: Any) -> None:
    """A bit flipped in each byte of each proof is found by both verifiers; unchanged, both believe them."""
    proofs = b"".join(Parts.of(ranged).proofs or ())
    assert _is_believed(proofs, log.vkey) == (True, True)
    tried = [(place, bit) for place in range(len(proofs)) for bit in bits]
    assert len(tried) > 2000 * len(bits)
    wrong = [each for each in tried if _is_believed(flipped(proofs, *each), log.vkey) != (False, False)]
    assert wrong == []


def _is_believed(proofs: bytes, vkey: str) -> tuple[bool, bool]:
    """Say what each verifier makes of these lines alone."""
    try:
        ours = bool(follow(proofs.splitlines(keepends=True), vkey=vkey))
    except AuditError:
        ours = False
    try:
        theirs = bool(SCRIPT["prove"](io.BytesIO(proofs), vkey))
    except (SCRIPT["Refused"], SCRIPT["InvalidSignature"], *SCRIPT["MALFORMED"]):
        theirs = False
    return ours, theirs


@pytest.mark.parametrize("step", [41, pytest.param(1, marks=pytest.mark.campaign)])
def test_every_byte_of_the_proofs_counts_in_the_file(ranged: Path, log: AuditLog, tmp_path: Path, step: int) -> None:
    """The same, encrypted again to the auditor."""
    parts, forged = Parts.of(ranged), tmp_path / "forged.age"
    proofs = b"".join(parts.proofs or ())
    for place in range(0, len(proofs), step):
        parts.but(proofs=[flipped(proofs, place)]).write(forged)
        assert both(forged, vkey=log.vkey) in {"proof", "checkpoint", "malformed"}, place
    assert both(parts.but(proofs=[proofs]).write(forged), vkey=log.vkey) == "ok"


def _edited(line: bytes, **values: Any) -> bytes:
    return canonical_json(json.loads(line) | values) + b"\n"


def _path(line: bytes) -> list[str]:
    found: list[str] = json.loads(line)["path"]
    return found


Lines = list[bytes]
FORGERIES: list[Any] = [
    pytest.param(lambda p: [*p[:2], *p[3:]], "proof", id="one left out"),
    pytest.param(lambda p: p[:-1], "proof", id="the last left out"),
    pytest.param(lambda _: [], "proof", id="all left out"),
    pytest.param(lambda p: [p[1], p[0], *p[2:]], "proof", id="two exchanged"),
    pytest.param(lambda p: [*p[:2], p[1], *p[2:]], "proof", id="one twice"),
    pytest.param(lambda p: [*p, p[-1]], "proof", id="the last twice"),
    pytest.param(lambda p: [p[0], _edited(p[1], path=_path(p[2])), *p[2:]], "proof", id="the path of another"),
    pytest.param(lambda p: [_edited(p[0], path=_path(p[1])), *p[1:]], "proof", id="a path from nothing"),
    pytest.param(lambda p: [p[0], _edited(p[1], path=_path(p[1])[:-1]), *p[2:]], "proof", id="a path too short"),
    pytest.param(lambda p: [p[0], _edited(p[1], path=[*_path(p[1]), "A" * 43 + "="]), *p[2:]], "proof", id="too long"),
    pytest.param(lambda p: [p[0], _edited(p[1], path=[*_path(p[1]), ""]), *p[2:]], "proof", id="an empty hash"),
    pytest.param(lambda p: [p[0], _edited(p[1], more=1), *p[2:]], "proof", id="a third field"),
    pytest.param(lambda p: [p[0].replace(b",", b", ", 1), *p[1:]], "proof", id="white space"),
    pytest.param(lambda p: [p[0].rstrip() + b"\r\n", *p[1:]], "proof", id="another end of a line"),
    pytest.param(lambda p: [p[0], b"\n", *p[1:]], "malformed", id="an empty line"),
    pytest.param(lambda p: [b"null\n", *p[1:]], "malformed", id="no object"),
    pytest.param(lambda p: [_edited(p[0], path="x"), *p[1:]], "malformed", id="no list"),
    pytest.param(lambda p: [_edited(p[0], note=1), *p[1:]], "malformed", id="no note"),
    pytest.param(lambda p: [*p[:-1], p[-1].rstrip()], "proof", id="no end of the last line"),
    pytest.param(lambda p: [*p[:2], _edited(p[2], note=_note(34, bytes(32))), *p[3:]], "proof", id="another note"),
    pytest.param(lambda p: [_edited(p[0], note=_note(0, CompactTree().root())), *p[1:]], "proof", id="from nothing"),
]


@pytest.mark.parametrize(("forgery", "problem"), FORGERIES)
def test_both_verifiers_refuse_forged_proofs(
    ranged: Path, log: AuditLog, tmp_path: Path, forgery: Callable[[Lines], Lines], problem: str
) -> None:
    """Also where the manifest counts what is there."""
    parts = Parts.of(ranged)
    proofs = forgery(parts.proofs or [])
    forged = parts.but(proofs=proofs, manifest={"proofs": len(proofs) or 1}).write(tmp_path / "forged.age")
    assert both(forged, vkey=log.vkey) == problem


def test_proofs_left_out_at_the_beginning_decide_nothing(ranged: Path, log: AuditLog, tmp_path: Path) -> None:
    """Negative control: fewer proofs are whole in themselves; what was seen there is undecided then, never accepted."""
    parts = Parts.of(ranged)
    first = _edited((parts.proofs or [])[1], path=[])
    fewer = parts.but(proofs=[first, *(parts.proofs or [])[2:]], manifest={"proofs": 4}).write(tmp_path / "fewer.age")
    assert both(fewer, vkey=log.vkey) == "ok"
    assert both(fewer, vkey=log.vkey, seen=[log.checkpoint(size=9)]) == "ok"
    assert both(fewer, vkey=log.vkey, seen=[log.checkpoint(size=4)]) == "undecided"
    miscounted = parts.but(manifest={"proofs": 4}).write(tmp_path / "fewer.age")
    assert both(miscounted, vkey=log.vkey) in {"proof", "manifest"}


def test_proofs_of_another_log_are_refused(ranged: Path, log: AuditLog, fork: AuditLog, tmp_path: Path) -> None:
    """Rightly signed and whole in themselves, they do not lead to this export's checkpoint."""
    theirs = [link.line() for link in fork.links((*KEPT, SIZE))]
    forged = Parts.of(ranged).but(proofs=theirs).write(tmp_path / "forged.age")
    assert both(forged, vkey=log.vkey, seen=[fork.checkpoint(size=9)]) == "proof"
    half = [*(link.line() for link in fork.links((4, 9))), *(Parts.of(ranged).proofs or [])[2:]]
    assert both(Parts.of(ranged).but(proofs=half).write(forged), vkey=log.vkey) == "proof"


def test_the_archive_holds_nothing_else(ranged: Path, log: AuditLog, tmp_path: Path) -> None:
    """No other file, no other order, nothing behind its end; zeros, as tar writes them, are nothing."""
    members, forged = Parts.of(ranged).members(), tmp_path / "forged.age"
    for content, end in (
        ([*members, ("more.txt", b"")], TAR_END),
        ([members[0], members[2], members[1]], TAR_END),
        (members[:2], TAR_END),
        ([], TAR_END),
        (members, TAR_END + b"x"),
        (members, b"x" * 512 + TAR_END),
        (members, TAR_END + bytes(100_000) + b"x"),
        (members, tar_header("more.txt", 0)[:-1] + b"x"),
    ):
        assert both(write(forged, content, end=end), vkey=log.vkey) in {"manifest", "malformed"}
    for end in (TAR_END, TAR_END * 20, b""):
        assert both(write(forged, members, end=end), vkey=log.vkey) == "ok"


def test_an_empty_key_is_no_key(ranged: Path, log: AuditLog) -> None:
    """A variable that was not set must not make an export vouch for itself unseen."""
    assert both(ranged, vkey="") == "malformed"
    assert both(ranged, vkey=None) == "ok"
    assert both(ranged, vkey=f" {log.vkey}\n") == "ok"


MUTATIONS: list[Callable[[random.Random, list[bytes]], list[bytes]]] = [
    lambda rng, lines: [each for at, each in enumerate(lines) if at != rng.randrange(len(lines))],
    lambda rng, lines: rng.sample(lines, len(lines)),
    lambda rng, lines: [*lines, rng.choice(lines)],
    lambda rng, lines: lines[: rng.randrange(1, len(lines) + 1)],
    lambda rng, lines: [b"".join(lines).replace(b"9", b"8", rng.randrange(1, 4))],
    lambda rng, lines: [flipped(b"".join(lines), rng.randrange(len(b"".join(lines))), rng.randrange(8))],
    lambda rng, lines: [rng.choice([b" ", b"\n", b"0", b""]) + each for each in lines],
    lambda _, lines: lines,
]


@pytest.mark.parametrize("rounds", [150, pytest.param(10_000, marks=pytest.mark.campaign)])
def test_both_verifiers_agree_on_whatever_comes(
    ranged: Path, log: AuditLog, fork: AuditLog, tmp_path: Path, rounds: int
) -> None:
    """Random changes of manifest, proofs, entries and of what was seen: both accept, or both refuse."""
    rng, parts, said = random.Random(6962), Parts.of(ranged), set()
    odd: list[object] = [0, 1, -1, True, None, "", "0" * 64, "A" * 64, 2**63, 1.0, [], {}, FIRST, SIZE]
    for _ in range(rounds):
        manifest = {rng.choice(list(parts.manifest)): rng.choice(odd)} if rng.random() < 0.3 else {}
        proofs, lines = (rng.choice(MUTATIONS)(rng, lines) for lines in (parts.proofs or [], parts.lines))
        changes = rng.choice([{"proofs": proofs}, {"lines": lines}])
        path = parts.but(manifest=manifest, **changes).write(tmp_path / "forged.age")
        seen = [rng.choice((log, log, fork)).checkpoint(size=rng.randrange(SIZE + 1)) for _ in range(rng.randrange(3))]
        one, other = (look(path, vkey=log.vkey, seen=seen)[0] == "ok" for look in (verdict, verdict_of_the_program))
        assert one == other, (manifest, changes, seen)
        said.add(one)
    assert said == {True, False}


def test_a_line_reads_back_as_written(log: AuditLog) -> None:
    """Links, as they are written and read."""
    for link in log.links((1, 2, 64, 65, SIZE)):
        assert Link.parse(link.line()) == link


def test_the_program_opens_what_the_standard_tool_would(ranged: Path) -> None:
    """The proofs are lines of JSON, for whoever decrypts with another tool."""
    assert b'"path":["' in pyrage.decrypt(ranged.read_bytes(), [KEY])
    assert open_export(ranged, IDENTITY).report.ok


def test_a_rhythm_keeps_what_exports_prove(tmp_path: Path) -> None:
    """As in a clinic: checkpoints kept as the log grows, an export a week, each proving growth from the one before."""
    log = make_store(tmp_path / "clinic.db").log(rhythm=Rhythm(entries=10, minutes=0))
    fill(log, 25)
    first = _export(log, tmp_path / "1.age")
    fill(log, 30)
    second = _export(log, tmp_path / "2.age", first=40)
    assert _sizes(Parts.of(second.path)) == [10, 20, 25, 30, 40, 50, 56]
    assert both(second.path, vkey=log.vkey, seen=[first.manifest.checkpoint]) == "ok"
