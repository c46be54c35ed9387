"""Checkpoints that the log keeps of itself: when, over what, and that a rewritten log does not get past them."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pyrage
import pytest

from clinic.audit.checkpoint import Checkpoint, open_checkpoint
from clinic.audit.entry import RawEntry, entry_hash
from clinic.audit.events import NoteSigned
from clinic.audit.export import export
from clinic.audit.guard import Guard, Limits
from clinic.audit.kept import Kept, Rhythm
from clinic.audit.latch import Reason
from clinic.audit.log import AuditLog
from clinic.audit.reading import LogReader
from clinic.audit.verify import Problem, verify_log
from clinic.audit.witness import verify_witnessed
from clinic.domain import OPERATOR
from clinic.errors import AuditError
from tests.unit.audit.audit_store import (
    OTHER_SEED,
    PSEUDONYM_KEY,
    SEED,
    SteadyClock,
    Store,
    fill,
    make_store,
    some_events,
)

TEN = Rhythm(entries=10, minutes=0)


def sizes(log: AuditLog) -> list[int]:
    """Return over how many entries checkpoints are kept."""
    return [each.open(vkey=log.vkey).size for each in log.kept_checkpoints()]


def rewrite(store: Store, start: int) -> None:
    """Blame somebody else for entry `start`, and hash everything from there on anew, as whoever has the file can."""
    rows = list(store.log(pinned=False).raw_entries())
    prev = rows[start - 2].hash if start > 1 else bytes(32)
    for raw in rows[start - 1 :]:
        changed: RawEntry = raw._replace(actor=b"somebody" if raw.seq == start else raw.actor, prev_hash=prev)
        prev = entry_hash(changed)
        update = "UPDATE audit_entries SET actor = ?, prev_hash = ?, hash = ? WHERE seq = ?"
        store.tamper(update, parameters=(changed.actor.decode(), changed.prev_hash, prev, raw.seq))


# --- when ----------------------------------------------------------------------------------------


def test_one_is_kept_after_so_many_entries(store: Store) -> None:
    """Every ten entries, each over the whole log until then; a log that is opened again goes on in step."""
    log = store.log(rhythm=TEN)
    fill(log, 34)
    assert sizes(log) == [10, 20, 30]
    again = store.log(rhythm=TEN)
    fill(again, 17)
    assert sizes(again) == [10, 20, 30, 40, 50]
    for each in again.kept_checkpoints():
        assert each.note.decode() == store.log().checkpoint(size=each.size)
    report = again.verify()
    assert (report.ok, report.entries, report.kept_checkpoints, report.bad_checkpoint) == (True, 51, 5, None)


def test_one_is_kept_before_an_entry_is_too_old(store: Store) -> None:
    """By the clock: as long as the oldest entry without one is young enough, none is kept."""
    clock = SteadyClock()
    log = store.log(rhythm=Rhythm(entries=0, minutes=15), clock=clock)
    fill(log, 5)
    assert log.keep_due_checkpoint() is None
    clock.now += timedelta(minutes=14)
    fill(log, 2)
    assert log.keep_due_checkpoint() is None
    clock.now += timedelta(minutes=1)
    assert log.keep_due_checkpoint() == 7
    clock.now += timedelta(days=1)
    assert log.keep_due_checkpoint() is None, "nothing new was written"
    assert sizes(log) == [7]


def test_at_a_stop_the_rest_is_covered_once(filled: Store) -> None:
    """What came after the last one is covered; asked twice, nothing is added; an empty log has nothing to keep."""
    log = filled.log()
    assert (log.keep_checkpoint(), log.keep_checkpoint()) == (10, None)
    fill(log, 1)
    assert log.keep_due_checkpoint() is None, "no rhythm, none is due"
    assert (log.keep_checkpoint(), sizes(log)) == (11, [10, 11])
    filled.tamper("DELETE FROM audit_checkpoints", "DELETE FROM audit_entries")
    assert filled.log().keep_checkpoint() is None


def test_two_processes_keep_each_one_once(store: Store) -> None:
    """Two logs over one file write in turn: the sizes stay in order, and all verify."""
    logs = [store.log(rhythm=TEN), store.log(rhythm=TEN)]
    for number, happened in enumerate(some_events(45)):
        logs[number % 2].append(happened, actor=OPERATOR)
    assert sizes(logs[0]) == [10, 20, 30, 40]
    assert logs[1].verify().ok


def test_no_tree_is_built_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree goes on from the kept peaks: rows before the last kept checkpoint are not read."""
    log = store.log(rhythm=TEN)
    fill(log, 1013)
    read: list[int | None] = []
    rows = LogReader.raw_entries

    def counted(self: LogReader, *, first: int | None = None, last: int | None = None) -> object:
        read.append(first)
        return rows(self, first=first, last=last)

    monkeypatch.setattr(LogReader, "raw_entries", counted)
    assert log.keep_checkpoint() == 1013
    assert read == [1010]


