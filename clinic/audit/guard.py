"""The latch: once the audit log could not be trusted to take an entry, nothing more is done until it verifies.

Rules kept here:

* What latches: a write or sync that failed, a file that is no longer the one opened, a gap, an entry that is not read
  back as written, a lock that stays held, the disk reserve reached, a clock that went back too far, a second sink that
  fails or disagrees.  The reason is a code, never text.
* A latch is one for the whole data folder: the marker file latches every process that sees it, at once and after any
  restart.  Where the marker cannot be written the process stays latched by memory, and tries again to write it.
* Only a verification that passed takes it off: it leaves `audit.cleared` with the latch's id in the log, and nothing
  else convinces a process that latched.  A marker that merely vanished is put back.
* A failed sync is never tried again on the same descriptor: the kernel may have dropped the page (engine, sink).
* While the disk is full, and for no other reason, what was under way may still be written to its end (`closing`).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy.exc import DBAPIError

from clinic.audit.entry import timestamp
from clinic.audit.latch import MARKER, Latch, Reason, read_marker, sync_folder, write_marker
from clinic.audit.reserve import Reserve
from clinic.domain import new_id, utc_now
from clinic.errors import ClinicError

_AGAIN_S: Final = 1.0  # how often a vanished or unwritten marker is looked into
_SYNC_FAILURES: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})


_MAY_CLOSE: Final = frozenset({Reason.DISK_FULL, Reason.RESERVE_REACHED})

_BY_RESULT: Final = {
    sqlite3.SQLITE_FULL: Reason.DISK_FULL,
    sqlite3.SQLITE_IOERR: Reason.WRITE_FAILED,
    sqlite3.SQLITE_CANTOPEN: Reason.WRITE_FAILED,
    sqlite3.SQLITE_READONLY: Reason.READ_ONLY,
    sqlite3.SQLITE_CORRUPT: Reason.DAMAGED,
    sqlite3.SQLITE_NOTADB: Reason.DAMAGED,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is borne: clock and lock in seconds, reserve in bytes (0: none)."""

    clock_s: float = 300.0
    lock_s: float = 15.0
    reserve: int = 64 << 20


def is_busy(error: BaseException) -> bool:
    """Tell whether SQLite gave up waiting for a lock."""
    return _sqlite_code(error) & 0xFF == sqlite3.SQLITE_BUSY


def reason_of(error: BaseException) -> Reason | None:
    """Return why this failure of the store latches, or None if it is none of the disk's or the file's."""
    code = _sqlite_code(error)
    return Reason.SYNC_FAILED if code in _SYNC_FAILURES else _BY_RESULT.get(code & 0xFF)


def _sqlite_code(error: BaseException) -> int:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return int(getattr(cause, "sqlite_errorcode", 0))


