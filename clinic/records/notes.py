"""Notes: drafted once, edited in versions, signed once, amended by addenda.

Rules kept here:

* A version is never changed; saving adds one, and only on top of the version that the editor saw.
* A note with an open flag, or without a statement, cannot be signed; signing is a clinician's act with an attestation
  in words.
* A draft is edited and signed by the clinician who opened the encounter, and by nobody else: they were there.
* After the signature the note is locked, here and by triggers in the database; corrections are addenda.
* The signature (who, when, which content) is sealed under the patient's key and checked whenever the note is read.
* What became of the draft, in counts (`changes`), is sealed with the signature.
* Every step is an audit event with the SHA-256 of the canonical JSON of what was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import func, select

from clinic.audit.events import NoteAmended, NoteDrafted, NoteEdited, NoteSigned
from clinic.domain import (
    Actor,
    EncounterId,
    EncounterState,
    GenerationId,
    Note,
    NoteId,
    Role,
    StatementStatus,
    UserId,
    canonical_sha256,
    new_id,
)
from clinic.errors import AuthenticationError, DecryptionError, InputError, RecordError
from clinic.records.changes import ReviewCounts, compare
from clinic.records.models import AddendumRow, EncounterRow, GenerationRow, NoteRow, NoteVersionRow
from clinic.records.sealed import Place
from clinic.records.work import UnitOfWork

_NOTE: Final = TypeAdapter(Note)
_LONGEST: Final = 20_000


class _Signature(BaseModel):
    """What is sealed when a note is signed.  Notes signed before there was a `review` have none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    signed_by: str
    signed_at: str
    version: int
    content_sha256: str
    attestation: str
    review: ReviewCounts | None = None


_SIGNATURE: Final = TypeAdapter(_Signature)


@dataclass(frozen=True, slots=True)
class Addendum:
    """A correction or addition to a signed note."""

    id: str
    text: str = field(repr=False)
    author_id: UserId
    created_at: datetime


@dataclass(frozen=True, slots=True)
class NoteVersion:
    """One version of a note."""

    version: int
    note: Note = field(repr=False)
    author_id: UserId
    content_sha256: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredNote:
    """An encounter's note in its newest version."""

    id: NoteId
    encounter_id: EncounterId
    version: int
    note: Note = field(repr=False)
    generation_id: GenerationId | None
    content_sha256: str
    signed_by: UserId | None
    signed_at: datetime | None
    attestation: str | None = field(repr=False)
    addenda: tuple[Addendum, ...]
    review: ReviewCounts | None = None
    """What became of the draft, as it was sealed with the signature; None for a draft, and for older signatures."""

    @property
    def signed(self) -> bool:
        """Whether the note is locked."""
        return self.signed_at is not None


