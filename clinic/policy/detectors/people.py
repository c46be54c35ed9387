"""People: names of anybody in a text, told from how they are written and from what they are not.

Rules kept here:

* A pure function.  A run of capitalised words is a name when one of them is a given name or no word of the language
  (`lexicon`); ordinary words that open a sentence are not.
* A name that stands for a disease, a test, a score or a medicine is none ("Crohn's disease", "Wells score").
* Where a text is written small throughout, as recognisers do, given names and what follows them are found.
* One pass, no pattern that looks back: the time grows with the length of the text and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from clinic.policy.detectors.lexicon import is_ambiguous, is_eponym, is_given, is_word
from clinic.policy.detectors.names import AMBIGUOUS, GIVEN, NO_SURNAME

_LETTER = r"[^\W\d_]"
_CAPITALISED = re.compile(rf"(?<!\w)(?![a-z]){_LETTER}{{1,40}}(?:['\u2019-]{_LETTER}{{1,40}}){{0,4}}(?!\w)")
_SMALL = re.compile(rf"(?<![\w'\u2019-]){_LETTER}{{3,40}}(?![\w-])")
_SOUND = re.compile(r"[mh]+m[mh-]*|o+h+|u+[hm]+|a+h+|o{3,}|e+r+m+|righty-ho")
_SMALL_GAP = re.compile(r" (?:[^\W\d_]\.? )?")
_GAP = re.compile(
    r"\s|\. |\s(?:van|von|de|der|den|del|della|di|da|dos|du|la|le|el|al|bin|ibn|ben|ter|zu)(?:\s(?:la|der|den|los))?\s"
)
_OPENS = re.compile(r"(?:^|[.?!:\n\r\t>\"\u201c\u2022*|\]])\s*\Z")
_CLINICAL = re.compile(
    r"(?:['\u2019]s?)?\s(?:disease|syndrome|reflex|scores?|scale|sign|test|criteria|palsy|trial|study|angina|"
    r"(?:o?e)sophagus|thyroiditis|classification|index|stage|grade|procedure|man(?:eu|oeu)vre|maneuver|lymphoma|"
    r"tumou?rs?|ulcers?|nodes?|phenomenon|chorea|ataxia|dystrophy|contracture|fracture|cyst|catheter|valve|method|"
    r"formula|tool|questionnaire|inventory|staging|virus|fever|diet|risk|rule|guidelines?|type|variant|an(?:ae|e)mia|"
    r"equation|law|position|triad|view|heart|wort|tablets?|injections?|inhaler|cream|capsules?|vaccine|dose|"
    r"\d[\d.,]*\s?(?:mg|mcg|\u00b5g|g|ml|units?|iu)\b|mg\b|mcg\b)",
    re.IGNORECASE,
)
_PLACED = re.compile(r"\b(?:in|at|from|near|to|visiting|around|via|of)\s(?:the\s)?\Z", re.IGNORECASE)
_TAKEN = re.compile(r"\b(?:on|taking|takes?|took|start(?:ed|ing)?|prescribed?|given|using|uses?)\s\Z", re.IGNORECASE)
_LISTED = re.compile(r",? (?:and|&) |, ")
_SMALL_SHARE = 0.006  # capitals per letter; a text with fewer is written small throughout


@dataclass(frozen=True, slots=True)
class Person:
    """Characters `start` to `end` name somebody, or a place where nothing tells them apart."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Token:
    start: int
    end: int
    sort: str  # G given, N unknown, A ambiguous, I initial, W a word


def find_people(text: str) -> Iterator[Person]:
    """Find names of people; some of them are places that no list knows."""
    capitals = sum(map(str.isupper, text)) if not text.islower() else 0
    if capitals <= _SMALL_SHARE * len(text):
        yield from _small(text)
    if capitals:
        yield from _listed(text, list(_runs(text)))


# --- written with capitals --------------------------------------------------------------------------


def _runs(text: str) -> Iterator[list[_Token]]:
    """Yield runs of neighbouring capitalised tokens that may be names; an ordinary word ends a run."""
    run: list[_Token] = []
    sorts: dict[str, str] = {}  # lives as long as this pass: no word of a patient stays behind
    for match in _CAPITALISED.finditer(text):
        token = _token(match, sorts)
        apart = run and not _GAP.fullmatch(text, run[-1].end, token.start)
        stopped = run and text[run[-1].end : token.start].startswith(".") and run[-1].sort != "I"
        if run and not apart and not stopped and token.sort == "W" and _is_surname(text, run, token):
            yield [*run, token]
            run = []
            continue
        if run and (apart or stopped or token.sort == "W"):
            yield run
            run = []
        if token.sort != "W":
            run.append(token)
    if run:
        yield run


