"""Cases: one statement with its evidence and the transcript, as the checks look at it.

Rules kept here:

* What several checks need of a transcript is read once for a case.
* A case is a value: no check changes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from clinic.domain import DraftStatement, Reason
from clinic.verification.align import Alignment, Claim
from clinic.verification.allergies import allergies_noted, allergies_said
from clinic.verification.doses import Bound, bound
from clinic.verification.drugs import doubtful, drugs_said
from clinic.verification.intents import Mentioned, mentioned
from clinic.verification.negation import sentences
from clinic.verification.passages import Heard, Reading, read
from clinic.verification.sides import Side, sides
from clinic.verification.vocabulary import Term

_SIDED = re.compile(r"\b(?:left|right|[LR][LU][QEL]|[lr]t?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Elsewhere:
    """The statements of a note but one: what else the note says, each read once and only when it is asked for."""

    drafts: tuple[DraftStatement, ...]
    but: int | None = None
    _allergies: dict[int, frozenset[str]] = field(default_factory=dict, repr=False)
    _sides: dict[int, tuple[Side, ...]] = field(default_factory=dict, repr=False)

    def without(self, at: int) -> Elsewhere:
        """Return the same note without statement `at`; what was read is shared."""
        return replace(self, but=at)

    @property
    def allergies(self) -> frozenset[str]:
        """The drugs to which the note states an allergy."""
        for i, draft in enumerate(self.drafts):
            if i not in self._allergies:
                self._allergies[i] = allergies_noted(draft)
        return frozenset().union(*(noted for i, noted in self._allergies.items() if i != self.but))

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that the note names."""
        for i, draft in enumerate(self.drafts):
            if i not in self._sides:
                named = _SIDED.search(draft.text)
                self._sides[i] = sides(read(draft.text), spoken=False) if named else ()
        return tuple(side for i, named in self._sides.items() if i != self.but for side in named)


@dataclass(frozen=True)
class Case:
    """One statement held against the transcript."""

    claim: Claim
    alignment: Alignment
    heard: Heard
    near: frozenset[int] = field(repr=False)  # indexes of the passages around the evidence
    elsewhere: Elsewhere = field(default_factory=lambda: Elsewhere(()), repr=False)

    @cached_property
    def said_drugs(self) -> dict[str, list[int]]:
        """Passages in which each drug was named."""
        return drugs_said(self.heard)

    @cached_property
    def doubtful_drugs(self) -> dict[str, str]:
        """Drugs that only a second hearing named, with the words that were heard first."""
        return doubtful(self.heard)

    @cached_property
    def said_intents(self) -> tuple[tuple[int, Mentioned], ...]:
        """What was meant with each drug, wherever it was named, with the passage."""
        return tuple((p.index, m) for p in self.heard.passages for m in mentioned(p.reading))

    @cached_property
    def said_doses(self) -> tuple[tuple[int, Bound], ...]:
        """Every dose that was said of a drug, with the passage."""
        return tuple((p.index, b) for p in self.heard.passages for b in bound(p.reading))

    @cached_property
    def said_allergies(self) -> frozenset[str]:
        """Drugs to which an allergy was stated."""
        return allergies_said(self.heard)

    @cached_property
    def said_sides(self) -> dict[int, tuple[Side, ...]]:
        """The sides that each passage names."""
        found = {p.index: sides(p.reading, spoken=True) for p in self.heard.passages}
        return {i: said for i, said in found.items() if said}


Check = Callable[[Case], list[Reason]]


def text_of(found: Case, term: Term) -> str:
    """Return a term of the statement as it is written."""
    return found.claim.text[term.start : term.end]


def case(
    claim: Claim,
    alignment: Alignment,
    heard: Heard,
    elsewhere: Elsewhere,
) -> Case:
    """Bring together what the checks look at; `elsewhere` is the rest of the note."""
    last = len(heard.passages)
    near = {j for i in alignment.passages for j in range(max(0, i - 2), min(last, i + 3))}
    return Case(claim, alignment, heard, frozenset(near), elsewhere)


SENTENCE_REACH = 25
"""Tokens to either side that belong together in speech without punctuation."""


def close_to(reading: Reading, at: int, wanted: Mapping[str, float]) -> float:
    """Return the weight of the `wanted` terms that stand in the sentence around a word."""
    first, last = next(((f, e) for f, e in sentences(reading.tokens) if f <= at <= e), (0, 0))
    first, last = max(first, at - SENTENCE_REACH), min(last, at + SENTENCE_REACH)
    here = {key for t in reading.terms if first <= t.first <= last for key in t.keys}
    return sum(w for key, w in wanted.items() if key in here)
