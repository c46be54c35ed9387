"""Numbers: digits and spoken forms (`one forty`, `two thousand eight`, `ninety nine point five`) as values.

Rules kept here:

* A spoken number may be read in more than one way; all readings are kept (`one forty` is 140, and 1 next to 40).
* A number never spans a mark other than a hyphen, and never swallows a word that is not part of it.
* `one` alone is a number only for what was said; a note must name a unit with it (see `quantities`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest

from clinic.verification.words import Kind, Token

_UNITS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
}  # fmt: skip
_TEENS = {
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fourty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90,
}  # fmt: skip
_ORDINALS = {
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15, "sixteenth": 16,
    "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30,
}  # fmt: skip
_DECADES = {
    "twenties": 20, "thirties": 30, "forties": 40, "fifties": 50, "sixties": 60, "seventies": 70, "eighties": 80,
    "nineties": 90,
}  # fmt: skip
_SCALES = {"hundred": 100, "hundreds": 100, "thousand": 1000, "thousands": 1000, "million": 1_000_000}
_ZERO = frozenset({"oh", "o", "zero"})
_TEN = 10
_ALL = {**_UNITS, **_TEENS, **_TENS, **_ORDINALS, **_DECADES}


@dataclass(frozen=True, slots=True)
class Number:
    """A number: its best reading, other readings, and the tokens that say it."""

    value: float
    others: frozenset[float]
    first: int
    last: int
    written: bool  # with digits
    ordinal: bool = False

    @property
    def readings(self) -> frozenset[float]:
        """Every value that these words may mean."""
        return self.others | {self.value}


def numbers(tokens: tuple[Token, ...]) -> tuple[Number, ...]:
    """Find the numbers among `tokens`, in order."""
    found: list[Number] = []
    at = 0
    while at < len(tokens):
        number = _written(tokens, at) or _spoken(tokens, at)
        if number is not None:
            found.append(number)
            at = number.last + 1
        else:
            at += 1
    return tuple(
        _scaled(tokens, number, after) for number, after in zip_longest(found, found[1:]) if number is not None
    )


def _scaled(tokens: tuple[Token, ...], number: Number, after: Number | None) -> Number:
    """In `three to four hundred` the hundred belongs to both numbers; the first keeps its own reading as well."""
    if after is None or number.written or number.value >= _TEN or after.first != number.last + 2:
        return number
    scale = _SCALES.get(tokens[after.last].text)
    if scale is None or _word(tokens, number.last + 1) not in {"to", "or", "-"}:
        return number
    return replace(number, others=number.others | {number.value * scale})


def _written(tokens: tuple[Token, ...], at: int) -> Number | None:
    token = tokens[at]
    if token.kind is not Kind.NUMBER:
        return None
    value = float(token.text)
    nxt = _word(tokens, at + 1)
    if nxt in _SCALES:
        return Number(value * _SCALES[nxt], frozenset({value}), at, at + 1, written=True)
    ordinal = nxt in {"st", "nd", "rd", "th"} and at + 1 < len(tokens) and tokens[at + 1].start == token.end
    # A year in two digits (`'85`) and a decade (`80s`) stay what is written.
    return Number(value, frozenset(), at, at + 1 if ordinal else at, written=True, ordinal=ordinal)


def _word(tokens: tuple[Token, ...], at: int) -> str:
    return tokens[at].text if at < len(tokens) else ""


def _spoken(tokens: tuple[Token, ...], at: int) -> Number | None:
    words, last = _run(tokens, at)
    if not words:
        return None
    value, others = _read(words)
    ordinal = words[-1] in _ORDINALS
    return Number(value, frozenset(others - {value}), at, last, written=False, ordinal=ordinal)


def _run(tokens: tuple[Token, ...], at: int) -> tuple[list[str], int]:
    """Collect the words of one spoken number."""
    words: list[str] = []
    last = at
    i = at
    while i < len(tokens):
        word = tokens[i].text
        if word == "-" and words:
            i += 1
            continue
        if not _extends(words, word, _word(tokens, i + 1)):
            break
        words.append(word)
        last = i
        i += 1
    while words and words[-1] in {"and", "point"}:
        words.pop()
        last -= 1
    return words, last


def _extends(words: list[str], word: str, following: str) -> bool:
    if not words:
        return word in _ALL or word in _SCALES or (word == "point" and following in _UNITS)
    if "point" in words:
        return word in _UNITS or word in _ZERO or word in _TENS or word in _TEENS
    if word == "point":
        return following in _UNITS or following in _ZERO or following in _TENS or following in _TEENS
    if word == "and":
        return words[-1] in _SCALES and following in _ALL
    if word in _SCALES:
        return True
    return _follows(words[-1], word)


def _follows(before: str, word: str) -> bool:
    """Whether `word` goes on the number that ended in `before` (`twenty six`, `one forty`, `one oh two`)."""
    if before in _SCALES or before == "and":
        return word in _ALL
    if before in _TENS:
        return (word in _UNITS and word != "zero") or word in _TENS or _is_small_ordinal(word) or word in _TEENS
    if before in _TEENS:
        return word in _TENS or word in _TEENS or word in _ZERO or word in _DECADES
    if before in _UNITS:
        return word in _TENS or word in _TEENS or word in _ZERO or word in _DECADES  # `in the one twenties`
    if before in _ZERO:
        return word in _UNITS
    return False


def _is_small_ordinal(word: str) -> bool:
    return _ORDINALS.get(word, _TEN) < _TEN


def _read(words: list[str]) -> tuple[float, set[float]]:
    if "point" in words:
        cut = words.index("point")
        whole = _whole(words[:cut])
        digits = "".join(str(int(_value(w))) for w in words[cut + 1 :])
        return float(f"{int(whole)}.{digits or 0}"), {whole}
    groups = _groups([w for w in words if w != "and"])
    joined = _join(groups)
    parts = set(groups) if len(groups) > 1 else set()
    return joined, parts


def _whole(words: list[str]) -> float:
    return _join(_groups([w for w in words if w != "and"]))


def _value(word: str) -> float:
    return 0.0 if word in _ZERO else float(_ALL.get(word, 0))


def _groups(words: list[str]) -> list[float]:
    """Split into groups below a hundred, scales applied: `nineteen eighty five` is 19, 85."""
    groups: list[float] = []
    base = 0.0  # what a scale has already fixed in the last group (`two thousand` ...)
    tens = scaled = False
    for word in words:
        if word in _SCALES:
            groups = groups or [base + 1.0]
            base = groups[-1] = base + (groups[-1] - base) * _SCALES[word]
            tens, scaled = False, True
            continue
        value = _value(word)
        if groups and (scaled or (tens and 0 < value < _TEN)):
            groups[-1] += value
        else:
            groups.append(value)
            base = 0.0
        tens, scaled = word in _TENS, False
    return groups


_HUNDRED = 100


def _join(groups: list[float]) -> float:
    """Say groups as one number: 1, 40 is 140; 19, 85 is 1985; 1, 0, 2 is 102."""
    total = groups[0] if groups else 0.0
    for i, group in enumerate(groups[1:], start=1):
        zero_next = group == 0 and i + 1 < len(groups)
        if zero_next:
            total *= _TEN
        elif group < _TEN:
            total = total * _TEN + group
        else:
            total = total * _HUNDRED + group
    return total
