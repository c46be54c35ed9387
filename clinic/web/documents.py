"""Documents made from a signed note: drafted, edited sentence by sentence, issued, taken along.

Rules kept here:

* What may be drafted is decided by the policy, and recorded, before anything is put together (`clinic.documents`).
* Every change names the version that the clinician saw; a version that has moved is a conflict, never an overwrite.
* Whoever is shown a document is in the audit log, as looking at its encounter.
* Issued documents only are copied and printed, by every clinician; it is recorded before the text leaves.
* The same forms work with scripts (a piece of the page comes back) and without (the page comes back).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from clinic.audit.events import DocumentCopied
from clinic.documents.assembly import Edit, Origin, checked_again, edited, left_out, origin
from clinic.documents.drafting import Drafting
from clinic.documents.readability import Reading, grade, hardest
from clinic.documents.source import ADDENDUM, Sentence, Source, source_of
from clinic.documents.template import DocumentTemplate, Section, require_document, template_of
from clinic.domain import Document, DocumentId, EncounterId, Note, Role, Statement, UserId
from clinic.errors import AuthenticationError, InputError, RecordError
from clinic.generation.template import headings
from clinic.records.documents import StoredDocument
from clinic.records.encounters import Encounter
from clinic.records.patients import PatientData
from clinic.records.records import Transaction
from clinic.services import notices_of
from clinic.verification import review
from clinic.verification.notes import split_sentences
from clinic.web import sessions, wording
from clinic.web.access import allow
from clinic.web.checking import recorded
from clinic.web.display import day, moment
from clinic.web.encounters import record_view
from clinic.web.forms import (
    CheckForm,
    CopyForm,
    NewDocumentForm,
    NewStatementForm,
    RecipientForm,
    SentenceForm,
    SignForm,
    StatementForm,
    VersionForm,
)
from clinic.web.ports import services

blueprint = Blueprint("documents", __name__)

ATTESTATION = "I have read this document in full. It is what I want to be sent or handed out, and I answer for it."
"""What a clinician declares by issuing; stored with the signature."""

Change = Callable[[Document, Source], Document]

_GONE = "an account that is gone"


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """Everything that the page of one document shows."""

    stored: StoredDocument
    template: DocumentTemplate | None
    """None: the program has another one of this name by now; what was made by it can be read and not edited."""
    source: Source
    encounter: Encounter
    patient: PatientData
    note_headings: Mapping[str, str]
    names: Mapping[UserId, str]

    @property
    def document(self) -> Document:
        """The document in its newest version."""
        return self.stored.document

    @property
    def text(self) -> Note:
        """Its sentences."""
        return self.document.text

    @property
    def mine(self) -> bool:
        """Whether the one who looks at it had it drafted, and it is neither issued nor discarded."""
        return self.stored.is_draft and self.stored.listed.clinician_id == sessions.signed_in().id

    @property
    def own(self) -> bool:
        """Whether the one who looks at it may edit and issue it now."""
        return self.mine and self.template is not None

    @property
    def stale(self) -> bool:
        """Whether the note has an addendum that the document was not held against."""
        return self.document.source_sha256 != self.source.sha256

    @property
    def sections(self) -> tuple[Section, ...]:
        """Its sections, then any other in which it has a sentence: none is ever hidden."""
        known = {s.id: s for s in self.template.sections} if self.template else {}
        shown = {i: known.get(i) or Section(id=i, title=t, absent=a) for i, t, a in self.document.headings}
        for statement in self.text.statements:
            title = statement.section.replace("_", " ").capitalize()
            shown.setdefault(statement.section, Section(id=statement.section, title=title))
        return tuple(shown.values())

    @property
    def empty(self) -> tuple[str, ...]:
        """Titles of required sections in which nothing stands."""
        filled = {statement.section for statement in self.document.kept}
        return tuple(s.title for s in self.sections if s.required and s.id not in filled)

    @property
    def left_out(self) -> tuple[Sentence, ...]:
        """What stands in the note and not here."""
        return left_out(self.document, self.source)

    @property
    def reading(self) -> Reading | None:
        """How hard it is to read, where the template asks for that and the language is the formula's."""
        if self.template is None or self.template.reading_grade is None or (self.encounter.language or "en") != "en":
            return None
        return grade(self._sentences)

    @property
    def hardest(self) -> tuple[str, ...]:
        """The sentences that raise the grade most."""
        limit = self.template.reading_grade if self.template else None
        return () if limit is None else hardest(self._sentences, above=limit)

    @property
    def _sentences(self) -> list[str]:
        return [sentence for statement in self.document.kept for sentence in split_sentences(statement.text)]

    def origin(self, statement: Statement) -> str:
        """Say in words where the words of a sentence come from."""
        return wording.ORIGINS[origin(statement, self.source)]

    @property
    def origins(self) -> dict[Origin, int]:
        """How many sentences are quoted, and how many a clinician wrote."""
        found = [origin(statement, self.source) for statement in self.document.kept]
        return {kind: found.count(kind) for kind in Origin}


