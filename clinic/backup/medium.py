"""The folder that backups lie in, on whatever disk: made private, recognised again, and trusted with nothing.

Rules kept here:

* Backups lie in `clinic-backups/` inside the folder that was named, private to one account.  A symbolic link, a folder
  that anybody may write to, or one that cannot be made private is refused.
* The folder carries an id.  Where backups were made before and the id is gone, the disk is not plugged in: nothing is
  written to the empty mount point.
* Every error of the disk (full, read-only, pulled out) has its own code; what lay there before stays.
* Keys that are let go are overwritten where they lie before they are removed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clinic.domain import new_id
from clinic.errors import BackupError, StorageError

STORE: Final = "clinic-backups"
MARKER: Final = "destination.json"
BACKUP_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}", re.ASCII)
_PARTIAL: Final = re.compile(r"\.\d{8}T\d{6}Z-[0-9a-f]{8}\.(partial|gone)", re.ASCII)
_KEYS: Final = re.compile(r"keys-(\d{4,})", re.ASCII)
_FORMAT: Final = "clinic-backup-destination-v1"
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_OTHERS: Final = 0o077
_SMALL: Final = 64 << 20
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED: Final = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class Destination:
    """A folder of backups that is at hand.  `id` is what the audit log knows it by."""

    store: Path
    id: str

    def backups(self) -> tuple[Path, ...]:
        """Return the backups in it, oldest first."""
        try:
            names = sorted(entry.name for entry in self.store.iterdir() if BACKUP_ID.fullmatch(entry.name))
        except OSError as error:
            raise unusable(error, self.store) from None
        return tuple(self.store / name for name in names)

    def free_bytes(self) -> int:
        """Return how much room is left."""
        try:
            return shutil.disk_usage(self.store).free
        except OSError as error:
            raise unusable(error, self.store) from None

    def _clear(self) -> None:
        """Remove what a crash left: unfinished backups, keys that were let go or never finished."""
        leftovers = [entry for entry in self.store.iterdir() if _PARTIAL.fullmatch(entry.name)]
        for backup in self.backups():
            leftovers += [entry for entry in backup.iterdir() if _is_leftover(entry.name)]
            leftovers += [backup / f"keys-{number:04d}" for number in generations(backup)[:-1]]
        for entry in leftovers:
            erase(entry)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep every other program from writing backups here, and clear away what a crash left half-written.

        Raises:
            BackupError: `backup_running`.
        """
        fd = open_file(self.store / MARKER)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._clear()
            yield
        except BlockingIOError:
            raise running() from None
        except OSError as error:
            raise unusable(error, self.store) from None
        finally:
            os.close(fd)


def _is_leftover(name: str) -> bool:
    return name.startswith(".keys-")


def find(folder: Path) -> Destination | None:
    """Return the destination in this folder (or that this folder is), if it is one and at hand."""
    for store in (folder / STORE, folder):
        try:
            found = json.loads(read_small(store / MARKER))
        except (StorageError, BackupError, ValueError):
            continue
        if isinstance(found, dict) and found.get("format") == _FORMAT and _ID.fullmatch(str(found.get("id"))):
            return Destination(store=store, id=str(found["id"]))
    return None


def prepare(folder: Path, *, used_before: bool) -> Destination:
    """Return the destination in this folder, made at its first use.

    Raises:
        StorageError: `destination_missing`, `destination_exposed`, `destination_full`, `destination_readonly`, ...
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - a link must be seen, not followed
    _require_folder(folder)
    store = folder / STORE
    found = find(folder)
    if found is None:
        if used_before:
            raise _missing(folder, "the disk that held this clinic's backups is not there")
        _make(folder, store)
        found = find(folder)
        if found is None:
            raise _missing(folder, "the new folder cannot be read back")
    _tighten(store)
    return found


def create_file(path: Path) -> int:
    """Create a file of the owner's alone and return its descriptor.

    Raises:
        StorageError: the medium refused.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise unusable(error, path) from None
    with suppress(OSError):  # a disk without owners
        _keep_owner(fd, path.parent)
    return fd


