"""A note as text for another record, and on paper: recorded before it leaves.

Rules kept here:

* The text says whose it is, of which encounter, who signed it; of an unsigned note, that it is a draft, and which
  statements are still to check.
* A signed note is given to every clinician, a draft to its own clinician only.
* No text without its entry: `note.copied` is committed before the answer is made.
* Plain text: headings in capitals, a statement a line, nothing that an old record system could trip over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flask import Blueprint, Response, jsonify
from flask.typing import ResponseReturnValue

from clinic.audit.events import NoteCopied
from clinic.domain import EncounterId, Role, StatementStatus, UserId
from clinic.errors import AuthenticationError, RecordError
from clinic.generation.template import headings, title
from clinic.records.encounters import Encounter
from clinic.records.notes import StoredNote
from clinic.records.patients import PatientData
from clinic.records.records import Transaction
from clinic.web import sessions, wording
from clinic.web.access import allow
from clinic.web.display import day, moment
from clinic.web.encounters import load
from clinic.web.forms import CopyForm
from clinic.web.ports import services

blueprint = Blueprint("copies", __name__, url_prefix="/encounters/<id:encounter_id>/note")

_GONE = "an account that is gone"


@blueprint.post("/copy")
@allow(Role.CLINICIAN)
def give(encounter_id: str) -> ResponseReturnValue:
    """Give the note as plain text, or let the page be printed: that it was, is in the log first."""
    form = CopyForm.parse_json()
    with services().records.write() as tx:
        page = load(tx, EncounterId(encounter_id))
        if page.note is None:
            raise RecordError("there is no note to copy", code="step_unavailable", hint="wait for the draft")
        if not (page.note.signed or page.own):
            raise AuthenticationError(
                "only the clinician who opened this encounter may take its draft along",
                code="not_allowed",
                hint="you can read it here; once it is signed, you can copy it",
            )
        _record(tx, page.encounter, page.note, form.form)
        names = tx.users.names()
    if form.form == "print":
        return Response(status=204)
    return jsonify(text=plain_text(page.patient, page.encounter, page.note, names))


def plain_text(patient: PatientData, encounter: Encounter, stored: StoredNote, names: Mapping[UserId, str]) -> str:
    """Return a note as it is pasted into another record: blocks with an empty line between them."""
    return "\n\n".join("\n".join(block) for block in _blocks(patient, encounter, stored, names)) + "\n"


def _record(tx: Transaction, encounter: Encounter, stored: StoredNote, form: str) -> None:
    event = NoteCopied(
        encounter=encounter.id, note=stored.id, version=stored.version, content_sha256=stored.content_sha256, form=form
    )
    tx.append(event, actor=sessions.actor(), patient_id=encounter.patient_id)


def _blocks(
    patient: PatientData, encounter: Encounter, stored: StoredNote, names: Mapping[UserId, str]
) -> Iterator[list[str]]:
    occasion = f"{wording.KINDS[encounter.kind]}, {moment(encounter.created_at)}"
    yield [_who(patient), f"{occasion}. {title(encounter.template)}"]
    if not stored.signed:
        yield [f"DRAFT, NOT SIGNED. Written by {stored.note.model}. {wording.NO_RECORD_YET}"]
    standing = [s for s in stored.note.statements if s.status is not StatementStatus.REMOVED]
    for section, heading in headings(encounter.template, stored.note).items():
        lines = [f"- {_marked(s.status)}{s.text}" for s in standing if s.section == section]
        if lines:
            yield [heading.upper(), *lines]
    if stored.signed_by is not None and stored.signed_at is not None:
        yield [
            f"Signed by {names.get(stored.signed_by, _GONE)}, {moment(stored.signed_at)}.",
            f'"{stored.attestation}"',
        ]
    else:
        yield ["NOT SIGNED."]
    for addendum in stored.addenda:
        yield [
            f"ADDENDUM, {names.get(addendum.author_id, _GONE)}, {moment(addendum.created_at)}",
            *_set_in(addendum.text),
        ]


def _set_in(text: str) -> Iterator[str]:
    # INVARIANT: of what somebody typed, no line begins where headings and signatures do: it could pass for another's.
    return (f"  {line}".rstrip() for line in text.splitlines())


def _who(patient: PatientData) -> str:
    born = f"born {day(patient.date_of_birth)}" if patient.date_of_birth else None
    number = f"record number {patient.record_number}" if patient.record_number else None
    return ", ".join(fact for fact in (patient.name, born, patient.sex, number) if fact)


def _marked(status: StatementStatus) -> str:
    return "[TO CHECK] " if status is StatementStatus.FLAGGED else ""
