"""The draft of the model beside the final text: what a clinician kept, changed, took out and added.

Rules kept here:

* It is shown to whoever may see the note, as a recorded view of the encounter; without consent a draft is not shown.
* Nothing is told from memory: it is compared anew from the sealed versions, whenever it is looked at.
"""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from clinic.domain import EncounterId, Role
from clinic.errors import RecordError
from clinic.generation.template import headings
from clinic.records.changes import Change, compare, decisions
from clinic.web.access import allow
from clinic.web.encounters import load, record_view
from clinic.web.ports import services

blueprint = Blueprint("versions", __name__, url_prefix="/encounters/<id:encounter_id>/note")


@blueprint.get("/versions")
@allow(Role.CLINICIAN)
def show(encounter_id: str) -> ResponseReturnValue:
    """Show what became of the draft."""
    with services().records.write() as tx:
        page = load(tx, EncounterId(encounter_id))
        if page.note is None:
            raise RecordError("there is no note to compare", code="step_unavailable", hint="wait for the draft")
        record_view(tx, page.encounter)
        history = tx.notes.history(encounter_id)
        names = tx.users.names()
    notes = [version.note for version in history]
    return render_template(
        "encounters/versions.html",
        page=page,
        encounter=page.encounter,
        patient=page.patient,
        history={version.version: version for version in history},
        names=names,
        changes=compare(notes),
        decisions=decisions(notes),
        order=tuple(Change),
        sections=headings(page.encounter.template, page.note.note),
        model=page.note.note.model,
    )
