"""Moments: what the clinician marks and types while a consultation is recorded.

Rules kept here:

* A moment has a time in the recording, and a text or none; sealed, never changed, never removed.
* Each one is an audit event with its author and the number of its words; no digest, for a short text can be guessed.
* The page chooses the id, so that sending again after a lost answer adds nothing.
* No prompt is made of it: it stands beside the transcript, and goes into a note by the clinician's hand only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import func, select

from clinic.audit.events import MomentNoted
from clinic.domain import Actor, EncounterId
from clinic.errors import InputError, RecordError
from clinic.records.models import EncounterRow, MomentRow
from clinic.records.sealed import Place
from clinic.records.work import UnitOfWork

MOST: Final = 500
LONGEST_TEXT: Final = 1000
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Moment:
    """One mark (no text) or typed note; `at` in seconds of the recording."""

    id: str
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class _Content:
    at: float
    text: str


_CONTENT: Final = TypeAdapter(_Content)


class Moments:
    """The moments, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def add(self, encounter_id: str, moment: Moment, *, actor: Actor) -> Moment:
        """Keep a moment; the same one again changes nothing.

        Raises:
            InputError: the id is none, the time is negative, the text is too long, or there are too many.
            RecordError: `record_conflict` if another moment has this id.
        """
        if _ID.fullmatch(moment.id) is None or not moment.at >= 0:
            raise InputError("this is no moment of a recording", hint="load the page again")
        if len(moment.text) > LONGEST_TEXT:
            raise InputError("the note is too long", code="text_too_long", hint=f"at most {LONGEST_TEXT} characters")
        encounter = self._work.require(EncounterRow, encounter_id, what="encounter")
        if (known := self._work.session.get(MomentRow, moment.id)) is not None:
            if known.encounter_id != encounter_id or self._open(known) != moment:
                raise RecordError("this moment is another one", code="record_conflict", hint="load the page again")
            return moment
        if self._count(encounter_id) >= MOST:
            raise InputError("there are too many marks and notes", hint=f"an encounter takes {MOST}")
        row = MomentRow(
            id=moment.id, encounter_id=encounter.id, patient_id=encounter.patient_id, created_at=self._work.now()
        )
        content = _CONTENT.dump_python(_Content(moment.at, moment.text), mode="json")
        row.content = self._work.vault.seal_json(MomentRow.content, content, _place(row))
        self._work.add(row)
        event = MomentNoted(encounter=encounter.id, moment=row.id, words=len(moment.text.split()))
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return moment

    def of_encounter(self, encounter_id: EncounterId) -> tuple[Moment, ...]:
        """Return an encounter's moments in the order of the recording."""
        rows = self._work.session.scalars(select(MomentRow).where(MomentRow.encounter_id == encounter_id))
        return tuple(sorted((self._open(row) for row in rows), key=lambda moment: (moment.at, moment.id)))

    def get(self, encounter_id: EncounterId, moment_id: str) -> Moment:
        """Return one moment of an encounter; `record_unknown` if there is none."""
        row = self._work.require(MomentRow, moment_id, what="note")
        if row.encounter_id != encounter_id:
            raise RecordError("there is no such note", hint="load the page again")
        return self._open(row)

    def check(self, moment_id: str) -> None:
        """Open one; `DecryptionError` if it does not."""
        self._open(self._work.require(MomentRow, moment_id, what="note"))

    def _open(self, row: MomentRow) -> Moment:
        content = self._work.vault.open_json(MomentRow.content, row.content, _place(row), _CONTENT)
        return Moment(row.id, content.at, content.text)

    def _count(self, encounter_id: str) -> int:
        mine = select(func.count()).select_from(MomentRow).where(MomentRow.encounter_id == encounter_id)
        return self._work.session.scalar(mine) or 0


def _place(row: MomentRow) -> Place:
    return Place(row.patient_id, f"{row.encounter_id}/{row.id}")
