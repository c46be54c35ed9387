"""Recordings: chunks that may be sent again and in any order, and are acknowledged when they are durable.

Rules kept here:

* A chunk comes with its digest (RFC 9530) and is refused if it is not what the digest says: a line that garbles is
  found before anything is kept.
* Only a program that acts for the clinician who opened the encounter may start, add to or end its recordings.
* The same chunk again gets the same acknowledgement; other bytes under its number are a conflict.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

from flask import Response, request

from clinic import capture
from clinic.api.calls import Call
from clinic.api.models import (
    ChunkAcknowledged,
    CompletionSent,
    EncounterAnswered,
    RecordingAnswered,
    RecordingSent,
)
from clinic.api.operations import Answer, Operation
from clinic.api.problems import HeaderError
from clinic.api.standing import answered, start_job
from clinic.domain import EncounterId, RecordingId, Scope
from clinic.errors import InputError, RecordError
from clinic.records.recordings import Recording
from clinic.records.records import Transaction

DIGEST: Final = "Content-Digest"


def start(call: Call, encounter_id: str) -> Response:
    """Start a recording, which then is the one that counts."""
    sent = call.body(RecordingSent)

    def work(tx: Transaction) -> Answer:
        encounter = capture.require_open(tx, EncounterId(encounter_id), actor=call.actor)
        call.patient_id = encounter.patient_id
        return Answer(201, _answered(tx.recordings.start(encounter.id, mime=sent.mime, actor=call.actor)))

    return call.once(work)


def show(call: Call, recording_id: str) -> Answer:
    """Say which chunks are there."""
    with call.reading() as tx:
        return Answer(200, _answered(tx.recordings.get(RecordingId(recording_id))))


def append(call: Call, recording_id: str, number: int) -> Answer:
    """Store one chunk and acknowledge it."""
    data = call.raw()
    _require_digest(data)
    with call.services.records.write() as tx:
        ack = capture.take_chunk(tx, RecordingId(recording_id), number, data, actor=call.actor)
    return Answer(200, ChunkAcknowledged(number=ack.index, sha256=ack.sha256, size=ack.size))


def complete(call: Call, recording_id: str) -> Response:
    """Close a recording and start the job; names the chunks that are missing."""
    sent = call.body(CompletionSent)
    with call.reading() as reading:
        encounter_id = reading.recordings.encounter_of(RecordingId(recording_id))

    def work(tx: Transaction) -> Answer:
        encounter = capture.require_open(tx, encounter_id, actor=call.actor)
        call.patient_id = encounter.patient_id
        newest = tx.recordings.for_encounter(encounter.id)
        if newest is None or newest.id != recording_id:
            raise RecordError("another recording counts now", code="record_conflict", hint="complete the newest one")
        tx.recordings.complete(newest.id, chunks=sent.chunks, actor=call.actor)
        return Answer(202, answered(call, capture.queue(tx, encounter.id), {}))

    return call.once(work, then=start_job(call, encounter_id))


def _require_digest(data: bytes) -> None:
    if not data:
        raise InputError("the chunk is empty", code="audio_empty", hint="send the bytes of the chunk as the body")
    sent = request.headers.get(DIGEST)
    if sent is None:
        raise HeaderError(
            "the header Content-Digest is missing",
            code="digest_missing",
            hint="`sha-256=:BASE64:` with the SHA-256 of the chunk, as RFC 9530 says",
        )
    wanted = f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"
    if not hmac.compare_digest(sent.strip().encode(), wanted.encode()):
        raise InputError(
            "the chunk is not what its digest says",
            code="digest_mismatch",
            hint="send the chunk again; nothing was kept",
        )


def _answered(recording: Recording) -> RecordingAnswered:
    return RecordingAnswered(
        id=recording.id,
        encounter_id=recording.encounter_id,
        complete=recording.complete,
        received=recording.received,
        size=recording.size,
    )


_WRITE: Final = Scope.RECORDINGS_WRITE

OPERATIONS: Final = (
    Operation(
        name="start_recording",
        method="POST",
        path="/encounters/{encounter_id}/recordings",
        scope=_WRITE,
        view=start,
        summary="Start a recording",
        status=201,
        answers=RecordingAnswered,
        body=RecordingSent,
        once=True,
        problems=frozenset({410}),
    ),
    Operation(
        name="show_recording",
        method="GET",
        path="/recordings/{recording_id}",
        scope=_WRITE,
        view=show,
        summary="Which chunks are there",
        status=200,
        answers=RecordingAnswered,
    ),
    Operation(
        name="put_chunk",
        method="PUT",
        path="/recordings/{recording_id}/chunks/{number}",
        scope=_WRITE,
        view=append,
        summary="Store a chunk; may be sent again",
        status=200,
        answers=ChunkAcknowledged,
        body="application/octet-stream",
        problems=frozenset({400, 409, 410}),
    ),
    Operation(
        name="complete_recording",
        method="POST",
        path="/recordings/{recording_id}/complete",
        scope=_WRITE,
        view=complete,
        summary="Close a recording, and start the job",
        status=202,
        answers=EncounterAnswered,
        body=CompletionSent,
        once=True,
        problems=frozenset({410}),
    ),
)
