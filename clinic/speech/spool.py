"""Where an upload waits while the web server parses it: sealed, never in the clear on disk.

Rules kept here:

* Every block of 64 KiB is sealed with AES-256-GCM under a key that exists only in this object; its nonce is the block's
  number, and no block is ever sealed twice.
* The file has no name: it is unlinked before the first byte is written, in a folder that only its owner may enter, or
  it is anonymous memory.  When the process dies the bytes are gone, and with the key even what the disk still holds.
* Write first, then read: the first `seek` or `read` ends writing.
* A block that was changed behind our back raises `DecryptionError`, a full disk `StorageError`.

It replaces Werkzeug's temporary file (`Request._get_file_stream`)::

    class SealedRequest(Request):
        def _get_file_stream(self, total_content_length, content_type, filename=None, content_length=None):
            return EncryptedSpool(config.run_dir)
"""

from __future__ import annotations

import io
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from clinic.errors import ConfigError, DecryptionError, StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

BLOCK = 1 << 16
_TAG = 16
_LABEL = b"clinic/speech/spool/1"


class EncryptedSpool(io.RawIOBase):
    """A binary file for one upload: written once from start to end, then read (also with `seek`)."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self._fd = -1  # so that `close` works even if the next line fails
        self._fd = _anonymous_memory() if folder is None else _unlinked_file(folder)
        self._aead: AESGCM | None = AESGCM(AESGCM.generate_key(bit_length=256))
        self._tail = bytearray()  # what is not yet a whole block
        self._sealed = 0  # number of blocks on disk
        self._size = 0
        self._at = 0
        self._written = False  # no further writing
        self._open: tuple[int, bytes] = (-1, b"")  # the block that was read last

    def __repr__(self) -> str:
        return f"<EncryptedSpool {self._size} bytes>"

    def readable(self) -> bool:
        """Return True: reading works once writing is over."""
        return True

    def writable(self) -> bool:
        """Tell whether nothing was read yet."""
        return not self._written

    def seekable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Append `data`.

        Raises:
            StorageError: `disk_full`.
        """
        self._check_open()
        if self._written:
            raise io.UnsupportedOperation("a spool is written once, then read")
        added = memoryview(data).nbytes
        self._tail += data
        self._size += added
        self._at = self._size
        while len(self._tail) >= BLOCK:
            self._seal(bytes(self._tail[:BLOCK]))
            del self._tail[:BLOCK]
        return added

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position for reading; ends writing."""
        self._check_open()
        self._end_writing()
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError("negative position")
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        """Return the position."""
        self._check_open()
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill `buffer` as far as the block at the position goes; 0 at the end.

        Raises:
            DecryptionError: if the file was changed.
        """
        self._check_open()
        self._end_writing()
        target = memoryview(buffer).cast("B")
        if self._at >= self._size:
            return 0
        number, offset = divmod(self._at, BLOCK)
        part = self._block(number)[offset : offset + len(target)]
        target[: len(part)] = part
        self._at += len(part)
        return len(part)

    def close(self) -> None:
        """Forget the key and give the file back."""
        if not self.closed:
            self._aead = None
            self._tail, self._open = bytearray(), (-1, b"")
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
        super().close()

    def _end_writing(self) -> None:
        if not self._written:
            self._written = True
            if self._tail:
                self._seal(bytes(self._tail))
                self._tail = bytearray()

    def _seal(self, block: bytes) -> None:
        sealed = self._cipher.encrypt(_nonce(self._sealed), block, _LABEL)
        try:
            done = 0
            while done < len(sealed):
                done += os.pwrite(self._fd, sealed[done:], self._sealed * (BLOCK + _TAG) + done)
        except OSError as exc:
            raise StorageError(
                "the upload cannot be stored", hint="free some space on the disk, then send it again"
            ) from exc
        self._sealed += 1

    def _block(self, number: int) -> bytes:
        if self._open[0] != number:
            sealed = os.pread(self._fd, BLOCK + _TAG, number * (BLOCK + _TAG))
            try:
                self._open = (number, self._cipher.decrypt(_nonce(number), sealed, _LABEL))
            except InvalidTag:
                raise DecryptionError("the upload was changed while it was waiting", hint="send it again") from None
        return self._open[1]

    @property
    def _cipher(self) -> AESGCM:
        if self._aead is None:
            raise ValueError("I/O operation on closed file")
        return self._aead

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _anonymous_memory() -> int:
    return os.memfd_create("spool", os.MFD_CLOEXEC)


def _unlinked_file(folder: Path) -> int:
    if folder.stat().st_mode & 0o077:
        raise ConfigError(f"`{folder}` is open to others", code="folder_exposed", hint=f"chmod 700 {folder}")
    path = folder / f".spool-{secrets.token_hex(8)}"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        path.unlink()
    except OSError as exc:
        raise StorageError("the upload cannot be stored", hint="check the disk of the data folder") from exc
    return fd
