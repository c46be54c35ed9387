"""The log with a guard: what it latches for, what it records about its clock, and how it is cleared."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event as listener

from clinic.audit import reserve as reserve_module
from clinic.audit.database_file import forget_cached
from clinic.audit.events import ClockRegressed, LatchSet, PatientViewed, from_canonical
from clinic.audit.guard import Guard, Limits
from clinic.audit.latch import Reason
from clinic.audit.log import AuditLog
from clinic.domain import OPERATOR
from clinic.errors import AuditError, AuditLatchedError
from tests.unit.audit.audit_store import PATIENT, PSEUDONYM_KEY, SEED, Store

EVENT = PatientViewed(patient=PATIENT)
START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


class Clock:
    """Says what the test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        """Return the set time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that can go back."""
    return Clock()


def guarded(store: Store, clock: Clock, *, reserve: int = 0) -> AuditLog:
    """Return the log of a process, with the guard of its folder."""
    guard = Guard(store.path.parent, limits=Limits(reserve=reserve))
    return AuditLog(
        store.begin, pseudonym_key=PSEUDONYM_KEY, signing_seed=SEED, clock=clock, path=store.path, guard=guard
    )


def reason_of(log: AuditLog) -> Reason | None:
    """Return why the log is latched."""
    assert log.guard is not None
    latch = log.guard.current()
    return None if latch is None else latch.reason


def test_a_small_step_back_is_recorded(store: Store, clock: Clock) -> None:
    """Within the limit the entry is preceded by one that says by how much; nothing is latched."""
    log = guarded(store, clock)
    log.append(EVENT, actor=OPERATOR)
    clock.now -= timedelta(seconds=90)
    log.append(EVENT, actor=OPERATOR)
    entries = list(log.entries())
    assert [entry.event for entry in entries] == ["patient.viewed", "clock.regressed", "patient.viewed"]
    assert from_canonical(entries[1].event, entries[1].body) == ClockRegressed(milliseconds=90_000)
    assert log.verify().ok
    assert reason_of(log) is None


def test_a_large_step_back_latches_and_writes_nothing(store: Store, clock: Clock) -> None:
    """Beyond the limit nothing is appended; cleared, the log says what had happened, and goes on."""
    log = guarded(store, clock)
    log.append(EVENT, actor=OPERATOR)
    clock.now -= timedelta(hours=1)
    with pytest.raises(AuditLatchedError):
        log.append(EVENT, actor=OPERATOR)
    assert log.size() == 1
    assert log.clear(actor=OPERATOR).ok
    log.append(EVENT, actor=OPERATOR)
    names = [entry.event for entry in log.entries()]
    assert names == ["patient.viewed", "clock.regressed", "audit.latched", "audit.cleared", "patient.viewed"]
    latched = from_canonical("audit.latched", log.entry(3).body)
    assert isinstance(latched, LatchSet)
    assert latched.reason == "clock_regress"


def test_an_entry_that_is_gone_latches(store: Store, clock: Clock) -> None:
    """What this process saw committed must be there, at the end and further back; unseen ones may follow it."""
    log = guarded(store, clock)
    for _ in range(3):
        log.append(EVENT, actor=OPERATOR)
    guarded(store, clock).append(EVENT, actor=OPERATOR)
    log.append(EVENT, actor=OPERATOR)
    assert reason_of(log) is None
    store.tamper("DELETE FROM audit_entries WHERE seq >= 4")
    with pytest.raises(AuditError, match="no longer holds"):
        log.append(EVENT, actor=OPERATOR)
    assert reason_of(log) is Reason.SEQUENCE_GAP
    with pytest.raises(AuditLatchedError):
        log.confirm(log.entry(1))


def test_an_entry_that_was_hashed_anew_latches(store: Store, clock: Clock) -> None:
    """A seen entry replaced behind newer ones is noticed, too."""
    log, other = guarded(store, clock), guarded(store, clock)
    log.append(EVENT, actor=OPERATOR)
    log.append(EVENT, actor=OPERATOR)  # sees the first one committed
    other.append(EVENT, actor=OPERATOR)
    store.tamper("DELETE FROM audit_entries WHERE seq = 1")
    with pytest.raises(AuditError, match="no longer holds entry `1`"):
        log.append(EVENT, actor=OPERATOR)
    assert reason_of(log) is Reason.SEQUENCE_GAP


