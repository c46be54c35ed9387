"""The second sink: a copy of the log, line by line, on another device.

Rules kept here (`FORMAT.md`, section 9):

* Lines are derived from committed entries and from nothing else, so the copy never holds what the log does not: after
  a crash it may be behind, and catches up; ahead or different means that the log lost something, and is reported.
* Under one lock (flock on the file) a writer reads where the copy stands, adds what is missing and syncs: any number of
  processes write in order, and whoever waited for another's sync need not sync again.
* After a failed write or sync the descriptor is closed and never used again.
* The file at the path must be the one that is open: a copy that was unplugged or replaced is one that failed.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clinic.audit.entry import RawEntry
from clinic.audit.export_file import line_of, raw_of
from clinic.errors import AuditError

Rows = Callable[[int], Iterator[RawEntry]]
"""Gives the committed entries from a number on."""

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_MODE: Final = 0o600
_BLOCK: Final = 64 * 1024
_LOCK_S: Final = 1.0
_PAUSE_S: Final = 0.005
_BATCH: Final = 1 << 20


class SinkError(Exception):
    """Raised when the copy cannot be written; `differs` when it is not a copy of this log."""

    def __init__(self, message: str, *, differs: bool = False) -> None:
        super().__init__(message)
        self.differs = differs


@dataclass(frozen=True, slots=True)
class SinkReport:
    """What comparing the copy with the log found; `first_bad` is the first entry that is wrong or missing in it."""

    ok: bool
    entries: int
    first_bad: int | None
    message: str


class SecondSink:
    """The copy at one path.

    Args:
        path: of the file; its folder has to be there, it is made by the administrator.
        required: nothing counts as recorded unless it is in the copy, too.
    """

    def __init__(self, path: Path, *, required: bool) -> None:
        self.path = path
        self.required = required
        self._fd: int | None = None
        self._lock = threading.Lock()
        self._size = -1
        self._last = 0

    def catch_up(self, rows: Rows, *, up_to: int) -> int:
        """Add every committed entry that is missing, durably, unless `up_to` is there already; return the last one.

        Raises:
            SinkError: the copy cannot be written, or does not fit the log.
        """
        with self._lock:
            try:
                with self._held() as fd:
                    return self._extend(fd, rows, up_to)
            except OSError as error:
                self._drop()
                raise SinkError(f"the second copy cannot be written: {os.strerror(error.errno or 0).lower()}") from None
            except SinkError:
                self._drop()
                raise

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._drop()

    def verify(self, rows: Rows) -> SinkReport:
        """Compare every line with what the log derives."""
        count = 0
        try:
            with self.path.open("rb") as file:
                entries = rows(1)
                for count, line in enumerate(file, start=1):
                    raw = next(entries, None)
                    if raw is None:
                        text = f"the second copy holds entry `{count}`, which the log does not have"
                        return SinkReport(ok=False, entries=count - 1, first_bad=count, message=text)
                    if _line(raw) != line:
                        text = f"the second copy differs from the log at entry `{count}`"
                        return SinkReport(ok=False, entries=count - 1, first_bad=count, message=text)
                missing = next(entries, None)
        except SinkError as error:
            return SinkReport(ok=False, entries=count - 1, first_bad=count, message=str(error))
        except OSError as error:
            text = f"the second copy cannot be read: {os.strerror(error.errno or 0).lower()}"
            return SinkReport(ok=False, entries=count, first_bad=None, message=text)
        if missing is not None:
            text = f"the second copy ends before entry `{missing.seq}`"
            return SinkReport(ok=False, entries=count, first_bad=missing.seq, message=text)
        return SinkReport(ok=True, entries=count, first_bad=None, message=f"the second copy agrees: {count} entries")

    def is_on_device_of(self, database: Path) -> bool:
        """Tell whether the copy lies on the same device as the log, where it protects against little."""
        try:
            return os.stat(self.path.parent).st_dev == os.stat(database).st_dev  # noqa: PTH116 - two plain calls
        except OSError:
            return False

    def _extend(self, fd: int, rows: Rows, up_to: int) -> int:
        last = self._where(fd, rows)
        if last >= up_to:
            return last
        batch = bytearray()
        for raw in rows(last + 1):
            batch += _line(raw)
            last = raw.seq
            if len(batch) >= _BATCH:
                self._write(fd, batch)
                batch.clear()
        self._write(fd, batch)
        os.fdatasync(fd)
        self._size, self._last = os.fstat(fd).st_size, last
        return last

    def _where(self, fd: int, rows: Rows) -> int:
        """Return the last entry that the copy holds: known, or read from its end and compared with the log."""
        size = os.fstat(fd).st_size
        if size == self._size:
            return self._last
        kept, line = _last_line(fd, size)
        if kept != size:
            self._cut_torn(fd, kept, size, rows, line)
        self._size, self._last = kept, _seq_of(line, rows)
        return self._last

    def _cut_torn(self, fd: int, kept: int, size: int, rows: Rows, line: bytes) -> None:
        """Remove the line that a crash cut off, if it is the beginning of the very line that belongs there."""
        torn = os.pread(fd, size - kept, kept)
        expected = next(rows(_seq_of(line, rows) + 1), None)
        if expected is None or not _line(expected).startswith(torn):
            raise SinkError("the second copy ends in something that is not of this log", differs=True)
        os.ftruncate(fd, kept)

    def _write(self, fd: int, data: bytes | bytearray) -> None:
        view = memoryview(bytes(data))
        while view:
            view = view[os.write(fd, view) :]

    @contextmanager
    def _held(self) -> Iterator[int]:
        if self._fd is None:
            self._fd = os.open(self.path, _FLAGS, _MODE)
            self._size = -1
        fd = self._fd
        _lock(fd)
        try:
            _require_same(self.path, fd)
            yield fd
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)

    def _drop(self) -> None:
        self._size = -1
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)


def _line(raw: RawEntry) -> bytes:
    try:
        return line_of(raw)
    except (ValueError, TypeError, AttributeError):  # SQLite stores anything in any column
        raise SinkError("the log holds an entry that cannot be copied: it was changed", differs=True) from None


def _lock(fd: int) -> None:
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise SinkError("the second copy is held by another program") from None
            time.sleep(_PAUSE_S)
        else:
            return


def _require_same(path: Path, fd: int) -> None:
    status, opened = os.lstat(path), os.fstat(fd)
    if (status.st_dev, status.st_ino) != (opened.st_dev, opened.st_ino):
        raise SinkError("the second copy was removed or replaced while in use")


def _last_line(fd: int, size: int) -> tuple[int, bytes]:
    """Return up to where the file holds whole lines, and the last of them (empty if there is none)."""
    tail, start = b"", size
    while start > 0 and tail.count(b"\n") < 2:  # noqa: PLR2004 - the end of the last line and of the one before it
        step = min(_BLOCK, start)
        start -= step
        tail = os.pread(fd, step, start) + tail
    whole, newline, torn = tail.rpartition(b"\n")
    return size - len(torn), whole.rpartition(b"\n")[2] + newline


def _seq_of(line: bytes, rows: Rows) -> int:
    """Return the number of the entry in a line, which must be the line that the log derives for that number."""
    if not line:
        return 0
    try:
        seq = raw_of(line).seq
    except AuditError:
        raise SinkError("the second copy ends in a line that is no entry", differs=True) from None
    raw = next(rows(seq), None)
    if raw is None:
        raise SinkError(f"the second copy holds entry `{seq}`, which the log does not have", differs=True)
    if _line(raw) != line:
        raise SinkError(f"the second copy differs from the log at entry `{seq}`", differs=True)
    return seq
