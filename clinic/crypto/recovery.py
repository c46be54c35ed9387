"""The recovery key in three shares of words (SLIP-39), any two of which give it back.

Rules kept here:

* Pure; neither a word nor a key appears in a message or a `repr`, only the numbers of sheet and word do.
* One share alone says nothing about the key, so no single sheet and no single person opens the clinic.
* A mistyped word is named by its number before any key is tried: words are checked against the list, and the
  checksum of a share locates any single wrong word.
* Shares of another set, the same share twice, and shares of another shape than ours are refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from shamir_mnemonic import MnemonicError, Share, combine_mnemonics, generate_mnemonics
from shamir_mnemonic.constants import CUSTOMIZATION_STRING_EXTENDABLE, CUSTOMIZATION_STRING_ORIG
from shamir_mnemonic.rs1024 import create_checksum
from shamir_mnemonic.wordlist import WORD_INDEX_MAP, WORDLIST

from clinic.crypto.aead import KEY_BYTES
from clinic.errors import InputError

SHARES: Final = 3
NEEDED: Final = 2
WORDS: Final = 33
_PREFIX: Final = 4  # SLIP-39 promises that four letters tell a word
_CHECK_WORDS: Final = 3
_BITS: Final = 10
_FLAG_WORD: Final = 1  # the word that holds the "extendable" bit, which chooses the checksum's constant
_FLAG: Final = 1 << 4
_ABBREVIATED: Final = {word[:_PREFIX]: index for index, word in enumerate(WORDLIST)}


@dataclass(frozen=True, slots=True, eq=False)
class RecoveryKey:
    """The 32 bytes that two shares stand for."""

    material: bytes = field(repr=False)
    kind: Literal["recovery"] = field(default="recovery", init=False)

    def __post_init__(self) -> None:
        if len(self.material) != KEY_BYTES:
            raise ValueError("a recovery key is 32 bytes")

    @classmethod
    def generate(cls) -> RecoveryKey:
        """Return a fresh recovery key."""
        return cls(os.urandom(KEY_BYTES))

    def split(self) -> tuple[str, str, str]:
        """Return three shares, each of 33 words; other ones at every call."""
        ((first, second, third),) = generate_mnemonics(1, [(NEEDED, SHARES)], self.material)
        return first, second, third

    @classmethod
    def from_shares(cls, first: str, second: str) -> RecoveryKey:
        """Return the key of two shares as a person typed them.

        Raises:
            InputError: `recovery_share_typo`, `recovery_share_twice`, `recovery_shares_differ`.
        """
        return cls(combine(first, second))


def combine(first: str, second: str, *, passphrase: bytes = b"") -> bytes:
    """Return the secret of two shares; ours have no passphrase, the published test vectors do.

    Raises:
        InputError: as `RecoveryKey.from_shares`.
    """
    shares = read_share(first, sheet="the first sheet"), read_share(second, sheet="the second sheet")
    if shares[0].common_parameters() != shares[1].common_parameters():
        raise _differ()
    if shares[0].index == shares[1].index:
        raise InputError(
            "both times the same share was typed",
            code="recovery_share_twice",
            hint="two different sheets of one set are needed; see the number at the top of each",
        )
    try:
        return bytes(combine_mnemonics((shares[0].mnemonic(), shares[1].mnemonic()), passphrase))
    except MnemonicError:  # each share is whole, together they give no secret
        raise _differ() from None


def read_share(text: str, *, sheet: str = "this sheet") -> Share:
    """Return one share as typed: case, numbers, punctuation and line ends do not matter; four letters are enough.

    Args:
        text: what was typed.
        sheet: names the sheet in the message.

    Raises:
        InputError: `recovery_share_typo`.
    """
    typed = re.findall(r"[^\W\d_]+", text.lower())
    unknown = [str(place) for place, word in enumerate(typed, start=1) if _index(word) is None]
    if unknown:
        raise _typo(sheet, f"mistyped in word {', '.join(unknown)}: not in the list of words")
    if len(typed) != WORDS:
        raise _typo(sheet, f"not whole: {len(typed)} words of {WORDS}")
    indices = [index for word in typed if (index := _index(word)) is not None]
    _require_checksum(indices, sheet)
    try:
        share: Share = Share.from_mnemonic(" ".join(WORDLIST[index] for index in indices))
    except MnemonicError:
        raise _typo(sheet, "not a share of a clinic's recovery key") from None
    if (share.group_threshold, share.group_count, share.member_threshold) != (1, 1, NEEDED):
        raise _typo(sheet, "not a share of a clinic's recovery key")
    return share


def _index(word: str) -> int | None:
    found: int | None = WORD_INDEX_MAP.get(word)
    return _ABBREVIATED.get(word) if found is None and len(word) == _PREFIX else found


def _require_checksum(indices: Sequence[int], sheet: str) -> None:
    if not any(_syndrome(indices, _customization(indices))):
        return
    places = sorted(set(_single_mistakes(indices)))
    if len(places) == 1:
        raise _typo(sheet, f"mistyped in word {places[0] + 1}")
    raise _typo(sheet, "mistyped, in more than one word or in their order")


def _customization(indices: Sequence[int]) -> bytes:
    extendable: bytes = CUSTOMIZATION_STRING_EXTENDABLE
    original: bytes = CUSTOMIZATION_STRING_ORIG
    return extendable if indices[_FLAG_WORD] & _FLAG else original


def _syndrome(indices: Sequence[int], customization: bytes) -> tuple[int, ...]:
    """Return by how much the last three words differ from the checksum of the others; zeros if they fit."""
    wanted = create_checksum(indices[:-_CHECK_WORDS], customization)
    return tuple(a ^ b for a, b in zip(wanted, indices[-_CHECK_WORDS:], strict=True))


def _single_mistakes(indices: Sequence[int]) -> Iterator[int]:
    """Yield every place where one other word would make the checksum fit.

    The checksum is linear over GF(2): the syndrome of a mistake depends on the place and the changed bits alone.
    """
    for customization in (CUSTOMIZATION_STRING_EXTENDABLE, CUSTOMIZATION_STRING_ORIG):
        syndrome = _syndrome(indices, customization)
        for place in range(len(indices)):
            delta = _delta(place, len(indices), syndrome)
            if delta and _customization(_changed(indices, place, delta)) == customization:
                yield place


def _delta(place: int, length: int, syndrome: tuple[int, ...]) -> int | None:
    """Return which bits of the word at `place`, if changed, give this syndrome."""
    rows = []
    zero = _syndrome([0] * length, b"")
    for bit in range(_BITS):
        word = [0] * length
        word[place] = 1 << bit
        rows.append((_packed(a ^ b for a, b in zip(_syndrome(word, b""), zero, strict=True)), 1 << bit))
    rest, delta = _packed(iter(syndrome)), 0
    for pivot in reversed(range(_BITS * _CHECK_WORDS)):  # Gaussian elimination, one pivot bit at a time
        chosen = next((row for row in rows if row[0] >> pivot & 1), None)
        if chosen is None:
            continue
        rows = [(r ^ chosen[0], d ^ chosen[1]) if r >> pivot & 1 else (r, d) for r, d in rows if (r, d) != chosen]
        if rest >> pivot & 1:
            rest, delta = rest ^ chosen[0], delta ^ chosen[1]
    return delta if rest == 0 else None


def _packed(words: Iterator[int]) -> int:
    number = 0
    for word in words:
        number = number << _BITS | word
    return number


def _changed(indices: Sequence[int], place: int, delta: int) -> list[int]:
    return [index ^ delta if at == place else index for at, index in enumerate(indices)]


def _typo(sheet: str, problem: str) -> InputError:
    return InputError(
        f"what was typed from {sheet} is {problem}",
        code="recovery_share_typo",
        hint="compare it with the printed sheet; no key was tried",
    )


def _differ() -> InputError:
    return InputError(
        "the two shares do not belong together",
        code="recovery_shares_differ",
        hint="two sheets of one set have the same first two words; after `clinic keys new-shares` older ones are void",
    )
