"""A question about a patient's record, asked from an encounter and answered with sentences of signed notes.

Rules kept here:

* What may be asked is decided by the policy, and recorded, before a note is read for it (`documents.answering`).
* The question travels in the body of a request; it is neither logged nor part of an address.
* Whoever is shown an answer is in the audit log as looking at the patient.
"""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from clinic.documents.answering import Answering
from clinic.domain import EncounterId, Role
from clinic.web import sessions
from clinic.web.access import allow
from clinic.web.forms import QuestionForm
from clinic.web.ports import services

blueprint = Blueprint("questions", __name__, url_prefix="/encounters/<id:encounter_id>/questions")


@blueprint.post("")
@allow(Role.CLINICIAN)
def ask(encounter_id: str) -> ResponseReturnValue:
    """Answer a question, on a page of its own."""
    form = QuestionForm.parse()
    answering = Answering(services().records, services().policy.current)
    answer = answering.ask(EncounterId(encounter_id), form.question, actor=sessions.actor())
    with services().records.write() as tx:
        encounter = tx.encounters.get(EncounterId(encounter_id))
        patient = tx.patients.get(encounter.patient_id, sessions.actor())
    return render_template("encounters/answer.html", encounter=encounter, patient=patient.data, answer=answer)
