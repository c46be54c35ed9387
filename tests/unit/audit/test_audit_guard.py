"""The latch: what sets it, that it holds in every process and over restarts, and what takes it off."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from clinic.audit import guard as guard_module
from clinic.audit import reserve as reserve_module
from clinic.audit.guard import Guard, Limits, is_busy, reason_of
from clinic.audit.latch import MARKER, WORDS, Latch, Reason, read_marker, write_marker
from clinic.audit.reserve import BALLAST, Reserve, free_bytes
from clinic.errors import AuditError, AuditLatchedError

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


class Ticking:
    """Seconds that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the set time."""
        return self.now


@pytest.fixture
def ticking() -> Ticking:
    """A clock for the guard's own patience."""
    return Ticking()


@pytest.fixture
def guard(tmp_path: Path, ticking: Ticking) -> Guard:
    """A guard over an empty folder, without a reserve."""
    return Guard(tmp_path, limits=Limits(reserve=0), monotonic=ticking)


def another(tmp_path: Path, **limits: float) -> Guard:
    """Return the guard of another process, or of this one after a restart."""
    return Guard(tmp_path, limits=Limits(**{"reserve": 0} | limits))  # type: ignore[arg-type]


def sqlite_error(code: int) -> sqlite3.OperationalError:
    """Return an error as the driver raises it."""
    error = sqlite3.OperationalError("forced")
    error.sqlite_errorcode = code
    return error


def refused(guard: Guard, *, closing: bool = False) -> bool:
    """Tell whether work is refused."""
    try:
        guard.require_open(closing=closing)
    except AuditLatchedError:
        return True
    return False


def test_a_refusal_has_its_code_and_statuses(guard: Guard) -> None:
    """Programs know it by its code, its exit code and its status."""
    error = guard.latch(Reason.DISK_FULL).refusal()
    assert (error.code, error.exit_code, error.http_status) == ("audit_latched", 5, 503)


# --- setting and holding ----------------------------------------------------------------------------


def test_nothing_is_latched_at_first(guard: Guard) -> None:
    """A fresh folder works."""
    assert guard.current() is None
    assert not refused(guard)


def test_a_latch_holds_in_every_process_and_after_a_restart(guard: Guard, tmp_path: Path) -> None:
    """What one process latches, another one sees at once, with the same id; and one that starts later."""
    other = another(tmp_path)
    latch = guard.latch(Reason.SYNC_FAILED)
    assert refused(guard)
    assert other.current() == guard.current() == another(tmp_path).current() == latch
    assert refused(other)


def test_the_first_reason_stays(guard: Guard, tmp_path: Path) -> None:
    """A second failure does not replace the first one, in whichever process."""
    first = guard.latch(Reason.DISK_FULL)
    assert guard.latch(Reason.SINK_FAILED) == another(tmp_path).latch(Reason.DAMAGED) == first


