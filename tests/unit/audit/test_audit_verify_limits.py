"""The verifier at its limits: how far it looks for a moved entry, the last number there is, where a range begins."""

from __future__ import annotations

import pytest

from clinic.audit.checkpoint import Checkpoint, NoteSigner
from clinic.audit.entry import GENESIS, RawEntry, entry_hash
from clinic.audit.events import PatientViewed
from clinic.audit.tree import CompactTree
from clinic.audit.verify import Problem, Start, verify_log
from tests.unit.audit.audit_store import PATIENT, SEED, Store

FAR = 128


def chain(count: int) -> list[RawEntry]:
    """Return a good log of so many entries, each of another moment."""
    rows: list[RawEntry] = []
    event = PatientViewed(patient=PATIENT)
    for seq in range(1, count + 1):
        at = f"2026-01-02T03:{seq // 60:02}:{seq % 60:02}.000Z".encode()
        previous = rows[-1].hash if rows else GENESIS
        row = RawEntry(seq, at, b"operator", b"clinician", event.name.encode(), event.to_canonical(), previous, b"")
        rows.append(rehashed(row))
    return rows


def rehashed(row: RawEntry) -> RawEntry:
    """Return the row with the hash of its content."""
    return row._replace(hash=entry_hash(row))


def tree(rows: list[RawEntry]) -> CompactTree:
    """Return the tree over rows."""
    made = CompactTree(0, ())
    for row in rows:
        made.append(row.hash)
    return made


def test_what_programs_read_stays_the_same() -> None:
    """The words by which a report names a problem: an auditor's scripts know them."""
    assert {problem.value for problem in Problem} >= {
        "changed",
        "reordered",
        "gap",
        "chain_broken",
        "malformed",
        "unknown_event",
        "empty",
        "truncated",
        "forked",
        "checkpoint_malformed",
        "checkpoint_signature",
        "checkpoint_not_covered",
        "manifest",
    }


@pytest.mark.parametrize(("count", "text"), [(1, "1 entry verified"), (2, "2 entries verified")])
def test_a_report_counts_in_words(count: int, text: str) -> None:
    """One entry, two entries."""
    report = verify_log(chain(count))
    assert report.ok
    assert report.message.startswith(f"{text}, ")


@pytest.mark.parametrize(
    ("source", "to", "problem"),
    [
        pytest.param(200, 200 - FAR, Problem.REORDERED, id="as far back as it looks"),
        pytest.param(201, 200 - FAR, Problem.CHANGED, id="one further"),
        pytest.param(1, 1 + FAR, Problem.REORDERED, id="the first entry, as far forward as it looks"),
        pytest.param(1, 2 + FAR, Problem.CHANGED, id="the first entry, one further"),
        pytest.param(2, 1, Problem.REORDERED, id="to the beginning"),
    ],
)
def test_a_moved_entry_is_told_from_a_changed_one(source: int, to: int, problem: Problem) -> None:
    """Content that was written for a place within 128 entries names that place; either way the log is refused here."""
    rows = chain(210)
    rows[to - 1] = rows[source - 1]._replace(seq=to)
    report = verify_log(rows)
    assert (report.ok, report.problem, report.first_bad) == (False, problem, to)
    assert (f"`{source}`" in report.message) is (problem is Problem.REORDERED)


@pytest.mark.parametrize(("seq", "problem"), [(2**63 - 1, Problem.GAP), (2**63, Problem.MALFORMED)])
def test_the_last_number_there_is(seq: int, problem: Problem) -> None:
    """The largest number of a 64-bit column is one; the next is none."""
    report = verify_log([chain(1)[0]._replace(seq=seq)])
    assert (report.problem, report.first_bad) == (problem, 1)


@pytest.mark.parametrize("length", [31, 33])
@pytest.mark.parametrize("name", ["prev_hash", "hash"])
def test_a_hash_of_another_length_is_malformed(name: str, length: int) -> None:
    """Well hashed as the row may be."""
    row = rehashed(chain(1)[0]._replace(prev_hash=bytes(length if name == "prev_hash" else 32)))
    row = row._replace(hash=bytes(length)) if name == "hash" else row
    assert verify_log([row]).problem is Problem.MALFORMED


@pytest.mark.parametrize("length", [31, 33])
def test_a_range_begins_behind_a_whole_hash(length: int) -> None:
    """What stands before a range has 32 bytes."""
    with pytest.raises(ValueError, match="32"):
        Start(seq=2, prev_hash=bytes(length), peaks=(bytes(32),))


@pytest.mark.parametrize(
    ("size", "problem"),
    [(1, Problem.CHECKPOINT_NOT_COVERED), (3, Problem.CHECKPOINT_NOT_COVERED), (4, None), (6, None)],
)
def test_a_checkpoint_about_entries_before_a_range(size: int, problem: Problem | None, store: Store) -> None:
    """It is held against the state in which the range begins, or later; an older one proves nothing here."""
    rows = chain(6)
    origin = store.log().origin
    note = NoteSigner(name=origin, seed=SEED).sign(Checkpoint(origin, size, tree(rows[:size]).root()).text())
    start = Start(seq=5, prev_hash=rows[3].hash, peaks=tree(rows[:4]).peaks)
    assert verify_log(rows[4:], vkey=store.log().vkey, checkpoints=(note,), start=start).problem is problem