# --- having one drafted, looking at it ---------------------------------------------------------------


@blueprint.post("/encounters/<id:encounter_id>/documents")
@allow(Role.CLINICIAN)
def draft(encounter_id: str) -> ResponseReturnValue:
    """Have a document drafted from the signed note."""
    form = NewDocumentForm.parse()
    template = require_document(form.template)
    drafting = Drafting(services().records, services().policy.current)
    stored = drafting.draft(
        EncounterId(encounter_id),
        template,
        actor=sessions.actor(),
        recipient=form.recipient if template.recipient else "",
    )
    return redirect(url_for("documents.show", document_id=stored.id), 303)


@blueprint.get("/documents/<id:document_id>")
@allow(Role.CLINICIAN)
def show(document_id: str) -> ResponseReturnValue:
    """Show a document beside the note that it was made from."""
    page = _look(document_id)
    return render_template("documents/show.html", **_values(page), large=request.args.get("print") == "large")


@blueprint.get("/documents/<id:document_id>/draft")
@allow(Role.CLINICIAN)
def piece(document_id: str) -> ResponseReturnValue:
    """Give the draft as a piece of the page, as it stands now."""
    return _piece(_look(document_id))


# --- editing it ---------------------------------------------------------------------------------------


@blueprint.post("/documents/<id:document_id>/statements/<part:statement_id>/confirm")
@allow(Role.CLINICIAN)
def confirm(document_id: str, statement_id: str) -> ResponseReturnValue:
    """Keep a flagged sentence as it is: the clinician answers for it."""
    return _apply(document_id, VersionForm.parse().version, lambda text, _: review.confirm(text, statement_id))


@blueprint.post("/documents/<id:document_id>/statements/<part:statement_id>/edit")
@allow(Role.CLINICIAN)
def edit(document_id: str, statement_id: str) -> ResponseReturnValue:
    """Replace a sentence's words."""
    form = StatementForm.parse()
    return _apply(document_id, form.version, lambda text, note: review.edit(text, statement_id, form.text, note))


@blueprint.post("/documents/<id:document_id>/statements/<part:statement_id>/remove")
@allow(Role.CLINICIAN)
def remove(document_id: str, statement_id: str) -> ResponseReturnValue:
    """Take a sentence out."""
    return _apply(document_id, VersionForm.parse().version, lambda text, _: review.remove(text, statement_id))


@blueprint.post("/documents/<id:document_id>/statements/<part:statement_id>/restore")
@allow(Role.CLINICIAN)
def restore(document_id: str, statement_id: str) -> ResponseReturnValue:
    """Put a removed sentence back, to be read again."""
    return _apply(document_id, VersionForm.parse().version, lambda text, note: review.restore(text, statement_id, note))


@blueprint.post("/documents/<id:document_id>/statements")
@allow(Role.CLINICIAN)
def add(document_id: str) -> ResponseReturnValue:
    """Add a sentence of the clinician's own."""
    form = NewStatementForm.parse()
    _require_section(document_id, form.section)
    return _apply(document_id, form.version, lambda text, note: review.add(text, form.section, form.text, note))