def test_two_processes_that_latch_at_once_agree(guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker that appears between look and write is the one that counts."""
    rival = Latch("ab" * 16, Reason.READ_ONLY, "2026-01-02T03:04:05.678Z")
    real = write_marker

    def late(path: Path, latch: Latch) -> bool:
        real(path, rival)
        return real(path, latch)

    monkeypatch.setattr(guard_module, "write_marker", late)
    guard.latch(Reason.DISK_FULL)
    assert guard.current() == rival
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


def test_every_reason_has_words() -> None:
    """Whatever latches says what happened and what to do, in a line."""
    assert set(WORDS) == set(Reason)
    for reason in Reason:
        error = Latch("ab" * 16, reason, "2026-01-02T03:04:05.678Z").refusal()
        assert WORDS[reason][0] in str(error)
        assert WORDS[reason][1] in error.hint
        assert "\n" not in f"{error}{error.hint}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"null",
        b'{"latch": "x", "reason": "disk_full", "at": "2026-01-02T03:04:05.678Z"}',
        json.dumps({"latch": "ab" * 16, "reason": "made up", "at": "2026-01-02T03:04:05.678Z"}).encode(),
        json.dumps({"latch": "ab" * 16, "reason": "disk_full", "at": "today"}).encode(),
        b"\xff" * 10_000,
    ],
)
def test_a_marker_that_cannot_be_read_latches(guard: Guard, tmp_path: Path, content: bytes) -> None:
    """Whatever lies there under that name means no; every process gives it the same id."""
    (tmp_path / MARKER).write_bytes(content)
    latch = guard.current()
    assert latch is not None
    assert latch.reason is Reason.UNKNOWN
    other = another(tmp_path).current()
    assert other is not None
    assert other.id == latch.id
    assert refused(guard)


def test_a_link_or_a_folder_in_place_of_the_marker_latches(guard: Guard, tmp_path: Path) -> None:
    """A marker is not followed elsewhere."""
    (tmp_path / MARKER).symlink_to(tmp_path / "nowhere")
    assert refused(guard)
    (tmp_path / MARKER).unlink()
    (tmp_path / MARKER).mkdir()
    assert refused(another(tmp_path))


def test_a_marker_that_vanishes_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two calls the file may go: it still counts."""

    def deny(_path: object, *_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(os, "open", deny)
    latch = read_marker(tmp_path / MARKER)
    assert latch is not None
    assert latch.id == "0" * 32


@pytest.fixture
def broken_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let nothing be created; the value mends that."""
    real = os.open

    def refuse(path: str, flags: int, *rest: int, **more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    return lambda: monkeypatch.setattr(os, "open", real)


def test_memory_holds_where_the_disk_does_not(
    guard: Guard, tmp_path: Path, ticking: Ticking, broken_disk: Callable[[], None]
) -> None:
    """Without a marker the process stays latched, tries again, and once that works everybody is."""
    latch = guard.latch(Reason.WRITE_FAILED)
    assert list(tmp_path.iterdir()) == []
    assert refused(guard)
    assert not refused(another(tmp_path))
    ticking.now += 2
    assert refused(guard)
    broken_disk()
    assert refused(guard)  # looked a moment ago
    assert list(tmp_path.iterdir()) == []
    ticking.now += 2
    assert refused(guard)
    assert another(tmp_path).current() == latch


@pytest.mark.parametrize("call", ["write", "fsync", "link"])
def test_a_full_disk_takes_at_least_the_name(
    guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Where no content can be written the empty marker latches the others."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    guard.latch(Reason.DISK_FULL)
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]
    assert refused(another(tmp_path))


def test_an_empty_marker_may_be_there_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process was faster, on a disk that takes names only."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    latch = Latch("ab" * 16, Reason.DISK_FULL, "2026-01-02T03:04:05.678Z")
    assert write_marker(tmp_path / MARKER, latch)
    assert write_marker(tmp_path / MARKER, latch)


# --- clearing -----------------------------------------------------------------------------------------


class Book:
    """What the log says was cleared."""

    def __init__(self) -> None:
        self.cleared: set[str] = set()
        self.broken = False

    def was_cleared(self, latch_id: str) -> bool:
        """Answer, or fail as a log does that cannot be read."""
        if self.broken:
            raise AuditError("the audit log cannot be read")
        return latch_id in self.cleared


def test_a_marker_that_merely_vanished_is_put_back(guard: Guard, tmp_path: Path, ticking: Ticking) -> None:
    """Deleting the file opens nothing in a process that latched, and the others are latched again."""
    book = Book()
    guard.attach(book.was_cleared)
    latch = guard.latch(Reason.WRITE_FAILED)
    (tmp_path / MARKER).unlink()
    assert refused(guard)
    assert another(tmp_path).current() == latch
    (tmp_path / MARKER).unlink()
    ticking.now += 0.5
    assert refused(guard)
    assert not (tmp_path / MARKER).exists()  # one look a second
    book.broken = True
    ticking.now += 2
    assert refused(guard)
    assert (tmp_path / MARKER).exists()


def test_a_guard_whose_log_is_gone_stays_latched(guard: Guard, tmp_path: Path) -> None:
    """Without a log to ask, a vanished marker means no."""
    guard.attach(Book().was_cleared)
    guard.latch(Reason.WRITE_FAILED)
    (tmp_path / MARKER).unlink()
    assert refused(guard)


def test_what_the_log_says_was_cleared_is(guard: Guard, tmp_path: Path) -> None:
    """Another process cleared it: this one goes on when the log names the very latch."""
    book = Book()
    guard.attach(book.was_cleared)
    latch = guard.latch(Reason.WRITE_FAILED)
    book.cleared.add(latch.id)
    assert refused(guard)  # as long as the marker is there
    another(tmp_path).lift(latch)
    assert not refused(guard)


def test_clearing_opens_for_one_thread_only(guard: Guard) -> None:
    """While the clearing is written everybody else is still refused."""
    from threading import Thread

    latch = guard.latch(Reason.CLOCK_REGRESS)
    found: list[bool] = []
    with guard.clearing():
        assert not refused(guard)
        thread = Thread(target=lambda: found.append(refused(guard)))
        thread.start()
        thread.join()
    assert found == [True]
    assert refused(guard)
    guard.lift(latch)
    assert not refused(guard)


def test_another_latch_is_not_lifted(guard: Guard, tmp_path: Path, broken_disk: Callable[[], None]) -> None:
    """Memory of a latch goes with that latch only."""
    del tmp_path, broken_disk
    guard.latch(Reason.WRITE_FAILED)
    guard.lift(Latch("ab" * 16, Reason.DISK_FULL, "2026-01-02T03:04:05.678Z"))
    assert refused(guard)


# --- faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (sqlite3.SQLITE_FULL, Reason.DISK_FULL),
        (sqlite3.SQLITE_IOERR_WRITE, Reason.WRITE_FAILED),
        (sqlite3.SQLITE_IOERR_FSYNC, Reason.SYNC_FAILED),
        (sqlite3.SQLITE_IOERR_DIR_FSYNC, Reason.SYNC_FAILED),
        (sqlite3.SQLITE_READONLY_DBMOVED, Reason.READ_ONLY),
        (sqlite3.SQLITE_CANTOPEN, Reason.WRITE_FAILED),
        (sqlite3.SQLITE_CORRUPT, Reason.DAMAGED),
        (sqlite3.SQLITE_NOTADB, Reason.DAMAGED),
        (sqlite3.SQLITE_CONSTRAINT_TRIGGER, None),
        (0, None),
    ],
)
def test_failures_of_the_store_have_reasons(guard: Guard, code: int, reason: Reason | None) -> None:
    """SQLite's codes become ours, whether the driver or SQLAlchemy raises them."""
    bare = sqlite_error(code)
    wrapped = OperationalError("", None, bare)
    assert reason_of(bare) is reason_of(wrapped) is reason
    latch = guard.note_fault(wrapped)
    assert (latch.reason if latch else None) is reason


def test_a_failure_without_a_code_may_have_a_reason_all_the_same(guard: Guard) -> None:
    """The log itself names one for what refuses an entry."""
    assert guard.note_fault(sqlite_error(sqlite3.SQLITE_CONSTRAINT_TRIGGER)) is None
    latch = guard.note_fault(sqlite_error(sqlite3.SQLITE_CONSTRAINT_TRIGGER), otherwise=Reason.WRITE_FAILED)
    assert latch is not None
    assert latch.reason is Reason.WRITE_FAILED


def test_a_lock_latches_when_it_stays(guard: Guard, ticking: Ticking) -> None:
    """One refusal is no reason; refusals over the limit are, unless something was written between them."""
    busy = sqlite_error(sqlite3.SQLITE_BUSY)
    assert is_busy(busy)
    assert guard.note_fault(busy) is None
    ticking.now += 14
    assert guard.note_fault(busy) is None
    guard.note_written()
    ticking.now += 14
    assert guard.note_fault(busy) is None
    assert not refused(guard)
    ticking.now += 16
    latch = guard.note_fault(busy)
    assert latch is not None
    assert latch.reason is Reason.LOCK_HELD


# --- clock --------------------------------------------------------------------------------------------


def test_the_clock_may_go_forward_and_stand_still(guard: Guard) -> None:
    """Neither is a regress, however far."""
    for later in (timedelta(0), timedelta(hours=1), timedelta(days=3650)):
        assert guard.regress_ms("2026-03-04T05:06:07.000Z", NOW + later) == 0


def test_a_small_regress_is_counted_and_a_large_one_latches(guard: Guard) -> None:
    """Within the limit the milliseconds are returned; beyond it everything stops, but for the clearing itself."""
    assert guard.regress_ms("2026-03-04T05:06:07.250Z", NOW) == 250
    assert guard.regress_ms("2026-03-04T05:11:07.000Z", NOW) == 300_000
    assert guard.current() is None
    with pytest.raises(AuditLatchedError, match="clock"):
        guard.regress_ms("2026-03-04T05:11:07.001Z", NOW)
    with guard.clearing():
        assert guard.regress_ms("2036-03-04T05:11:07.001Z", NOW) > 0


# --- reserve ------------------------------------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A disk with as many bytes free as the test says."""
    free = {"bytes": 1 << 30}

    def ask(folder: Path) -> int:
        del folder
        return free["bytes"]

    monkeypatch.setattr(reserve_module, "free_bytes", ask)
    return free


SIZE = 1 << 16


def test_the_ballast_is_made_of_real_blocks(tmp_path: Path) -> None:
    """It takes its room from the disk, once; a sparse file of that length is none."""
    reserve = Reserve(tmp_path, SIZE)
    assert not reserve.is_whole
    assert reserve.ensure()
    status = (tmp_path / BALLAST).stat()
    assert (status.st_size, status.st_mode & 0o777) == (SIZE, 0o600)
    assert status.st_blocks * 512 >= SIZE
    assert reserve.ensure()
    reserve.release()
    reserve.release()
    with (tmp_path / BALLAST).open("wb") as sparse:
        sparse.truncate(SIZE)
    assert not reserve.is_whole


def test_no_reserve_is_none(tmp_path: Path, disk: dict[str, int]) -> None:
    """With size 0 nothing is kept back and nothing reached."""
    disk["bytes"] = 0
    reserve = Reserve(tmp_path, 0)
    assert reserve.ensure()
    assert reserve.is_whole
    assert not reserve.is_reached
    assert list(tmp_path.iterdir()) == []


def test_the_ballast_is_not_made_where_that_would_fill_the_disk(tmp_path: Path, disk: dict[str, int]) -> None:
    """There must be room for it and for the reserve beside it."""
    disk["bytes"] = 2 * SIZE - 1
    assert not Reserve(tmp_path, SIZE).ensure()
    assert list(tmp_path.iterdir()) == []


def test_a_ballast_that_cannot_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may refuse after all."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not Reserve(tmp_path, SIZE).ensure()
    assert list(tmp_path.iterdir()) == []


def test_free_space_that_cannot_be_asked_is_none(tmp_path: Path) -> None:
    """Unknown means no."""
    assert free_bytes(tmp_path) > 0
    assert free_bytes(tmp_path / "absent") == 0


def test_new_work_is_refused_before_the_disk_is_full(tmp_path: Path, disk: dict[str, int]) -> None:
    """Below the reserve nothing new begins; what was under way may end, with the ballast's room."""
    guard = another(tmp_path, reserve=SIZE)
    assert guard.reserve.ensure()
    assert not refused(guard)
    disk["bytes"] = SIZE - 1
    assert refused(guard)
    latch = guard.current()
    assert latch is not None
    assert latch.reason is Reason.RESERVE_REACHED
    assert (tmp_path / BALLAST).exists()
    assert not refused(guard, closing=True)
    assert not (tmp_path / BALLAST).exists()
    disk["bytes"] = 1 << 30
    assert refused(guard)  # room alone does not clear it


def test_only_a_full_disk_lets_work_end(guard: Guard) -> None:
    """After any other failure nothing is written at all."""
    guard.latch(Reason.SYNC_FAILED)
    assert refused(guard, closing=True)


def test_a_full_disk_gives_up_the_ballast_at_once(tmp_path: Path) -> None:
    """So that the marker and the end of what is under way find room."""
    guard = another(tmp_path, reserve=SIZE)
    assert guard.reserve.ensure()
    guard.latch(Reason.DISK_FULL)
    assert not (tmp_path / BALLAST).exists()


def test_a_full_disk_is_not_cleared_before_there_is_room(tmp_path: Path, disk: dict[str, int]) -> None:
    """The cause has to be gone, and the ballast to be back."""
    guard = another(tmp_path, reserve=SIZE)
    assert guard.still_wrong() is None
    latch = guard.latch(Reason.DISK_FULL)
    disk["bytes"] = SIZE
    assert guard.still_wrong() == latch
    disk["bytes"] = 1 << 30
    assert guard.still_wrong() is None
    assert (tmp_path / BALLAST).exists()
    disk["bytes"] = SIZE - 1
    assert guard.still_wrong() == latch


def test_other_causes_cannot_be_seen(guard: Guard) -> None:
    """Whether they last shows when the clearing is written."""
    guard.latch(Reason.WRITE_FAILED)
    assert guard.still_wrong() is None
