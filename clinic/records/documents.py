"""Documents made from signed notes: drafted, edited in versions, issued once or discarded.

Rules kept here:

* A document is stored only for a signed note, and only by a completed generation that was allowed for its encounter.
* A version is never changed; saving adds one, and only on top of the version that the editor saw.
* Whoever had it drafted edits, issues and discards it, and nobody else.
* It is issued only while what it was held against is the note as it is: an addendum in between is looked at first.
* An open flag, a required section that is empty, or no sentence at all: it cannot be issued.
* After that, and after it was discarded, it is locked, here and by triggers in the database.
* The signature (who, when, which content) is sealed under the patient's key and checked whenever it is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import select

from clinic.audit.events import DocumentDiscarded, DocumentDrafted, DocumentEdited, DocumentSigned
from clinic.domain import (
    Actor,
    Document,
    DocumentId,
    EncounterId,
    GenerationId,
    PatientId,
    Role,
    StatementStatus,
    UserId,
    canonical_sha256,
    new_id,
)
from clinic.errors import AuthenticationError, DecryptionError, RecordError
from clinic.records.generations import GenerationState
from clinic.records.models import DocumentRow, DocumentVersionRow, GenerationRow, NoteRow
from clinic.records.sealed import Place
from clinic.records.work import UnitOfWork

_DOCUMENT: Final = TypeAdapter(Document)


class _Signature(BaseModel):
    """What is sealed when a document is issued."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    signed_by: str
    signed_at: str
    version: int
    content_sha256: str
    attestation: str


_SIGNATURE: Final = TypeAdapter(_Signature)


