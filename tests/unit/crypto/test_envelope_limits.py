"""The envelope at its limits, and its bytes computed a second time, from the format alone."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from clinic.crypto.aead import open_blob, seal_blob
from clinic.crypto.envelope import FieldContext, open_sealed, seal
from clinic.errors import DecryptionError

KEY = bytes(range(32))


def here(row_version: int) -> FieldContext:
    """Return a place."""
    return FieldContext(table="patients", column="name", row_id="r1", patient_id="p1", row_version=row_version)


@pytest.mark.parametrize("row_version", [0, 2**64 - 1])
@pytest.mark.parametrize("key_id", [0, 2**32 - 1])
def test_the_bytes_are_those_of_the_format(row_version: int, key_id: int) -> None:
    """FORMAT.md by hand: what the program seals opens, and what is sealed by hand the program opens."""
    fields = [b"\1", b"patients", b"name", b"r1", b"p1", key_id.to_bytes(4, "big"), row_version.to_bytes(8, "big")]
    aad = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    blob = seal(KEY, b"Ada", here(row_version), key_id=key_id)
    assert blob[:5] == b"\1" + key_id.to_bytes(4, "big")
    assert AESGCM(KEY).decrypt(blob[5:17], blob[17:], aad) == b"Ada"
    by_hand = blob[:5] + bytes(12) + AESGCM(KEY).encrypt(bytes(12), b"Ada", aad)
    assert open_sealed(KEY, by_hand, here(row_version)) == b"Ada"


@pytest.mark.parametrize("row_version", [-1, 2**64])
def test_a_row_version_has_64_bits(row_version: int) -> None:
    """One less and one more are refused."""
    with pytest.raises(ValueError, match="64-bit"):
        here(row_version)


def test_a_value_has_at_most_64_mib() -> None:
    """The longest is sealed; one byte more is refused."""
    longest = bytes(64 * 1024 * 1024)
    assert len(seal_blob(KEY, longest, aad=b"", key_id=1)) == len(longest) + 33
    with pytest.raises(ValueError, match="64 MiB"):
        seal_blob(KEY, longest + b"x", aad=b"", key_id=1)


def test_a_blob_under_another_key_id_than_asked_for_is_refused() -> None:
    """The key that was looked up is the one that the blob names, or it does not open."""
    blob = seal_blob(KEY, b"Ada", aad=b"", key_id=1)
    assert open_blob(KEY, blob, aad=b"", key_id=1, what="it") == b"Ada"
    with pytest.raises(DecryptionError):
        open_blob(KEY, blob, aad=b"", key_id=2, what="it")
