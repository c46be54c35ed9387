"""`EncryptedSpool`: an upload waits sealed."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import IO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from clinic.errors import ConfigError, DecryptionError, StorageError
from clinic.speech.spool import BLOCK, EncryptedSpool

CANARY = b"CANARY-allergic-to-penicillin"


def stored(spool: EncryptedSpool) -> bytes:
    """Return what lies on the disk (or in anonymous memory) for a spool."""
    return os.pread(spool._fd, 1 << 24, 0)


@given(parts=st.lists(st.binary(max_size=3 * BLOCK // 2), max_size=4), at=st.integers(0, 2 * BLOCK))
def test_what_was_written_is_read(parts: list[bytes], at: int) -> None:
    """Whatever is written in whatever pieces comes back, from any position."""
    data = b"".join(parts)
    with EncryptedSpool() as spool:
        for part in parts:
            assert spool.write(part) == len(part)
        assert spool.tell() == len(data)
        assert spool.seek(0) == 0
        assert spool.read() == data
        spool.seek(at)
        assert spool.read() == data[at:]
        assert spool.seek(0, os.SEEK_END) == len(data)


@pytest.mark.parametrize("where", ["file", "memory"])
def test_canary_is_not_in_the_stored_bytes(where: str, tmp_path: Path) -> None:
    """Neither the disk nor the anonymous memory holds what was uploaded; a plain file would."""
    tmp_path.chmod(0o700)
    data = CANARY * 10_000
    with EncryptedSpool(tmp_path if where == "file" else None) as spool:
        spool.write(data)
        spool.seek(0)
        assert len(stored(spool)) > len(data)
        assert CANARY not in stored(spool)
        assert spool.read() == data
    (tmp_path / "control").write_bytes(data)
    assert CANARY in (tmp_path / "control").read_bytes()


def test_file_has_no_name(tmp_path: Path) -> None:
    """The folder stays empty while the spool is in use."""
    tmp_path.chmod(0o700)
    with EncryptedSpool(tmp_path) as spool:
        spool.write(bytes(BLOCK * 2))
        assert list(tmp_path.iterdir()) == []


def test_exposed_folder_is_refused(tmp_path: Path) -> None:
    """A folder that others may enter is no place for an upload."""
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError) as caught:
        EncryptedSpool(tmp_path)
    assert caught.value.code == "folder_exposed"


def test_changed_block_is_noticed() -> None:
    """One flipped bit raises instead of giving other sound back."""
    with EncryptedSpool() as spool:
        spool.write(bytes(3 * BLOCK))
        spool.seek(0)
        byte = os.pread(spool._fd, 1, BLOCK + 100)
        os.pwrite(spool._fd, bytes([byte[0] ^ 1]), BLOCK + 100)
        spool.seek(BLOCK)
        with pytest.raises(DecryptionError):
            spool.read()


def test_swapped_blocks_are_noticed() -> None:
    """Each block is bound to its place."""
    with EncryptedSpool() as spool:
        spool.write(os.urandom(2 * BLOCK))
        spool.seek(0)
        size = BLOCK + 16
        first, second = os.pread(spool._fd, size, 0), os.pread(spool._fd, size, size)
        os.pwrite(spool._fd, second + first, 0)
        with pytest.raises(DecryptionError):
            spool.read(1)


def test_writing_ends_with_the_first_seek() -> None:
    """A block is sealed once: writing after reading has begun is refused."""
    with EncryptedSpool() as spool:
        spool.write(b"sound")
        spool.seek(0)
        with pytest.raises(OSError, match="written once"):
            spool.write(b"more")


def test_closed_spool_forgets_its_key() -> None:
    """After `close` nothing can be read, the key is dropped, and closing again is harmless."""
    spool = EncryptedSpool()
    spool.write(CANARY)
    spool.close()
    spool.close()
    assert spool._aead is None
    assert CANARY.decode() not in repr(spool)
    with pytest.raises(ValueError, match="closed"):
        spool.read()


def test_full_disk_is_a_storage_error() -> None:
    """A disk that takes no more says so, with a hint."""
    spool = EncryptedSpool()
    os.close(spool._fd)
    spool._fd = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(StorageError) as caught:
        spool.write(bytes(BLOCK))
    assert caught.value.code == "disk_full"
    spool.close()


class Sealed(Request):
    """A request as the web builds it: file parts go into the spool."""

    def _get_file_stream(
        self,
        total_content_length: int | None,  # noqa: ARG002
        content_type: str | None,  # noqa: ARG002
        filename: str | None = None,  # noqa: ARG002
        content_length: int | None = None,  # noqa: ARG002
    ) -> IO[bytes]:
        return cast("IO[bytes]", EncryptedSpool())


def test_werkzeug_uploads_into_the_spool_and_reads_it_back(tmp_path: Path) -> None:
    """A 2 MB upload passes through Werkzeug's parser without a temporary file, and is readable, iterable, copyable."""
    data = CANARY * 70_000
    builder = EnvironBuilder(method="POST", data={"audio": (io.BytesIO(data), "a.webm")})
    environ = builder.get_environ()
    upload = Sealed(environ).files["audio"]
    assert isinstance(upload.stream, EncryptedSpool)
    assert CANARY not in stored(upload.stream)
    target = tmp_path / "copy"
    with target.open("wb") as out:
        shutil.copyfileobj(upload.stream, out)
    assert target.read_bytes() == data
    for stream in (upload, environ["wsgi.input"], builder):
        stream.close()
