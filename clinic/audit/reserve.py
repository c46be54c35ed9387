"""The disk reserve: room that is kept back, so that what is under way can still be written to its end.

Rules kept here:

* The ballast is a file of real blocks (`posix_fallocate`), made at the start and given up when the disk is full: what
  was begun can then still be finished and recorded.  It holds nothing.
* New work is refused before that, as soon as less than the reserve is free beside the ballast.
* Trouble with the ballast itself is no reason to stop: it is reported by `is_whole`, and free space is asked anyway.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

BALLAST: Final = "audit.reserve"
"""Name of the ballast in the data folder; backups leave it out."""

_MODE: Final = 0o600
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Reserve:
    """The reserve of `size` bytes in one folder; 0 means none."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._path = folder / BALLAST
        self._size = size

    @property
    def is_whole(self) -> bool:
        """Whether the ballast is there in full, with blocks of its own."""
        try:
            status = os.lstat(self._path)
        except OSError:
            return self._size == 0
        return status.st_size >= self._size and status.st_blocks * 512 >= self._size

    @property
    def is_reached(self) -> bool:
        """Whether less than the reserve is free, the ballast not counted."""
        return self._size > 0 and free_bytes(self._folder) < self._size

    def ensure(self) -> bool:
        """Make the ballast where it is missing and there is room for it twice; say whether it is whole now."""
        if self._size == 0 or self.is_whole:
            return True
        if free_bytes(self._folder) < 2 * self._size:
            return False
        try:
            fd = os.open(self._path, _FLAGS, _MODE)
            try:
                os.posix_fallocate(fd, 0, self._size)
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError:
            self.release()
        return self.is_whole

    def release(self) -> None:
        """Give the ballast's room back to the disk; never fails."""
        try:
            os.unlink(self._path)  # noqa: PTH108 - beside the other calls on this path
        except OSError:
            return


def free_bytes(folder: Path) -> int:
    """Return what the account that runs the clinic may still write there; 0 where that cannot be asked."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize
