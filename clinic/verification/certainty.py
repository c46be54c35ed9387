"""Certainty: a statement that rests on words which the recogniser itself hardly believes.

Rules kept here:

* Only the evidence counts, and in it the surest place at which a word was heard.
* Text without recognised words (typed, imported, or edited since) says nothing of certainty: no flag.
"""

from __future__ import annotations

from itertools import pairwise

from clinic.domain import Reason
from clinic.verification.case import Case, text_of
from clinic.verification.passages import Passage, word_spans
from clinic.verification.units import same
from clinic.verification.vocabulary import weight

UNSURE = 0.5
"""Words of a lower probability are in doubt; the transcript shows them so, too."""

_TELLING = 0.4
_MOST_NAMED = 4


def uncertain_words(found: Case) -> list[Reason]:
    """More than half of the telling words of a statement, or two in a row, were heard with low certainty.

    Two in a row are what the recogniser makes of a name that it does not know (`per se and mall`).
    """
    told = sorted((place, text, p < UNSURE) for place, text, p in _heard(found))
    unsure = [text for _, text, doubted in told if doubted]
    in_a_row = any(one and other for (_, _, one), (_, _, other) in pairwise(told))
    if not unsure or (2 * len(unsure) <= len(told) and not in_a_row):
        return []
    words = ", ".join(f'"{w}"' for w in list(dict.fromkeys(unsure))[:_MOST_NAMED])
    return [Reason(code="heard_uncertain", message=f"heard with low certainty: {words}: listen to it")]


def _heard(found: Case) -> list[tuple[int, str, float]]:
    """Place, text and greatest probability in the evidence of each telling word and number of a statement."""
    passages = [p for p in (found.heard.passages[i] for i in found.alignment.passages) if word_spans(p.segment)]
    reading = found.claim.reading
    told = []
    for term in (reading.terms[i] for i, _ in found.claim.terms if weight(reading.terms[i]) >= _TELLING):
        sure = [
            _probability(p, t.start, t.end) for p in passages for t in p.reading.terms if t.keys & term.keys
        ]  # fmt: skip
        told += [(term.start, text_of(found, term), max(sure))] if sure else []
    for quantity in found.claim.quantities:
        sure = [
            _probability(p, q.start, q.end) for p in passages for q in p.reading.quantities if same(quantity, q)
        ]  # fmt: skip
        told += [(quantity.start, found.claim.text[quantity.start : quantity.end], max(sure))] if sure else []
    return told


def _probability(passage: Passage, start: int, end: int) -> float:
    """The least probability of the words at a stretch of a passage."""
    words = zip(passage.segment.words, word_spans(passage.segment), strict=True)
    return min((w.probability for w, (first, last) in words if first < end and last > start), default=1.0)
