"""What the tests with published known answers share: our wrappers, fed with values that are not ours to choose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from clinic.crypto import keyring, slots
from clinic.crypto.keyfile import HkdfKdf
from clinic.crypto.keyring import Keyring, Purpose
from clinic.crypto.secret import KeyBytes


class Believer:
    """A cipher that does not look at the tag: the negative control."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
        """Return something, whatever the tag."""
        zeros = bytes(len(data) - 16)
        stream = AESGCM(self._key).encrypt(nonce, zeros, aad)[: len(zeros)]
        return bytes(a ^ b for a, b in zip(stream, data, strict=False))


class Message(str):
    """Any bytes, given in hexadecimal, in the place of a note's text."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Return the bytes, whatever the text."""
        del encoding, errors
        return bytes.fromhex(self.rstrip("\n"))


def derived(monkeypatch: pytest.MonkeyPatch, *, material: bytes, salt: bytes, info: bytes) -> Iterator[bytes]:
    """Yield what each place that derives keys answers, with this info in place of ours.

    A slot takes any salt; a key of a purpose has none, so it answers only where none is given.
    """
    for module in (keyring, slots):
        monkeypatch.setattr(module, "frame", lambda *_parts: info)
    secret = KeyBytes(bytes(32), "credential")
    object.__setattr__(secret, "material", material)
    yield slots._derive(secret, HkdfKdf.model_construct(salt=salt.hex()))
    if not salt:
        yield Keyring(material, {1: bytes(32)}, key_id=1).derive(Purpose.STAFF)