@dataclass(frozen=True, slots=True)
class ListedDocument:
    """A document in a list: nothing of it is opened."""

    id: DocumentId
    encounter_id: EncounterId
    clinician_id: UserId
    template: str
    created_at: datetime
    signed_at: datetime | None
    discarded_at: datetime | None

    @property
    def state(self) -> str:
        """`draft`, `signed` or `discarded`."""
        if self.signed_at is not None:
            return "signed"
        return "draft" if self.discarded_at is None else "discarded"


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document in its newest version."""

    listed: ListedDocument
    patient_id: PatientId
    generation_id: GenerationId
    version: int
    document: Document = field(repr=False)
    content_sha256: str
    signed_by: UserId | None
    attestation: str | None = field(repr=False)

    @property
    def id(self) -> DocumentId:
        """Which document it is."""
        return self.listed.id

    @property
    def signed(self) -> bool:
        """Whether it was issued."""
        return self.listed.signed_at is not None

    @property
    def is_draft(self) -> bool:
        """Whether it can still be edited."""
        return self.listed.state == "draft"


class Documents:
    """The documents, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def store_draft(self, document: Document, *, generation_id: str, actor: Actor) -> StoredDocument:
        """Store the first version.

        Raises:
            RecordError: `record_unknown`, `note_unsigned`, or `record_conflict` if the generation is not complete.
        """
        generation = self._work.require(GenerationRow, generation_id, what="generation")
        if generation.state != GenerationState.COMPLETED.value:
            raise _conflict("the generation is not complete")
        note = self._work.session.scalar(select(NoteRow).where(NoteRow.encounter_id == generation.encounter_id))
        if note is None or note.signed_version is None:
            raise RecordError("there is no signed note", code="note_unsigned", hint="read and sign the note first")
        row = DocumentRow(
            id=new_id(),
            encounter_id=generation.encounter_id,
            patient_id=generation.patient_id,
            generation_id=generation.id,
            clinician_id=actor.user_id,
            template=document.template,
            created_at=self._work.now(),
        )
        self._work.add(row)
        digest = self._add_version(row, 1, document, actor)
        event = DocumentDrafted(
            encounter=row.encounter_id,
            document=row.id,
            generation=row.generation_id,
            template=row.template,
            version=1,
            statements=len(document.text.statements),
            flagged=len(document.text.open_flags),
            content_sha256=digest,
        )
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return self._stored(row)

    def get(self, document_id: str) -> StoredDocument:
        """Return a document.

        Raises:
            RecordError: `record_unknown`, `patient_shredded`.
        """
        row = self._work.require(DocumentRow, document_id, what="document")
        self._work.require_living(row.patient_id)
        return self._stored(row)

    def for_encounter(self, encounter_id: str) -> tuple[ListedDocument, ...]:
        """Return an encounter's documents, newest first."""
        return self._listed(DocumentRow.encounter_id == encounter_id)

    def for_patient(self, patient_id: str) -> tuple[ListedDocument, ...]:
        """Return a patient's documents, newest first."""
        return self._listed(DocumentRow.patient_id == patient_id)

    def save(self, document_id: str, document: Document, *, expected_version: int, actor: Actor) -> StoredDocument:
        """Store an edited document as the next version; sending the same edit again changes nothing.

        Raises:
            AuthenticationError: `not_allowed` unless the actor had it drafted.
            RecordError: `document_locked` if issued or discarded, `record_conflict` if somebody saved in between.
        """
        row = self._require_draft(document_id, actor)
        newest = self._newest(row)
        digest = _digest(document)
        if (newest.version, newest.author_id, newest.content_sha256) == (expected_version + 1, actor.user_id, digest):
            return self._stored(row)
        _require_version(newest, expected_version)
        self._add_version(row, newest.version + 1, document, actor)
        event = DocumentEdited(
            encounter=row.encounter_id, document=row.id, version=newest.version + 1, content_sha256=digest
        )
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return self._stored(row)

    def sign(
        self,
        document_id: str,
        *,
        expected_version: int,
        attestation: str,
        source_sha256: str,
        required: Iterable[str] = (),
        actor: Actor,
    ) -> StoredDocument:
        """Issue the version that the clinician saw, and lock it.

        Args:
            document_id: which one.
            expected_version: the version that was seen.
            attestation: what the clinician declares.
            source_sha256: the digest of the note and its addenda as they are now.
            required: sections that must not be empty.
            actor: who issues it.

        Raises:
            AuthenticationError: `not_allowed` unless the actor had it drafted.
            RecordError: `flags_open`, `section_empty`, `note_empty`, `source_changed`, `document_locked`,
                `record_conflict`.
        """
        row = self._require_draft(document_id, actor)
        newest = self._newest(row)
        _require_version(newest, expected_version)
        document = self._open_version(row, newest)
        if document.source_sha256 != source_sha256:
            raise RecordError(
                "the note has an addendum that this document was not held against",
                code="source_changed",
                hint="look at what is new, check the document against the note again, then issue it",
            )
        _require_issuable(document, required)
        now = self._work.now()
        signature = _Signature(
            signed_by=actor.user_id,
            signed_at=now.isoformat(),
            version=newest.version,
            content_sha256=newest.content_sha256,
            attestation=attestation,
        )
        place = _place(row, newest.version)
        row.signature = self._work.vault.seal_json(DocumentRow.signature, signature.model_dump(), place)
        row.signed_version, row.signed_at = newest.version, now
        event = DocumentSigned(
            encounter=row.encounter_id, document=row.id, version=newest.version, content_sha256=newest.content_sha256
        )
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return self._stored(row)

    def discard(self, document_id: str, *, actor: Actor) -> None:
        """Give a draft up; it stays sealed in the record, and cannot be issued any more.

        Raises:
            AuthenticationError: `not_allowed` unless the actor had it drafted.
            RecordError: `document_locked` if it is issued or discarded.
        """
        row = self._require_draft(document_id, actor)
        row.discarded_at = self._work.now()
        event = DocumentDiscarded(encounter=row.encounter_id, document=row.id)
        self._work.append(event, actor=actor, patient_id=row.patient_id)

    def check_all(self, document_id: str) -> None:
        """Open every version and the signature, for the sweep.

        Raises:
            DecryptionError: something does not open, or is not what was written.
        """
        row = self._work.require(DocumentRow, document_id, what="document")
        self._stored(row)
        query = select(DocumentVersionRow).where(DocumentVersionRow.document_id == row.id)
        for version in self._work.session.scalars(query):
            self._open_version(row, version)

    # --- rows -----------------------------------------------------------------------------------------

    def _listed(self, which: object) -> tuple[ListedDocument, ...]:
        query = select(DocumentRow).where(which).order_by(DocumentRow.created_at.desc(), DocumentRow.id)  # type: ignore[arg-type]
        return tuple(_listed(row) for row in self._work.session.scalars(query))

    def _add_version(self, row: DocumentRow, version: int, document: Document, actor: Actor) -> str:
        digest = _digest(document)
        content = document.model_dump(mode="json")
        self._work.add(
            DocumentVersionRow(
                document_id=row.id,
                version=version,
                author_id=actor.user_id,
                content_sha256=digest,
                document=self._work.vault.seal_json(DocumentVersionRow.document, content, _place(row, version)),
                created_at=self._work.now(),
            )
        )
        return digest

    def _stored(self, row: DocumentRow) -> StoredDocument:
        newest = self._newest(row)
        signature = self._signature(row, newest)
        return StoredDocument(
            listed=_listed(row),
            patient_id=PatientId(row.patient_id),
            generation_id=GenerationId(row.generation_id),
            version=newest.version,
            document=self._open_version(row, newest),
            content_sha256=newest.content_sha256,
            signed_by=None if signature is None else UserId(signature.signed_by),
            attestation=None if signature is None else signature.attestation,
        )

    def _signature(self, row: DocumentRow, newest: DocumentVersionRow) -> _Signature | None:
        if row.signed_version is None or row.signature is None:
            if row.signed_version is not None or row.signature is not None or row.signed_at is not None:
                raise _damaged("a document's signature is incomplete")
            return None
        place = _place(row, row.signed_version)
        signature = self._work.vault.open_json(DocumentRow.signature, row.signature, place, _SIGNATURE)
        if (signature.version, signature.content_sha256) != (newest.version, newest.content_sha256):
            raise _damaged("a signed document is not the one that was signed")
        return signature

    def _open_version(self, row: DocumentRow, version: DocumentVersionRow) -> Document:
        place = _place(row, version.version)
        document = self._work.vault.open_json(DocumentVersionRow.document, version.document, place, _DOCUMENT)
        if _digest(document) != version.content_sha256:
            raise _damaged("a document does not match its digest")
        return document

    def _newest(self, row: DocumentRow) -> DocumentVersionRow:
        query = select(DocumentVersionRow).where(DocumentVersionRow.document_id == row.id)
        return self._work.session.scalars(query.order_by(DocumentVersionRow.version.desc()).limit(1)).one()

    def _require_draft(self, document_id: str, actor: Actor) -> DocumentRow:
        row = self._work.require(DocumentRow, document_id, what="document")
        self._work.require_living(row.patient_id)
        if actor.role is not Role.CLINICIAN or row.clinician_id != actor.user_id:
            raise AuthenticationError(
                "only the clinician who had this document drafted may edit and issue it",
                code="not_allowed",
                hint="ask them to; you can read it here, or have one drafted yourself",
            )
        if row.signed_at is not None or row.discarded_at is not None:
            raise RecordError(
                "the document is issued or discarded, and locked",
                code="document_locked",
                hint="have a new one drafted instead",
            )
        return row


