"""Notes: the draft with its evidence and flags, changes to it, the signed note as a document.

Rules kept here:

* What a program puts into a draft is flagged until a person has decided on it in the form; a program neither confirms
  nor removes a statement, neither signs nor amends.
* A change names the version that was seen; one that has moved is a conflict, never an overwrite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flask import Response

from clinic import capture
from clinic.api.calls import Call
from clinic.api.models import (
    AddendumAnswered,
    DecisionAnswered,
    NoteAnswered,
    NoteChanged,
    RedFlagAnswered,
    StatementSent,
    StatementTextSent,
)
from clinic.api.operations import Answer, Operation, Raw
from clinic.domain import EncounterId, Note, Scope, Transcript, utc_now
from clinic.errors import AuthenticationError, InputError, RecordError
from clinic.generation.template import headings
from clinic.interop.document import MEDIA_TYPE, document, encode
from clinic.interop.notes import take_out
from clinic.past_decisions import recorded_outcome
from clinic.policy.detectors.red_flags import transcript_red_flags
from clinic.records.encounters import Encounter
from clinic.records.notes import StoredNote
from clinic.records.records import Transaction
from clinic.verification import review


def show(call: Call, encounter_id: str) -> Answer:
    """Show the note as it stands; a draft only to its own clinician's programs."""
    with call.writing() as tx:
        encounter, stored, transcript = _load(call, tx, encounter_id)
        if not stored.signed and encounter.clinician_id != call.actor.user_id:
            # What a program reads leaves the page with its label of a draft: the form lets nobody take it along either.
            raise AuthenticationError(
                "only a program of the clinician who opened this encounter may take its draft",
                code="not_allowed",
                hint="it can be read in the form; once it is signed, any clinician's program may have it",
            )
        capture.record_view(call.services.records, tx, encounter, actor=call.actor)
        generation = tx.generations.completed_for(encounter.id)
    decision = None if generation is None else recorded_outcome(call.services.records, generation.audit_seq)
    return Answer(
        200,
        NoteAnswered(
            encounter=encounter.id,
            version=stored.version,
            signed=stored.signed,
            signed_at=stored.signed_at,
            note=stored.note,
            decision=None if decision is None else DecisionAnswered.model_validate(decision),
            red_flags=tuple(
                RedFlagAnswered(kind=flag.kind, segment=flag.segment, standing=flag.standing)
                for flag in transcript_red_flags(transcript)
            ),
            notices=call.services.notices(encounter.id),
            addenda=tuple(
                AddendumAnswered(id=item.id, text=item.text, author_id=item.author_id, created_at=item.created_at)
                for item in stored.addenda
            ),
        ),
    )


def add(call: Call, encounter_id: str) -> Response:
    """Add a statement to a draft."""
    sent = call.body(StatementSent)

    def change(encounter: Encounter, note: Note, transcript: Transcript) -> Note:
        if sent.section not in headings(encounter.template, note):
            raise InputError("the note has no such section", hint="`GET /service` lists the sections of each template")
        return review.add_from_program(note, sent.section, sent.text, transcript)

    return call.once(lambda tx: _apply(call, tx, encounter_id, sent.version, change, status=201))


def edit(call: Call, encounter_id: str, statement_id: str) -> Answer:
    """Give a statement of a draft other words."""
    sent = call.body(StatementTextSent)

    def change(_: Encounter, note: Note, transcript: Transcript) -> Note:
        return review.edit_from_program(note, statement_id, sent.text, transcript)

    with call.writing() as tx:
        return _apply(call, tx, encounter_id, sent.version, change, status=200)


def take_document(call: Call, encounter_id: str) -> Response:
    """Give the signed note as a FHIR document: recorded before it leaves."""
    with call.writing() as tx:
        signed = take_out(tx, EncounterId(encounter_id), actor=call.actor)
        call.patient_id = signed.patient.id
    return Response(encode(document(signed, assembled_at=utc_now())), content_type=MEDIA_TYPE)


def _apply(
    call: Call,
    tx: Transaction,
    encounter_id: str,
    version: int,
    change: Callable[[Encounter, Note, Transcript], Note],
    *,
    status: int,
) -> Answer:
    encounter, stored, transcript = _load(call, tx, encounter_id)
    capture.require_consent(encounter)
    changed = change(encounter, stored.note, transcript)
    saved = tx.notes.save(encounter.id, changed, expected_version=version, actor=call.actor)
    return Answer(status, NoteChanged(encounter=encounter.id, version=saved.version, open_flags=saved.note.open_flags))


def _load(call: Call, tx: Transaction, encounter_id: str) -> tuple[Encounter, StoredNote, Transcript]:
    encounter = tx.encounters.get(EncounterId(encounter_id))
    call.patient_id = encounter.patient_id
    capture.require_readable(encounter)
    stored, transcript = tx.notes.get(encounter.id), tx.transcripts.current(encounter.id)
    if stored is None or transcript is None:
        raise RecordError("there is no note yet", code="step_unavailable", hint="wait for the job")
    return encounter, stored, transcript


_READ: Final = Scope.NOTES_READ
_WRITE: Final = Scope.NOTES_WRITE
_NOTE: Final = "/encounters/{encounter_id}/note"
_BUNDLE: Final = Raw(
    MEDIA_TYPE, {"type": "object", "properties": {"resourceType": {"const": "Bundle"}}, "required": ["resourceType"]}
)

OPERATIONS: Final = (
    Operation(
        name="show_note",
        method="GET",
        path=_NOTE,
        scope=_READ,
        view=show,
        summary="The note with evidence and flags",
        status=200,
        answers=NoteAnswered,
        problems=frozenset({409, 410}),
    ),
    Operation(
        name="add_statement",
        method="POST",
        path=f"{_NOTE}/statements",
        scope=_WRITE,
        view=add,
        summary="Add a statement to a draft; it is flagged",
        status=201,
        answers=NoteChanged,
        body=StatementSent,
        once=True,
        problems=frozenset({410}),
    ),
    Operation(
        name="edit_statement",
        method="PUT",
        path=f"{_NOTE}/statements/{{statement_id}}",
        scope=_WRITE,
        view=edit,
        summary="Give a statement other words; it is flagged",
        status=200,
        answers=NoteChanged,
        body=StatementTextSent,
        problems=frozenset({409, 410}),
    ),
    Operation(
        name="take_document",
        method="GET",
        path=f"{_NOTE}/document",
        scope=_READ,
        view=take_document,
        summary="The signed note as FHIR R4",
        status=200,
        answers=_BUNDLE,
        problems=frozenset({409, 410}),
    ),
)
