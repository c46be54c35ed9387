"""Live texts: what was heard of a recording that still runs.  Provisional, and nothing else.

Rules kept here:

* A row says that somebody wants to read along; without one nothing is heard before a recording ends.
* It ends with what it is about: the recording's end, a newer recording, consent that is withdrawn, the patient's record
  destroyed.  A recording that takes no more sound takes no more live text either.
* Sealed under the patient's key like everything that was said; each version opens only as that version.
* No transcript, prompt or note is made of it: nobody but the page of the encounter reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import delete, func, select

from clinic.domain import Consent, EncounterId, EncounterState, RecordingId
from clinic.records.models import EncounterRow, LiveTextRow, RecordingChunkRow, RecordingRow
from clinic.records.sealed import Place
from clinic.records.work import UnitOfWork

MOST_LINES: Final = 4000
"""Of more, which nobody says in a day, the first are kept no longer."""
_RECORDING: Final = frozenset({EncounterState.OPEN, EncounterState.FAILED, EncounterState.DENIED})


@dataclass(frozen=True, slots=True)
class LiveLine:
    """What was heard from `start` to `end`, seconds of the recording; `skipped`: nobody listened there."""

    start: float
    end: float
    text: str
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class LiveText:
    """What was heard so far, up to the second `heard_until`; `language` as it was recognised."""

    lines: tuple[LiveLine, ...] = field(default=())
    heard_until: float = 0.0
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A recording that somebody reads along with, and how many chunks of it there are without a gap."""

    recording_id: RecordingId
    encounter_id: EncounterId
    language: str | None
    chunks: int


_TEXT: Final = TypeAdapter(LiveText)


class LiveTexts:
    """The live texts, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def want(self, recording_id: str) -> None:
        """Ask that a recording be heard while it runs; may be repeated."""
        recording = self._work.require(RecordingRow, recording_id, what="recording")
        if recording.completed_at is None and self._work.session.get(LiveTextRow, recording_id) is None:
            patient_id, now = recording.patient_id, self._work.now()
            self._work.add(LiveTextRow(recording_id=recording.id, patient_id=patient_id, row_version=0, created_at=now))

    def wanted(self) -> tuple[Wanted, ...]:
        """Return the recordings that run and that somebody reads along with, newest first."""
        query = (
            select(RecordingRow.id, EncounterRow.id, EncounterRow.language)
            .join(LiveTextRow, LiveTextRow.recording_id == RecordingRow.id)
            .join(EncounterRow, EncounterRow.id == RecordingRow.encounter_id)
            .where(EncounterRow.consent == Consent.GIVEN.value, RecordingRow.completed_at.is_(None))
            .order_by(LiveTextRow.created_at.desc(), RecordingRow.id)
        )
        found = self._work.session.execute(query).all()
        return tuple(
            Wanted(RecordingId(recording), EncounterId(encounter), language, self._chunks(recording))
            for recording, encounter, language in found
        )

    def get(self, encounter_id: str) -> LiveText | None:
        """Return what was heard of the encounter's recording that runs; None where nobody reads along."""
        query = (
            select(LiveTextRow)
            .join(RecordingRow, LiveTextRow.recording_id == RecordingRow.id)
            .where(RecordingRow.encounter_id == encounter_id)
        )
        row = self._work.session.scalar(query)
        return None if row is None else self._open(row)

    def of_recording(self, recording_id: str) -> LiveText | None:
        """Return what was heard of a recording; None where nobody reads along."""
        row = self._work.session.get(LiveTextRow, recording_id)
        return None if row is None else self._open(row)

    def store(self, recording_id: str, text: LiveText) -> bool:
        """Keep `text` in place of what was heard before; False, and nothing kept, where the recording has ended."""
        row = self._work.session.get(LiveTextRow, recording_id)
        recording = self._work.require(RecordingRow, recording_id, what="recording")
        encounter = self._work.require(EncounterRow, recording.encounter_id, what="encounter")
        # INVARIANT: looked at in the transaction that writes, so nothing provisional appears after the end.
        if row is None or recording.completed_at is not None or encounter.consent != Consent.GIVEN.value:
            return False
        if EncounterState(encounter.state) not in _RECORDING:
            return False
        kept = LiveText(text.lines[-MOST_LINES:], text.heard_until, text.language)
        row.row_version += 1
        content = _TEXT.dump_python(kept, mode="json")
        row.heard = self._work.vault.seal_json(LiveTextRow.heard, content, _place(row))
        self._work.session.flush()
        return True

    def drop(self, encounter_id: str) -> None:
        """Forget what was heard of every recording of an encounter."""
        mine = select(RecordingRow.id).where(RecordingRow.encounter_id == encounter_id)
        self._delete(LiveTextRow.recording_id.in_(mine))

    def drop_of_patient(self, patient_id: str) -> None:
        """Forget what was heard of every recording of a patient."""
        self._delete(LiveTextRow.patient_id == patient_id)

    def any_older(self, age: timedelta) -> bool:
        """Tell whether there is one of a recording that was begun longer ago."""
        oldest = self._work.session.scalar(select(func.min(LiveTextRow.created_at)))
        return oldest is not None and oldest < self._work.now() - age

    def drop_older(self, age: timedelta) -> None:
        """Forget what belongs to recordings that were begun longer ago and never ended."""
        self._delete(LiveTextRow.created_at < self._work.now() - age)

    def _delete(self, condition: object) -> None:
        self._work.require_writable()
        self._work.session.execute(delete(LiveTextRow).where(condition))  # type: ignore[arg-type]  # of the models

    def _open(self, row: LiveTextRow) -> LiveText:
        if row.heard is None:
            return LiveText()
        return self._work.vault.open_json(LiveTextRow.heard, row.heard, _place(row), _TEXT)

    def _chunks(self, recording_id: str) -> int:
        mine = RecordingChunkRow.recording_id == recording_id
        count, last = self._work.session.execute(
            select(func.count(), func.max(RecordingChunkRow.number)).where(mine)
        ).one()
        if not count or count == last + 1:
            return int(count)
        numbers = self._work.session.scalars(select(RecordingChunkRow.number).where(mine)).all()
        return next(number for number in range(len(numbers) + 1) if number not in set(numbers))


def _place(row: LiveTextRow) -> Place:
    return Place(row.patient_id, row.recording_id, row.row_version)