@blueprint.post("/documents/<id:document_id>/take")
@allow(Role.CLINICIAN)
def take(document_id: str) -> ResponseReturnValue:
    """Take a sentence of the note into the document, word for word."""
    form = SentenceForm.parse()
    _require_section(document_id, form.section)
    with services().records.read() as tx:
        sentences = {s.id: s for s in _load(tx, document_id).source.sentences}
    if form.sentence not in sentences:
        raise RecordError("the note has no such sentence", code="statement_unknown", hint="load the page again")
    words = sentences[form.sentence].text
    return _apply(document_id, form.version, lambda text, note: review.add(text, form.section, words, note))


def _require_section(document_id: str, section: str) -> None:
    with services().records.read() as tx:
        known = {each.id for each in _load(tx, document_id).sections}
    if section not in known:
        raise InputError("the document has no such section", hint="load the page again")


@blueprint.post("/documents/<id:document_id>/recipient")
@allow(Role.CLINICIAN)
def address(document_id: str) -> ResponseReturnValue:
    """Say whom it is for."""
    form = RecipientForm.parse()
    return _save(document_id, form.version, lambda d, _: d.model_copy(update={"recipient": form.recipient}))


@blueprint.post("/documents/<id:document_id>/recheck")
@allow(Role.CLINICIAN)
def recheck(document_id: str) -> ResponseReturnValue:
    """Hold the document against the note as it is now, addenda included."""
    return _save(document_id, VersionForm.parse().version, checked_again)


@blueprint.post("/documents/<id:document_id>/check")
@allow(Role.CLINICIAN)
def check(document_id: str) -> Response:
    """Say what saving these words would give: status, and reasons in words.  Nothing is stored.

    The reasons quote the note, so the first check of an encounter in a session is a recorded look.
    """
    form = CheckForm.parse_json()
    with services().records.read() as tx:
        encounter_id = tx.documents.get(document_id).listed.encounter_id
    page = recorded(encounter_id, lambda tx: _load(tx, document_id))
    if not page.own:
        raise AuthenticationError(
            "only the clinician who had this document drafted may edit it", code="not_allowed", hint="you can read it"
        )
    before = {s.id: s for s in page.text.statements}
    if form.statement is not None:
        changed = edited(page.document, page.source, lambda t, n: review.edit(t, form.statement or "", form.text, n))
        found = next(s for s in changed.text.statements if s.id == form.statement)
    else:
        changed = edited(page.document, page.source, lambda t, n: review.add(t, form.section or "", form.text, n))
        found = next(s for s in changed.text.statements if s.id not in before)
    return jsonify(
        status=found.status.value,
        label=wording.CHECKED_AGAINST_NOTE[found.status],
        reasons=[wording.against_note(reason.message) for reason in found.reasons],
        sourced=bool(found.evidence),
    )


# --- ending it ----------------------------------------------------------------------------------------


@blueprint.post("/documents/<id:document_id>/sign")
@allow(Role.CLINICIAN)
def sign(document_id: str) -> ResponseReturnValue:
    """Issue it: refused while a flag is open, a required section is empty, or the note has something new."""
    form = SignForm.parse()
    with services().records.write() as tx:
        page = _editable(_load(tx, document_id))
        tx.documents.sign(
            document_id,
            expected_version=form.version,
            attestation=ATTESTATION,
            source_sha256=page.source.sha256,
            required=page.template.required if page.template else (),
            actor=sessions.actor(),
        )
    return redirect(url_for("documents.show", document_id=document_id), 303)


@blueprint.post("/documents/<id:document_id>/discard")
@allow(Role.CLINICIAN)
def discard(document_id: str) -> ResponseReturnValue:
    """Give a draft up."""
    with services().records.write() as tx:
        encounter_id = tx.documents.get(document_id).listed.encounter_id
        tx.documents.discard(document_id, actor=sessions.actor())
    return redirect(url_for("encounters.show", encounter_id=encounter_id, _anchor="documents"), 303)


