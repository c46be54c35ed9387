"""Marks: the words of a transcript that do harm if they were misheard.

Rules kept here:

* Drugs, and numbers with what belongs to them (dose, unit, time), are marked always, whatever the recogniser believes.
* A mark says what to check, never that it is wrong.
"""

from __future__ import annotations

from enum import StrEnum

from clinic.domain import Segment
from clinic.verification.drugs import drugs
from clinic.verification.passages import read, word_spans


class Mark(StrEnum):
    """Why a word is to be checked."""

    DRUG = "drug"
    NUMBER = "number"


def marks(segment: Segment) -> tuple[Mark | None, ...]:
    """Return the mark of each of a segment's words; nothing for a segment without words of its own."""
    found: list[Mark | None] = [None] * len(segment.words)
    spans = word_spans(segment)
    reading = read(segment.text)
    places = [(q.start, q.end, Mark.NUMBER) for q in reading.quantities]
    places += [(term.start, term.end, Mark.DRUG) for term, _ in drugs(reading)]
    for start, end, mark in places:
        for n, (first, last) in enumerate(spans):
            if first < end and last > start:
                found[n] = mark
    return tuple(found)