def test_the_table_takes_nothing_else(filled: Store) -> None:
    """A checkpoint is neither changed, removed, replaced, put in between, nor longer than the log."""
    log = filled.log()
    log.keep_checkpoint()
    insert = "INSERT INTO audit_checkpoints VALUES"
    refused = [
        "UPDATE audit_checkpoints SET note = 'x'",
        "DELETE FROM audit_checkpoints",
        f"{insert} (10, 'x', x'00')",
        f"{insert.replace('INSERT', 'INSERT OR REPLACE')} (10, 'x', x'00')",
        f"{insert} (4, 'x', x'00')",
        f"{insert} (NULL, 'x', x'00')",
        f"{insert} (11, 'x', x'00')",
    ]
    for statement in refused:
        with closing(sqlite3.connect(filled.path)) as raw, pytest.raises(sqlite3.IntegrityError):
            raw.execute(statement)
    assert sizes(log) == [10]


# --- what it is for ------------------------------------------------------------------------------


def test_a_rewritten_tail_with_a_fresh_head_is_refused(store: Store, tmp_path: Path) -> None:
    """History from entry 25 on is hashed anew and its head signed: refused, and the first bad checkpoint named."""
    log = store.log(rhythm=TEN)
    fill(log, 47)
    rewrite(store, 25)
    head = store.log().checkpoint()  # signed with the clinic's own key, over the log as it was rewritten
    report = store.log().verify(checkpoint=head)
    assert (report.ok, report.problem, report.bad_checkpoint) == (False, Problem.FORKED, 30)
    assert (report.entries, report.first_bad) == (30, None)
    assert verify_witnessed(tmp_path, store.log(), checkpoint=head).bad_checkpoint == 30
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    with pytest.raises(AuditError) as caught:
        export(store.log(), [recipient], tmp_path / "out.age", actor=OPERATOR)
    assert caught.value.code == "audit_damaged"


def test_without_kept_checkpoints_it_passes(store: Store) -> None:
    """Negative control: the same log, held against the fresh head alone, verifies."""
    fill(store.log(rhythm=TEN), 47)
    rewrite(store, 25)
    log = store.log()
    report = verify_log(log.raw_entries(), vkey=log.vkey, checkpoints=(log.checkpoint(),))
    assert (report.ok, report.entries) == (True, 47)


