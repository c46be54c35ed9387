"""Who holds the keys: while any process has them unlocked, nobody takes a key away.

Rules kept here:

* Whoever unlocks the keyring holds a shared lock for exactly as long as the keyring is in memory: the lock ends with
  the object, or with the process, however that ends.
* Who rotates the keys holds the lock alone: no process is left that would go on wrapping under a key that is gone.
* The lock is the kernel's (`flock`): nothing is left behind by a crash.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clinic.crypto.keyring import Keyring
from clinic.errors import ConfigError, StorageError

_NAME: Final = "keys.lock"
_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.1


def share(folder: Path, *, patience_s: float = _PATIENCE_S) -> int:
    """Return a descriptor that holds the keys together with others; waits while somebody rotates them.

    Raises:
        ConfigError: `keys_in_use` if that takes too long.
        StorageError: the lock file cannot be made.
    """
    descriptor = _open(folder)
    deadline = time.monotonic() + patience_s
    while not _locked(descriptor, fcntl.LOCK_SH):
        if time.monotonic() > deadline:
            os.close(descriptor)
            raise ConfigError(
                "the keys are being rotated by another command",
                code="keys_in_use",
                hint="wait until `clinic keys rotate` is done, then try again",
            )
        time.sleep(_POLL_S)
    return descriptor


def keep(descriptor: int, keyring: Keyring) -> None:
    """Let the lock go when this keyring goes."""
    weakref.finalize(keyring, os.close, descriptor)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the keys with nobody else.

    Raises:
        ConfigError: `keys_in_use` if any other process has them unlocked.
        StorageError: the lock file cannot be made.
    """
    descriptor = _open(folder)
    try:
        if not _locked(descriptor, fcntl.LOCK_EX):
            raise ConfigError(
                "another process has the keys unlocked",
                code="keys_in_use",
                hint="seal the running clinic (`clinic keys seal`) or stop its services, end other commands, try again",
            )
        yield
    finally:
        os.close(descriptor)


def _open(folder: Path) -> int:
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        return os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StorageError(
            f"cannot open `{folder / _NAME}`: {os.strerror(error.errno or 0).lower()}",
            hint="check that the data folder is there, has space and belongs to the clinic's account",
        ) from error


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
