"""Sides: left, right and both, with the part of the body they belong to.

Rules kept here:

* `right` as a filler (`all right`, `right now`, `that's right`) is no side.
* A side belongs to the nearest part of the body; where none is near, to whatever the statement is about.
"""

from __future__ import annotations

from dataclasses import dataclass

from clinic.verification.passages import Reading
from clinic.verification.vocabulary import Term, body_keys
from clinic.verification.words import Kind, Token, listed

_SIDES = {
    "left": "left", "l": "left", "lt": "left", "leftward": "left", "left-sided": "left",
    "right": "right", "r": "right", "rt": "right",
    "llq": "left", "luq": "left", "lle": "left", "lue": "left", "lll": "left", "lul": "left",
    "rlq": "right", "ruq": "right", "rle": "right", "rue": "right", "rll": "right", "rul": "right",
}  # fmt: skip
_LETTERS = frozenset({"l", "r", "lt", "rt"})
_NOT_A_SIDE_AFTER = listed("all alright that's is's you're yeah it's that okay yes am be was")
_NOT_A_SIDE_BEFORE = listed(
    """now here there away before after so okay ok um uh and i you we about at handed hand-dominant dominant when"""
)
_GONE = listed("""over the a for home work off with it me him her them us my his their to early behind out""")
_REACH = 5


@dataclass(frozen=True, slots=True)
class Side:
    """One side and the keys of what it belongs to."""

    side: str
    of: frozenset[str]
    word: str
    token: int


def sides(reading: Reading, *, spoken: bool) -> tuple[Side, ...]:
    """Return the sides that a text names.  `spoken` text is full of `right` that means nothing."""
    found = []
    for i, token in enumerate(reading.tokens):
        side = _SIDES.get(token.text)
        if side and _is_side(reading.tokens, i, spoken=spoken):
            found.append(Side(side, _owner(reading, i), token.text, i))
    return tuple(found)


_SHORT_REPLY = 7
_OWNERS = listed("my your the her his on upper lower to")


def _is_side(tokens: tuple[Token, ...], at: int, *, spoken: bool) -> bool:
    word = tokens[at].text
    before = tokens[at - 1].text if at else ""
    after = tokens[at + 1].text if at + 1 < len(tokens) else ""
    if {before, after} & {"or"} and {_SIDES.get(t.text) for t in tokens[max(0, at - 2) : at + 3]} >= {"left", "right"}:
        return False  # `left or right?`
    if word in _LETTERS:
        return not spoken and tokens[at].kind is Kind.WORD and after.isalpha() and before != "'"
    if not spoken:
        return after not in {"handed", "-"} or _after_dash(tokens, at) not in {"handed", "hand"}
    if before in _OWNERS or len(tokens) <= _SHORT_REPLY:
        return before not in _NOT_A_SIDE_AFTER
    if word == "left":
        return after not in _GONE and after.isalpha()
    return before not in _NOT_A_SIDE_AFTER and after not in _NOT_A_SIDE_BEFORE and after.isalpha()


def _after_dash(tokens: tuple[Token, ...], at: int) -> str:
    return tokens[at + 2].text if at + 2 < len(tokens) else ""


def _owner(reading: Reading, at: int) -> frozenset[str]:
    """The part of the body next to a side: after it first (`right knee`), else before it (`knee on the right`)."""
    after = [t for t in reading.terms if at < t.first <= at + _REACH and _is_body(t)]
    before = [t for t in reading.terms if at - _REACH <= t.last < at and _is_body(t)]
    near = after[:1] or before[-1:]
    return near[0].keys | near[0].parts if near else frozenset()


_DIRECTIONS = frozenset({"=medial", "=lateral"})


def _is_body(term: Term) -> bool:
    """Whether a term names, or contains, a part of the body (`knee`, `back pain`)."""
    return (term.kind == "body" or any(part in body_keys() for part in term.parts)) and not term.keys & _DIRECTIONS