@pytest.mark.parametrize("start", range(1, 31))
def test_the_first_checkpoint_over_the_change_is_named(store: Store, start: int) -> None:
    """Wherever the history was rewritten, the checkpoints before it hold, and the first one after it does not."""
    fill(store.log(rhythm=TEN), 30)
    rewrite(store, start)
    report = store.log().verify()
    assert (report.problem, report.bad_checkpoint) == (Problem.FORKED, -(-start // 10) * 10)


def test_a_tail_that_was_cut_off_is_seen(store: Store) -> None:
    """The log ends before what was kept: the first checkpoint beyond its end is named."""
    fill(store.log(rhythm=TEN), 40)
    store.tamper("DELETE FROM audit_entries WHERE seq > 25")
    report = store.log().verify()
    assert (report.problem, report.first_bad, report.bad_checkpoint) == (Problem.TRUNCATED, 26, 30)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(
            "SET note = replace(note, char(10) || '20' || char(10), char(10) || '19' || char(10))", "s", id="n"
        ),
        pytest.param("SET size = 19", "m", id="size"),
        pytest.param("SET peaks = zeroblob(64)", "m", id="peaks"),
        pytest.param("SET peaks = x'00'", "m", id="short-peaks"),
        pytest.param("SET note = 'nothing'", "m", id="no-note"),
        pytest.param("SET note = CAST(x'ff' AS TEXT)", "m", id="no-text"),
    ],
)
def test_a_changed_row_is_named(store: Store, change: str, problem: str) -> None:
    """A kept checkpoint that was changed is a finding of its own, and is never gone on from."""
    fill(store.log(rhythm=TEN), 20)
    store.tamper(f"UPDATE audit_checkpoints {change} WHERE size = 20")
    report = store.log().verify()
    expected = Problem.CHECKPOINT_SIGNATURE if problem == "s" else Problem.CHECKPOINT_MALFORMED
    assert (report.ok, report.problem, report.bad_checkpoint) == (False, expected, 19 if "size =" in change else 20)
    fill(store.log(), 2)
    with pytest.raises(AuditError):
        store.log().keep_checkpoint()


def test_every_byte_of_a_kept_checkpoint_counts(store: Store) -> None:
    """One bit flipped in any byte of note or peaks: refused, and that checkpoint named."""
    log = store.log(rhythm=TEN)
    fill(log, 30)
    kept = list(log.kept_checkpoints())
    victim, tried = kept[1], 0
    for field in ("note", "peaks"):
        data: bytes = getattr(victim, field)
        for place in range(len(data)):
            flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            row = Kept(victim.size, *((flipped, victim.peaks) if field == "note" else (victim.note, flipped)))
            report = verify_log(log.raw_entries(), vkey=log.vkey, kept=(kept[0], row, kept[2]))
            assert (report.ok, report.bad_checkpoint) == (False, 20), (field, place)
            tried += 1
    assert tried > 250


def test_another_clinics_checkpoint_is_refused(store: Store, tmp_path: Path) -> None:
    """One of another log, with the right size, does not stand for ours."""
    other = make_store(tmp_path / "other.db")
    for place, seed in ((store, SEED), (other, OTHER_SEED)):
        fill(place.log(seed=seed, rhythm=TEN), 10)
    foreign = other.log(seed=OTHER_SEED).kept_checkpoints()
    other.engine.dispose()
    report = verify_log(store.log().raw_entries(), vkey=store.log().vkey, kept=foreign)
    assert (report.problem, report.bad_checkpoint) == (Problem.CHECKPOINT_SIGNATURE, 10)


# --- nothing is signed that does not lead on ------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("DELETE FROM audit_entries WHERE seq >= 20", id="last-gone"),
        pytest.param("UPDATE audit_entries SET actor = 'x' WHERE seq = 20", id="last-changed"),
        pytest.param("UPDATE audit_entries SET actor = 'x' WHERE seq = 23", id="later-changed"),
        pytest.param("DELETE FROM audit_entries WHERE seq = 23", id="gap"),
    ],
)
def test_a_damaged_log_is_not_signed_and_latches(store: Store, damage: str) -> None:
    """What does not follow the last kept checkpoint is not signed; with a guard everything stops."""
    fill(store.log(rhythm=TEN), 26)
    guard = Guard(store.path.parent, limits=Limits(reserve=0))
    log = AuditLog(store.begin, pseudonym_key=PSEUDONYM_KEY, signing_seed=SEED, clock=SteadyClock(), guard=guard)
    store.tamper(damage, "INSERT INTO audit_entries SELECT 99, at, actor, role, event, body, prev_hash, hash, sealed "
                 "FROM audit_entries WHERE seq = 2")  # fmt: skip
    with pytest.raises(AuditError) as caught:
        log.keep_checkpoint()
    assert caught.value.code == "audit_damaged"
    latch = guard.current()
    assert latch is not None
    assert latch.reason is Reason.DAMAGED
    assert sizes(log) == [10, 20]


