"""Recordings: audio that arrives in numbered chunks and is never lost once acknowledged.

Rules kept here:

* A chunk is sealed for its encounter, recording and number: chunks that are swapped or moved do not open.
* The same chunk may be sent again; other bytes under the same number are refused, and so is any chunk after the end.
* `complete` reads every chunk back before it says so; `chunks` reads one at a time, whatever the length.
* Nothing is ever deleted here: a new recording is a new one, and the newest counts.  What was heard while it ran
  (`live_texts`) goes with its end.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, select

from clinic.audit.events import RecordingCompleted, RecordingStarted
from clinic.domain import Actor, EncounterId, EncounterState, RecordingId, new_id
from clinic.errors import AudioError, DecryptionError, InputError, RecordError
from clinic.records.live_texts import LiveTexts
from clinic.records.models import EncounterRow, RecordingChunkRow, RecordingRow
from clinic.records.sealed import Place
from clinic.records.work import UnitOfWork

MAX_CHUNK: Final = 1 << 20
MAX_CHUNKS: Final = 1 << 16
_NAMED: Final = 20
_MIME: Final = re.compile(r"[a-z]+/[a-z0-9.+-]+( ?; ?codecs=\"?[a-z0-9.,-]+\"?)?", re.ASCII | re.IGNORECASE)
_RECORDABLE: Final = frozenset({EncounterState.OPEN, EncounterState.FAILED, EncounterState.DENIED})


@dataclass(frozen=True, slots=True)
class ChunkAck:
    """What is stored of one chunk; durable once the transaction is committed."""

    index: int
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording and which of its chunks (from 0) are there."""

    id: RecordingId
    encounter_id: EncounterId
    mime: str
    complete: bool
    received: tuple[int, ...]
    size: int
    created_at: datetime


