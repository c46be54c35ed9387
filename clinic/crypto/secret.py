"""What opens the keyring: a passphrase, key bytes from outside, or the recovery key.

Rules kept here:

* No secret shows in `repr`, `str` or an error.
* A passphrase means the same on every keyboard (NFKC); one that is chosen anew must be long enough.
* Key bytes are 32 bytes, written as 64 hexadecimal digits; anything else is refused rather than stretched.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from clinic.crypto.aead import KEY_BYTES, new_key
from clinic.crypto.recovery import RecoveryKey
from clinic.errors import InputError, SealedError

MIN_PASSPHRASE = 12
MAX_PASSPHRASE = 1024
_MIN_DIFFERENT = 5


class SlotKind(StrEnum):
    """The kinds of unlock slot."""

    PASSPHRASE = "passphrase"  # noqa: S105 - the name of a kind, not a secret
    CREDENTIAL = "credential"
    INSECURE_KEY_FILE = "insecure-key-file"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True, eq=False)
class Passphrase:
    """A passphrase as typed."""

    text: str = field(repr=False)
    kind: Literal["passphrase"] = field(default="passphrase", init=False)

    @property
    def material(self) -> bytes:
        """The bytes that enter the key derivation; never raises, so no exception can carry the text."""
        return unicodedata.normalize("NFKC", self.text).encode(errors="surrogatepass")

    def require_strength(self) -> None:
        """Refuse a new passphrase that would not hold against whoever stole the disk.

        Raises:
            InputError: `weak_passphrase`.
        """
        text = unicodedata.normalize("NFKC", self.text)
        if not MIN_PASSPHRASE <= len(text) <= MAX_PASSPHRASE or len(set(text)) < _MIN_DIFFERENT:
            raise InputError(
                "the passphrase is too weak",
                code="weak_passphrase",
                hint=f"use at least {MIN_PASSPHRASE} characters; four or five unrelated words are easiest to remember",
            )


@dataclass(frozen=True, slots=True, eq=False)
class KeyBytes:
    """Thirty-two key bytes kept by something else: systemd (`credential`) or a file (`insecure-key-file`)."""

    material: bytes = field(repr=False)
    kind: Literal["insecure-key-file", "credential"]

    def __post_init__(self) -> None:
        if len(self.material) != KEY_BYTES:
            raise ValueError("key bytes are 32 bytes")

    @classmethod
    def generate(cls, kind: Literal["insecure-key-file", "credential"]) -> KeyBytes:
        """Return fresh key bytes."""
        return cls(new_key(), kind)

    @classmethod
    def from_text(cls, data: bytes, kind: Literal["insecure-key-file", "credential"]) -> KeyBytes:
        """Read 64 hexadecimal digits, white space around them ignored.

        Raises:
            SealedError: `key_malformed`.
        """
        if not re.fullmatch(rb"[0-9A-Fa-f]{64}", data.strip()):
            raise SealedError(
                f"the {kind} does not hold a clinic key",
                code="key_malformed",
                hint="it must be 64 hexadecimal digits, as `clinic init` wrote them",
            )
        return cls(bytes.fromhex(data.strip().decode("ascii")), kind)

    def to_text(self) -> bytes:
        """Return the 64 digits and a line end, to be handed to whatever will keep them."""
        return self.material.hex().encode() + b"\n"


UnlockSecret = Passphrase | KeyBytes | RecoveryKey