def test_a_history_with_an_odd_end_is_compared_too(store: Store) -> None:
    """Where the last entry is a peak of its own, one rewritten there is noticed before anything is signed."""
    log = store.log()
    fill(log, 7)
    log.keep_checkpoint()
    fill(log, 3)
    rewrite(store, 7)
    with pytest.raises(AuditError, match="no longer holds entry `7`"):
        store.log().keep_checkpoint()


def test_a_rewritten_history_is_never_signed_as_its_own_continuation(store: Store) -> None:
    """Even where the rows chain, what is kept next continues the signed tree: the old history, not the new one."""
    fill(store.log(rhythm=TEN), 20)
    rewrite(store, 5)
    log = store.log(rhythm=TEN)
    fill(log, 10)
    newest = log.kept_checkpoints()[-1].open(vkey=log.vkey)
    assert newest.size == 30
    assert newest.root != open_checkpoint(log.checkpoint(), vkey=log.vkey).root
    assert log.verify().bad_checkpoint == 10


# --- held up -------------------------------------------------------------------------------------


def test_a_database_that_is_held_keeps_nobody_waiting(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a checkpoint cannot be kept now the entry counts all the same, and the next one keeps it."""
    log = store.log(rhythm=TEN)
    fill(log, 9)

    def busy() -> int:
        raise AuditError("the audit log cannot be written")

    with monkeypatch.context() as patched:
        patched.setattr(log._keeper, "keep", busy)
        fill(log, 1)
    assert sizes(log) == []
    fill(log, 1)
    assert sizes(log) == [11]


def test_damage_found_while_keeping_is_told(store: Store) -> None:
    """An entry whose checkpoint shows damage does not count as recorded."""
    log = store.log(rhythm=TEN)
    fill(log, 19)
    store.tamper("UPDATE audit_entries SET actor = 'x' WHERE seq = 15")
    with pytest.raises(AuditError) as caught:
        fill(log, 1)
    assert caught.value.code == "audit_damaged"


def test_one_thread_at_a_time(store: Store) -> None:
    """While another thread keeps one, an append does not wait for it."""
    log = store.log(rhythm=TEN)
    fill(log, 9)
    with log._keeper._keeping:
        fill(log, 1)
    assert sizes(log) == []


def test_unknown_signatures_are_passed_over(filled: Store) -> None:
    """A note may carry signatures of kinds that nobody knows yet, as C2SP wants; the known key's must be there."""
    log = filled.log()
    note = log.checkpoint()
    ml_dsa = base64.b64encode(bytes.fromhex("0badcafe") + b"\x06" + bytes(2420)).decode()
    other = f"\N{EM DASH} witness.example/front-desk {ml_dsa}\n"
    text, blank, ours = note.rpartition("\n\n")
    expected = Checkpoint.parse(text + "\n")
    for signatures in (ours + other, other + ours, other * 50 + ours):
        assert open_checkpoint(text + blank + signatures, vkey=log.vkey) == expected
    for signatures in (other, other * 2):
        with pytest.raises(AuditError) as caught:
            open_checkpoint(text + blank + signatures, vkey=log.vkey)
        assert caught.value.code == "checkpoint_signature"
    rows = [Kept(each.size, (text + blank + other + ours).encode(), each.peaks) for each in _kept(log)]
    assert verify_log(log.raw_entries(), vkey=log.vkey, kept=rows).ok


def _kept(log: AuditLog) -> tuple[Kept, ...]:
    log.keep_checkpoint()
    return log.kept_checkpoints()


def test_what_was_signed_names_no_patient(filled: Store) -> None:
    """A kept checkpoint holds origin, size, root and signature, and nothing else."""
    log = filled.log()
    log.append(NoteSigned(encounter="e", note="n", version=1, content_sha256="ab" * 32), actor=OPERATOR)
    log.keep_checkpoint()
    note = log.kept_checkpoints()[0].note.decode()
    assert [line.partition(" ")[0] for line in note.split("\n")][:2] == [log.origin, "11"]
    assert note.count("\n") == 5
