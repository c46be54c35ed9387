"""Planting: one error put into one sentence of a note.

Rules kept here:

* A kind of error changes one thing; a sentence that holds nothing of its kind gives None.
* What is planted is made here, from plain patterns, and knows nothing of how verification reads.
* Every choice comes from a `Chooser`, which is a hash of the seed and of where it chooses.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import TypeVar

from clinic.verification.vocabulary import drug_names

T = TypeVar("T")


class Chooser:
    """Choices that are the same on every machine, for the same seed and place."""

    def __init__(self, seed: int, *place: object) -> None:
        self._state = hashlib.sha256(repr((seed, *place)).encode()).digest()

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1."""
        self._state = hashlib.sha256(self._state).digest()
        return int.from_bytes(self._state[:8]) % bound

    def one_of(self, items: Sequence[T]) -> T:
        """Return one of `items`."""
        return items[self.below(len(items))]


Plant = Callable[[str, Chooser], str | None]


def _replaced(text: str, match: re.Match[str], new: str) -> str:
    return text[: match.start()] + new + text[match.end() :]


# --- numbers

_DOSE_UNITS = r"mg|mcg|g|grams?|milligrams?|micrograms?|ml|units?|puffs?|tablets?|pills?"
_DOSE = re.compile(rf"(?<![\w./])\d+(?:\.\d+)?(?=\s*-?\s*(?:{_DOSE_UNITS})\b)", re.IGNORECASE)
_NUMBER = re.compile(rf"(?<![\w.])\d+(?:\.\d+)?(?![\w]*\d)(?!\.\d)(?!\s*-?\s*(?:{_DOSE_UNITS})\b)", re.IGNORECASE)


def _changed(value: str, choose: Chooser) -> str:
    if "." in value:
        return f"{float(value) + choose.one_of((1.0, 2.0, 3.0)):.1f}"
    whole = int(value)
    return str(choose.one_of((whole * 2 + 1, whole + 3, whole + 10, whole - 2 if whole > 3 else whole + 1)))  # noqa: PLR2004


def _with_number(pattern: re.Pattern[str]) -> Plant:
    def plant(text: str, choose: Chooser) -> str | None:
        found = list(pattern.finditer(text))
        if not found:
            return None
        match = choose.one_of(found)
        return _replaced(text, match, _changed(match[0], choose))

    return plant


_UNITS = {
    "mg": "mcg", "mcg": "mg", "milligrams": "micrograms", "micrograms": "milligrams", "milligram": "microgram",
    "day": "week", "days": "weeks", "week": "month", "weeks": "months", "month": "year", "months": "years",
    "year": "month", "years": "months", "hours": "days", "hour": "day", "pounds": "kilograms", "kg": "pounds",
    "g": "mg", "grams": "milligrams", "ml": "mg",
}  # fmt: skip
_UNIT = re.compile(rf"(?:(?<=\d)|(?<=\d[ -]))(?:{'|'.join(_UNITS)})\b(?![- ]old)", re.IGNORECASE)


def unit(text: str, choose: Chooser) -> str | None:
    """Swap the unit behind a number."""
    found = list(_UNIT.finditer(text))
    if not found:
        return None
    match = choose.one_of(found)
    return _replaced(text, match, _UNITS[match[0].lower()])


_FOLLOWS_UP = re.compile(
    r"\b(?:follow[- ]?up|return|recheck|review|see (?:him|her|you|the patient)|back in)\b", re.IGNORECASE
)
_WHEN = re.compile(
    r"\b(\d+|one|two|three|four|five|six|a|next)([ -])(day|week|month|year)(s?)\b(?! (?:ago|history|old))",
    re.IGNORECASE,
)


def follow_up(text: str, choose: Chooser) -> str | None:
    """Move an agreed follow-up to another time."""
    found = list(_WHEN.finditer(text)) if _FOLLOWS_UP.search(text) else []
    if not found:
        return None
    match = choose.one_of(found)
    other = choose.one_of([n for n in ("5", "7", "8", "9") if n != match[1]])
    return _replaced(text, match, f"{other} {match[3]}s")


# --- left and right, who

_SIDE = re.compile(r"\b(left|right)\b(?!-hand)", re.IGNORECASE)


def side(text: str, choose: Chooser) -> str | None:
    """Turn left into right."""
    found = list(_SIDE.finditer(text))
    if not found:
        return None
    match = choose.one_of(found)
    return _replaced(text, match, {"left": "right", "right": "left"}[match[0].lower()])


