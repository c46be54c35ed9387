"""The clinic that is backed up, as the parts of this room see it, and the one operation that runs at a time.

Rules kept here:

* One backup, drill, verification or re-key at a time (`backup/lock`), on the command line and in the worker alike.
* What is built only to be looked at lies in `backup/scratch/`, is private, and is removed at the end, or at the start
  of the next operation after a crash.
* What is going on can be read from `backup/state.json`: stage and bytes, no names.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from clinic.backup.keys import BackupKeys, pseudonyms
from clinic.backup.medium import running
from clinic.config import Config
from clinic.crypto.durable import exclusive, replace_private
from clinic.crypto.keys import Keyring
from clinic.domain import Clock, utc_now
from clinic.errors import StorageError
from clinic.records.records import Records

Progress = Callable[[str, int, int], None]
"""Told the stage, the bytes done, and the bytes to do (0: unknown)."""

_RESERVE: Final = 256 << 20
_EVERY_S: Final = 1.0
_ATTEMPTS: Final = 5
_ATTEMPT_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Site:
    """An unlocked data folder."""

    config: Config
    keyring: Keyring
    records: Records
    clock: Clock = utc_now
    keys: BackupKeys = field(init=False)
    pseudonym: Callable[[str], str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the backup keys once."""
        object.__setattr__(self, "keys", BackupKeys.of(self.keyring))
        object.__setattr__(self, "pseudonym", pseudonyms(self.keyring))

    @contextmanager
    def operation(self, name: str) -> Iterator[State]:
        """Be the one operation that runs; yields where it says how far it is.

        Raises:
            BackupError: `backup_running`.
        """
        folder = _private(self.config.backup_dir)
        try:
            fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unwritable(folder, error) from None
        try:
            _lock(fd)
            clear_scratch(self.config)
            state = State(folder / "state.json", name)
            try:
                yield state
            finally:
                state.end()
        except BlockingIOError:
            raise running() from None
        finally:
            os.close(fd)

    @contextmanager
    def scratch(self, needed: int) -> Iterator[Path]:
        """Yield an empty private folder with room for `needed` bytes; it is removed afterwards.

        Raises:
            StorageError: `disk_full`.
        """
        folder = self.config.backup_dir / "scratch"
        free = shutil.disk_usage(self.config.home).free
        if free < needed + _RESERVE:
            raise StorageError(
                f"the backup needs {needed >> 20} MiB of room to be looked at, {free >> 20} MiB are free",
                code="disk_full",
                hint="free some space on the disk of the data folder; nothing was changed",
            )
        clear_scratch(self.config)
        try:
            yield _private(folder)
        finally:
            clear_scratch(self.config)

    def remember(self, destination: str, folder: Path) -> None:
        """Keep where a destination was seen."""
        known = {**known_destinations(self.config), destination: folder}
        document = {name: str(path) for name, path in known.items()}
        place = _private(self.config.backup_dir)
        with exclusive(place):
            replace_private(place / "destinations.json", json.dumps(document, indent=1).encode())


class State:
    """Says how far the running operation is, to whoever asks and in `state.json` about once a second."""

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._written = 0.0
        self.listener: Progress | None = None
        self.report("start", 0, 0)

    def report(self, stage: str, done: int, total: int) -> None:
        """Say how far it is."""
        if self.listener is not None:
            self.listener(stage, done, total)
        now = time.monotonic()
        if now - self._written >= _EVERY_S or not done:
            self._written = now
            self._write({"operation": self._name, "stage": stage, "done": done, "total": total, "pid": os.getpid()})

    def counter(self, stage: str, total: int) -> Callable[[int], None]:
        """Return a function to be told each number of bytes done."""
        return counter(self.report, stage, total)

    def end(self) -> None:
        """Say that nothing runs any more."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self, document: dict[str, Any]) -> None:
        with suppress(OSError):  # a full disk stops the operation itself, with its own words
            beside = self._path.with_name(".state.json.new")
            beside.write_text(json.dumps(document), encoding="utf-8")
            beside.replace(self._path)


def counter(progress: Progress | None, stage: str, total: int) -> Callable[[int], None]:
    """Return a function to be told each number of bytes done, which tells `progress` how many they are by now."""
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(stage, done, total)

    step(0)
    return step


def known_destinations(config: Config) -> dict[str, Path]:
    """Return the destinations that were used from here: id and where it was last seen."""
    try:
        found: Any = json.loads((config.backup_dir / "destinations.json").read_bytes())
        return {str(name): Path(path) for name, path in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def state_of(config: Config) -> dict[str, Any] | None:
    """Return what is going on, None if nothing is: a state that a killed process left does not count."""
    try:
        fd = os.open(config.backup_dir / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with suppress(OSError, ValueError):
            found: Any = json.loads((config.backup_dir / "state.json").read_bytes())
            if isinstance(found, dict):
                return found
        return {"operation": "starting", "stage": "start", "done": 0, "total": 0}
    finally:
        os.close(fd)
    return None


def _lock(fd: int) -> None:
    for attempt in range(_ATTEMPTS):  # `state_of` holds the lock for a moment
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_ATTEMPT_S)
    return None


def clear_scratch(config: Config) -> None:
    """Remove what an operation that was killed left to be looked at."""
    shutil.rmtree(config.backup_dir / "scratch", ignore_errors=True)


def _private(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return folder


def _unwritable(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"`{folder}` cannot be used: {os.strerror(error.errno or 0).lower()}",
        hint="free some space, and give the data folder to the clinic's account",
    )
