"""Encounters: one consultation or dictation of one patient.

Rules kept here:

* An encounter belongs to its patient for ever; its clear columns hold ids, enums, codes and times, no text.
* `SIGNED` is set by signing the note, never by `mark`; a signed encounter goes nowhere else.
* The patient's answer about consent is an audit event, each time that it is given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from clinic.audit.events import ConsentRecorded, EncounterOpened, EncounterTransferred
from clinic.domain import (
    Actor,
    Consent,
    EncounterId,
    EncounterKind,
    EncounterState,
    PatientId,
    Stage,
    UserId,
    new_id,
)
from clinic.errors import InputError, RecordError
from clinic.records.live_texts import LiveTexts
from clinic.records.models import EncounterRow, PatientRow, UserRow
from clinic.records.work import UnitOfWork

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_CODE: Final = re.compile(r"[A-Za-z0-9_.:,-]{1,1024}", re.ASCII)
_UNDER_WAY: Final = frozenset({EncounterState.QUEUED, EncounterState.RUNNING})
_KEEPS_STAGE: Final = frozenset({EncounterState.RUNNING, EncounterState.DENIED, EncounterState.FAILED})


@dataclass(frozen=True, slots=True)
class Encounter:
    """One encounter."""

    id: EncounterId
    patient_id: PatientId
    clinician_id: UserId
    kind: EncounterKind
    template: str
    language: str | None
    consent: Consent
    state: EncounterState
    stage: Stage | None
    error_code: str | None
    created_at: datetime
    updated_at: datetime


class Encounters:
    """The encounters, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def open(
        self, patient_id: str, *, kind: EncounterKind, template: str, language: str | None, actor: Actor
    ) -> Encounter:
        """Begin an encounter; it is the actor's.

        Raises:
            RecordError: `record_unknown` if there is no such patient.
            InputError: template or language is not a name.
        """
        self._work.require_living(patient_id)
        now = self._work.now()
        row = EncounterRow(
            id=new_id(),
            patient_id=patient_id,
            clinician_id=actor.user_id,
            kind=EncounterKind(kind).value,
            template=_name("template", template),
            language=_name("language", language) if language else None,
            consent=Consent.NOT_RECORDED.value,
            state=EncounterState.OPEN.value,
            created_at=now,
            updated_at=now,
        )
        self._work.add(row)
        pseudonym = self._work.pseudonym(patient_id)
        event = EncounterOpened(encounter=row.id, patient=pseudonym, kind=row.kind, template=template)
        self._work.append(event, actor=actor, patient_id=patient_id)
        return _encounter(row)

    def get(self, encounter_id: str) -> Encounter:
        """Return an encounter; `record_unknown` if there is none."""
        return _encounter(self._require(encounter_id))

    def for_patient(self, patient_id: str) -> tuple[Encounter, ...]:
        """Return a patient's encounters, newest first."""
        self._work.require(PatientRow, patient_id, what="patient")
        return self._find(_newest(EncounterRow.patient_id == patient_id))

    def recent(self, limit: int, clinician_id: str | None = None) -> tuple[Encounter, ...]:
        """Return the newest encounters, of one clinician if named."""
        conditions = [] if clinician_id is None else [EncounterRow.clinician_id == clinician_id]
        return self._find(_newest(*conditions).limit(limit))

    def of_clinician(self, clinician_id: str, *, state: EncounterState | None = None) -> tuple[Encounter, ...]:
        """Return a clinician's encounters, newest first, in one state if named."""
        conditions = [EncounterRow.clinician_id == clinician_id]
        if state is not None:
            conditions.append(EncounterRow.state == state.value)
        return self._find(_newest(*conditions))

    def of_the_day(
        self, since: datetime, *, clinician_id: str | None = None, limit: int
    ) -> tuple[tuple[Encounter, ...], int]:
        """Return what was opened or worked on since a moment, and everything unfinished, newest first.

        An encounter whose patient refused or withdrew consent is not unfinished.  Those of patients whose record is
        destroyed are left out.

        Returns:
            The newest `limit`, and how many there are in all.
        """
        answered_no = (Consent.REFUSED.value, Consent.WITHDRAWN.value)
        unfinished = and_(EncounterRow.state != EncounterState.SIGNED.value, EncounterRow.consent.not_in(answered_no))
        living = EncounterRow.patient_id.in_(select(PatientRow.id).where(PatientRow.shredded_at.is_(None)))
        conditions = [or_(EncounterRow.updated_at >= since, unfinished), living]
        if clinician_id is not None:
            conditions.append(EncounterRow.clinician_id == clinician_id)
        total = self._work.session.scalar(select(func.count()).select_from(EncounterRow).where(*conditions)) or 0
        return self._find(_newest(*conditions).limit(limit)), total

    def require_living(self, encounter_id: str) -> None:
        """Raise `patient_shredded` if the record of the encounter's patient was destroyed."""
        self._work.require_living(self._require(encounter_id).patient_id)

    def unfinished(self) -> tuple[Encounter, ...]:
        """Return the encounters that a job has still to finish, oldest first."""
        states = (EncounterState.QUEUED.value, EncounterState.RUNNING.value)
        oldest = select(EncounterRow).where(EncounterRow.state.in_(states)).order_by(EncounterRow.created_at)
        return self._find(oldest)

    def count_unfinished(self, clinician_id: str, *, beside: str) -> int:
        """Return how many of a clinician's encounters wait or run, one of them not counted."""
        states = (EncounterState.QUEUED.value, EncounterState.RUNNING.value)
        own = (EncounterRow.clinician_id == clinician_id, EncounterRow.id != beside, EncounterRow.state.in_(states))
        return self._work.session.scalar(select(func.count()).select_from(EncounterRow).where(*own)) or 0

    def take_on(self, encounter_id: str, actor: Actor) -> Encounter:
        """Make an encounter the actor's that has a draft and nobody who can finish it: see `can_be_taken_on`.

        Raises:
            RecordError: `step_unavailable` if there is no draft to take on, or its own clinician is here.
        """
        row = self._require(encounter_id)
        if not self.can_be_taken_on(_encounter(row)):
            raise RecordError(
                "this encounter has no draft to take on, or a clinician of its own who can finish it",
                code="step_unavailable",
                hint="ask the clinician who opened it",
            )
        row.clinician_id = actor.user_id
        row.updated_at = self._work.now()
        event = EncounterTransferred(encounter=row.id, patient=self._work.pseudonym(row.patient_id))
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return _encounter(row)

    def can_be_taken_on(self, encounter: Encounter) -> bool:
        """Tell whether a draft was made on the command line, or its clinician's account is disabled."""
        if encounter.state is not EncounterState.DRAFTED:
            return False
        owner = self._work.session.get(UserRow, encounter.clinician_id)
        return owner is None or owner.disabled_at is not None

    def record_consent(self, encounter_id: str, consent: Consent, actor: Actor) -> Encounter:
        """Record the patient's answer."""
        row = self._require(encounter_id)
        row.consent = Consent(consent).value
        row.updated_at = self._work.now()
        if consent is not Consent.GIVEN:
            LiveTexts(self._work).drop(row.id)
        pseudonym = self._work.pseudonym(row.patient_id)
        event = ConsentRecorded(encounter=row.id, patient=pseudonym, consent=row.consent)
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return _encounter(row)

    def mark(
        self,
        encounter_id: str,
        *,
        state: EncounterState | None = None,
        stage: Stage | None = None,
        error_code: str | None = None,
    ) -> Encounter:
        """Say where an encounter stands; None leaves a field as it is.

        A new state clears the error code unless one is given, and the stage where it has no meaning.

        Raises:
            RecordError: `note_locked` if the note is signed; `patient_shredded` if work would begin or go on for a
                patient whose record was destroyed.
        """
        row = self._require(encounter_id)
        if state in _UNDER_WAY:
            self._work.require_living(row.patient_id)
        if row.state == EncounterState.SIGNED.value and state is not EncounterState.SIGNED:
            raise RecordError("this encounter is signed", code="note_locked", hint="add an addendum instead")
        if state is not None:
            self._set_state(row, state)
        if stage is not None:
            row.stage = Stage(stage).value
        if error_code is not None:
            row.error_code = _code(error_code)
        row.updated_at = self._work.now()
        self._work.session.flush()
        return _encounter(row)

    def _set_state(self, row: EncounterRow, state: EncounterState) -> None:
        if state is EncounterState.SIGNED and row.state != state.value:
            raise RuntimeError("an encounter becomes signed by signing its note")
        row.state = EncounterState(state).value
        if state in _UNDER_WAY:  # whatever it works on, it is not what was heard in passing
            LiveTexts(self._work).drop(row.id)
        row.error_code = None
        if state not in _KEEPS_STAGE:
            row.stage = None

    def _require(self, encounter_id: str) -> EncounterRow:
        return self._work.require(EncounterRow, encounter_id, what="encounter")

    def _find(self, query: Select[EncounterRow]) -> tuple[Encounter, ...]:
        return tuple(_encounter(row) for row in self._work.session.scalars(query))


def _newest(*conditions: ColumnElement[bool]) -> Select[EncounterRow]:
    newest = (EncounterRow.created_at.desc(), EncounterRow.id)
    return select(EncounterRow).where(*conditions).order_by(*newest)


def _encounter(row: EncounterRow) -> Encounter:
    return Encounter(
        id=EncounterId(row.id),
        patient_id=PatientId(row.patient_id),
        clinician_id=UserId(row.clinician_id),
        kind=EncounterKind(row.kind),
        template=row.template,
        language=row.language,
        consent=Consent(row.consent),
        state=EncounterState(row.state),
        stage=None if row.stage is None else Stage(row.stage),
        error_code=row.error_code,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _name(field: str, value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise InputError(f"the {field} is not a name", hint="letters, digits, - _ and . only")
    return value


def _code(value: str) -> str:
    # INVARIANT: what goes into the clear column is a code, so no patient text can enter by an error message.
    if _CODE.fullmatch(value) is None:
        raise ValueError("an error code holds letters, digits and _ . : , - only")
    return value
