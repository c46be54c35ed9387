"""A blind index: finds sealed values by equality without storing them.

Rules kept here:

* What is stored is a keyed hash cut so short (8 bits) that different values share it by design: it tells a thief of
  the database at most 8 bits, and nothing at all without trying against the key.
* Because values collide, whoever asks the index opens the candidates and compares the normalised values.
* One key, separate scopes: equal values in two columns have unrelated indexes.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata


class BlindIndex:
    """Maps a value to one of `2 ** bits` buckets."""

    def __init__(self, key: bytes, *, scope: str, bits: int = 8) -> None:
        self._key = key
        self._scope = scope.encode()
        self._bits = bits

    def __repr__(self) -> str:
        """Show no key."""
        return f"BlindIndex({self._scope.decode()}, bits={self._bits})"

    def bucket(self, value: str) -> int:
        """Return the bucket of a value, after normalising it."""
        framed = len(self._scope).to_bytes(2, "big") + self._scope + normalise(value).encode()
        digest = hmac.new(self._key, framed, hashlib.sha256).digest()
        return int.from_bytes(digest[:8], "big") >> (64 - self._bits)


def normalise(value: str) -> str:
    """Return a value as people mean it: letters and digits only, case and digit script ignored.

    Example:
        >>> normalise(" mrn-004/71 ") == normalise("MRN 00471")
        True
    """
    folded = unicodedata.normalize("NFKC", value).casefold()
    return "".join(_plain(character) for character in folded if character.isalnum())


def _plain(character: str) -> str:
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)
