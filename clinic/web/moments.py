"""Marks and typed notes: kept while it is recorded, shown beside the transcript, taken into the note by hand.

Rules kept here:

* Only the clinician who records may add one, and only as long as a recording comes in.
* Nothing is generated from them.  Taken into a note, the words are checked like any other and flagged in any case, with
  where they come from: they were typed, not heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Blueprint, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue

from clinic.capture import require_consent, require_open
from clinic.domain import EncounterId, Note, Role, Segment, Transcript
from clinic.errors import InputError, RecordError
from clinic.records.moments import Moment
from clinic.verification import review
from clinic.web import sessions
from clinic.web.access import allow
from clinic.web.display import clock
from clinic.web.encounters import load
from clinic.web.forms import MomentForm, TypedForm
from clinic.web.notes import draft
from clinic.web.ports import services

blueprint = Blueprint("moments", __name__, url_prefix="/encounters/<id:encounter_id>")


@dataclass(frozen=True, slots=True)
class Placed:
    """The moments of an encounter, as its page shows them."""

    moments: tuple[Moment, ...] = ()

    def before(self, segments: Sequence[Segment], number: int) -> tuple[Moment, ...]:
        """Return what lies between the segment before `number` (from 0) and this one; of the last on, all the rest."""
        starts = [segment.start or 0.0 for segment in segments]
        first = starts[number - 1] if number else -1.0
        last = starts[number] if number < len(starts) else float("inf")
        return tuple(moment for moment in self.moments if first < moment.at <= last)

    def offered(self, note: Note) -> tuple[Moment, ...]:
        """Return what was typed and is not in the note, word for word."""
        there = {statement.text for statement in note.statements}
        return tuple(moment for moment in self.moments if moment.text and " ".join(moment.text.split()) not in there)


@blueprint.app_template_global()
def moments_of(encounter_id: str) -> Placed:
    """Give a page the moments of its encounter, whose view it has recorded."""
    with services().records.read() as tx:
        return Placed(tx.moments.of_encounter(EncounterId(encounter_id)))


@blueprint.post("/moments")
@allow(Role.CLINICIAN)
def add(encounter_id: str) -> ResponseReturnValue:
    """Keep a mark or a typed note; sent again, it is kept once."""
    form = MomentForm.parse_json()
    with services().records.write() as tx:
        encounter = require_open(tx, EncounterId(encounter_id), actor=sessions.actor())
        moment = tx.moments.add(encounter.id, Moment(form.id, round(form.at, 2), form.text), actor=sessions.actor())
    return jsonify(id=moment.id, at=moment.at), 201


@blueprint.post("/note/moments")
@allow(Role.CLINICIAN)
def take(encounter_id: str) -> ResponseReturnValue:
    """Take what was typed into the note, flagged: it was not heard."""
    form = TypedForm.parse()
    with services().records.write() as tx:
        page = load(tx, EncounterId(encounter_id))
        require_consent(page.encounter)
        if page.note is None or page.transcript is None:
            raise RecordError("there is no draft to review yet", code="step_unavailable", hint="load the page again")
        moment = tx.moments.get(page.encounter.id, form.moment)
        changed = _taken(page.note.note, moment, form.section, page.transcript)
        tx.notes.save(page.encounter.id, changed, expected_version=form.version, actor=sessions.actor())
    if "X-Fragment" in request.headers:
        return draft(encounter_id)
    return redirect(url_for("encounters.show", encounter_id=encounter_id, _anchor="note"), 303)


def _taken(note: Note, moment: Moment, section: str, transcript: Transcript) -> Note:
    if not moment.text:
        raise InputError("a mark has no words to take", code="text_empty", hint="add a sentence of your own")
    return review.add_typed(note, section, moment.text, transcript, where=clock(moment.at))
