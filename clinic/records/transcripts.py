"""Transcripts: what was said, in versions.

Rules kept here:

* A transcript is never replaced: storing another one adds a version, and the newest counts.
* Storing the same transcript again changes nothing, so that a step which was interrupted may be repeated.
* The digest is that of the canonical JSON; it is checked again each time that the transcript is opened.
"""

from __future__ import annotations

from pydantic import TypeAdapter
from sqlalchemy import select

from clinic.domain import EncounterState, Transcript, canonical_sha256, new_id
from clinic.errors import DecryptionError, RecordError
from clinic.records.models import EncounterRow, TranscriptRow
from clinic.records.sealed import Place
from clinic.records.work import UnitOfWork

_TRANSCRIPT = TypeAdapter(Transcript)


class Transcripts:
    """The transcripts, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def store(self, encounter_id: str, transcript: Transcript) -> str:
        """Store a transcript as the newest version and return its SHA-256.

        Raises:
            RecordError: `record_unknown`, or `note_locked` if the encounter's note is signed.
        """
        encounter = self._work.require(EncounterRow, encounter_id, what="encounter")
        if encounter.state == EncounterState.SIGNED.value:
            raise RecordError("this encounter is signed", code="note_locked", hint="add an addendum instead")
        content = transcript.model_dump(mode="json")
        digest = canonical_sha256(content)
        newest = self._newest(encounter_id)
        if newest is not None and newest.sha256 == digest:
            return digest
        row = TranscriptRow(
            id=new_id(),
            encounter_id=encounter.id,
            patient_id=encounter.patient_id,
            version=1 if newest is None else newest.version + 1,
            sha256=digest,
            created_at=self._work.now(),
        )
        row.transcript = self._work.vault.seal_json(TranscriptRow.transcript, content, _place(row))
        self._work.add(row)
        return digest

    def current(self, encounter_id: str) -> Transcript | None:
        """Return the newest transcript, if there is one."""
        row = self._newest(encounter_id)
        return None if row is None else self._open(row)

    def first(self, encounter_id: str) -> Transcript | None:
        """Return the first version, if there is one: of a recording, what the machine heard."""
        rows = select(TranscriptRow).where(TranscriptRow.encounter_id == encounter_id)
        row = self._work.session.scalar(rows.order_by(TranscriptRow.version).limit(1))
        return None if row is None else self._open(row)

    def check_all(self, encounter_id: str) -> None:
        """Open every version.

        Raises:
            DecryptionError: one of them does not open, or does not match its digest.
        """
        for row in self._work.session.scalars(select(TranscriptRow).where(TranscriptRow.encounter_id == encounter_id)):
            self._open(row)

    def current_sha256(self, encounter_id: str) -> str:
        """Return the newest transcript's SHA-256; `record_unknown` if there is no transcript."""
        row = self._newest(encounter_id)
        if row is None:
            raise RecordError("this encounter has no transcript", hint="record, upload or type something first")
        return row.sha256

    def _open(self, row: TranscriptRow) -> Transcript:
        transcript = self._work.vault.open_json(TranscriptRow.transcript, row.transcript, _place(row), _TRANSCRIPT)
        if canonical_sha256(transcript.model_dump(mode="json")) != row.sha256:
            raise DecryptionError("a transcript does not match its digest", hint="restore from a backup")
        return transcript

    def _newest(self, encounter_id: str) -> TranscriptRow | None:
        self._work.require(EncounterRow, encounter_id, what="encounter")
        newest = (
            select(TranscriptRow)
            .where(TranscriptRow.encounter_id == encounter_id)
            .order_by(TranscriptRow.version.desc())
            .limit(1)
        )
        return self._work.session.scalar(newest)


def _place(row: TranscriptRow) -> Place:
    return Place(row.patient_id, f"{row.encounter_id}/{row.id}", row.version)
