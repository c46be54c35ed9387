"""The database file as a thing that can be taken away while it is open.

Rules kept here:

* Under a live connection, SQLite goes on "committing" into a file that was unlinked or replaced.  So before an entry
  counts as recorded, the file at the path must still be the very file that was there at the start.
* In WAL mode the same holds for the `-wal` file: while a transaction is open, it must exist.
"""

from __future__ import annotations

import os
import sys
import weakref
from pathlib import Path

from sqlalchemy import Connection

from clinic.errors import AuditError


def _gone() -> AuditError:
    return AuditError(
        "the database file is not the one that was opened",
        hint="it was removed, moved or replaced while the program ran: put it back or restore a backup, then restart",
    )


class DatabaseFile:
    """Remembers which file lies at `path` and tells whether it still does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # Holding the file keeps its inode number from being given to another file.  O_PATH, because closing an
            # ordinary descriptor would drop every lock that SQLite holds on the file in this process (POSIX).
            if sys.platform == "linux":
                held = os.open(path, os.O_PATH | os.O_CLOEXEC)
                weakref.finalize(self, os.close, held)
                self._identity = _identity(os.fstat(held))
            else:
                self._identity = _identity(path.stat())
        except OSError:
            raise _gone() from None

    def check(self) -> None:
        """Raise AuditError unless the file at the path is still the one remembered."""
        try:
            same = _identity(self._path.stat()) == self._identity
        except OSError:
            same = False
        if not same:
            raise _gone()

    def check_during(self, connection: Connection) -> None:
        """Do the same, and look for the write-ahead log, inside a transaction (else it may rightly be absent)."""
        self.check()
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        if mode == "wal" and not self._path.with_name(self._path.name + "-wal").exists():
            raise _gone()


def forget_cached(path: Path) -> None:
    """Have the kernel drop what it holds of the database in memory, so that what is read next comes from the disk.

    After a sync that failed, a page in memory may be one that never got there.  To be called before the process opens
    the database: closing a descriptor drops the locks that SQLite holds on the file in this process (POSIX).
    """
    for name in (path.name, f"{path.name}-wal"):
        try:
            fd = os.open(path.with_name(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