def _listed(row: DocumentRow) -> ListedDocument:
    return ListedDocument(
        id=DocumentId(row.id),
        encounter_id=EncounterId(row.encounter_id),
        clinician_id=UserId(row.clinician_id),
        template=row.template,
        created_at=row.created_at,
        signed_at=row.signed_at,
        discarded_at=row.discarded_at,
    )


def _digest(document: Document) -> str:
    return canonical_sha256(document.model_dump(mode="json"))


def _place(row: DocumentRow, version: int) -> Place:
    return Place(row.patient_id, f"{row.encounter_id}/{row.id}", version)


def _require_version(newest: DocumentVersionRow, expected: int) -> None:
    if newest.version != expected:
        raise _conflict(f"the document is at version {newest.version}, not {expected}")


def _require_issuable(document: Document, required: Iterable[str]) -> None:
    if document.text.open_flags:
        raise RecordError(
            f"{len(document.text.open_flags)} flagged sentences are not decided",
            code="flags_open",
            hint="confirm, edit or remove each of them, then issue the document",
        )
    kept = {s.section for s in document.text.statements if s.status is not StatementStatus.REMOVED}
    if not kept:
        raise RecordError("the document holds no sentence", code="note_empty", hint="add a sentence first")
    if missing := [section for section in required if section not in kept]:
        raise RecordError(
            f"section `{missing[0]}` is empty", code="section_empty", hint="write it, then issue the document"
        )


def _conflict(message: str) -> RecordError:
    return RecordError(message, code="record_conflict", hint="load the page again; your text is kept there")


def _damaged(message: str) -> DecryptionError:
    return DecryptionError(message, hint="stop, run `clinic doctor`, restore from a backup")
