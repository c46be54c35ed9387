"""The clinician's review: decisions on statements, the signature, addenda.

Rules kept here:

* Every change names the version that the clinician saw; a version that has moved is a conflict, never an overwrite.
* What a decision does to a note is decided by `verification.review`, whether it is allowed by `records`.
* A version that has moved shows both: what stands in the note now, and what was typed; nothing typed is lost.
* The same forms work with scripts (a piece of the page comes back) and without (the page comes back).
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from clinic.capture import require_consent
from clinic.domain import EncounterId, Note, Omission, Role, Transcript, utc_now
from clinic.errors import RecordError
from clinic.generation.template import title
from clinic.interop.document import MEDIA_TYPE, document, encode
from clinic.interop.notes import take_out
from clinic.records.notes import StoredNote
from clinic.verification import review
from clinic.web import note_templates, omissions, sessions
from clinic.web.access import allow
from clinic.web.encounters import ATTESTATION, EncounterPage, load, record_view, render
from clinic.web.forms import (
    AddendumForm,
    FormError,
    NewStatementForm,
    OmissionForm,
    SignForm,
    StatementForm,
    VersionForm,
)
from clinic.web.ports import services

blueprint = Blueprint("notes", __name__, url_prefix="/encounters/<id:encounter_id>/note")

Edit = Callable[[Note, Transcript], Note]


@blueprint.post("/statements/<part:statement_id>/confirm")
@allow(Role.CLINICIAN)
def confirm(encounter_id: str, statement_id: str) -> ResponseReturnValue:
    """Keep a flagged statement as it is: the clinician answers for it."""
    form = VersionForm.parse()
    return _apply(encounter_id, form.version, lambda note, _: review.confirm(note, statement_id))


@blueprint.post("/statements/<part:statement_id>/edit")
@allow(Role.CLINICIAN)
def edit(encounter_id: str, statement_id: str) -> ResponseReturnValue:
    """Replace a statement's words."""
    form = StatementForm.parse()
    try:
        return _apply(
            encounter_id, form.version, lambda note, transcript: review.edit(note, statement_id, form.text, transcript)
        )
    except RecordError as error:
        if error.code != "record_conflict" or "X-Fragment" in request.headers:
            raise
    return _both_versions(EncounterId(encounter_id), statement_id, form.text), 409


@blueprint.post("/statements/<part:statement_id>/remove")
@allow(Role.CLINICIAN)
def remove(encounter_id: str, statement_id: str) -> ResponseReturnValue:
    """Take a statement out of the note."""
    form = VersionForm.parse()
    return _apply(encounter_id, form.version, lambda note, _: review.remove(note, statement_id))


@blueprint.post("/statements/<part:statement_id>/restore")
@allow(Role.CLINICIAN)
def restore(encounter_id: str, statement_id: str) -> ResponseReturnValue:
    """Put a removed statement back, to be read again."""
    form = VersionForm.parse()
    return _apply(encounter_id, form.version, lambda note, transcript: review.restore(note, statement_id, transcript))


@blueprint.post("/statements")
@allow(Role.CLINICIAN)
def add(encounter_id: str) -> ResponseReturnValue:
    """Add a statement of the clinician's own."""
    form = NewStatementForm.parse()
    return _apply(
        encounter_id, form.version, lambda note, transcript: review.add(note, form.section, form.text, transcript)
    )


@blueprint.post("/omissions")
@allow(Role.CLINICIAN)
def add_omission(encounter_id: str) -> ResponseReturnValue:
    """Take something that was said into the note."""
    form = OmissionForm.parse()
    return _apply(
        encounter_id,
        form.version,
        lambda note, transcript: review.add_from_omission(
            note, _omission(note, form.omission), form.section, transcript
        ),
    )


@blueprint.post("/sign")
@allow(Role.CLINICIAN)
def sign(encounter_id: str) -> ResponseReturnValue:
    """Sign the note; refused while a flag is open, and for everybody but the encounter's own clinician."""
    form = SignForm.parse()
    with services().records.write() as tx:
        require_consent(tx.encounters.get(EncounterId(encounter_id)))
        tx.notes.sign(
            EncounterId(encounter_id),
            expected_version=form.version,
            attestation=ATTESTATION,
            actor=sessions.actor(),
        )
    return redirect(url_for("encounters.show", encounter_id=encounter_id), 303)