class Recordings:
    """The recordings, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def start(self, encounter_id: str, *, mime: str, actor: Actor) -> Recording:
        """Begin a recording; from now on it is the one that counts for this encounter.

        Raises:
            RecordError: `record_conflict` while a job works on the encounter, and once it has a note.
            InputError: `mime` is not a media type.
        """
        encounter = self._work.require(EncounterRow, encounter_id, what="encounter")
        self._work.require_living(encounter.patient_id)
        if EncounterState(encounter.state) not in _RECORDABLE:
            raise RecordError(
                "this encounter takes no recording now",
                code="record_conflict",
                hint="wait for the job to end, or open a new encounter",
            )
        if _MIME.fullmatch(mime) is None:
            raise InputError("this is not a media type", hint="for example `audio/webm;codecs=opus`")
        row = RecordingRow(
            id=new_id(),
            encounter_id=encounter.id,
            patient_id=encounter.patient_id,
            mime=mime,
            created_at=self._work.now(),
        )
        LiveTexts(self._work).drop(encounter.id)
        self._work.add(row)
        event = RecordingStarted(encounter=encounter.id, recording=row.id)
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return self._recording(row)

    def append(self, recording_id: str, index: int, data: bytes) -> ChunkAck:
        """Store one chunk.  Acknowledge it to the sender only after the commit.

        Raises:
            InputError: `chunk_too_large`, or a number out of range.
            RecordError: `record_conflict` if the recording is complete, or the chunk is there with other bytes.
        """
        row = self._require(recording_id)
        if len(data) > MAX_CHUNK:
            raise InputError("a chunk is larger than 1 MiB", code="chunk_too_large", hint="send smaller chunks")
        if not 0 <= index < MAX_CHUNKS:
            raise InputError(f"a chunk's number is not between 0 and {MAX_CHUNKS - 1}", hint="number chunks from 0")
        if row.completed_at is not None:
            raise _conflict("the recording is complete and takes no more chunks")
        ack = ChunkAck(index, hashlib.sha256(data).hexdigest(), len(data))
        stored = self._ack(recording_id, index)
        if stored is None:
            sealed = self._work.vault.seal(RecordingChunkRow.data, data, _place(row, index))
            self._work.add(
                RecordingChunkRow(recording_id=row.id, number=index, size=ack.size, sha256=ack.sha256, data=sealed)
            )
        elif stored != ack:
            raise _conflict(f"chunk {index} is there already, with other bytes")
        return ack

    def complete(self, recording_id: str, *, chunks: int, actor: Actor) -> Recording:
        """Close a recording of `chunks` chunks, after reading all of them back; may be repeated.

        Raises:
            AudioError: `audio_incomplete` naming the missing chunks, `audio_empty`.
            RecordError: `record_conflict` if it was closed with, or holds, another number of chunks.
        """
        row = self._require(recording_id)
        recording = self._recording(row)
        if row.completed_at is not None:
            if row.chunks != chunks:
                raise _conflict("the recording was completed with another number of chunks")
            return recording
        _require_all(recording, chunks)
        digest = hashlib.sha256()
        for data in self.chunks(recording_id):
            digest.update(data)
        LiveTexts(self._work).drop(row.encounter_id)
        row.chunks, row.sha256, row.completed_at = chunks, digest.hexdigest(), self._work.now()
        event = RecordingCompleted(
            encounter=row.encounter_id, recording=row.id, chunks=chunks, size=recording.size, sha256=row.sha256
        )
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return self._recording(row)

    def page_key(self, recording_id: str) -> bytes:
        """Return the key for the page that records (`crypto.page_key`); to be given to nobody else, and not stored."""
        row = self._require(recording_id)
        return self._work.vault.page_key(row.patient_id, row.id)

    def chunks(self, recording_id: str) -> Iterator[bytes]:
        """Yield what is there, in order, one chunk in memory at a time.  To be used up inside the transaction."""
        row = self._require(recording_id)
        received = self._recording(row).received
        if row.chunks is not None and received != tuple(range(row.chunks)):
            raise DecryptionError("parts of a complete recording are gone", hint="restore from a backup")
        return (self._chunk(row, index) for index in received)

    def chunk(self, recording_id: str, index: int) -> bytes:
        """Return one chunk that is there."""
        return self._chunk(self._require(recording_id), index)

    def get(self, recording_id: str) -> Recording:
        """Return a recording; `record_unknown` if there is none."""
        return self._recording(self._require(recording_id))

    def encounter_of(self, recording_id: str) -> EncounterId:
        """Return the encounter that a recording belongs to; `record_unknown` if there is no such recording."""
        return EncounterId(self._require(recording_id).encounter_id)

    def for_encounter(self, encounter_id: str) -> Recording | None:
        """Return the encounter's newest recording."""
        self._work.require(EncounterRow, encounter_id, what="encounter")
        newest = (
            select(RecordingRow)
            .where(RecordingRow.encounter_id == encounter_id)
            .order_by(RecordingRow.created_at.desc(), RecordingRow.id)
            .limit(1)
        )
        row = self._work.session.scalar(newest)
        return None if row is None else self._recording(row)

    def _chunk(self, row: RecordingRow, index: int) -> bytes:
        blob = self._work.session.scalars(select(RecordingChunkRow.data).where(*_is_chunk(row.id, index))).one()
        return self._work.vault.open(RecordingChunkRow.data, blob, _place(row, index))

    def _ack(self, recording_id: str, index: int) -> ChunkAck | None:
        columns = select(RecordingChunkRow.sha256, RecordingChunkRow.size)
        found = self._work.session.execute(columns.where(*_is_chunk(recording_id, index))).one_or_none()
        return None if found is None else ChunkAck(index, found.sha256, found.size)

    def _recording(self, row: RecordingRow) -> Recording:
        columns = select(RecordingChunkRow.number, RecordingChunkRow.size)
        mine = columns.where(RecordingChunkRow.recording_id == row.id).order_by(RecordingChunkRow.number)
        there = self._work.session.execute(mine).all()
        return Recording(
            id=RecordingId(row.id),
            encounter_id=EncounterId(row.encounter_id),
            mime=row.mime,
            complete=row.completed_at is not None,
            received=tuple(chunk.number for chunk in there),
            size=sum(chunk.size for chunk in there),
            created_at=row.created_at,
        )

    def _require(self, recording_id: str) -> RecordingRow:
        return self._work.require(RecordingRow, recording_id, what="recording")


def _require_all(recording: Recording, chunks: int) -> None:
    missing = sorted(set(range(min(chunks, MAX_CHUNKS))) - set(recording.received))
    if missing:
        named = ", ".join(str(index) for index in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise AudioError(
            f"chunks have not arrived: {named}{more}", code="audio_incomplete", hint="send them again, then complete"
        )
    if len(recording.received) != chunks:
        raise _conflict(f"the recording holds {len(recording.received)} chunks, not {chunks}")
    if recording.size == 0:
        raise AudioError("the recording is empty", code="audio_empty", hint="check the microphone and record again")


def _is_chunk(recording_id: str, index: int) -> tuple[ColumnElement[bool], ...]:
    return RecordingChunkRow.recording_id == recording_id, RecordingChunkRow.number == index


def _place(row: RecordingRow, index: int) -> Place:
    return Place(row.patient_id, f"{row.encounter_id}/{row.id}/{index}")


def _conflict(message: str) -> RecordError:
    return RecordError(message, code="record_conflict", hint="load the page again to see what is stored")
