"""Prefilter: where a pattern can match at all, told from the letters without which it cannot.

Rules kept here:

* Derived from the pattern itself, so that it cannot disagree with it: the matches are the same with and without.
  A pattern of which nothing can be told is run over the whole text.
* Looking for a literal costs microseconds where running a pattern costs a millisecond: a transcript of 10,000 words is
  searched only around the words, and the groups of digits, that a pattern needs.
* What a pattern needs must all stand within the width of a match: most patterns are run nowhere.
* A pattern that can match more than `WIDEST` characters is not run around a place but over the whole text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from itertools import chain
from operator import or_
from re import _constants as sre  # type: ignore[attr-defined,unused-ignore]  # by what else is checked
from re import _parser as parser  # type: ignore[attr-defined,unused-ignore]  # by what else is checked
from typing import Any

WIDEST = 1200
_CELL = 32  # characters; a text is a row of cells, and a set of cells is the bits of one number
_MOST_AHEAD = 80  # characters that a lookahead may want to see behind a match, where it sets no limit itself
_SHORT = 2  # letters
_FEW_SIGNS = 4
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
        self._found: dict[str, tuple[list[int], int]] = {}
        self._places: dict[Clause, list[int]] = {}

    def has(self, clause: Clause) -> bool:
        """Tell whether a clause may be met; cheap, and True where in doubt."""
        return any(_longest_word(literal) in self._words for literal in clause)

    def cells(self, clause: Clause) -> int:
        """Return the cells in which a literal of a clause begins."""
        cells = 0
        for literal in clause:
            cells |= self._find(literal)[1]
        return cells

    def places(self, clause: Clause) -> list[int]:
        """Return where the literals of a clause begin, sorted."""
        places = self._places.get(clause)
        if places is None:
            places = self._places[clause] = sorted(chain.from_iterable(self._find(literal)[0] for literal in clause))
        return places

    def _find(self, literal: str) -> tuple[list[int], int]:
        """Return the places of a literal, and their cells."""
        found = self._found.get(literal)
        if found is None:
            # Most literals of most patterns occur nowhere: the list of different words is a tenth of the text.
            places = _all(literal, self.text) if _longest_word(literal) in self._words else []
            found = places, reduce(or_, {1 << place // _CELL for place in places}, 0)
            self._found[literal] = found
        return found


@cache
def _longest_word(literal: str) -> str:
    """Return the part of a literal to look for among the words, with a space before it where it begins one."""
    first = _WORDS.search(literal)
    longest = max(_WORDS.findall(literal), key=len, default="")
    begins = first is not None and first[0] == longest and literal[: first.start()] == _EDGE
    return f" {longest}" if begins else longest


def _all(literal: str, text: str) -> list[int]:
    """Return every place of a literal, overlapping ones too."""
    wanted = literal.removeprefix(_EDGE)
    find, places, place = text.find, list[int](), text.find(wanted)
    while place >= 0:
        places.append(place)
        place = find(wanted, place + 1)
    if literal.startswith(_EDGE):
        return [at for at in places if not at or not (text[at - 1].isalnum() or text[at - 1] == "_")]
    return places


@dataclass(frozen=True, slots=True)
class Sieve:
    """A pattern, with what it needs.

    Attributes:
        pattern: what is looked for.
        clauses: each must be met near a match.
        width: the most characters that a match can have.
        ahead: the most characters behind a match that are looked at.
        begins: literals with one of which every match begins; none where that cannot be told.
    """

    pattern: re.Pattern[str]
    clauses: tuple[Clause, ...] = field(repr=False)
    width: int
    ahead: int = _MOST_AHEAD
    begins: Clause = field(default=frozenset(), repr=False)

    @classmethod
    def of(cls, pattern: str) -> Sieve:
        """Compile a pattern and derive what it needs."""
        tree = parser.parse(pattern)
        clauses = sorted(_clauses(tree), key=_telling, reverse=True)
        width = min(tree.getwidth()[1], WIDEST + 1)
        return cls(re.compile(pattern), tuple(clauses), width, _ahead(tree), frozenset(_beginnings(list(tree))))

    @classmethod
    def each(cls, pattern: str) -> tuple[Sieve, ...]:
        """Compile each outermost alternative by itself: it is then run only where its own words are."""
        return tuple(map(cls.of, alternatives(pattern)))

    def finditer(self, text: str, folded: Folded) -> Iterator[re.Match[str]]:
        """Find every match in `text`, of which `folded` is the folded form."""
        for first, behind in _runs(self._near(len(text), folded)):
            start, end = first * _CELL, behind * _CELL
            if self.begins:
                yield from self._from_places(text, start, end, folded.places(self.begins))
            else:
                yield from self.pattern.finditer(text, start, min(len(text), end + self.ahead))

    def _from_places(self, text: str, start: int, end: int, places: Sequence[int]) -> Iterator[re.Match[str]]:
        for place in places[bisect_left(places, start) : bisect_left(places, end)]:
            match = self.pattern.match(text, place) if place >= start else None
            if match is not None:
                start = match.end()
                yield match

    def _near(self, length: int, folded: Folded) -> int:
        """Return the cells in which a match can lie: all of one is within its width of a literal of every clause."""
        near = (1 << length // _CELL + 1) - 1
        if self.width > WIDEST:
            return near if all(map(folded.has, self.clauses)) else 0
        reach = self.width // _CELL + 1
        for clause in self.clauses:
            near &= _spread(folded.cells(clause), reach)
            if not near:
                break
        return near


def _spread(cells: int, reach: int) -> int:
    """Add to every cell its neighbours up to `reach` away."""
    done = 0
    while cells and done < reach:
        step = min(done + 1, reach - done)
        cells |= cells << step | cells >> step
        done += step
    return cells


def _runs(cells: int) -> Iterator[tuple[int, int]]:
    """Yield the first cell of every run of neighbours, and the one behind its last."""
    place = 0
    while cells:
        skipped = _trailing(cells)
        cells >>= skipped
        length = _trailing(cells + 1)  # adding one turns a run of ones into zeros
        yield place + skipped, place + skipped + length
        cells >>= length
        place += skipped + length


def _trailing(number: int) -> int:
    return (number & -number).bit_length() - 1


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


def _ahead(items: Iterable[tuple[Any, Any]]) -> int:
    """Return how far behind a match the lookaheads of a pattern see; one character for the edge of a word."""
    seen = 1
    for operator, argument in items:
        if operator in (sre.ASSERT, sre.ASSERT_NOT):
            direction, inner = argument
            seen = max(seen, min(inner.getwidth()[1] + _ahead(inner), _MOST_AHEAD) if direction > 0 else 1)
        elif operator is sre.BRANCH:
            seen = max([seen, *map(_ahead, argument[1])])
        elif operator in (sre.SUBPATTERN, sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            seen = max(seen, _ahead(argument[-1]))
        elif operator is sre.ATOMIC_GROUP:
            seen = max(seen, _ahead(argument))
    return seen


def _beginnings(items: Sequence[tuple[Any, Any]], run: str = "") -> set[str]:
    """Return the literals with one of which begins `run` and what a sequence matches; none if it may be anything."""
    for index, (operator, argument) in enumerate(items):
        fixed = _fixed(operator, argument)
        if fixed is not None:
            run = _joined(run, fixed)
        elif operator in (sre.ASSERT, sre.ASSERT_NOT):
            continue
        elif len(run.strip(_EDGE)) > _SHORT:
            break
        else:
            return _first(operator, argument, run, items[index + 1 :])
    return _beginning(run)


def _beginning(run: str) -> set[str]:
    fixed = run.replace(_EDGE, "")
    begins_word = run.startswith(_EDGE) and (fixed[:1].isalnum() or fixed[:1] == "_")  # an edge before `@` ends one
    return {_EDGE * begins_word + fixed} if fixed else set()


def _first(operator: Any, argument: Any, run: str, rest: Sequence[tuple[Any, Any]]) -> set[str]:
    """Return the literals with which an item begins that stands after a short run."""
    known = _beginning(run)
    if operator is sre.SUBPATTERN:
        return _beginnings([*argument[-1], *rest], run)
    if operator is sre.BRANCH:
        each = [_beginnings([*branch, *rest], run) for branch in argument[1]]
        return set().union(*each) if all(each) else known
    if operator in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        there = _beginnings(list(argument[2]), run)
        missing = there if argument[0] > 0 else _beginnings(rest, run)
        return there | missing if there and missing else known
    if operator is sre.IN and len(argument) <= _FEW_SIGNS and all(one is sre.LITERAL for one, _ in argument):
        return set().union(*(_beginnings([item], run) for item in argument))
    return known


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
    if operator is sre.IN and len(argument) <= _FEW_SIGNS and all(one is sre.LITERAL for one, _ in argument):
        return _either([[item] for item in argument], run)
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