def _is_surname(text: str, run: list[_Token], token: _Token) -> bool:
    """After a given name, an initial or a particle ("van der"), even an ordinary word with a capital is the surname."""
    sorts = "".join(other.sort for other in run)
    word = text[token.start : token.end]
    particle = text[run[-1].end : token.start].strip(". \t\n\r") != ""
    return (particle or sorts in ("G", "GI", "NI")) and word.casefold() not in NO_SURNAME and not word.isupper()


def _listed(text: str, runs: list[list[_Token]]) -> Iterator[Person]:
    """Judge every run; a surname that is a word too counts beside a name: "Dale and White", "Adams, Reed and Cho"."""
    people = [next(_judge(text, run), None) for run in runs]
    for order in (range(len(runs)), reversed(range(len(runs)))):
        for index in order:
            run = runs[index]
            if people[index] is None and len(run) == 1 and run[0].sort == "A":
                near = (i for i in (index - 1, index + 1) if 0 <= i < len(runs) and people[i] is not None)
                if any(_LISTED.fullmatch(text, *_between(runs[i], run)) for i in near):
                    people[index] = Person("name", run[0].start, run[0].end)
    yield from (person for person in people if person is not None)


def _between(one: list[_Token], two: list[_Token]) -> tuple[int, int]:
    return (one[-1].end, two[0].start) if one[0].start < two[0].start else (two[-1].end, one[0].start)


def _token(match: re.Match[str], sorts: dict[str, str]) -> _Token:
    text = match[0]
    word = text[:-2] if text[-2:].lower() in ("'s", "\u2019s") else text
    sort = sorts.get(word)
    if sort is None:
        sort = sorts[word] = _sort(word)
    return _Token(match.start(), match.start() + len(word), sort)


def _sort(text: str) -> str:
    lower = text.casefold()
    if len(text) == 1:
        return "I"
    if not text[0].isupper() or lower in NO_SURNAME or _SOUND.fullmatch(lower):
        return "W"
    if is_given(lower):
        return "G"
    if is_ambiguous(lower):
        return "A"
    if 2 * sum(map(str.isupper, text)) > len(text) or _is_known(lower):
        return "W"
    return "N"


def _is_known(lower: str) -> bool:
    parts = re.split(r"['\u2019-]", lower)
    return is_word(lower) or (len(parts) > 1 and all(len(part) <= 2 or is_word(part) for part in parts))  # noqa: PLR2004


def _judge(text: str, run: list[_Token]) -> Iterator[Person]:
    sorts = "".join(token.sort for token in run)
    initials = len(sorts) - len(sorts.lstrip("I"))  # "I" is a word before it is an initial
    run, sorts = run[initials:], sorts[initials:]
    if not run or _CLINICAL.match(text, run[-1].end):
        return
    start, end = run[0].start, run[-1].end
    if len(run) == 1 and not _stands_alone(text, run[0]):
        return
    if not set(sorts) & {"G", "N"} and not _is_ambiguous_name(text, run):
        return
    if sorts.endswith("I") and text[end : end + 1] == ".":
        end += 1
    placed = sorts == "N" and _PLACED.search(text, max(0, start - 16), start)
    yield Person("geographic_location" if placed else "name", start, end)


def _stands_alone(text: str, token: _Token) -> bool:
    before = max(0, token.start - 16)
    if token.sort == "A":
        lower = text[token.start : token.end].casefold()
        named = lower in GIVEN and not is_eponym(lower)
        return named and len(lower) > 2 and not _OPENS.search(text, before, token.start)  # noqa: PLR2004
    if token.sort == "N" and _TAKEN.search(text, before, token.start) and not _PLACED.search(text, before, token.start):
        return False
    return token.end - token.start > 2  # noqa: PLR2004 - "Dr", "Pt"


def _is_ambiguous_name(text: str, run: list[_Token]) -> bool:
    """Two names that are words too, the first a given name: "Frank White", "Rose G."; never "Will May" at a start."""
    words = [text[token.start : token.end].casefold() for token in run]
    if len(run) == 1:
        return True  # judged by where it stands
    opens = _OPENS.search(text, max(0, run[0].start - 16), run[0].start) is not None
    return words[0] in GIVEN or (words[0] in AMBIGUOUS and not opens)


# --- written small --------------------------------------------------------------------------------


def _small(text: str) -> Iterator[Person]:
    person: Person | None = None
    for match in _SMALL.finditer(text):
        word = match[0].casefold()
        if person is not None and _SMALL_GAP.fullmatch(text, person.end, match.start()) and _follows(word):
            person = Person("name", person.start, match.end())
            continue
        if person is not None:
            yield person
        person = Person("name", match.start(), match.end()) if _is_plain_given(word) else None
    if person is not None:
        yield person


def _is_plain_given(word: str) -> bool:
    return len(word) > 3 and is_given(word) and not is_word(word)  # noqa: PLR2004 - "ana", "tia" are abbreviations


def _follows(word: str) -> bool:
    return not is_word(word) and word not in NO_SURNAME
