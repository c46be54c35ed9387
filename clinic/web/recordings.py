"""Audio in, chunk by chunk, and out again, by the second.

Rules kept here:

* A chunk is acknowledged only after `records` has committed it; the acknowledgement carries its digest.
* Every operation on a recording is refused unless its encounter has consent, is still open, and is one's own.
* Live text is provisional: only who records sees it, while it is recorded, and it counts as a look at the encounter.
* Without scripts a whole file can be sent in a form; it is spooled encrypted and goes the same way, chunk by chunk.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import IO

from flask import Blueprint, Response, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue

from clinic.audit.events import AudioPlayed
from clinic.capture import require_consent, require_open, take_chunk
from clinic.domain import EncounterId, RecordingId, Role
from clinic.errors import AudioError, InputError, RecordError
from clinic.records.live_texts import LiveText
from clinic.records.recordings import Recording
from clinic.records.records import Transaction
from clinic.web import processing, sessions
from clinic.web.access import allow
from clinic.web.checking import recorded
from clinic.web.forms import ClipForm, CompletionForm, LiveForm, RecordingForm
from clinic.web.ports import services

blueprint = Blueprint("recordings", __name__)
_UPLOAD_CHUNK = 512 * 1024
_LONGEST_CLIP_S = 120.0
_UNKNOWN_TYPE = "application/octet-stream"


@blueprint.post("/encounters/<id:encounter_id>/recording")
@allow(Role.CLINICIAN)
def start(encounter_id: str) -> ResponseReturnValue:
    """Start a recording, which then is the one that counts; or, asked to resume, go on with one that was broken off.

    The answer has the key under which the page keeps what is not acknowledged yet; it is derived, and stored nowhere.
    """
    form = RecordingForm.parse_json()
    with services().records.write() as tx:
        encounter = require_open(tx, EncounterId(encounter_id), actor=sessions.actor())
        recording = tx.recordings.for_encounter(encounter.id) if form.resume else None
        if recording is None or recording.complete:
            recording = tx.recordings.start(encounter.id, mime=form.mime, actor=sessions.actor())
        if form.live and services().config.speech.live_text:
            tx.live_texts.want(recording.id)
        key = base64.b64encode(tx.recordings.page_key(recording.id)).decode()
    return jsonify(id=recording.id, received=list(recording.received), complete=recording.complete, key=key), 201


@blueprint.put("/recordings/<id:recording_id>/chunks/<int:index>")
@allow(Role.CLINICIAN)
def append(recording_id: str, index: int) -> Response:
    """Store one chunk and acknowledge it."""
    data = request.get_data(cache=False)
    if not data:
        raise InputError("the chunk is empty", hint="send the bytes of the chunk as the body")
    with services().records.write() as tx:
        ack = take_chunk(tx, RecordingId(recording_id), index, data, actor=sessions.actor())
    return jsonify(index=ack.index, sha256=ack.sha256, size=ack.size)


@blueprint.post("/encounters/<id:encounter_id>/recording/complete")
@allow(Role.CLINICIAN)
def complete(encounter_id: str) -> ResponseReturnValue:
    """Close the recording and start the job; names the chunks that are missing."""
    form = CompletionForm.parse_json()
    with services().records.write() as tx:
        encounter = require_open(tx, EncounterId(encounter_id), actor=sessions.actor())
        tx.recordings.complete(_recording(tx, encounter.id).id, chunks=form.chunks, actor=sessions.actor())
    processing.start(encounter.id, actor=sessions.actor())
    return jsonify(state="queued"), 202


@blueprint.get("/encounters/<id:encounter_id>/live")
@allow(Role.CLINICIAN, passive=True)
def live(encounter_id: str) -> Response:
    """Give the lines of the live text that the page does not have yet (asked by the page while it records)."""
    after = LiveForm.from_query().after
    text = recorded(EncounterId(encounter_id), lambda tx: _live(tx, EncounterId(encounter_id)))
    lines = () if text is None else text.lines[after:]
    return jsonify(
        listening=text is not None,
        heard_until=text.heard_until if text else 0,
        lines=[{"start": line.start, "end": line.end, "text": line.text, "skipped": line.skipped} for line in lines],
    )


@blueprint.post("/encounters/<id:encounter_id>/recording/upload")
@allow(Role.CLINICIAN)
def upload(encounter_id: str) -> ResponseReturnValue:
    """Take a whole file from a browser without scripts."""
    file = request.files.get("audio")
    if file is None:
        raise AudioError("no file was chosen", code="audio_empty", hint="choose an audio file")
    mime = file.mimetype or _UNKNOWN_TYPE
    with services().records.write() as tx:
        encounter = require_open(tx, EncounterId(encounter_id), actor=sessions.actor())
        recording = tx.recordings.start(encounter.id, mime=mime, actor=sessions.actor())
    count = 0
    for count, data in enumerate(_pieces(file.stream), start=1):
        with services().records.write() as tx:
            take_chunk(tx, recording.id, count - 1, data, actor=sessions.actor())
    with services().records.write() as tx:
        require_open(tx, encounter.id, actor=sessions.actor())
        tx.recordings.complete(recording.id, chunks=count, actor=sessions.actor())
    processing.start(encounter.id, actor=sessions.actor())
    return redirect(url_for("encounters.show", encounter_id=encounter_id), 303)


@blueprint.get("/encounters/<id:encounter_id>/audio")
@allow(Role.CLINICIAN)
def clip(encounter_id: str) -> Response:
    """Give some seconds of the recording as WAV."""
    form = ClipForm.from_query()
    if not form.start < form.end <= form.start + _LONGEST_CLIP_S:
        raise InputError("these seconds cannot be played", hint="ask for at most two minutes at a time")
    with services().records.write() as tx:
        encounter = tx.encounters.get(EncounterId(encounter_id))
        require_consent(encounter)
        event = AudioPlayed(encounter=encounter.id, recording=_recording(tx, encounter.id).id)
        tx.append(event, actor=sessions.actor(), patient_id=encounter.patient_id)
    return Response(services().clip(encounter.id, form.start, form.end), mimetype="audio/wav")


def _live(tx: Transaction, encounter_id: EncounterId) -> LiveText | None:
    require_open(tx, encounter_id, actor=sessions.actor())
    return tx.live_texts.get(encounter_id)


def _recording(tx: Transaction, encounter_id: EncounterId) -> Recording:
    recording = tx.recordings.for_encounter(encounter_id)
    if recording is None:
        raise RecordError("this encounter has no recording", hint="record or upload first")
    return recording


def _pieces(stream: IO[bytes]) -> Iterator[bytes]:
    piece = bytearray()
    while data := stream.read(_UPLOAD_CHUNK - len(piece)):  # a spool gives at most one of its own blocks at a time
        piece += data
        if len(piece) == _UPLOAD_CHUNK:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)
