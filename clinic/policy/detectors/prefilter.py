"""Prefilter: where a pattern can match at all, told from the letters without which it cannot.

Rules kept here:

* Derived from the pattern itself, so that it cannot disagree with it: the matches are the same with and without.
  A pattern of which nothing can be told is run over the whole text.
* Looking for a literal costs microseconds where running a pattern costs a millisecond: a transcript of 10,000 words is
  searched only around the words, and the groups of digits, that a pattern needs.
* A pattern that can match more than `WIDEST` characters is not run around a place but over the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from re import _constants as sre  # type: ignore[attr-defined,unused-ignore]  # by what else is checked
from re import _parser as parser  # type: ignore[attr-defined,unused-ignore]  # by what else is checked
from typing import Any

WIDEST = 1200
_AHEAD = 80  # characters that a lookahead may want to see behind a match
_SHORT = 2  # letters
_FEW = 12  # places; fewer would not be worth looking for
_BUSY = 300  # places; where there are more, one run over the whole text is cheaper
_SAME = str.maketrans("\u0131\u0130\u017f\u212a", "iisk") | str.maketrans("123456789", "0" * 9)
_DIGIT = re.compile(r"\d")
_WORDS = re.compile(r"\w+")
_EDGE = "\b"  # a backspace, which no pattern here looks for; before a literal: it begins a word

Clause = frozenset[str]
"""Literals of which every match holds at least one."""


class Folded:
    """A text in the form in which literals are looked for: lower case, every digit a zero, as long as the text.

    Args:
        text: any text.
    """

    def __init__(self, text: str) -> None:
        self.text = (text if text.isascii() else _DIGIT.sub("0", text)).translate(_SAME).lower()
        self._words = f" {' '.join(set(_WORDS.findall(self.text)))}"
        self._places: dict[str, tuple[int, ...]] = {}

    def has(self, clause: Clause) -> bool:
        """Tell whether a clause may be met; cheap, and True where in doubt."""
        return any(_longest_word(literal) in self._words for literal in clause)

    def places(self, clause: Clause) -> list[int] | None:
        """Return where the literals of a clause begin, None if there are too many places to be of use."""
        found: list[int] = []
        for literal in clause:
            found += self._find(literal)
            if len(found) > _BUSY:
                return None
        return found

    def _find(self, literal: str) -> tuple[int, ...]:
        found = self._places.get(literal)
        if found is None:
            # Most literals of most patterns occur nowhere: the list of different words is a tenth of the text.
            there = _longest_word(literal) in self._words
            found = self._places[literal] = tuple(islice(_all(literal, self.text), _BUSY + 1)) if there else ()
        return found


@cache
def _longest_word(literal: str) -> str:
    """Return the part of a literal to look for among the words, with a space before it where it begins one."""
    first = _WORDS.search(literal)
    longest = max(_WORDS.findall(literal), key=len, default="")
    begins = first is not None and first[0] == longest and literal[: first.start()] == _EDGE
    return f" {longest}" if begins else longest


def _all(literal: str, text: str) -> Iterator[int]:
    edge, wanted = literal.startswith(_EDGE), literal.removeprefix(_EDGE)
    place = text.find(wanted)
    while place >= 0:
        if not (edge and place and (text[place - 1].isalnum() or text[place - 1] == "_")):
            yield place
        place = text.find(wanted, place + 1)


@dataclass(frozen=True, slots=True)
class Sieve:
    """A pattern, with what it needs.

    Attributes:
        pattern: what is looked for.
        clauses: each must be met near a match.
        width: the most characters that a match can have.
    """

    pattern: re.Pattern[str]
    clauses: tuple[Clause, ...] = field(repr=False)
    width: int

    @classmethod
    def of(cls, pattern: str) -> Sieve:
        """Compile a pattern and derive what it needs."""
        tree = parser.parse(pattern)
        clauses = sorted(_clauses(tree), key=_telling, reverse=True)
        return cls(re.compile(pattern), tuple(clauses), min(tree.getwidth()[1], WIDEST + 1))

    @classmethod
    def each(cls, pattern: str) -> tuple[Sieve, ...]:
        """Compile each outermost alternative by itself: it is then run only where its own words are."""
        return tuple(map(cls.of, alternatives(pattern)))

    def finditer(self, text: str, folded: Folded) -> Iterator[re.Match[str]]:
        """Find every match in `text`, of which `folded` is the folded form."""
        for start, end in self._windows(len(text), folded):
            yield from self.pattern.finditer(text, start, end)

    def _windows(self, length: int, folded: Folded) -> Iterable[tuple[int, int]]:
        if not all(map(folded.has, self.clauses)):
            return ()
        best: list[int] | None = None
        for clause in self.clauses:
            places = folded.places(clause)
            if places is not None and not places:
                return ()
            if places is not None and (best is None or len(places) < len(best)):
                best = places
            if best is not None and len(best) <= _FEW:
                break
        if best is None or self.width > WIDEST:
            return ((0, length),)
        return _merged(sorted(best), self.width, length)


def _merged(places: Iterable[int], width: int, length: int) -> list[tuple[int, int]]:
    windows: list[tuple[int, int]] = []
    for place in places:
        start, end = max(0, place - width), min(length, place + width + _AHEAD)
        if windows and start <= windows[-1][1]:
            windows[-1] = (windows[-1][0], end)
        else:
            windows.append((start, end))
    return windows


def alternatives(pattern: str) -> Iterator[str]:
    """Split a pattern at its outermost bars."""
    depth = start = 0
    for match in _SYNTAX.finditer(pattern):
        depth += (match[0] == "(") - (match[0] == ")")
        if match[0] == "|" and depth == 0:
            yield pattern[start : match.start()]
            start = match.end()
    yield pattern[start:]


_SYNTAX = re.compile(r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|[()|]", re.DOTALL)


# --- what a pattern needs -----------------------------------------------------------------------------


def _clauses(items: Iterable[tuple[Any, Any]], run: str = "") -> list[Clause]:
    """Return what a sequence of pattern items needs, all of it; `run` is what stands before them."""
    clauses: list[Clause] = []
    for operator, argument in items:
        fixed = _fixed(operator, argument)
        if fixed is not None:
            run = _joined(run, fixed)
            continue
        # The parser takes a common first letter out of alternatives: it is given back, or they could not be told.
        short = len(run.strip(_EDGE)) <= _SHORT
        inner = _inner(operator, argument, run if short else _edge_after(run))
        clauses += inner if short and inner else [*inner, *_literal(run)]
        run = _EDGE if _is_space(operator, argument) else ""
    return clauses + _literal(run)


def _edge_after(run: str) -> str:
    return "" if run[-1].isalnum() or run[-1] == "_" else _EDGE


def _is_space(operator: Any, argument: Any) -> bool:
    repeated = operator in (sre.MAX_REPEAT, sre.MIN_REPEAT) and argument[0] > 0
    return repeated and list(argument[2]) == [(sre.IN, [(sre.CATEGORY, sre.CATEGORY_SPACE)])]


def _joined(run: str, fixed: str) -> str:
    """Add what an item matches; an edge of a word is kept only at the beginning."""
    return fixed if run in ("", _EDGE) and fixed == _EDGE else run + fixed


def _fixed(operator: Any, argument: Any) -> str | None:
    """Return the folded characters that an item always matches, if it always matches the same ones."""
    if operator is sre.LITERAL:
        return chr(argument).translate(_SAME).lower()
    if operator is sre.AT:
        return _EDGE if argument is sre.AT_BOUNDARY else ""
    return "0" if operator is sre.IN and all(_is_digit(*item) for item in argument) else None


def _is_digit(operator: Any, argument: Any) -> bool:
    if operator is sre.RANGE:
        return all(chr(end).isdigit() for end in argument)
    return argument is sre.CATEGORY_DIGIT or (operator is sre.LITERAL and chr(argument).isdigit())


def _inner(operator: Any, argument: Any, run: str) -> list[Clause]:
    """Return what an item needs that does not always match the same; `run` stands right before it."""
    if operator is sre.SUBPATTERN:
        return _clauses(argument[-1], run)
    if operator is sre.BRANCH:
        return _either(argument[1], run)
    if operator in (sre.MAX_REPEAT, sre.MIN_REPEAT) and argument[0] > 0:
        least, _, inner = argument
        fixed = [_fixed(*item) for item in inner]
        if all(part is not None for part in fixed):
            return _literal(run + "".join(part or "" for part in fixed) * min(least, 20))
        return _clauses(inner, run)
    return []


def _literal(run: str) -> list[Clause]:
    """Take the longest piece of a run of fixed characters for a clause; one letter alone tells nothing."""
    pieces = run.split(_EDGE)
    best = max(range(len(pieces)), key=lambda i: len(pieces[i].strip()))
    piece = pieces[best]
    word = piece.strip()
    if not word or (len(word) == 1 and word.isalpha()):
        return []
    begins = best > 0 and (piece[0].isalnum() or piece[0] == "_")  # no edge elsewhere than before a word
    return [frozenset({_EDGE + piece if begins else piece})]


def _either(branches: Sequence[Iterable[tuple[Any, Any]]], run: str) -> list[Clause]:
    """Return the clause that every branch meets: the most telling one of each, together."""
    together: set[str] = set()
    for branch in branches:
        clauses = _clauses(branch, run)
        if not clauses:
            return []
        most: Clause = max(clauses, key=_telling)
        together |= most
    # What holds another literal is found with it.
    return [frozenset(one for one in together if not any(two != one and two in one for two in together))]


def _telling(clause: Clause) -> int:
    """Return how much it says that a clause is met: long literals are rare."""
    return min(len(literal.strip()) for literal in clause)
