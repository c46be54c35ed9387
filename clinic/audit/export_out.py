"""How an encrypted file comes to a medium: unnamed until it is whole.

Rules kept here:

* The file is written without a name (`O_TMPFILE`): a process that is killed leaves nothing at all.  Where the medium
  cannot do that (FAT), it has a hidden name that ends in `.part` until it is renamed.
* Nothing is ever overwritten; mode 0600; a name only after fsync, and the folder is synced too.
* Plain bytes never touch the disk: they stream into age (X25519 recipients).  age flattens the errors of what it reads
  from and writes to, so both ends keep theirs.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import pyrage

from clinic.domain import new_id
from clinic.errors import AuditError, InputError, StorageError

MAX_RECIPIENTS: Final = 20
_NO_UNNAMED_FILES: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


def parse_recipients(recipients: Sequence[str]) -> list[pyrage.x25519.Recipient]:
    """Return the age recipients, none twice.

    Raises:
        InputError: `recipient_invalid`; what was typed is not repeated, for it may be a secret key.
    """
    unique = dict.fromkeys(recipient.strip() for recipient in recipients)
    hint = "an age recipient starts with `age1`; the auditor makes one with `age-keygen`"
    if not unique:
        raise InputError("an export needs at least one recipient", code="recipient_invalid", hint=hint)
    if len(unique) > MAX_RECIPIENTS:
        hint = f"at most {MAX_RECIPIENTS} recipients"
        raise InputError("too many recipients", code="recipient_invalid", hint=hint)
    try:
        return [pyrage.x25519.Recipient.from_str(recipient) for recipient in unique]
    except pyrage.RecipientError:
        raise InputError("not an age recipient", code="recipient_invalid", hint=hint) from None


def recipients_in(text: str) -> list[str]:
    """Return those words of a text that are age recipients, and nothing else of it."""
    found = []
    for word in text.replace(",", " ").split():
        with suppress(InputError):
            parse_recipients([word])
            found.append(word)
    return found


def require_free(target: Path) -> None:
    """Raise InputError `output_exists` if there is a file of that name, or a dangling link."""
    if target.exists() or target.is_symlink():
        raise InputError("there is a file of that name already", code="output_exists", hint="choose another name")


class OutFile:
    """A file at `target` that is not there yet.  Without `publish` it never will be."""

    def __init__(self, target: Path) -> None:
        require_free(target)
        self._target = target
        self._part: Path | None = None
        self._digest = hashlib.sha256()
        self.failure: OSError | None = None
        try:
            self._folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise unwritable(error) from error
        try:
            self._fd = self._create()
        except OSError as error:
            os.close(self._folder)
            raise unwritable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        os.close(self._folder)
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def fill(self, pieces: Iterator[bytes], recipients: list[pyrage.x25519.Recipient]) -> str:
        """Encrypt the pieces into the file, make it durable, and return its SHA-256."""
        source = _Source(pieces)
        try:
            pyrage.encrypt_io(source, self, recipients)
            # pyrage 1.4.0 loses an error met while it writes the last chunk: the export would be cut off, silently.
            if self.failure is not None:
                raise self.failure
            os.fsync(self._fd)
        except pyrage.EncryptError:
            raise source.failure or unwritable(self.failure) from None
        except OSError as error:
            raise unwritable(error) from error
        return self._digest.hexdigest()

    def write(self, data: bytes) -> int:
        """Take what age writes."""
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self.failure = error
            raise
        self._digest.update(data[:written])
        return written

    def flush(self) -> None:
        """Nothing is held back."""

    def publish(self) -> None:
        """Give the finished file its name, durably; a file that got this name meanwhile stays as it is."""
        try:
            if self._part is None:
                # With a folder's descriptor, because only then does `os.link` follow the link in /proc to the file.
                os.link(f"/proc/self/fd/{self._fd}", self._target.name, dst_dir_fd=self._folder)
            else:
                with suppress(FileNotFoundError):
                    if self._target.lstat():
                        raise FileExistsError(errno.EEXIST, "exists")
                self._part.rename(self._target)
                self._part = None
            os.fsync(self._folder)
        except OSError as error:
            raise unwritable(error) from error

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CLOEXEC
        try:
            return os.open(self._target.parent, flags | os.O_TMPFILE, 0o600)
        except OSError as error:
            if error.errno not in _NO_UNNAMED_FILES:
                raise
        self._part = self._target.with_name(f".{self._target.name}.{new_id()}.part")
        return os.open(self._part, flags | os.O_CREAT | os.O_EXCL, 0o600)


class _Source:
    """What age reads from: an iterator as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = bytearray()
        self.failure: AuditError | None = None

    def read(self, size: int) -> bytes:
        try:
            while len(self._rest) < size:
                self._rest += next(self._pieces)
        except StopIteration:
            pass  # the rest is all there is
        except AuditError as error:
            self.failure = error
            raise
        taken = bytes(self._rest[:size])
        del self._rest[:size]
        return taken


def unwritable(cause: OSError | None) -> StorageError | InputError:
    """Return the error that says why the medium did not take the file."""
    number = None if cause is None else cause.errno
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return StorageError("there is no room for the export", hint="free some space, or choose another disk")
    if number == errno.EEXIST:
        return InputError("there is a file of that name already", code="output_exists", hint="choose another name")
    hint = "does the folder exist, and may you write to it?"
    return InputError("the export cannot be written there", code="output_unwritable", hint=hint)
