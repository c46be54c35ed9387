"""One encounter on one page: consent, capture, processing, review, signature.

Rules kept here:

* Nothing is possible before consent is recorded as given; what the page hides, the server refuses.
* The page shows the step at which the encounter stands; a reload at any moment shows the truth.
* A withdrawn consent hides transcript and draft at once.
* Whoever is shown an encounter is in the audit log; only the clinician who opened it may edit and sign its note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flask import Blueprint, Response, jsonify, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from clinic.audit.events import EncounterViewed, TextSubmitted
from clinic.domain import Consent, EncounterId, EncounterState, PatientId, Role, Transcript
from clinic.errors import RecordError
from clinic.generation.template import title
from clinic.records.encounters import Encounter
from clinic.records.notes import StoredNote
from clinic.records.patients import PatientData
from clinic.records.recordings import Recording
from clinic.records.records import Transaction
from clinic.speech.text import text_to_transcript
from clinic.web import note_templates, omissions, processing, red_flags, sessions, wording
from clinic.web.access import allow
from clinic.web.forms import ConsentForm, EncounterForm, TextForm
from clinic.web.ports import services

blueprint = Blueprint("encounters", __name__)

ATTESTATION = "I have read this note in full. It is my own account of this encounter, and I answer for it."
"""What a clinician declares by signing; stored with the signature."""


@dataclass(frozen=True, slots=True)
class EncounterPage:
    """Everything that the page of one encounter shows."""

    encounter: Encounter
    patient: PatientData
    recording: Recording | None
    transcript: Transcript | None
    note: StoredNote | None
    clinician: str
    """The name of the clinician who opened the encounter."""

    @property
    def step(self) -> str:
        """The step at which the encounter stands."""
        if self.encounter.state is EncounterState.SIGNED:
            return "signed"
        if self.encounter.consent is not Consent.GIVEN:
            return "consent"
        if self.encounter.state is EncounterState.DRAFTED:
            return "review"
        return "capture" if self.encounter.state is EncounterState.OPEN else "processing"

    @property
    def own(self) -> bool:
        """Whether the one who looks at it may edit and sign the note."""
        return self.encounter.clinician_id == sessions.signed_in().id

    @property
    def takes_capture(self) -> bool:
        """Whether a recording or text may come in now."""
        return takes_capture(self.encounter, self.transcript)

    @property
    def refused_text(self) -> str | None:
        """The text that was refused, to be mended; None where there is nothing to mend."""
        return typed_text(self.transcript) if takes_text_again(self.encounter, self.transcript) else None


@blueprint.post("/patients/<id:patient_id>/encounters")
@allow(Role.CLINICIAN)
def open_encounter(patient_id: str) -> ResponseReturnValue:
    """Open an encounter for a patient."""
    form = EncounterForm.parse()
    note_templates.require(form.template)
    with services().records.write() as tx:
        encounter = tx.encounters.open(
            PatientId(patient_id),
            kind=form.kind,
            template=form.template,
            language=form.language,
            actor=sessions.actor(),
        )
    return redirect(url_for("encounters.show", encounter_id=encounter.id), 303)


@blueprint.get("/encounters/<id:encounter_id>")
@allow(Role.CLINICIAN)
def show(encounter_id: str) -> ResponseReturnValue:
    """Show the encounter at the step where it stands."""
    return render(EncounterId(encounter_id))


def render(
    encounter_id: EncounterId, *, problems: Mapping[str, str] | None = None, values: Mapping[str, str] | None = None
) -> str:
    """Return the page, with `problems` of a form on it beside their fields and what was typed in them."""
    with services().records.write() as tx:
        page = load(tx, encounter_id)
        record_view(tx, page.encounter)
        names = {user.id: user.display_name for user in tx.users.list()}
    return render_template(
        "encounters/show.html",
        page=page,
        encounter=page.encounter,
        patient=page.patient,
        stages=processing.stages(page.encounter),
        problem=processing.problem(page.encounter),
        sections=note_templates.sections(page.encounter.template, page.note.note if page.note else None),
        missing=omissions.views(page.encounter.template, page.note, page.transcript),
        red_flags=red_flags.views(page.transcript),
        problems=problems or {},
        values=values or {},
        attestation=ATTESTATION,
        names=names,
        template_title=title(page.encounter.template),
        model_label=services().model_label,
        glass=processing.glass(page.encounter),
        notices=services().notices(page.encounter.id),
    )


@blueprint.post("/encounters/<id:encounter_id>/consent")
@allow(Role.CLINICIAN)
def record_consent(encounter_id: str) -> ResponseReturnValue:
    """Record the patient's answer."""
    form = ConsentForm.parse()
    with services().records.write() as tx:
        _require_unsigned(tx.encounters.get(EncounterId(encounter_id)))
        tx.encounters.record_consent(EncounterId(encounter_id), form.consent, sessions.actor())
    return redirect(url_for("encounters.show", encounter_id=encounter_id), 303)


@blueprint.post("/encounters/<id:encounter_id>/text")
@allow(Role.CLINICIAN)
def submit_text(encounter_id: str) -> ResponseReturnValue:
    """Take dictated or pasted text as the transcript, and start the job."""
    form = TextForm.parse()
    with services().records.write() as tx:
        encounter = _require_open_for_text(tx, EncounterId(encounter_id))
        transcript = text_to_transcript(form.text, language=encounter.language)
        digest = tx.transcripts.store(encounter.id, transcript)
        event = TextSubmitted(encounter=encounter.id, sha256=digest, words=transcript.word_count)
        tx.append(event, actor=sessions.actor(), patient_id=encounter.patient_id)
    processing.start(encounter.id, actor=sessions.actor())
    return redirect(url_for("encounters.show", encounter_id=encounter_id), 303)


