"""Doses: which dose, frequency or duration belongs to which drug.

Rules kept here:

* A quantity belongs to the drug named before it in its sentence, unless another drug comes between; to the drug after
  it where it stands right before that (`500 mg of amoxicillin`) or no drug was named yet.
* A stretch of time is a duration only after `for`; it belongs to a drug only in one run with its other quantities.
"""

from __future__ import annotations

from dataclasses import dataclass

from clinic.verification.drugs import drugs
from clinic.verification.negation import sentences
from clinic.verification.passages import Reading
from clinic.verification.units import DOSE_DIMENSIONS, RATE, TIME, Quantity
from clinic.verification.vocabulary import Term
from clinic.verification.words import listed


@dataclass(frozen=True, slots=True)
class Bound:
    """A quantity and the drug that it belongs to."""

    quantity: Quantity
    keys: frozenset[str]
    name: str  # the drug as it was written or said
    text: str  # the quantity as it was written or said


_REACH = 8
_BEFORE = 3
_JOINTS = listed("of the a an oral tablets tablet - po mg dose")
_OPENING = 6


def bound(reading: Reading) -> tuple[Bound, ...]:
    """Return the quantities of a text that belong to a drug."""
    named = drugs(reading)
    if not named:
        return ()
    found = []
    for first, last in sentences(reading.tokens):
        here = [(t, k) for t, k in named if first <= t.first <= last]
        counted = [q for q in reading.quantities if first <= q.first <= last]
        found += _in_sentence(reading, here, counted)
    return tuple(found)


def _in_sentence(reading: Reading, named: list[tuple[Term, frozenset[str]]], counted: list[Quantity]) -> list[Bound]:
    found: list[Bound] = []
    end = {term.first: term.last for term, _ in named}  # where the run of a drug's quantities ends
    for quantity in counted:
        owner = _owner(reading, named, quantity, end)
        if owner is None:
            continue
        term, keys = owner
        end[term.first] = max(end[term.first], quantity.last)
        name, text = reading.text[term.start : term.end], reading.text[quantity.start : quantity.end]
        found.append(Bound(quantity, keys, name, text))
    return found


def _owner(
    reading: Reading, named: list[tuple[Term, frozenset[str]]], quantity: Quantity, end: dict[int, int]
) -> tuple[Term, frozenset[str]] | None:
    dimension = quantity.dimension
    if dimension not in DOSE_DIMENSIONS | {RATE, TIME} or (dimension == TIME and not _lasts(reading, quantity)):
        return None
    before = [d for d in named if d[0].last < quantity.first]
    after = [d for d in named if d[0].first > quantity.last]
    if dimension in DOSE_DIMENSIONS and after and _right_before(reading, quantity, after[0][0]):
        return after[0]
    if before:
        near = quantity.first - end[before[-1][0].first] <= _REACH
        return before[-1] if near else None
    if after and dimension != TIME and after[0][0].first - quantity.last <= _OPENING:
        return after[0]
    return None


def _lasts(reading: Reading, quantity: Quantity) -> bool:
    """Whether a stretch of time says how long (`for three days`)."""
    words = [t.text for t in reading.tokens[max(0, quantity.first - 4) : quantity.first]]
    return "for" in words[-1:] or ("for" in words and words[-1] in {"next", "of", "another"})


def _right_before(reading: Reading, quantity: Quantity, term: Term) -> bool:
    between = [t.text for t in reading.tokens[quantity.last + 1 : term.first]]
    return len(between) <= _BEFORE and all(word in _JOINTS for word in between)