def open_file(path: Path) -> int:
    """Open a file of a backup for reading and return its descriptor.

    Raises:
        BackupError: `backup_incomplete` if it is not there, or not a plain file.
        StorageError: the medium refused.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENOTDIR}:
            raise incomplete(path) from None
        raise unusable(error, path) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise incomplete(path)
    return fd


def read_small(path: Path) -> bytes:
    """Return the bytes of a small file."""
    fd = open_file(path)
    try:
        with os.fdopen(fd, "rb") as file:
            return file.read(_SMALL)
    except OSError as error:
        raise unusable(error, path) from None


def write_small(path: Path, data: bytes) -> None:
    """Write a small new file, durably."""
    fd = create_file(path)
    try:
        _write_all(fd, data)
        os.fsync(fd)
    except OSError as error:
        raise unusable(error, path) from None
    finally:
        os.close(fd)


def generations(folder: Path) -> list[int]:
    """Return the generations of keys in a backup, in order: one, or two if a re-key was interrupted."""
    try:
        found = [int(name[1]) for entry in folder.iterdir() if (name := _KEYS.fullmatch(entry.name))]
    except OSError as error:
        raise unusable(error, folder) from None
    return sorted(found)


def erase(folder: Path) -> None:
    """Remove a backup, or its keys: out of sight first, keys overwritten where they lie, then the rest."""
    gone = folder if folder.name.startswith(".") else folder.with_name(f".{folder.name}.gone")
    try:
        if gone != folder:
            folder.rename(gone)
            sync_folder(gone.parent)
        for pattern in ("keys.json", "deks.age", "*/keys.json", "*/deks.age"):
            for path in gone.glob(pattern):
                _overwrite(path)
        shutil.rmtree(gone)
        sync_folder(gone.parent)
    except OSError as error:
        raise unusable(error, folder) from None


def make_folder(path: Path) -> None:
    """Make a private folder.

    Raises:
        StorageError: the medium refused, or gives it to others.
    """
    try:
        path.mkdir(mode=0o700)
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                _keep_owner(fd, path.parent)
            finally:
                os.close(fd)
    except OSError as error:
        raise unusable(error, path) from None
    _tighten(path)


def publish(partial: Path, final: Path) -> None:
    """Give a finished backup its name, durably."""
    try:
        sync_folder(partial)
        partial.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise unusable(error, final) from None


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def unusable(error: OSError | None, path: Path) -> StorageError:
    """Return the error that says what the medium refused, and what to do."""
    number = error.errno if error is not None else None
    if number in _FULL:
        return StorageError(
            f"there is no room for the backup at `{path.parent}`",
            code="destination_full",
            hint="free some space there, lower `backup.keep`, or use a larger disk; the earlier backups are unharmed",
        )
    if number in _REFUSED:
        return StorageError(
            f"`{path}` cannot be written: {os.strerror(number or 0).lower()}",
            code="destination_readonly",
            hint="mount the disk for writing, and give the folder to the account that owns the data folder",
        )
    why = os.strerror(number).lower() if number else "unknown reason"
    return StorageError(
        f"the disk at `{path}` does not answer: {why}",
        code="destination_failed",
        hint="was it pulled out? Plug it in, mount it, and try again; if it stays so, the disk may be dying",
    )


def incomplete(path: Path) -> BackupError:
    """Return the error for a part that is not there."""
    return BackupError(
        f"`{path.name}` is missing from the backup",
        code="backup_incomplete",
        hint="it was not copied whole, or something was removed from it: take another backup",
    )


def running() -> BackupError:
    """Return the refusal to make two backups at once."""
    return BackupError(
        "another backup, drill or re-key runs already",
        code="backup_running",
        hint="wait for it (`clinic backup list` shows it), then try again",
    )


def _make(folder: Path, store: Path) -> None:
    if store.is_symlink() or store.exists():
        _require_folder(store)
        if any(store.iterdir()):
            raise _missing(folder, f"`{STORE}` there holds something else, or has lost its `{MARKER}`")
    else:
        make_folder(store)
    _tighten(store)
    document = {"format": _FORMAT, "id": new_id()}
    write_small(store / MARKER, json.dumps(document).encode() + b"\n")
    try:
        sync_folder(store)
        sync_folder(folder)
    except OSError as error:
        raise unusable(error, store) from None


def _require_folder(folder: Path) -> None:
    try:
        status = folder.lstat()
    except OSError:
        raise _missing(folder, "there is no such folder") from None
    if stat.S_ISLNK(status.st_mode) or not stat.S_ISDIR(status.st_mode):
        raise _exposed(folder, "it is a symbolic link, or no folder")
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise _exposed(folder, "everybody may write to it")
    if status.st_uid not in {0, os.geteuid()} and os.geteuid() != 0:
        raise _exposed(folder, "it belongs to another account")


def _tighten(folder: Path) -> None:
    try:
        if folder.lstat().st_mode & _OTHERS:
            with suppress(PermissionError):
                folder.chmod(0o700)
        exposed = folder.is_symlink() or bool(folder.stat().st_mode & _OTHERS)
    except OSError as error:
        raise unusable(error, folder) from None
    if exposed:
        raise _exposed(folder, "others can read it, and its file system does not let that be changed")


def _missing(folder: Path, why: str) -> StorageError:
    return StorageError(
        f"no backup can be made at `{folder}`: {why}",
        code="destination_missing",
        hint="plug in and mount the disk; for another disk at the same place: `clinic backup create --new-disk`, once",
    )


def _exposed(folder: Path, why: str) -> StorageError:
    return StorageError(
        f"no backup is made at `{folder}`: {why}",
        code="destination_exposed",
        hint="use a real folder of the clinic's account (chmod 700); mount a FAT disk with `uid=clinic,umask=0077`",
    )


def _keep_owner(fd: int, folder: Path) -> None:
    """As root, give what was made to whoever owns the folder around it."""
    if os.geteuid() == 0:
        status = folder.stat()
        os.fchown(fd, status.st_uid, status.st_gid)


def _overwrite(path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _write_all(fd, bytes(os.fstat(fd).st_size))
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