@blueprint.get("/encounters/<id:encounter_id>/status")
@allow(Role.CLINICIAN, passive=True)
def status(encounter_id: str) -> Response:
    """Say where the job stands (asked by the page every second)."""
    with services().records.read() as tx:
        encounter = tx.encounters.get(EncounterId(encounter_id))
    return jsonify(
        state=encounter.state.value,
        label=wording.STATES[encounter.state],
        working=processing.is_working(encounter),
        stages=[{"name": stage.name, "status": stage.status} for stage in processing.stages(encounter)],
    )


@blueprint.post("/encounters/<id:encounter_id>/retry")
@allow(Role.CLINICIAN)
def retry(encounter_id: str) -> ResponseReturnValue:
    """Start the job of a stopped encounter again; what it had finished is not done twice."""
    with services().records.write() as tx:
        encounter = tx.encounters.get(EncounterId(encounter_id))
        require_consent(encounter)
        processing.require_stopped(encounter)
    processing.start(encounter.id, actor=sessions.actor())
    return redirect(url_for("encounters.show", encounter_id=encounter_id), 303)


def load(tx: Transaction, encounter_id: EncounterId) -> EncounterPage:
    """Read what the page shows; without consent, only that it is missing."""
    encounter = tx.encounters.get(encounter_id)
    patient = tx.patients.data(encounter.patient_id)
    account = tx.users.get(encounter.clinician_id)
    clinician = account.display_name if account else "somebody without an account here"
    if encounter.consent is not Consent.GIVEN and encounter.state is not EncounterState.SIGNED:
        return EncounterPage(encounter, patient, None, None, None, clinician)
    return EncounterPage(
        encounter,
        patient,
        tx.recordings.for_encounter(encounter_id),
        tx.transcripts.current(encounter_id),
        tx.notes.get(encounter_id),
        clinician,
    )


def record_view(tx: Transaction, encounter: Encounter) -> None:
    """Append to the audit log that an encounter is shown."""
    pseudonym = services().records.audit.pseudonym(encounter.patient_id)
    event = EncounterViewed(encounter=encounter.id, patient=pseudonym)
    tx.append(event, actor=sessions.actor(), patient_id=encounter.patient_id)


def require_consent(encounter: Encounter) -> None:
    """Refuse unless the patient's consent is recorded as given.

    Raises:
        RecordError: `consent_missing`.
    """
    if encounter.consent is not Consent.GIVEN:
        raise RecordError(
            "the patient's consent is not recorded as given", code="consent_missing", hint="record the answer first"
        )


def takes_capture(encounter: Encounter, transcript: Transcript | None) -> bool:
    """Tell whether a recording or text may come in: until the job starts, and again if it found nothing to work on."""
    stopped_early = encounter.state in (EncounterState.FAILED, EncounterState.DENIED) and transcript is None
    return encounter.state is EncounterState.OPEN or stopped_early


def takes_text_again(encounter: Encounter, transcript: Transcript | None) -> bool:
    """Tell whether a typed text that the policy refused may be replaced by another one.

    INVARIANT: nothing was generated from it: a denial comes before the model is asked.  What was heard is not replaced
    by typing.
    """
    return encounter.state is EncounterState.DENIED and transcript is not None and is_typed(transcript)


def is_typed(transcript: Transcript) -> bool:
    """Tell whether a transcript was typed or pasted, not heard: its words have no times."""
    return transcript.model is None and all(segment.start is None for segment in transcript.segments)


def typed_text(transcript: Transcript | None) -> str:
    """Return typed text as it may be typed again: a line for every turn, an empty one where no speaker is named."""
    lines: list[str] = []
    speaker = None
    for segment in transcript.segments if transcript else ():
        if lines and segment.speaker == speaker:
            lines[-1] += f" {segment.text}"
        elif segment.speaker:
            lines.append(f"{segment.speaker}: {segment.text}")
        else:
            lines.extend(["", segment.text] if lines else [segment.text])
        speaker = segment.speaker
    return "\n".join(lines)


def _require_unsigned(encounter: Encounter) -> None:
    if encounter.state is EncounterState.SIGNED:
        raise RecordError(
            "this encounter is signed: its consent is part of the record", code="note_locked", hint="add an addendum"
        )


def _require_open_for_text(tx: Transaction, encounter_id: EncounterId) -> Encounter:
    encounter = tx.encounters.get(encounter_id)
    if not takes_text_again(encounter, tx.transcripts.current(encounter_id)):
        return require_open(tx, encounter_id)
    require_consent(encounter)
    return encounter


def require_open(tx: Transaction, encounter_id: EncounterId) -> Encounter:
    """Return an encounter that may still take a recording or text.

    Raises:
        RecordError: `consent_missing`, or `step_unavailable` once it is past that step.
    """
    encounter = tx.encounters.get(encounter_id)
    require_consent(encounter)
    if not takes_capture(encounter, tx.transcripts.current(encounter_id)):
        raise RecordError(
            "this encounter takes no more recordings or text",
            code="step_unavailable",
            hint="load the page again; for more, open a new encounter",
        )
    return encounter