class Notes:
    """The notes, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def store_draft(self, encounter_id: str, note: Note, *, generation_id: str | None, actor: Actor) -> StoredNote:
        """Store the first version of an encounter's note.

        Raises:
            RecordError: `record_unknown` (encounter, generation), `record_conflict` if there is a note already.
        """
        encounter = self._work.require(EncounterRow, encounter_id, what="encounter")
        if generation_id is not None:
            generation = self._work.require(GenerationRow, generation_id, what="generation")
            if generation.encounter_id != encounter.id:
                raise _conflict("the generation belongs to another encounter")
        if self._row(encounter_id) is not None:
            raise _conflict("this encounter has a note already")
        row = NoteRow(
            id=new_id(),
            encounter_id=encounter.id,
            patient_id=encounter.patient_id,
            generation_id=generation_id,
            created_at=self._work.now(),
        )
        self._work.add(row)
        digest = self._add_version(row, 1, note, actor)
        event = NoteDrafted(
            encounter=row.encounter_id,
            note=row.id,
            version=1,
            statements=len(note.statements),
            flagged=len(note.open_flags),
            omissions=len(note.omissions),
            content_sha256=digest,
        )
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return self._stored(row)

    def get(self, encounter_id: str) -> StoredNote | None:
        """Return an encounter's note, if there is one."""
        self._work.require(EncounterRow, encounter_id, what="encounter")
        row = self._row(encounter_id)
        return None if row is None else self._stored(row)

    def save(self, encounter_id: str, note: Note, *, expected_version: int, actor: Actor) -> StoredNote:
        """Store an edited note as the next version; sending the same edit again changes nothing.

        Raises:
            AuthenticationError: `not_allowed` unless the actor is the encounter's own clinician.
            RecordError: `note_locked` if signed, `record_conflict` if somebody saved in between.
        """
        row = self._require_draft(encounter_id, actor)
        newest = self._newest(row)
        digest = _digest(note)
        if (newest.version, newest.author_id, newest.content_sha256) == (expected_version + 1, actor.user_id, digest):
            return self._stored(row)
        _require_version(newest, expected_version)
        self._add_version(row, newest.version + 1, note, actor)
        event = NoteEdited(encounter=row.encounter_id, note=row.id, version=newest.version + 1, content_sha256=digest)
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return self._stored(row)

    def sign(self, encounter_id: str, *, expected_version: int, attestation: str, actor: Actor) -> StoredNote:
        """Sign the version that the clinician saw, and lock the note.

        Raises:
            AuthenticationError: `not_allowed` unless the actor is the encounter's own clinician.
            RecordError: `flags_open`, `note_empty`, `note_locked`, `record_conflict`.
            InputError: `attestation_missing`.
        """
        row = self._require_draft(encounter_id, actor)
        newest = self._newest(row)
        _require_version(newest, expected_version)
        words = _checked(attestation, code="attestation_missing", what="attestation")
        _require_signable(self._open_version(row, newest))
        review = ReviewCounts.of(compare([version.note for version in self.history(encounter_id)]))
        self._seal_signature(row, newest, words, review, actor)
        encounter = self._work.require(EncounterRow, encounter_id, what="encounter")
        encounter.state, encounter.stage, encounter.error_code = EncounterState.SIGNED.value, None, None
        encounter.updated_at = self._work.now()
        event = NoteSigned(
            encounter=row.encounter_id, note=row.id, version=newest.version, content_sha256=newest.content_sha256
        )
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return self._stored(row)

    def add_addendum(self, encounter_id: str, text: str, actor: Actor) -> StoredNote:
        """Add a correction to a signed note.

        Raises:
            AuthenticationError: `not_allowed` unless the actor is a clinician.
            RecordError: `note_unsigned` if the note can still be edited.
            InputError: `addendum_empty`.
        """
        _require_clinician(actor)
        row = self._require(encounter_id)
        if row.signed_version is None:
            raise RecordError("the note is not signed", code="note_unsigned", hint="edit the note itself")
        words = _checked(text, code="addendum_empty", what="addendum")
        addendum = AddendumRow(
            id=new_id(),
            note_id=row.id,
            number=len(self._addenda(row)) + 1,
            author_id=actor.user_id,
            created_at=self._work.now(),
        )
        addendum.content_sha256 = canonical_sha256({"note": row.id, "addendum": addendum.id, "text": words})
        addendum.text = self._work.vault.seal(AddendumRow.text, words.encode(), _addendum_place(row, addendum))
        self._work.add(addendum)
        event = NoteAmended(
            encounter=row.encounter_id, note=row.id, addendum=addendum.id, content_sha256=addendum.content_sha256
        )
        self._work.append(event, actor=actor, patient_id=row.patient_id)
        return self._stored(row)

    def history(self, encounter_id: str) -> tuple[NoteVersion, ...]:
        """Return all versions of a note, oldest first."""
        row = self._require(encounter_id)
        query = select(NoteVersionRow).where(NoteVersionRow.note_id == row.id).order_by(NoteVersionRow.version)
        return tuple(
            NoteVersion(
                version=version.version,
                note=self._open_version(row, version),
                author_id=UserId(version.author_id),
                content_sha256=version.content_sha256,
                created_at=version.created_at,
            )
            for version in self._work.session.scalars(query)
        )

    # --- rows -----------------------------------------------------------------------------------------

    def _add_version(self, row: NoteRow, version: int, note: Note, actor: Actor) -> str:
        digest = _digest(note)
        place = _place(row, version)
        self._work.add(
            NoteVersionRow(
                note_id=row.id,
                version=version,
                author_id=actor.user_id,
                content_sha256=digest,
                note=self._work.vault.seal_json(NoteVersionRow.note, note.model_dump(mode="json"), place),
                created_at=self._work.now(),
            )
        )
        return digest

    def _seal_signature(
        self, row: NoteRow, version: NoteVersionRow, attestation: str, review: ReviewCounts, actor: Actor
    ) -> None:
        now = self._work.now()
        signature = _Signature(
            signed_by=actor.user_id,
            signed_at=now.isoformat(),
            version=version.version,
            content_sha256=version.content_sha256,
            attestation=attestation,
            review=review,
        )
        place = _place(row, version.version)
        row.signature = self._work.vault.seal_json(NoteRow.signature, signature.model_dump(), place)
        row.signed_version, row.signed_at = version.version, now

    def _stored(self, row: NoteRow) -> StoredNote:
        newest = self._newest(row)
        note = self._open_version(row, newest)
        signature = self._signature(row, newest)
        return StoredNote(
            id=NoteId(row.id),
            encounter_id=EncounterId(row.encounter_id),
            version=newest.version,
            note=note,
            generation_id=None if row.generation_id is None else GenerationId(row.generation_id),
            content_sha256=newest.content_sha256,
            signed_by=None if signature is None else UserId(signature.signed_by),
            signed_at=None if signature is None else datetime.fromisoformat(signature.signed_at),
            attestation=None if signature is None else signature.attestation,
            addenda=tuple(self._addendum(row, addendum) for addendum in self._addenda(row)),
            review=None if signature is None else signature.review,
        )

    def _signature(self, row: NoteRow, newest: NoteVersionRow) -> _Signature | None:
        if row.signed_version is None or row.signature is None:
            if row.signed_version is not None or row.signature is not None or self._addenda(row):
                raise _damaged("a note's signature is incomplete")
            return None
        place = _place(row, row.signed_version)
        signature = self._work.vault.open_json(NoteRow.signature, row.signature, place, _SIGNATURE)
        if (signature.version, signature.content_sha256) != (newest.version, newest.content_sha256):
            raise _damaged("a signed note is not the one that was signed")
        return signature

    def _open_version(self, row: NoteRow, version: NoteVersionRow) -> Note:
        place = _place(row, version.version)
        note = self._work.vault.open_json(NoteVersionRow.note, version.note, place, _NOTE)
        if _digest(note) != version.content_sha256:
            raise _damaged("a note does not match its digest")
        return note

    def _addendum(self, row: NoteRow, addendum: AddendumRow) -> Addendum:
        text = self._work.vault.open(AddendumRow.text, addendum.text, _addendum_place(row, addendum)).decode()
        return Addendum(id=addendum.id, text=text, author_id=UserId(addendum.author_id), created_at=addendum.created_at)

    def _addenda(self, row: NoteRow) -> list[AddendumRow]:
        query = select(AddendumRow).where(AddendumRow.note_id == row.id).order_by(AddendumRow.number)
        return list(self._work.session.scalars(query))

    def _newest(self, row: NoteRow) -> NoteVersionRow:
        newest = select(func.max(NoteVersionRow.version)).where(NoteVersionRow.note_id == row.id).scalar_subquery()
        query = select(NoteVersionRow).where(NoteVersionRow.note_id == row.id, NoteVersionRow.version == newest)
        return self._work.session.scalars(query).one()

    def _row(self, encounter_id: str) -> NoteRow | None:
        return self._work.session.scalar(select(NoteRow).where(NoteRow.encounter_id == encounter_id))

    def _require(self, encounter_id: str) -> NoteRow:
        self._work.require(EncounterRow, encounter_id, what="encounter")
        row = self._row(encounter_id)
        if row is None:
            raise RecordError("this encounter has no note", hint="wait for the draft")
        return row

    def _require_draft(self, encounter_id: str, actor: Actor) -> NoteRow:
        _require_clinician(actor)
        row = self._require(encounter_id)
        encounter = self._work.require(EncounterRow, encounter_id, what="encounter")
        if encounter.clinician_id != actor.user_id:
            raise AuthenticationError(
                "only the clinician who opened this encounter may edit and sign its note",
                code="not_allowed",
                hint="ask them to; you can read it here",
            )
        if row.signed_version is not None:
            raise RecordError("the note is signed and locked", code="note_locked", hint="add an addendum instead")
        return row