class Guard:
    """The latch of one data folder, as one process sees it."""

    def __init__(
        self, folder: Path, *, limits: Limits | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.limits = limits or Limits()
        self.reserve = Reserve(folder, self.limits.reserve)
        self._marker = folder / MARKER
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._latch: Latch | None = None
        self._on_disk = False
        self._looked = -_AGAIN_S
        self._busy_since: float | None = None
        self._clearing = threading.local()
        self._was_cleared: weakref.WeakMethod[Callable[[str], bool]] | None = None

    def attach(self, was_cleared: Callable[[str], bool]) -> None:
        """Name the method that knows whether the log says that a latch was cleared; it is not kept alive by this."""
        self._was_cleared = weakref.WeakMethod(was_cleared)

    # --- asking --------------------------------------------------------------------------------------

    def current(self) -> Latch | None:
        """Return the latch, or None: looks at the marker each time."""
        if self._latch is None and not os.path.lexists(self._marker):
            return None
        with self._lock:
            found = read_marker(self._marker)
            if found is not None:
                self._latch, self._on_disk = found, True
            elif self._latch is not None and self._is_time():
                self._look_again(self._latch)
            return self._latch

    def require_open(self, *, closing: bool = False) -> None:
        """Refuse unless work may go on.  `closing`: it only ends what was under way, for which the reserve is there.

        Raises:
            AuditLatchedError: it is latched.
        """
        if getattr(self._clearing, "active", False):
            return
        latch = self.current()
        if latch is None and self.reserve.is_reached:
            latch = self.latch(Reason.RESERVE_REACHED)
        if latch is None:
            return
        if closing and latch.reason in _MAY_CLOSE:
            self.reserve.release()
            return
        raise latch.refusal()

    def still_wrong(self) -> Latch | None:
        """Return the latch if its cause can be seen to last: no room for reserve and ballast."""
        latch = self.current()
        if latch is not None and latch.reason in _MAY_CLOSE and (not self.reserve.ensure() or self.reserve.is_reached):
            return latch
        return None

    # --- latching ------------------------------------------------------------------------------------

    def latch(self, reason: Reason) -> Latch:
        """Latch, unless that is so already; return the latch that counts."""
        with self._lock:
            latched = self.current()
            if latched is None:
                if reason is Reason.DISK_FULL:  # room for the marker, and for what is under way
                    self.reserve.release()
                latched = self._latch = Latch(new_id(), reason, timestamp(utc_now()))
                self._on_disk = write_marker(self._marker, latched)
            return latched

    def note_fault(self, error: BaseException, *, otherwise: Reason | None = None) -> Latch | None:
        """Latch if this failure of the store asks for it; `otherwise` is the reason for one that SQLite does not name.

        A lock that stays held latches only after `limits.lock_s`: until then it is refused without a latch.
        """
        if is_busy(error):
            return self.note_busy()
        reason = reason_of(error) or otherwise
        return None if reason is None else self.latch(reason)

    def note_busy(self) -> Latch | None:
        """Note that a lock was waited for in vain."""
        now = self._monotonic()
        with self._lock:
            since = self._busy_since = now if self._busy_since is None else self._busy_since
        return self.latch(Reason.LOCK_HELD) if now - since >= self.limits.lock_s else None

    def note_written(self) -> None:
        """Note that a transaction was committed: no lock is stuck."""
        self._busy_since = None

    def regress_ms(self, last_at: str, now: datetime) -> int:
        """Return by how many milliseconds the clock stands before the last entry's time; latches beyond the limit.

        Raises:
            AuditLatchedError: `clock_regress`.
        """
        regress = (datetime.fromisoformat(last_at) - now) // timedelta(milliseconds=1)
        if regress <= 0:
            return 0
        if regress > self.limits.clock_s * 1000 and not getattr(self._clearing, "active", False):
            raise self.latch(Reason.CLOCK_REGRESS).refusal()
        return regress

    # --- clearing ------------------------------------------------------------------------------------

    @contextmanager
    def clearing(self) -> Iterator[None]:
        """Let this thread write although it is latched: the two entries that say so."""
        self._clearing.active = True
        try:
            yield
        finally:
            self._clearing.active = False

    def lift(self, latch: Latch) -> None:
        """Take the latch off; the log holds the entry that says so.

        Raises:
            OSError: the marker cannot be removed; it stays latched.
        """
        with self._lock:
            if os.path.lexists(self._marker):
                os.unlink(self._marker)  # noqa: PTH108 - beside `lexists`, which pathlib lacks here
                sync_folder(self._marker.parent)
            if self._latch is not None and self._latch.id == latch.id:
                self._latch, self._on_disk = None, False
            self._busy_since = None

    def _is_time(self) -> bool:
        now = self._monotonic()
        if now - self._looked < _AGAIN_S:
            return False
        self._looked = now
        return True

    def _look_again(self, latch: Latch) -> None:
        """A latch without its marker: it was cleared, or the marker has still to be written."""
        if self._on_disk and self._log_says_cleared(latch.id):
            self._latch, self._on_disk = None, False
            return
        self._on_disk = write_marker(self._marker, latch)

    def _log_says_cleared(self, latch_id: str) -> bool:
        ask = self._was_cleared() if self._was_cleared is not None else None
        if ask is None:
            return False
        try:
            return ask(latch_id)
        except ClinicError:
            return False
