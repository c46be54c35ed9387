"""A question about a patient's record, answered with sentences of signed notes and nothing else.

Rules kept here:

* Pure and deterministic.  An answer is a choice of whole sentences, word for word; nothing is merged or concluded.
* A sentence is chosen for what it shares with the question: the same word, another word of the same meaning, the same
  drug under another name (`verification.vocabulary`), a drug of the class that is named; for a question about drugs
  or allergies, every sentence that speaks of one (`verification.carried`).
* Finding nothing is said as that: it never means "no".

Example:
    >>> record = (Quoted("e1", 1, "n1", "plan", "Start metformin 500 mg."), Quoted("e1", 1, "n2", "plan", "Rest."))
    >>> [quote.text for quote in find("Does she take glucophage?", record).quotes]
    ['Start metformin 500 mg.']
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from clinic.verification.allergies import classes_named, kin
from clinic.verification.carried import Kind, carried
from clinic.verification.notes import claims_nothing
from clinic.verification.passages import Reading, prefix, read
from clinic.verification.vocabulary import Term, groups, weight
from clinic.verification.words import listed, stem

MOST: Final = 12
"""Sentences that are shown; that there are more is said."""

_TELLS: Final = 0.4
"""The least weight of a word that is looked for: below are `the`, `patient`, `history of`."""
_FOUND: Final = 0.5
"""The least share of what the question tells that a sentence must hold."""
_FAMILY: Final = 0.6
_ASKING: Final = frozenset(
    map(
        stem,
        listed(
            """what when where which who how why last latest previous recent ever any dose result results value
            time often much many take takes taking taken tell say said know known record notes note visit still
            now today currently current before get got have had been there doctor give given used use long first
            find show list mention mentioned wrote written did does"""
        ),
    )
)
"""Words that ask, and tell nothing of what is asked about."""
_DRUGS: Final = groups("medication")
_ALLERGY: Final = groups("allergy")
_ANTIBIOTIC: Final = groups("antibiotic")
_ANTIBIOTICS: Final = frozenset(
    {"penicillin", "cephalosporin", "macrolide", "quinolone", "tetracycline", "+sulfamethoxazole trimethoprim"}
    | {
        f"+{name}"
        for name in listed(
            """amikacin chloramphenicol clindamycin ertapenem fosfomycin gentamicin linezolid meropenem metronidazole
            mupirocin neomycin nitrofurantoin rifampicin rifaximin streptomycin sulfadiazine sulfamethoxazole tinidazole
            tobramycin trimethoprim vancomycin"""
        )
    }
)
"""Classes and drugs that are antibiotics: of the vocabulary's drugs, those that act against bacteria."""


@dataclass(frozen=True, slots=True)
class Quoted:
    """One sentence of a signed note: which encounter, the place of its note in time (greater: newer), and where."""

    encounter_id: str
    order: int
    id: str
    section: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found: the best sentences, how many there are in all, and whether the question told anything at all."""

    quotes: tuple[Quoted, ...]
    total: int
    understood: bool


def find(question: str, record: Sequence[Quoted]) -> Found:
    """Return the sentences of a record that a question is about, the best first, then the newest."""
    asked = [term for term in read(question).terms if _tells(term)]
    if not asked:
        return Found((), 0, understood=False)
    readings = [(quote, read(quote.text)) for quote in record if not claims_nothing(quote.text)]
    weights = [_weight(term, [reading for _, reading in readings]) for term in asked]
    scored = []
    for quote, reading in readings:
        held = [_held(term, quote, reading) for term in asked]
        share = sum(h * w for h, w in zip(held, weights, strict=True)) / sum(weights)
        named = any(h == 1.0 and _names(term) for h, term in zip(held, asked, strict=True))
        if share >= _FOUND or named:
            scored.append((round(share, 1), quote.order, quote))
    ranked = [quote for _, _, quote in sorted(scored, key=lambda row: (-row[0], -row[1], row[2].id))]
    return Found(tuple(ranked[:MOST]), len(ranked), understood=True)


def _tells(term: Term) -> bool:
    return weight(term) >= _TELLS and not term.keys <= _ASKING


def _names(term: Term) -> bool:
    """Whether a term names something by itself: a drug, a symptom, a condition."""
    return term.clinical or any(key.startswith("+") for key in term.keys)


def _weight(term: Term, readings: Sequence[Reading]) -> float:
    """Weigh a term of the question: less, the more sentences hold it."""
    spread = sum(any(term.keys & other.keys for other in reading.terms) for reading in readings)
    rarity = (
        1.0 if spread <= 1 else 0.4 + 0.6 * math.log((len(readings) + 1) / (spread + 1)) / math.log(len(readings) + 1)
    )
    return weight(term) * rarity


def _held(term: Term, quote: Quoted, reading: Reading) -> float:
    """Return how far a sentence speaks of a term: 1 for the same, less for a part or a word of the same family."""
    kinds = {found.kind for found in carried(quote.section, quote.text)} if _is_general(term) else set()
    if (term.keys & _DRUGS and Kind.DRUG in kinds) or (term.keys & _ALLERGY and Kind.ALLERGY in kinds):
        return 1.0
    if any(term.keys & other.keys for other in reading.terms):
        return 1.0
    classes = classes_named(term.keys) | (_ANTIBIOTICS if term.keys & _ANTIBIOTIC else frozenset())
    drugs = {key for other in reading.terms for key in other.keys if key.startswith("+")} if classes else set()
    if any((kin(key) | {key}) & classes for key in drugs):
        return 1.0
    if any(key.startswith("+") for key in term.keys):
        return 0.0  # a drug is the same drug or another one
    wanted = term.parts | {prefix(key) for key in term.keys} - {""}
    held = {name for other in reading.terms for name in (*other.parts, *other.keys, *map(prefix, other.keys))}
    return _FAMILY if wanted & held else 0.0


def _is_general(term: Term) -> bool:
    return bool(term.keys & (_DRUGS | _ALLERGY))
