"""Putting a folder in place of another in one step, and making sure that nobody lives in the old one.

Rules kept here:

* Two folders change places at once (`renameat2`, `RENAME_EXCHANGE`): at no moment is there none, and none is deleted.
* A data folder that any process of a clinic has open is left alone.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from clinic.errors import ConfigError, StorageError

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_LOCKS: Final = ("clinic.lock", "worker.lock")


def exchange(one: Path, other: Path) -> None:
    """Let two folders change places, durably.

    Raises:
        StorageError: `swap_unsupported`: nothing was changed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise StorageError(
            f"the restored folder cannot take the place of `{one}`: {os.strerror(number).lower()}",
            code="swap_unsupported",
            hint="restore to a new folder with --home, and move it there yourself",
        )
    sync_tree_top(one.parent)


def sync_tree_top(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(folder: Path) -> None:
    """Make everything below a folder durable.

    Raises:
        StorageError: the disk refused.
    """
    try:
        for place, folders, files in os.walk(folder):
            for name in files:
                fd = os.open(Path(place) / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
            del folders
            sync_tree_top(Path(place))
    except OSError as error:
        raise StorageError(
            f"the restored folder cannot be made durable: {os.strerror(error.errno or 0).lower()}",
            hint="check space and health of the disk; the backup is unharmed",
        ) from None


@contextmanager
def nobody_home(home: Path) -> Iterator[None]:
    """Hold a data folder against every process of a clinic.

    Raises:
        ConfigError: `clinic_running`.
    """
    with ExitStack() as held:
        for name in _LOCKS:
            with suppress(FileNotFoundError):
                fd = os.open(home / "run" / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                held.callback(os.close, fd)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise _running(home) from None
        if _is_open(home / "clinic.db"):
            raise _running(home)
        yield


@contextmanager
def only_here(folder: Path) -> Iterator[None]:
    """Be the only one that restores into this parent folder.

    Raises:
        ConfigError: `restore_running`.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(
            f"another restore runs in `{folder}`", code="restore_running", hint="wait for it, then try again"
        ) from None
    finally:
        os.close(fd)


def _is_open(database: Path) -> bool:
    """Whether any process has the database open: then SQLite's exclusive lock cannot be had."""
    if not database.exists():
        return False
    try:
        with closing(sqlite3.connect(database, isolation_level=None, timeout=0)) as connection:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchone()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:  # a damaged file is why one restores
        return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
    return False


def _running(home: Path) -> ConfigError:
    return ConfigError(
        f"a clinic, or a command of it, has `{home}` open",
        code="clinic_running",
        hint="stop `clinic serve` or its services, and end other commands; then restore again",
    )
