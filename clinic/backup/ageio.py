"""Streams into and out of age files, with flat memory and whole errors.

Rules kept here:

* age flattens the errors of what it reads from and writes to, and loses one met at the last chunk: both ends keep
  theirs.
* A file that was written is on the medium (`fsync`) and out of the page cache before anybody reads it back.
* What age hands out before it has seen the end counts for nothing until the digest of the whole file was compared.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyrage

from clinic.backup.manifest import foreign
from clinic.backup.medium import create_file, open_file, unusable
from clinic.backup.rows import damaged
from clinic.errors import BackupError, ClinicError

Step = Callable[[int], None]
"""Told how many bytes were done."""


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file."""

    size: int
    sha256: str


def write(
    path: Path, pieces: Iterator[bytes], recipients: Sequence[pyrage.x25519.Recipient], *, step: Step | None = None
) -> Written:
    """Encrypt `pieces` into a new file, durably.

    Raises:
        StorageError: the medium refused; a part of the file may lie there.
    """
    source = _Source(pieces, step)
    target = _Target(path)
    try:
        pyrage.encrypt_io(source, target, list(recipients))
        if target.failure is not None:  # met at the last chunk
            raise target.failure
        return target.finish()
    except pyrage.EncryptError:
        raise source.failure or unusable(target.failure, path) from None
    except OSError as error:
        raise source.failure or unusable(target.failure or error, path) from None
    finally:
        target.close()


def read(
    path: Path, identity: pyrage.x25519.Identity, take: Callable[[bytes], None], *, step: Step | None = None
) -> Written:
    """Decrypt a file into `take`, and return what was read; compare it before anything of it counts.

    Raises:
        BackupError: `backup_damaged`, `backup_foreign`.
    """
    drain = _Drain(take)
    with _Tap(path, step) as tap:
        try:
            pyrage.decrypt_io(tap, drain, [identity])
        except pyrage.DecryptError as error:
            raise drain.failure or tap.failure or _refused(path, error) from None
        except OSError:
            raise drain.failure or tap.failure or damaged(path.name, "it was cut off or changed") from None
        if drain.failure is not None:
            raise drain.failure
        return tap.rest()


def _refused(path: Path, error: Exception) -> BackupError:
    if "No matching keys" in str(error):
        return foreign(path.name)
    return damaged(path.name, "it was cut off or changed")


class _Source:
    """What age reads plain bytes from: an iterator as a file."""

    def __init__(self, pieces: Iterator[bytes], step: Step | None) -> None:
        self._pieces = pieces
        self._step = step
        self._piece = b""
        self._at = 0
        self.failure: ClinicError | None = None

    def read(self, size: int) -> bytes:
        try:
            while self._at >= len(self._piece):
                self._piece, self._at = next(self._pieces), 0
                if self._step is not None:
                    self._step(len(self._piece))
        except StopIteration:
            return b""
        except ClinicError as error:
            self.failure = error
            raise
        taken = self._piece[self._at : self._at + size]
        self._at += len(taken)
        return taken


class _Target:
    """What age writes to: a new file, and its SHA-256 on the way."""

    def __init__(self, path: Path) -> None:
        self._fd = create_file(path)
        self._digest = hashlib.sha256()
        self._size = 0
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self.failure = error
            raise
        self._digest.update(data[:written])
        self._size += written
        return written

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> Written:
        os.fsync(self._fd)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return Written(size=self._size, sha256=self._digest.hexdigest())

    def close(self) -> None:
        os.close(self._fd)


class _Tap:
    """What age reads sealed bytes from: the file, and its SHA-256 on the way."""

    def __init__(self, path: Path, step: Step | None) -> None:
        self._path = path
        self._step = step
        self._file = os.fdopen(open_file(path), "rb", buffering=0)
        self._digest = hashlib.sha256()
        self._size = 0
        self.failure: ClinicError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        try:
            data = self._file.read(size) or b""
        except OSError as error:
            self.failure = unusable(error, self._path)
            raise
        self._digest.update(data)
        self._size += len(data)
        if self._step is not None:
            self._step(len(data))
        return data

    def rest(self) -> Written:
        """Read what age left unread, so that the digest is that of the whole file."""
        while self.read(1 << 20):
            pass
        return Written(size=self._size, sha256=self._digest.hexdigest())


class _Drain:
    """What age writes plain bytes to."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self.failure: ClinicError | None = None

    def write(self, data: bytes) -> int:
        try:
            self._take(data)
        except ClinicError as error:
            self.failure = error
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""