@blueprint.post("/addenda")
@allow(Role.CLINICIAN)
def add_addendum(encounter_id: str) -> ResponseReturnValue:
    """Add to a signed note; a blank one, or one that is there already, is explained beside the form."""
    try:
        form = AddendumForm.parse()
        with services().records.write() as tx:
            _require_new(tx.notes.get(EncounterId(encounter_id)), form.text)
            tx.notes.add_addendum(EncounterId(encounter_id), form.text, sessions.actor())
    except FormError as error:
        page = render(EncounterId(encounter_id), problems=error.fields, values={"text": request.form.get("text", "")})
        return page, 422
    return redirect(url_for("encounters.show", encounter_id=encounter_id), 303)


@blueprint.get("/draft")
@allow(Role.CLINICIAN)
def draft(encounter_id: str) -> ResponseReturnValue:
    """Give the draft as a piece of the page, as it stands now."""
    with services().records.write() as tx:
        page = load(tx, EncounterId(encounter_id))
        record_view(tx, page.encounter)
        return _piece(page)


@blueprint.get("/signed")
@allow(Role.CLINICIAN)
def signed(encounter_id: str) -> ResponseReturnValue:
    """Give the signed note as a piece of another page: a recorded view of its encounter."""
    with services().records.write() as tx:
        page = load(tx, EncounterId(encounter_id))
        if page.note is None or not page.note.signed:
            raise RecordError("there is no signed note", code="note_unsigned", hint="open the encounter")
        record_view(tx, page.encounter)
        names = tx.users.names()
    return render_template(
        "encounters/_paper.html",
        page=page,
        encounter=page.encounter,
        names=names,
        sections=note_templates.sections(page.encounter.template, page.note.note),
        template_title=title(page.encounter.template),
    )


@blueprint.get("/document")
@allow(Role.CLINICIAN)
def export(encounter_id: str) -> Response:
    """Give the signed note as a FHIR document, to be saved: recorded before it leaves."""
    with services().records.write() as tx:
        signed = take_out(tx, EncounterId(encounter_id), actor=sessions.actor())
    response = Response(encode(document(signed, assembled_at=utc_now())), mimetype=MEDIA_TYPE)
    response.headers.set("Content-Disposition", "attachment", filename=f"note-{encounter_id[:8]}.fhir.json")
    return response


def _apply(encounter_id: str, version: int, change: Edit) -> ResponseReturnValue:
    with services().records.write() as tx:
        page = load(tx, EncounterId(encounter_id))
        require_consent(page.encounter)
        stored, transcript = _reviewable(page)
        saved = tx.notes.save(
            page.encounter.id, change(stored.note, transcript), expected_version=version, actor=sessions.actor()
        )
        if saved.version == stored.version:  # sent again: nothing is edited, and so nothing recorded yet
            record_view(tx, page.encounter)
        page = load(tx, page.encounter.id)
    if "X-Fragment" in request.headers:
        return _piece(page)
    return redirect(url_for("encounters.show", encounter_id=encounter_id, _anchor="note"), 303)


def _both_versions(encounter_id: EncounterId, statement_id: str, mine: str) -> str:
    """Show, to a page without scripts, what stands in the note now beside what was typed; one of them is chosen."""
    with services().records.write() as tx:
        page = load(tx, encounter_id)
        stored, _ = _reviewable(page)
        record_view(tx, page.encounter)
    theirs = next((s for s in stored.note.statements if s.id == statement_id), None)
    return render_template(
        "encounters/conflict.html",
        encounter=page.encounter,
        version=stored.version,
        statement_id=statement_id,
        theirs=theirs,
        mine=mine,
    )


def _require_new(stored: StoredNote | None, text: str) -> None:
    me = sessions.signed_in().id
    for addendum in stored.addenda if stored else ():
        if addendum.author_id == me and addendum.text.split() == text.split():
            raise FormError({"text": "this addendum is in the note already"})


def _omission(note: Note, number: int) -> Omission:
    if number >= len(note.omissions):
        raise RecordError("the note has no such omission", code="omission_unknown", hint="load the page again")
    return note.omissions[number]


def _reviewable(page: EncounterPage) -> tuple[StoredNote, Transcript]:
    if page.note is None or page.transcript is None:
        raise RecordError("there is no draft to review yet", code="step_unavailable", hint="load the page again")
    return page.note, page.transcript


def _piece(page: EncounterPage) -> ResponseReturnValue:
    stored, _ = _reviewable(page)
    return render_template(
        "encounters/_note.html",
        page=page,
        encounter=page.encounter,
        attestation=ATTESTATION,
        sections=note_templates.sections(page.encounter.template, stored.note),
        missing=omissions.views(page.encounter.template, page.note, page.transcript),
        model_label=services().model_label,
        template_title=title(page.encounter.template),
    )
