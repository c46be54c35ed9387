"""Correcting who spoke, with one click.

Rules kept here:

* Only of what was heard, only by the clinician who opened the encounter, not while its job runs, not once signed.
* A correction is a new version of the transcript, recorded in the same transaction; what the machine heard stays beside
  it as the first version, and one click brings it back.
* Whoever corrects a version that is not the newest is told so; nothing is overwritten.
* The draft is not written again: what it says was checked against the words, and those have not changed.
"""

from __future__ import annotations

from flask import Blueprint, redirect, url_for
from flask.typing import ResponseReturnValue

from clinic.audit.events import SpeakersCorrected
from clinic.capture import require_consent
from clinic.domain import EncounterId, Role, Transcript
from clinic.errors import RecordError
from clinic.records.records import Transaction
from clinic.speech import correction
from clinic.web import sessions
from clinic.web.access import allow
from clinic.web.encounters import EncounterPage, load
from clinic.web.forms import SpeakerForm
from clinic.web.ports import services
from clinic.web.speaking import is_correctable

blueprint = Blueprint("speakers", __name__)


@blueprint.post("/encounters/<id:encounter_id>/speakers")
@allow(Role.CLINICIAN)
def correct(encounter_id: str) -> ResponseReturnValue:
    """Store a correction as the newest version of the transcript."""
    form = SpeakerForm.parse()
    with services().records.write() as tx:
        page = load(tx, EncounterId(encounter_id))
        require_consent(page.encounter)
        if page.transcript is None or not is_correctable(page.encounter, page.transcript, own=page.own):
            raise RecordError(
                "who spoke cannot be corrected here",
                code="step_unavailable",
                hint="only in a recorded consultation of yours that is neither in progress nor signed",
            )
        if tx.transcripts.current_sha256(page.encounter.id) != form.sha256:
            raise RecordError(
                "somebody has corrected this meanwhile", code="record_conflict", hint="load the page again"
            )
        after = _after(tx, page, page.transcript, form)
        if count := correction.changed_segments(page.transcript, after):
            digest = tx.transcripts.store(page.encounter.id, after)
            event = SpeakersCorrected(encounter=page.encounter.id, transcript_sha256=digest, segments=count)
            tx.append(event, actor=sessions.actor(), patient_id=page.encounter.patient_id)
    anchor = f"segment-{form.segment}" if form.segment else "transcript-list"
    return redirect(url_for("encounters.show", encounter_id=encounter_id, _anchor=anchor), 303)


def _after(tx: Transaction, page: EncounterPage, transcript: Transcript, form: SpeakerForm) -> Transcript:
    match form.what, form.subject, form.speaker:
        case "one", str(segment), str(speaker):
            return correction.set_one(transcript, segment, speaker)
        case "all", str(before), str(speaker):
            return correction.set_all(transcript, before, speaker)
        case "swap", _, _:
            return correction.swap(transcript)
        case _:
            first = tx.transcripts.first(page.encounter.id)
            return correction.restored(transcript, first or transcript)
