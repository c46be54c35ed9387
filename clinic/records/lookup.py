"""Looking for patients: what somebody typed, read as names, numbers and dates of birth.

Rules kept here:

* A date may be typed in every usual form; where day and month can be read both ways, both count.
* Everything that was typed must fit: more words find fewer patients.
* What only sounds or looks alike is never mixed with what fits: it is asked for apart, and shown as that.
* Pure: it sees opened data, and keeps nothing.

Example:
    >>> wanted = read("santos 5/3/1961", today=date(2026, 1, 1))
    >>> wanted.words, sorted(born.isoformat() for born in wanted.born)
    (('santos',), ['1961-03-05', '1961-05-03'])
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from difflib import SequenceMatcher
from typing import Final

_OLDEST: Final = 130
_ALIKE: Final = 0.8
"""Share of letters in common from which two names look alike: one letter more, less or other in five."""
_LEAST: Final = 3
"""Shorter words sound like too many names."""

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED: Final = "|".join(_MONTHS)
_DATE: Final = re.compile(
    rf"(?<!\w)(?:(?P<iso>\d{{4}})[-/.](?P<iso_month>\d\d?)[-/.](?P<iso_day>\d\d?)"
    rf"|(?P<first>\d\d?)\s?[-/.]\s?(?P<second>\d\d?)\s?[-/.]\s?(?P<year>\d{{4}}|\d\d)"
    rf"|(?P<day>\d\d?)(?:st|nd|rd|th|\.)?\s?(?:of\s)?(?P<month>{_NAMED})[a-z]*\.?,?\s?(?P<named_year>\d{{4}}|\d\d)"
    rf"|(?P<month_2>{_NAMED})[a-z]*\.?\s?(?P<day_2>\d\d?)(?:st|nd|rd|th)?,?\s(?P<named_year_2>\d{{4}}|\d\d)"
    rf"|(?P<digits>\d{{8}}))(?!\w)"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for: words, and the dates that a typed date may mean (None: no date was typed)."""

    words: tuple[str, ...] = field(repr=False)
    born: frozenset[date] | None = field(repr=False)
    typed: str = field(default="", repr=False)

    @property
    def empty(self) -> bool:
        """Whether nothing is looked for."""
        return not self.words and not self.born


def read(text: str, *, today: date) -> Wanted:
    """Read what somebody typed."""
    folded = fold(text)
    found = _DATE.search(folded)
    born = frozenset(_dates(found, today)) if found else frozenset()
    if found is None or not born:
        return Wanted(_words(folded), None)
    rest = f"{folded[: found.start()]} {folded[found.end() :]}"
    return Wanted(_words(rest), born, found.group())


def fits(wanted: Wanted, *, name: str, number: str | None, born: date | None) -> bool:
    """Tell whether every word is part of the name, the number or the date (ISO), and the date is the one typed.

    What looks like a date may also be part of a record number.
    """
    if wanted.empty or not (wanted.born is None or born in wanted.born or wanted.typed in fold(number or "")):
        return False
    text = fold(f"{name} {number or ''} {born.isoformat() if born else ''}")
    return all(word in text for word in wanted.words)


def resembles(wanted: Wanted, *, name: str, born: date | None) -> bool:
    """Tell whether every word sounds or looks like a word of the name, and the date, if any, is the one typed."""
    if not wanted.words or (wanted.born is not None and born not in wanted.born):
        return False
    names = re.findall(r"[^\W\d_]+", fold(name))
    return all(any(_alike(word, other) for other in names) for word in wanted.words)


def fold(text: str) -> str:
    """Without case and accents, so that `jose` finds `José`."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def soundex(word: str) -> str | None:
    """Return the American Soundex code of a word (`robert` and `rupert`: `r163`); None unless it is plain letters."""
    if not re.fullmatch(r"[a-z]+", word):
        return None
    codes = [_CODES.get(letter, "") for letter in word]
    kept, last = [], codes[0]
    for letter, code in zip(word[1:], codes[1:], strict=True):
        if code and code != last:
            kept.append(code)
        if letter not in "hw":  # these do not part two letters of one code; vowels do
            last = code
    return (word[0] + "".join(kept) + "000")[:4]


_GROUPS: Final = {"1": "bfpv", "2": "cgjkqsxz", "3": "dt", "4": "l", "5": "mn", "6": "r"}
_CODES: Final = {letter: code for code, letters in _GROUPS.items() for letter in letters}


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[\s,;]+", text) if word)


def _alike(word: str, name: str) -> bool:
    if word in name:
        return True
    if min(len(word), len(name)) < _LEAST:
        return False
    code = soundex(word)
    sounds = code is not None and code == soundex(name)
    return sounds or SequenceMatcher(None, word, name, autojunk=False).ratio() >= _ALIKE


def _dates(found: re.Match[str], today: date) -> Iterator[date]:
    """Give every date that can be meant."""
    part = found.groupdict()
    readings: list[tuple[str, str | int, str]] = []
    if part["iso"]:
        readings = [(part["iso"], part["iso_month"], part["iso_day"])]
    elif part["digits"]:
        eight = part["digits"]
        readings = [
            (eight[4:], eight[2:4], eight[:2]),
            (eight[4:], eight[:2], eight[2:4]),
            (eight[:4], eight[4:6], eight[6:]),
        ]
    elif part["year"]:
        readings = [(part["year"], part["second"], part["first"]), (part["year"], part["first"], part["second"])]
    else:
        month = _MONTHS.index(part["month"] or part["month_2"]) + 1
        readings = [(part["named_year"] or part["named_year_2"], month, part["day"] or part["day_2"])]
    for typed_year, typed_month, typed_day in readings:
        for year in _years(typed_year):
            with suppress(ValueError):
                born = date(year, int(typed_month), int(typed_day))
                if today.year - _OLDEST <= year and born <= today:
                    yield born


def _years(year: str) -> tuple[int, ...]:
    return (int(year),) if len(year) > 2 else (1900 + int(year), 2000 + int(year))  # noqa: PLR2004 - digits of a year