def _digest(note: Note) -> str:
    return canonical_sha256(note.model_dump(mode="json"))


def _place(row: NoteRow, version: int) -> Place:
    return Place(row.patient_id, f"{row.encounter_id}/{row.id}", version)


def _addendum_place(row: NoteRow, addendum: AddendumRow) -> Place:
    return Place(row.patient_id, f"{row.encounter_id}/{row.id}/{addendum.id}", addendum.number)


def _require_clinician(actor: Actor) -> None:
    if actor.role is not Role.CLINICIAN:
        raise AuthenticationError(
            "only a clinician may change or sign a note", code="not_allowed", hint="log in with a clinician's account"
        )


def _require_version(newest: NoteVersionRow, expected: int) -> None:
    if newest.version != expected:
        raise _conflict(f"the note is at version {newest.version}, not {expected}")


def _require_signable(note: Note) -> None:
    if note.open_flags:
        raise RecordError(
            f"{len(note.open_flags)} flagged statements are not decided",
            code="flags_open",
            hint="confirm, edit or remove each of them, then sign",
        )
    if all(statement.status is StatementStatus.REMOVED for statement in note.statements):
        raise RecordError(
            "the note holds no statement", code="note_empty", hint="add a sentence or put one back, then sign"
        )


def _checked(text: str, *, code: str, what: str) -> str:
    words = text.strip()
    if not words or len(words) > _LONGEST:
        raise InputError(f"the {what} is empty or too long", code=code, hint=f"1 to {_LONGEST} characters")
    return words


def _conflict(message: str) -> RecordError:
    return RecordError(message, code="record_conflict", hint="load the page again; your text is kept there")


def _damaged(message: str) -> DecryptionError:
    return DecryptionError(message, hint="stop, run `clinic doctor`, restore from a backup")
