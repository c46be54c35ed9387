"""The sealed blob: AES-256-GCM under a random nonce, with everything it depends on authenticated.

Rules kept here:

* A blob is `version(1) || key id(4) || nonce(12) || ciphertext || tag(16)`; nothing else is ever written.
* The associated data is length-framed, so no two different contexts give the same bytes.
* A blob that does not open gives one and the same `DecryptionError`, whatever the reason, without a cause attached.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from clinic.errors import DecryptionError

VERSION = 1
KEY_BYTES = 32
MAX_KEY_ID = 2**32 - 1
MAX_PLAINTEXT = 64 * 2**20
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEADER_BYTES = 1 + 4
OVERHEAD = _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES


def frame(*fields: bytes) -> bytes:
    """Join fields so that no two different sequences give the same bytes: each follows its 4-byte length."""
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def key_id_bytes(key_id: int) -> bytes:
    """Return a key id as it stands in header and associated data."""
    if not 0 <= key_id <= MAX_KEY_ID:
        raise ValueError("a key id is an unsigned 32-bit number")
    return key_id.to_bytes(4, "big")


def header(key_id: int) -> bytes:
    """Return how every blob under this key id begins."""
    return VERSION.to_bytes(1, "big") + key_id_bytes(key_id)


def new_key() -> bytes:
    """Return 32 random bytes from the kernel."""
    return os.urandom(KEY_BYTES)


def seal_blob(key: bytes, plaintext: bytes, *, aad: bytes, key_id: int) -> bytes:
    """Encrypt `plaintext`; `aad` must be presented again, unchanged, to open the blob."""
    if len(plaintext) > MAX_PLAINTEXT:
        raise ValueError("a sealed value holds at most 64 MiB")
    nonce = os.urandom(_NONCE_BYTES)
    return header(key_id) + nonce + _cipher(key).encrypt(nonce, plaintext, aad)


def key_id_of(blob: bytes, *, what: str) -> int:
    """Return the key id that a blob names; it is not authenticated before the blob is opened."""
    if len(blob) < OVERHEAD or blob[0] != VERSION:
        raise refusal(what)
    return int.from_bytes(blob[1:_HEADER_BYTES], "big")


def open_blob(key: bytes, blob: bytes, *, aad: bytes, key_id: int, what: str) -> bytes:
    """Return the plaintext of a blob that authenticates under `key` and `aad`; `what` names it for people.

    INVARIANT: the header's key id is `key_id`, so no byte of a blob is free to change.
    """
    if key_id_of(blob, what=what) != key_id:
        raise refusal(what)
    body = memoryview(blob)[_HEADER_BYTES:]  # a view: a chunk of audio is not copied on its way to the cipher
    try:
        return _cipher(key).decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], aad)
    except InvalidTag:
        raise refusal(what) from None


def refusal(what: str) -> DecryptionError:
    """Return the one error for a blob that does not open."""
    return DecryptionError(
        f"{what} cannot be opened: it is damaged, out of place, or sealed under another key",
        hint="nothing was changed; run `clinic doctor`, and restore the last backup if it confirms damage",
    )


def _cipher(key: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:  # AESGCM would take 16 or 24 as well, and quietly be AES-128 or AES-192
        raise ValueError("a key has 32 bytes")
    return AESGCM(key)