_RELATIVE = re.compile(
    r"(?<!-)(?<!with )\b(?:(?:his|her|the patient's|their) )?(?:mother|father|brother|sister|wife|husband|son|daughter"
    r"|grandmother|grandfather|aunt|uncle)\b", re.IGNORECASE,
)  # fmt: skip
_SUFFERS = re.compile(
    r"^(?:the patient|he|she|mr\. \w+|ms\. \w+|mrs\. \w+|patient)\b(?= (?:has|had|is|was|suffers))", re.IGNORECASE
)


def subject(text: str, choose: Chooser) -> str | None:
    """Give a relative's matter to the patient, or the patient's to a relative."""
    found = _RELATIVE.search(text)
    if found:
        return _replaced(text, found, "the patient")
    found = _SUFFERS.match(text)
    relative = choose.one_of(("mother", "father", "brother", "sister"))
    return _replaced(text, found, f"The patient's {relative}") if found else None


# --- drugs

_OTHER_CLASS = tuple(
    """lisinopril metformin amlodipine metoprolol atorvastatin omeprazole gabapentin sertraline losartan warfarin
    prednisone amoxicillin ibuprofen furosemide albuterol levothyroxine tramadol citalopram""".split()  # noqa: SIM905
)
_WORD = re.compile(r"\b[A-Za-z]{4,}\b")


@lru_cache(maxsize=1)
def _generic() -> dict[str, str]:
    """Return every name of a drug with the one that it is listed under."""
    return {way.lower(): name for name, others in drug_names().items() for way in (name, *others)}


def _named(text: str, choose: Chooser) -> re.Match[str] | None:
    found = [m for m in _WORD.finditer(text) if m[0].lower() in _generic()]
    return choose.one_of(found) if found else None


def other_drug(text: str, choose: Chooser) -> str | None:
    """Name a common drug of another class."""
    match = _named(text, choose)
    if match is None:
        return None
    others = [name for name in _OTHER_CLASS if name != _generic()[match[0].lower()]]
    return _replaced(text, match, choose.one_of(others))


@lru_cache(maxsize=512)
def _sound_alikes(name: str) -> tuple[str, ...]:
    known = _generic()
    singles = [other for other in known if other.isalpha() and known[other] != known[name]]
    return tuple(get_close_matches(name, singles, n=3, cutoff=0.7))


def drug_alike(text: str, choose: Chooser) -> str | None:
    """Name the drug whose name is spelled most like the one that is there."""
    match = _named(text, choose)
    alike = _sound_alikes(match[0].lower()) if match else ()
    return _replaced(text, match, choose.one_of(alike)) if match and alike else None


# --- negation

_DENIALS = (
    (r"\bdenies\b", "reports"), (r"\bdenied\b", "reported"), (r"\breports\b", "denies"), (r"^No\b ", "Positive for "),
    (r"\bhas no\b", "has"), (r"\bhas had no\b", "has had"), (r"\bdoes not have\b", "has"),
    (r"\bhas not had\b", "has had"), (r"\bno\b (?!longer\b)", ""), (r"\bhas a\b", "does not have a"),
    (r"\bcomplains of\b", "denies"), (r"^(?:Positive|Significant) for", "Negative for"),
)  # fmt: skip
_VERBS = (
    (r"\bis\b(?! not)", "is not"),
    (r"\bhas been\b", "has not been"),
    (r"(?<!has )(?<!have )(?<!not )\bhad\b", "did not have"),
)


def _turned(pairs: tuple[tuple[str, str], ...]) -> Plant:
    def plant(text: str, choose: Chooser) -> str | None:
        del choose
        changed = (re.sub(old, new, text, count=1, flags=re.IGNORECASE) for old, new in pairs)
        return next((t for t in changed if t != text), None)

    return plant


PLANTS: Mapping[str, Plant] = {
    "number": _with_number(_NUMBER),
    "dose": _with_number(_DOSE),
    "unit": unit,
    "follow_up": follow_up,
    "side": side,
    "drug_alike": drug_alike,
    "drug_other": other_drug,
    "negation": _turned(_DENIALS),
    "verb": _turned(_VERBS),
    "subject": subject,
}
"""Kinds of errors within a sentence.  `negation`: denials and findings turned round; `verb`: any other verb."""