def test_a_changed_last_entry_latches(store: Store, clock: Clock) -> None:
    """Nothing is chained to an entry whose content does not fit its hash; verifying does not clear that."""
    log = guarded(store, clock)
    log.append(EVENT, actor=OPERATOR)
    store.tamper("UPDATE audit_entries SET actor = 'somebody'")
    with pytest.raises(AuditError, match="changed after"):
        log.append(EVENT, actor=OPERATOR)
    assert reason_of(log) is Reason.DAMAGED
    assert not log.clear(actor=OPERATOR).ok
    assert reason_of(log) is Reason.DAMAGED


def test_a_lock_that_is_held_for_a_moment_is_no_reason(store: Store, clock: Clock) -> None:
    """The entry is refused, nothing is latched, and the next one is taken."""
    log = guarded(store, clock)

    def refuse(*_: object) -> None:
        error = sqlite3.OperationalError("forced")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    listener.listen(store.engine, "before_cursor_execute", refuse)
    with pytest.raises(AuditError, match="cannot be written"):
        log.append(EVENT, actor=OPERATOR)
    listener.remove(store.engine, "before_cursor_execute", refuse)
    assert reason_of(log) is None
    log.append(EVENT, actor=OPERATOR)


def test_a_file_that_was_taken_away_latches(store: Store, clock: Clock) -> None:
    """Before an entry is made the file at the path must be the one that was opened."""
    log = guarded(store, clock)
    store.path.rename(store.path.with_name("away"))
    with pytest.raises(AuditError, match="not the one"):
        log.append(EVENT, actor=OPERATOR)
    assert reason_of(log) is Reason.FILE_REPLACED


def test_a_refused_insert_latches(store: Store, clock: Clock) -> None:
    """Whatever refuses an entry, named by SQLite or not."""
    log = guarded(store, clock)
    with store.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER no BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, ''); END"
        )
    with pytest.raises(AuditLatchedError):
        log.append(EVENT, actor=OPERATOR)
    assert reason_of(log) is Reason.WRITE_FAILED


def test_an_entry_that_is_not_read_back_latches(store: Store, clock: Clock) -> None:
    """What was written and is not there stops everything that depends on it."""
    log = guarded(store, clock)
    entry = log.append(EVENT, actor=OPERATOR)
    store.tamper("DELETE FROM audit_entries")
    with pytest.raises(AuditError, match="not found"):
        log.confirm(entry)
    assert reason_of(log) is Reason.READ_BACK_FAILED


def test_clearing_waits_for_room(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is not cleared before there is room again, however whole the log is."""
    log = guarded(store, clock, reserve=1 << 16)
    log.append(EVENT, actor=OPERATOR)
    assert log.guard is not None
    log.guard.latch(Reason.DISK_FULL)
    with monkeypatch.context() as full:
        full.setattr(reserve_module, "free_bytes", lambda _folder: 0)
        with pytest.raises(AuditLatchedError):
            log.clear(actor=OPERATOR)
    assert log.clear(actor=OPERATOR).ok
    assert reason_of(log) is None


def test_clearing_what_is_not_latched_is_a_verification(store: Store, clock: Clock) -> None:
    """Nothing is recorded by it."""
    log = guarded(store, clock)
    log.append(EVENT, actor=OPERATOR)
    assert log.clear(actor=OPERATOR).ok
    assert log.size() == 1


def test_another_process_learns_from_the_log_that_it_was_cleared(store: Store, clock: Clock) -> None:
    """The marker alone convinces nobody who latched: the log has to name the very latch."""
    log, other = guarded(store, clock), guarded(store, clock)
    log.append(EVENT, actor=OPERATOR)
    assert log.guard is not None
    assert other.guard is not None
    latch = log.guard.latch(Reason.WRITE_FAILED)
    assert other.guard.current() == latch
    assert log.clear(actor=OPERATOR).ok
    assert other.guard.current() is None
    assert other.was_cleared(latch.id)
    assert not other.was_cleared("0" * 32)


def test_what_the_kernel_holds_is_forgotten(store: Store, tmp_path: Path) -> None:
    """After a failed sync the next read comes from the disk; files that are not there are passed over."""
    before = store.path.read_bytes()
    forget_cached(store.path)
    assert store.path.read_bytes() == before
    forget_cached(tmp_path / "absent.db")
