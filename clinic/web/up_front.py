"""The top of a patient's page: what signed notes say of allergies and drugs, each with its date and its note.

Rules kept here:

* Signed notes only, addenda included: a draft is nobody's word yet.
* Newest first; each line quotes one sentence of one note.  Nothing is merged, and nothing is said to be current.
* If there are more signed notes than are read, the page says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from clinic.domain import EncounterId, EncounterState, StatementStatus
from clinic.records.encounters import Encounter
from clinic.records.notes import StoredNote
from clinic.records.records import Transaction
from clinic.verification.carried import Carried, Kind, carried
from clinic.verification.notes import split_sentences

_MOST: Final = 100
"""Notes that are read, the newest: a note of twenty statements takes some milliseconds."""


@dataclass(frozen=True, slots=True)
class Line:
    """One sentence: what it is quoted for, when the note was signed, and which encounter it is of."""

    found: Carried = field(repr=False)
    encounter_id: EncounterId
    signed_at: datetime
    addendum: bool


@dataclass(frozen=True, slots=True)
class UpFront:
    """What the top of the page shows: the lines, how many notes they were taken from, and whether that was all."""

    allergies: tuple[Line, ...]
    drugs: tuple[Line, ...]
    read: int
    signed: int


def newest_signed(tx: Transaction, encounters: Sequence[Encounter]) -> tuple[tuple[StoredNote, ...], int]:
    """Return a patient's newest signed notes (`encounters`: newest first), and how many there are in all."""
    signed = [encounter for encounter in encounters if encounter.state is EncounterState.SIGNED]
    notes = (tx.notes.get(encounter.id) for encounter in signed[:_MOST])
    return tuple(note for note in notes if note is not None), len(signed)


def up_front(notes: Sequence[StoredNote], signed: int) -> UpFront:
    """Quote what notes say of allergies and drugs; it takes a while, so no transaction should wait for it."""
    lines = tuple(line for note in notes for line in _lines(note))
    return UpFront(
        allergies=tuple(line for line in lines if line.found.kind is Kind.ALLERGY),
        drugs=tuple(line for line in lines if line.found.kind is Kind.DRUG),
        read=len(notes),
        signed=signed,
    )


def _lines(stored: StoredNote) -> Iterator[Line]:
    """Give what one signed note says, what was added later first."""
    if stored.signed_at is None:
        return
    for addendum in reversed(stored.addenda):
        texts = (("", sentence) for sentence in split_sentences(addendum.text))
        yield from _quoted(texts, stored.encounter_id, addendum.created_at, addendum=True)
    kept = ((s.section, s.text) for s in stored.note.statements if s.status is not StatementStatus.REMOVED)
    yield from _quoted(kept, stored.encounter_id, stored.signed_at, addendum=False)


def _quoted(
    texts: Iterable[tuple[str, str]], encounter_id: EncounterId, at: datetime, *, addendum: bool
) -> Iterator[Line]:
    for section, text in texts:
        for found in carried(section, text):
            yield Line(found, encounter_id, at, addendum)