@blueprint.post("/documents/<id:document_id>/copy")
@allow(Role.CLINICIAN)
def copy(document_id: str) -> ResponseReturnValue:
    """Give the issued document as plain text, or let the page be printed: that it was, is in the log first."""
    form = CopyForm.parse_json()
    with services().records.write() as tx:
        page = _load(tx, document_id)
        if not page.stored.signed:
            raise RecordError(
                "only an issued document is copied or printed", code="step_unavailable", hint="issue it first"
            )
        event = DocumentCopied(
            encounter=page.encounter.id,
            document=page.stored.id,
            version=page.stored.version,
            content_sha256=page.stored.content_sha256,
            form=form.form,
        )
        tx.append(event, actor=sessions.actor(), patient_id=page.encounter.patient_id)
    if form.form == "print":
        return Response(status=204)
    return jsonify(text=plain_text(page))


def plain_text(page: DocumentPage) -> str:
    """Return an issued document as it is pasted into a message: blocks with an empty line between them."""
    return "\n\n".join("\n".join(block) for block in _blocks(page)) + "\n"


def _blocks(page: DocumentPage) -> Iterator[list[str]]:
    document = page.document
    yield [document.title.upper(), *([f"To: {document.recipient}"] if document.recipient else [])]
    about = f"Visit of {moment(page.encounter.created_at)}"
    yield [about if document.for_patient else f"{_who(page.patient)}. {about}"]
    if document.opening:
        yield [document.opening]
    for section in page.sections:
        lines = [f"- {s.text}" for s in document.kept if s.section == section.id]
        if lines or section.absent:
            yield [section.title.upper(), *(lines or [section.absent])]
    if document.closing:
        yield [document.closing]
    listed = page.stored.listed
    if page.stored.signed_by is not None and listed.signed_at is not None:
        yield [f"Issued by {page.names.get(page.stored.signed_by, _GONE)}, {moment(listed.signed_at)}."]


def _who(patient: PatientData) -> str:
    born = f"born {day(patient.date_of_birth)}" if patient.date_of_birth else None
    return ", ".join(fact for fact in (patient.name, born, patient.sex) if fact)


# --- what they share ----------------------------------------------------------------------------------


def _apply(document_id: str, version: int, change: Edit) -> ResponseReturnValue:
    return _save(document_id, version, lambda document, source: edited(document, source, change))


def _save(document_id: str, version: int, change: Change) -> ResponseReturnValue:
    with services().records.write() as tx:
        page = _editable(_load(tx, document_id))
        saved = tx.documents.save(
            document_id, change(page.document, page.source), expected_version=version, actor=sessions.actor()
        )
        if saved.version == page.stored.version:  # sent again: nothing is edited, and so nothing recorded yet
            record_view(tx, page.encounter)
        page = _load(tx, document_id)
    if "X-Fragment" in request.headers:
        return _piece(page)
    return redirect(url_for("documents.show", document_id=document_id, _anchor="note"), 303)


def _editable(page: DocumentPage) -> DocumentPage:
    if page.stored.is_draft and page.template is None:
        raise RecordError(
            "the template of this document has changed since it was drafted",
            code="template_changed",
            hint="discard it, and have a new one drafted",
        )
    return page


def _look(document_id: str) -> DocumentPage:
    with services().records.write() as tx:
        page = _load(tx, document_id)
        record_view(tx, page.encounter)
    return page


def _load(tx: Transaction, document_id: str) -> DocumentPage:
    stored = tx.documents.get(DocumentId(document_id))
    encounter = tx.encounters.get(stored.listed.encounter_id)
    note = tx.notes.get(encounter.id)
    if note is None:
        raise RecordError("the note of this document is gone", hint="tell the administrator")
    return DocumentPage(
        stored=stored,
        template=template_of(stored.document),
        source=source_of(note),
        encounter=encounter,
        patient=tx.patients.data(encounter.patient_id),
        note_headings={**headings(encounter.template, note.note), ADDENDUM: "Addendum"},
        names=tx.users.names(),
    )


def _values(page: DocumentPage) -> dict[str, object]:
    with services().records.read() as tx:
        audit_seq = tx.generations.get(page.stored.generation_id).audit_seq
    return {
        "page": page,
        "encounter": page.encounter,
        "patient": page.patient,
        "attestation": ATTESTATION,
        "notices": notices_of(services().records, audit_seq),
        "origins": {origin.value: count for origin, count in page.origins.items()},
    }


def _piece(page: DocumentPage) -> ResponseReturnValue:
    return render_template("documents/_document.html", **_values(page))
