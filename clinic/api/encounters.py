"""Encounters: open, consent, text, state, transcript, try again.

Rules kept here:

* What an encounter takes and shows is decided by `clinic.capture`, as for the form.
* Where an encounter stands is no patient data and is not audited, as on the form's own page.
"""

from __future__ import annotations

from typing import Final

from flask import Response

from clinic import capture
from clinic.api.calls import Call
from clinic.api.models import (
    ConsentSent,
    EncounterAnswered,
    EncounterPage,
    EncounterQuery,
    EncounterSent,
    PageQuery,
    TextSent,
    TranscriptAnswered,
)
from clinic.api.operations import Answer, Operation
from clinic.api.paging import page
from clinic.api.standing import answered, policy_words, start_job
from clinic.domain import EncounterId, PatientId, Scope
from clinic.errors import RecordError
from clinic.generation.template import require_template
from clinic.records.encounters import Encounter
from clinic.records.records import Transaction


def open_encounter(call: Call, patient_id: str) -> Response:
    """Open an encounter; it is the clinician's for whom the program acts."""
    sent = call.body(EncounterSent)
    require_template(sent.template)

    def work(tx: Transaction) -> Answer:
        encounter = tx.encounters.open(
            PatientId(patient_id), kind=sent.kind, template=sent.template, language=sent.language, actor=call.actor
        )
        call.patient_id = encounter.patient_id
        return Answer(201, answered(call, encounter, {}))

    return call.once(work)


def of_patient(call: Call, patient_id: str) -> Answer:
    """List a patient's encounters; that is a look at the patient."""
    query = call.query(PageQuery)
    with call.writing() as tx:
        patient = tx.patients.get(PatientId(patient_id), call.actor)
        call.patient_id = patient.id
        found = tx.encounters.for_patient(patient.id)
    return _page(call, found, query)


def own(call: Call) -> Answer:
    """List the encounters of the clinician for whom the program acts."""
    query = call.query(EncounterQuery)
    with call.reading() as tx:
        found = tx.encounters.of_clinician(call.actor.user_id, state=query.state)
    return _page(call, found, query)


def show(call: Call, encounter_id: str) -> Answer:
    """Say where an encounter stands."""
    with call.reading() as tx:
        encounter = tx.encounters.get(EncounterId(encounter_id))
    return Answer(200, answered(call, encounter, policy_words(call)))


def consent(call: Call, encounter_id: str) -> Response:
    """Record the patient's answer."""
    sent, words = call.body(ConsentSent), policy_words(call)

    def work(tx: Transaction) -> Answer:
        encounter = capture.record_consent(tx, EncounterId(encounter_id), sent.consent, actor=call.actor)
        call.patient_id = encounter.patient_id
        return Answer(200, answered(call, encounter, words))

    return call.once(work)


def text(call: Call, encounter_id: str) -> Response:
    """Take dictated or pasted text as the transcript, and start the job."""
    sent = call.body(TextSent)

    def work(tx: Transaction) -> Answer:
        encounter = capture.take_text(tx, EncounterId(encounter_id), sent.text, actor=call.actor)
        call.patient_id = encounter.patient_id
        return Answer(202, answered(call, capture.queue(tx, encounter.id), {}))

    return call.once(work, then=start_job(call, encounter_id))


def retry(call: Call, encounter_id: str) -> Response:
    """Start the job of a stopped encounter again; what it had finished is not done twice."""

    def work(tx: Transaction) -> Answer:
        encounter = tx.encounters.get(EncounterId(encounter_id))
        capture.require_consent(encounter)
        capture.require_stopped(encounter)
        call.patient_id = encounter.patient_id
        return Answer(202, answered(call, capture.queue(tx, encounter.id), {}))

    return call.once(work, then=start_job(call, encounter_id))


def transcript(call: Call, encounter_id: str) -> Answer:
    """Show what was said."""
    with call.writing() as tx:
        encounter = tx.encounters.get(EncounterId(encounter_id))
        call.patient_id = encounter.patient_id
        capture.require_readable(encounter)
        found = tx.transcripts.current(encounter.id)
        if found is None:
            raise RecordError("there is no transcript yet", code="step_unavailable", hint="wait for the job")
        capture.record_view(call.services.records, tx, encounter, actor=call.actor)
    return Answer(200, TranscriptAnswered(encounter=encounter.id, transcript=found))


def _page(call: Call, found: tuple[Encounter, ...], query: PageQuery) -> Answer:
    shown, cursor = page(found, lambda encounter: encounter.id, cursor=query.cursor, limit=query.limit)
    words = policy_words(call)
    return Answer(200, EncounterPage(encounters=tuple(answered(call, item, words) for item in shown), next=cursor))


_READ: Final = Scope.ENCOUNTERS_READ
_WRITE: Final = Scope.ENCOUNTERS_WRITE
_ONE: Final = "/encounters/{encounter_id}"

OPERATIONS: Final = (
    Operation(
        name="open_encounter",
        method="POST",
        path="/patients/{patient_id}/encounters",
        scope=_WRITE,
        view=open_encounter,
        summary="Open an encounter",
        status=201,
        answers=EncounterAnswered,
        body=EncounterSent,
        once=True,
        problems=frozenset({410}),
    ),
    Operation(
        name="list_patient_encounters",
        method="GET",
        path="/patients/{patient_id}/encounters",
        scope=_READ,
        view=of_patient,
        summary="A patient's encounters, newest first",
        status=200,
        answers=EncounterPage,
        query=PageQuery,
        problems=frozenset({410}),
    ),
    Operation(
        name="list_encounters",
        method="GET",
        path="/encounters",
        scope=_READ,
        view=own,
        summary="The clinician's own encounters, newest first",
        status=200,
        answers=EncounterPage,
        query=EncounterQuery,
    ),
    Operation(
        name="show_encounter",
        method="GET",
        path=_ONE,
        scope=_READ,
        view=show,
        summary="Where an encounter stands",
        status=200,
        answers=EncounterAnswered,
    ),
    Operation(
        name="record_consent",
        method="POST",
        path=f"{_ONE}/consent",
        scope=_WRITE,
        view=consent,
        summary="Record the patient's answer",
        status=200,
        answers=EncounterAnswered,
        body=ConsentSent,
        once=True,
        problems=frozenset({410}),
    ),
    Operation(
        name="submit_text",
        method="POST",
        path=f"{_ONE}/text",
        scope=_WRITE,
        view=text,
        summary="Hand over a text, and start the job",
        status=202,
        answers=EncounterAnswered,
        body=TextSent,
        once=True,
        problems=frozenset({410}),
    ),
    Operation(
        name="retry",
        method="POST",
        path=f"{_ONE}/retry",
        scope=_WRITE,
        view=retry,
        summary="Start a stopped job again",
        status=202,
        answers=EncounterAnswered,
        once=True,
        problems=frozenset({410}),
    ),
    Operation(
        name="show_transcript",
        method="GET",
        path=f"{_ONE}/transcript",
        scope=Scope.NOTES_READ,
        view=transcript,
        summary="What was said",
        status=200,
        answers=TranscriptAnswered,
        problems=frozenset({409, 410}),
    ),
)
