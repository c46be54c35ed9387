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

from flask import Blueprint, Response, flash, jsonify, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from clinic import capture
from clinic.domain import Consent, EncounterId, EncounterState, PatientId, Role, Transcript
from clinic.generation.template import require_template, title
from clinic.records.encounters import Encounter
from clinic.records.notes import StoredNote
from clinic.records.patients import PatientData
from clinic.records.recordings import Recording
from clinic.records.records import Transaction
from clinic.web import note_templates, omissions, processing, red_flags, sessions, speaking, wording
from clinic.web.access import allow
from clinic.web.document_lists import kinds, listing
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
    """The name of the clinician whose encounter it is."""
    may_take_on: bool = False
    """Whether whoever looks at it may make it theirs."""

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
        return capture.takes_capture(self.encounter, self.transcript)

    @property
    def refused_text(self) -> str | None:
        """The text that was refused, to be mended; None where there is nothing to mend."""
        return typed_text(self.transcript) if capture.takes_text_again(self.encounter, self.transcript) else None


@blueprint.post("/patients/<id:patient_id>/encounters")
@allow(Role.CLINICIAN)
def open_encounter(patient_id: str) -> ResponseReturnValue:
    """Open an encounter for a patient."""
    form = EncounterForm.parse()
    require_template(form.template)
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
        speakers = speaking.view(tx, page.encounter, page.transcript, own=page.own)
        documents = tx.documents.for_encounter(encounter_id)
        names = tx.users.names()
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
        speakers=speakers,
        documents=listing(documents),
        document_kinds=kinds(),
        problems=problems or {},
        values=values or {},
        attestation=ATTESTATION,
        names=names,
        template_title=title(page.encounter.template),
        model_label=services().model_label,
        longest_s=services().config.speech.max_duration_s,
        glass=processing.glass(page.encounter),
        notices=services().notices(page.encounter.id),
    )


@blueprint.post("/encounters/<id:encounter_id>/consent")
@allow(Role.CLINICIAN)
def record_consent(encounter_id: str) -> ResponseReturnValue:
    """Record the patient's answer."""
    form = ConsentForm.parse()
    with services().records.write() as tx:
        capture.record_consent(tx, EncounterId(encounter_id), form.consent, actor=sessions.actor())
    return redirect(url_for("encounters.show", encounter_id=encounter_id), 303)


@blueprint.post("/encounters/<id:encounter_id>/text")
@allow(Role.CLINICIAN)
def submit_text(encounter_id: str) -> ResponseReturnValue:
    """Take dictated or pasted text as the transcript, and start the job."""
    form = TextForm.parse()
    with services().records.write() as tx:
        encounter = capture.take_text(tx, EncounterId(encounter_id), form.text, actor=sessions.actor())
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
        capture.require_consent(encounter)
        capture.require_stopped(encounter)
    processing.start(encounter.id, actor=sessions.actor())
    return redirect(url_for("encounters.show", encounter_id=encounter_id), 303)


@blueprint.post("/encounters/<id:encounter_id>/take-on")
@allow(Role.CLINICIAN)
def take_on(encounter_id: str) -> ResponseReturnValue:
    """Make a draft one's own that nobody else can finish."""
    with services().records.write() as tx:
        encounter = tx.encounters.get(EncounterId(encounter_id))
        capture.require_readable(encounter)
        tx.encounters.take_on(encounter.id, sessions.actor())
    flash("This encounter is yours now: check the draft and sign it.")
    return redirect(url_for("encounters.show", encounter_id=encounter_id), 303)


def load(tx: Transaction, encounter_id: EncounterId) -> EncounterPage:
    """Read what the page shows; without consent, only that it is missing."""
    encounter = tx.encounters.get(encounter_id)
    patient = tx.patients.data(encounter.patient_id)
    account = tx.users.get(encounter.clinician_id)
    clinician = account.display_name if account else "somebody without an account here"
    if not capture.is_readable(encounter):
        return EncounterPage(encounter, patient, None, None, None, clinician)
    return EncounterPage(
        encounter,
        patient,
        tx.recordings.for_encounter(encounter_id),
        tx.transcripts.current(encounter_id),
        tx.notes.get(encounter_id),
        clinician,
        tx.encounters.can_be_taken_on(encounter),
    )


def record_view(tx: Transaction, encounter: Encounter) -> None:
    """Append to the audit log that an encounter is shown to whoever is signed in."""
    capture.record_view(services().records, tx, encounter, actor=sessions.actor())


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
