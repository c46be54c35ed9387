"""Small private files that are either the old one or the new one, whatever happens in between.

Rules kept here:

* A new file is written beside the old one, synced, renamed, and the folder synced: a crash keeps one of the two whole.
* Only the owner can read what is written; a file that others could read is refused instead of used.
* A symbolic link, a pipe or a device in place of the file is refused; no more is read than the file may hold.
* Read-modify-write happens under `exclusive`, so two commands at once cannot undo each other.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clinic.errors import ConfigError, SealedError, StorageError

_OTHERS = 0o077
_WORLD = 0o007


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold the folder against every other process that writes private files in it.

    Raises:
        ConfigError: `home_missing`.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise ConfigError(
            f"cannot use the folder `{directory}`: {_reason(exc)}",
            code="home_missing",
            hint="create the data folder with `clinic init`, or name it with --home or CLINIC_HOME",
        ) from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def read_private(path: Path, *, max_bytes: int, group_may_read: bool = False) -> bytes:
    """Return a file's bytes if nobody but its owner can read it.

    Raises:
        SealedError: `key_missing`, `key_file_exposed`, `key_file_unreadable`.
    """
    try:
        data = _read(path, max_bytes + 1, _WORLD if group_may_read else _OTHERS)
    except FileNotFoundError:
        raise SealedError(
            f"there is no key at `{path}`",
            code="key_missing",
            hint="create one with `clinic init`, or restore `keys.json` from the backup",
        ) from None
    except OSError as exc:
        raise _unreadable(path, _reason(exc)) from exc
    if len(data) > max_bytes:
        raise _unreadable(path, f"larger than {max_bytes} bytes")
    return data


def create_private(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet.  The caller holds `exclusive(path.parent)`.

    Raises:
        ConfigError: `keys_exist`; the file that is there stays as it is.
        StorageError: nothing was written.
    """
    try:
        _clear_leftovers(path)
        temporary = _write_beside(path, data, mode=0o600)
        try:
            os.link(temporary, path)  # unlike rename, refuses to overwrite
        finally:
            temporary.unlink()
        _sync_directory(path.parent)
    except FileExistsError:
        raise ConfigError(
            f"`{path}` exists already",
            code="keys_exist",
            hint="nothing was changed; overwriting it would make every record unreadable for ever",
        ) from None
    except OSError as exc:
        raise _not_written(path, exc) from exc


def replace_private(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put a new file in place of the old one, at once.  The caller holds `exclusive(path.parent)`.

    Raises:
        StorageError: the old file is still there, unchanged.
    """
    try:
        _clear_leftovers(path)
        temporary = _write_beside(path, data, mode=mode)
        try:
            temporary.replace(path)
        except OSError:
            temporary.unlink()
            raise
        _sync_directory(path.parent)
    except OSError as exc:
        raise _not_written(path, exc) from exc


def _read(path: Path, limit: int, forbidden: int) -> bytes:
    # O_NONBLOCK: opening a pipe that somebody put there must not hang.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _require_private(path, os.fstat(fd), forbidden)
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(fd)


def _write_beside(path: Path, data: bytes, *, mode: int) -> Path:
    temporary = path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(fd, mode)  # whatever the umask says
        _keep_owner(fd, path)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except OSError:
        temporary.unlink()
        raise
    finally:
        os.close(fd)
    return temporary


def _keep_owner(fd: int, path: Path) -> None:
    """As root, give the file to whoever owns the folder: the service must still be able to read its keys."""
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(fd, folder.st_uid, folder.st_gid)


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _clear_leftovers(path: Path) -> None:
    """Remove what a crash between write and rename left behind; the lock says that nobody is still writing it."""
    for leftover in path.parent.iterdir():
        if leftover.name.startswith(_prefix(path)) and leftover.name.endswith(".tmp"):
            leftover.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    return f".{path.name}."


def _require_private(path: Path, status: os.stat_result, forbidden: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _unreadable(path, "not a regular file")
    if status.st_mode & forbidden:
        raise SealedError(
            f"others can read or change `{path}` (mode {stat.S_IMODE(status.st_mode):04o})",
            code="key_file_exposed",
            hint=f"run `chmod 600 {path}`; if other people use this machine, change the passphrase as well",
        )


def _unreadable(path: Path, reason: str) -> SealedError:
    return SealedError(
        f"cannot read `{path}`: {reason}",
        code="key_file_unreadable",
        hint="run the command as the user who owns the data folder; the file must be a plain file",
    )


def _not_written(path: Path, exc: OSError) -> StorageError:
    return StorageError(
        f"cannot write `{path}`: {_reason(exc)}",
        hint="free some space or make the folder writable, then try again; the old file was kept",
    )


def _reason(exc: OSError) -> str:
    return (exc.strerror or "unknown reason").lower()
