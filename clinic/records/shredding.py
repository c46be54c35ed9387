"""Destroying a patient's record for good: the key first, and with it everything that was sealed under it.

Rules kept here:

* One transaction takes away the patient's wrapped key, their data and all their audio, ends what is under way for
  them, and says so in the audit log.  What is left (transcripts, notes, answers) is ciphertext of a key that is gone.
* The row stays, empty, for ever: the log still verifies, and the sweep can tell a shredded patient from a stolen row.
* The counter of the key's uses is the last to go: as long as it is there, bytes of the key may still lie in the files,
  and `Records.finish_shredding` has to take them out (`clinic.records.scrub`): a crash in between is finished later.
* The reason is a code; there is no room for a free text.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.sqlite import insert

from clinic.audit.events import GenerationInterrupted, PatientShredded, ShreddingFinished
from clinic.domain import OPERATOR, Actor, EncounterState, ShredReason
from clinic.records.generations import GenerationState
from clinic.records.live_texts import LiveTexts
from clinic.records.models import (
    EncounterRow,
    GenerationRow,
    KeyUseRow,
    NoteRow,
    PatientRow,
    RecordingChunkRow,
    RecordingRow,
)
from clinic.records.work import UnitOfWork, shredded

SHREDDED_CODE = "patient_shredded"
_UNDER_WAY = (EncounterState.QUEUED.value, EncounterState.RUNNING.value)


@dataclass(frozen=True, slots=True)
class Holdings:
    """How much there is of a patient: counts only, so that nobody has to see the record to destroy it."""

    encounters: int
    recordings: int
    signed_notes: int


@dataclass(frozen=True, slots=True)
class Shredded:
    """What was destroyed.  Not `finished`: bytes of the key still lie in the files, and go with the next start."""

    held: Holdings
    finished: bool


class Shredding:
    """Destroying patients' records, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def holdings(self, patient_id: str) -> Holdings:
        """Return how much would be destroyed.

        Raises:
            RecordError: `record_unknown`, or `patient_shredded` if it is destroyed already.
        """
        self._living(patient_id)
        return Holdings(
            encounters=self._count(EncounterRow.id, EncounterRow.patient_id == patient_id),
            recordings=self._count(RecordingRow.id, RecordingRow.patient_id == patient_id),
            signed_notes=self._count(NoteRow.id, NoteRow.patient_id == patient_id, NoteRow.signed_at.is_not(None)),
        )

    def shred(self, patient_id: str, *, reason: ShredReason, actor: Actor) -> Holdings:
        """Destroy a patient's key, data and audio.

        Raises:
            RecordError: `record_unknown`, or `patient_shredded` if it is destroyed already.
        """
        held = self.holdings(patient_id)
        self._stop_what_is_under_way(patient_id, actor)
        mine = select(RecordingRow.id).where(RecordingRow.patient_id == patient_id)
        self._work.session.execute(delete(RecordingChunkRow).where(RecordingChunkRow.recording_id.in_(mine)))
        LiveTexts(self._work).drop_of_patient(patient_id)
        # The mark of what is to be finished; a key that never sealed anything has none yet.
        self._work.session.execute(insert(KeyUseRow).values(owner=patient_id, sealed=0).on_conflict_do_nothing())
        row = self._living(patient_id)
        row.wrapped_dek = row.data = row.record_number_index = None
        row.shredded_at = row.updated_at = self._work.now()
        event = PatientShredded(
            patient=self._work.pseudonym(patient_id),
            reason=ShredReason(reason).value,
            encounters=held.encounters,
            recordings=held.recordings,
        )
        self._work.append(event, actor=actor)
        return held

    def unfinished(self) -> tuple[str, ...]:
        """Return the patients whose key is gone from its row, but perhaps not yet from the files."""
        gone = select(PatientRow.id).where(PatientRow.shredded_at.is_not(None))
        return tuple(self._work.session.scalars(select(KeyUseRow.owner).where(KeyUseRow.owner.in_(gone))))

    def finish(self, patients: tuple[str, ...]) -> None:
        """Note that nothing is left in the files of the keys of these patients."""
        gone = self._work.session.execute(delete(KeyUseRow).where(KeyUseRow.owner.in_(patients)).returning(KeyUseRow))
        if found := len(gone.all()):  # two processes may finish at once; the second finds nothing
            self._work.append(ShreddingFinished(patients=found), actor=OPERATOR)

    def _stop_what_is_under_way(self, patient_id: str, actor: Actor) -> None:
        generations = (GenerationRow.patient_id == patient_id, GenerationRow.state == GenerationState.BEGUN.value)
        for row in self._work.session.scalars(select(GenerationRow).where(*generations)).all():
            row.state, row.finished_at = GenerationState.INTERRUPTED.value, self._work.now()
            self._work.append(GenerationInterrupted(generation=row.id, authorized_seq=row.audit_seq), actor=actor)
        jobs = (EncounterRow.patient_id == patient_id, EncounterRow.state.in_(_UNDER_WAY))
        stopped = {"state": EncounterState.FAILED.value, "error_code": SHREDDED_CODE, "updated_at": self._work.now()}
        self._work.session.execute(update(EncounterRow).where(*jobs).values(stopped))

    def _living(self, patient_id: str) -> PatientRow:
        row = self._work.require(PatientRow, patient_id, what="patient")
        if row.shredded_at is not None:
            raise shredded()
        return row

    def _count(self, column: object, *conditions: object) -> int:
        query = select(func.count(column)).where(*conditions)  # type: ignore[arg-type]  # columns of the models
        return self._work.session.scalar(query) or 0
