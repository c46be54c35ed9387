"""Carried: what earlier notes say of allergies and drugs, quoted, for the top of a patient's page.

Rules kept here:

* Whole statements are quoted, word for word; nothing is merged, reworded, concluded or left out for being old.
* A statement is about an allergy if it names one, denies one, or stands under that heading; about drugs, if it names a
  drug otherwise than as an allergen.  It can be both.
* Rather one too many than one too few: what is denied, stopped or said of a relative is quoted as well, for the reader
  sees the words.  What is not named in the vocabulary is missed, and the page says so.

Example:
    >>> quoted = carried("plan", "Allergic to penicillin, takes lisinopril 10 mg.")
    >>> [(found.kind.value, found.names) for found in quoted]
    [('allergy', ('penicillin',)), ('drug', ('lisinopril',))]
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from clinic.verification.allergies import allergies_in
from clinic.verification.drugs import drugs
from clinic.verification.intents import Intent, mentioned
from clinic.verification.notes import claims_nothing
from clinic.verification.passages import Reading, read
from clinic.verification.vocabulary import Term, groups
from clinic.verification.words import fold

_ALLERGY = groups("allergy")
_REACTED = re.compile(
    r"\b(?:anaphyla\w+|hypersensitiv\w+|intoleran(?:t|ce) (?:of|to)|(?:adverse|drug) reactions?|reacted (?:badly )?to"
    r"|reactions? to)\b"
)
"""How else people write it; wider than what `checks` call an allergy, for here nothing is concluded from it."""


class Kind(StrEnum):
    """What a statement is quoted for."""

    ALLERGY = "allergy"
    DRUG = "drug"


@dataclass(frozen=True, slots=True)
class Carried:
    """One statement, and the names in it for which it is quoted, as they are written there (none: no drug's name)."""

    kind: Kind
    names: tuple[str, ...] = field(repr=False)
    text: str = field(repr=False)


def carried(section: str, text: str) -> tuple[Carried, ...]:
    """Return for what a statement of a note is quoted: for allergies, for drugs, for both, or not at all."""
    if claims_nothing(text):
        return ()
    reading = read(text)
    under = fold(section).strip().startswith("allerg")
    allergens = allergies_in(reading, listed=under)
    of_allergy = {m.term for m in mentioned(reading) if m.intent is Intent.ALLERGY or m.keys & allergens}
    others = [term for term, _ in drugs(reading) if term not in of_allergy]
    found = []
    if under or of_allergy or _speaks_of_allergy(reading):
        found.append(Carried(Kind.ALLERGY, _names(reading, of_allergy), text))
    if others and not under:
        found.append(Carried(Kind.DRUG, _names(reading, others), text))
    return tuple(found)


def _speaks_of_allergy(reading: Reading) -> bool:
    return any(term.keys & _ALLERGY for term in reading.terms) or bool(_REACTED.search(fold(reading.text)))


def _names(reading: Reading, terms: set[Term] | list[Term]) -> tuple[str, ...]:
    """Return terms as they are written, in their order, each once."""
    written = (reading.text[t.start : t.end] for t in sorted(terms, key=lambda term: term.start))
    return tuple(dict.fromkeys(written))
