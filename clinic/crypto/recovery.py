"""The recovery key: 256 random bits that a person can print, read aloud and type again.

Rules kept here:

* Pure; the text never appears in a message or a `repr`, only the numbers of the mistyped groups do.
* Thirteen groups of five characters; the fifth checks the other four and the group's place.
* Any single wrong character, any two neighbours swapped, any two groups swapped: named, before a key is tried.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import Literal

from clinic.crypto.aead import KEY_BYTES
from clinic.errors import InputError

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
_VALUES = {character: value for value, character in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_GROUPS = 13
_DATA = 4
_GROUP = _DATA + 1
_SPARE_BITS = _GROUPS * _DATA * 5 - KEY_BYTES * 8  # 4: they check the whole key


@dataclass(frozen=True, slots=True, eq=False)
class RecoveryKey:
    """A recovery key as a person holds it; typing is forgiving (case, spaces, hyphens, O for 0, I and L for 1)."""

    text: str = field(repr=False)
    kind: Literal["recovery"] = field(default="recovery", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _encode(_decode(self.text)))

    @classmethod
    def generate(cls) -> RecoveryKey:
        """Return a fresh recovery key."""
        return cls(_encode(os.urandom(KEY_BYTES)))

    @property
    def material(self) -> bytes:
        """The 32 bytes that the text stands for."""
        return _decode(self.text)


def _encode(key: bytes) -> str:
    number = int.from_bytes(key, "big") << _SPARE_BITS | _whole_check(key)
    symbols = [number >> 5 * place & 31 for place in reversed(range(_GROUPS * _DATA))]
    groups = [symbols[start : start + _DATA] for start in range(0, len(symbols), _DATA)]
    return "-".join(
        "".join(_ALPHABET[value] for value in [*group, _syndrome([place, *group, 0])])
        for place, group in enumerate(groups)
    )


def _decode(text: str) -> bytes:
    groups = [[_VALUES.get(character, -1) for character in group] for group in _split(text)]
    wrong = [
        str(place + 1)
        for place, group in enumerate(groups)
        if len(group) != _GROUP or min(group) < 0 or _syndrome([place, *group])
    ]
    if wrong:
        raise _typo(f"mistyped in group {', '.join(wrong)} of {_GROUPS}")
    number = 0
    for group in groups:
        for value in group[:_DATA]:
            number = number << 5 | value
    key = (number >> _SPARE_BITS).to_bytes(KEY_BYTES, "big")
    if number & (1 << _SPARE_BITS) - 1 != _whole_check(key):
        raise _typo("mistyped, in more than one place")
    return key


def _split(text: str) -> list[str]:
    """Return the groups as typed; without (or with other) separators, cut every five characters."""
    groups = [group for group in re.split(r"[\s-]+", text.upper()) if group]
    if len(groups) == _GROUPS:
        return groups
    joined = "".join(groups)
    if len(joined) != _GROUPS * _GROUP:
        raise _typo(f"not complete: {len(joined)} characters of {_GROUPS * _GROUP}")
    return [joined[start : start + _GROUP] for start in range(0, len(joined), _GROUP)]


def _syndrome(values: list[int]) -> int:
    """Evaluate the values as a polynomial over GF(32) at the generator; zero means the group checks.

    Every place has another weight, so a wrong character, a swap, and a group in the wrong place all show.
    """
    total = 0
    for value in values:
        total <<= 1
        total ^= (0b100101 if total & 32 else 0) ^ value
    return total


def _whole_check(key: bytes) -> int:
    return hashlib.sha256(b"clinic.recovery" + key).digest()[0] >> 8 - _SPARE_BITS


def _typo(problem: str) -> InputError:
    return InputError(
        f"the recovery key is {problem}",
        code="recovery_key_typo",
        hint="compare what you typed with the printed sheet; the key itself was not tried",
    )
