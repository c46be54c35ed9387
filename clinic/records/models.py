"""The tables, and nothing else.

Rules kept here:

* Every column that holds patient data is `Mapped[Sealed]`; what stands in the clear is ids, enums, digests, counts
  and times.  A test walks all columns and holds the list of clear ones.
* Ids are made in Python before the row is written, because the sealing needs them.
* Tables are STRICT: the database itself refuses text in a sealed column.
* Append-only tables and signed notes are locked by SQL triggers (`TRIGGERS`), whoever holds the connection.
* The migration creates all this a second time, by hand; a test compares the two.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

from sqlalchemy import ForeignKey, Index, MetaData, Text, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from clinic.audit.tables import audit_entries
from clinic.records.sealed import Sealed, SealedType

_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


class Moment(TypeDecorator[datetime]):
    """A UTC-aware time as ISO 8601 text of fixed width, so that it sorts as text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        """Refuse a time without a zone."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise TypeError("a time without a zone cannot be stored")
        return value.astimezone(UTC).strftime(_TIME_FORMAT)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        """Return it UTC-aware; ValueError for anything that `process_bind_param` does not write."""
        del dialect
        if value is None:
            return None
        if _TIME.fullmatch(value) is None:
            raise ValueError("a stored time is not written as it must be")
        return datetime.fromisoformat(value)


class Base(DeclarativeBase):
    """All tables of the records."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {Sealed: SealedType, datetime: Moment, str: Text}


metadata: Final = Base.metadata
_STRICT: Final = {"sqlite_strict": True}


class UserRow(Base):
    """An account.  Password hash and display name are sealed under the staff key."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("username"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    username: Mapped[str]
    display_name: Mapped[Sealed]
    role: Mapped[str]
    password_hash: Mapped[Sealed]
    session_epoch: Mapped[int]
    row_version: Mapped[int]
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class LoginFailureRow(Base):
    """Failed logins in a row, per account; names that are no account share a fixed number of buckets."""

    __tablename__ = "login_failures"
    __table_args__ = _STRICT

    subject: Mapped[str] = mapped_column(primary_key=True)
    failures: Mapped[int]
    failed_at: Mapped[datetime]
    locked_until: Mapped[datetime | None]


class SecondFactorRow(Base):
    """An account's second factor: the secret sealed under the staff key, and the last time step whose code was used."""

    __tablename__ = "second_factors"
    __table_args__ = _STRICT

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True)
    secret: Mapped[Sealed]
    row_version: Mapped[int]
    last_step: Mapped[int]
    created_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]


class RecoveryCodesRow(Base):
    """An account's recovery codes: the hashes of those that are good, sealed under the staff key."""

    __tablename__ = "recovery_codes"
    __table_args__ = _STRICT

    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"), primary_key=True)
    codes: Mapped[Sealed]
    left: Mapped[int]
    row_version: Mapped[int]
    created_at: Mapped[datetime]


class PasskeyRow(Base):
    """A passkey: its public key, name and counter, sealed under the staff key, by the hash of its public handle."""

    __tablename__ = "passkeys"
    __table_args__ = (UniqueConstraint("credential_sha256"), Index(None, "user_id"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    credential_sha256: Mapped[str]
    data: Mapped[Sealed]
    row_version: Mapped[int]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]


class InvitationRow(Base):
    """A one-time code that waits for an account, or for the first administrator; sealed under the staff key."""

    __tablename__ = "invitations"
    __table_args__ = _STRICT

    subject: Mapped[str] = mapped_column(primary_key=True)
    data: Mapped[Sealed]
    row_version: Mapped[int]
    created_at: Mapped[datetime]


class FactorRoleRow(Base):
    """A role whose accounts have to have a second factor."""

    __tablename__ = "factor_roles"
    __table_args__ = _STRICT

    role: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[datetime]


class ApiTokenRow(Base):
    """A program's token for the JSON API: what it may do, and the hash of its secret, sealed under the staff key."""

    __tablename__ = "api_tokens"
    __table_args__ = (Index(None, "user_id"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id"))
    grant_data: Mapped[Sealed]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ApiAnswerRow(Base):
    """What a request with an idempotency key was answered, for a day; sealed under the staff key."""

    __tablename__ = "api_answers"
    __table_args__ = (Index(None, "created_at"), _STRICT)

    token_id: Mapped[str] = mapped_column(ForeignKey("api_tokens.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    answer: Mapped[Sealed]
    created_at: Mapped[datetime]


class PatientRow(Base):
    """A patient: the wrapped data key, and all else sealed under it; of a shredded one, neither is left."""

    __tablename__ = "patients"
    __table_args__ = (Index(None, "record_number_index"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    wrapped_dek: Mapped[bytes | None]
    record_number_index: Mapped[int | None]
    data: Mapped[Sealed | None]
    row_version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    shredded_at: Mapped[datetime | None]


class KeyUseRow(Base):
    """How many values the key of an owner (a patient, the staff, a version of the KEK) has sealed."""

    __tablename__ = "key_uses"
    __table_args__ = _STRICT

    owner: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[int]


class EncounterRow(Base):
    """One consultation or dictation.  `clinician_id` may be the operator, who has no account."""

    __tablename__ = "encounters"
    __table_args__ = (Index(None, "patient_id"), Index(None, "created_at"), Index(None, "state"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    patient_id: Mapped[str] = mapped_column(ForeignKey("patients.id"))
    clinician_id: Mapped[str]
    kind: Mapped[str]
    template: Mapped[str]
    language: Mapped[str | None]
    consent: Mapped[str]
    state: Mapped[str]
    stage: Mapped[str | None]
    error_code: Mapped[str | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class RecordingRow(Base):
    """A recording that arrives in chunks.  `sha256` (of the audio) is set when it is complete."""

    __tablename__ = "recordings"
    __table_args__ = (Index(None, "encounter_id"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    encounter_id: Mapped[str] = mapped_column(ForeignKey("encounters.id"))
    patient_id: Mapped[str] = mapped_column(ForeignKey("patients.id"))
    mime: Mapped[str]
    chunks: Mapped[int | None]
    sha256: Mapped[str | None]
    created_at: Mapped[datetime]
    completed_at: Mapped[datetime | None]


class RecordingChunkRow(Base):
    """One acknowledged chunk of audio."""

    __tablename__ = "recording_chunks"
    __table_args__ = _STRICT

    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    size: Mapped[int]
    sha256: Mapped[str]
    data: Mapped[Sealed]


class LiveTextRow(Base):
    """What was heard of a recording that still runs: provisional, and gone when it ends."""

    __tablename__ = "live_texts"
    __table_args__ = _STRICT

    recording_id: Mapped[str] = mapped_column(ForeignKey("recordings.id"), primary_key=True)
    patient_id: Mapped[str] = mapped_column(ForeignKey("patients.id"))
    row_version: Mapped[int]
    heard: Mapped[Sealed | None]
    created_at: Mapped[datetime]


class MomentRow(Base):
    """A mark, or a note typed while it was recorded; never changed."""

    __tablename__ = "moments"
    __table_args__ = (Index(None, "encounter_id"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    encounter_id: Mapped[str] = mapped_column(ForeignKey("encounters.id"))
    patient_id: Mapped[str] = mapped_column(ForeignKey("patients.id"))
    content: Mapped[Sealed]
    created_at: Mapped[datetime]


class TranscriptRow(Base):
    """One version of an encounter's transcript."""

    __tablename__ = "transcripts"
    __table_args__ = (UniqueConstraint("encounter_id", "version"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    encounter_id: Mapped[str] = mapped_column(ForeignKey("encounters.id"))
    patient_id: Mapped[str] = mapped_column(ForeignKey("patients.id"))
    version: Mapped[int]
    sha256: Mapped[str]
    transcript: Mapped[Sealed]
    created_at: Mapped[datetime]


class GenerationRow(Base):
    """One released generation.  Without its audit entry it cannot exist: the foreign key says so."""

    __tablename__ = "generations"
    __table_args__ = (UniqueConstraint("audit_seq"), Index(None, "encounter_id"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    encounter_id: Mapped[str] = mapped_column(ForeignKey("encounters.id"))
    patient_id: Mapped[str] = mapped_column(ForeignKey("patients.id"))
    audit_seq: Mapped[int] = mapped_column(ForeignKey(audit_entries.c.seq))
    state: Mapped[str]
    prompt_sha256: Mapped[str]
    model: Mapped[str]
    model_sha256: Mapped[str]
    template_sha256: Mapped[str]
    completion: Mapped[Sealed | None]
    error_code: Mapped[str | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class NoteRow(Base):
    """An encounter's one note.  The signature (who, when, what) is sealed; the clear columns repeat it for triggers."""

    __tablename__ = "notes"
    __table_args__ = (UniqueConstraint("encounter_id"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    encounter_id: Mapped[str] = mapped_column(ForeignKey("encounters.id"))
    patient_id: Mapped[str] = mapped_column(ForeignKey("patients.id"))
    generation_id: Mapped[str | None] = mapped_column(ForeignKey("generations.id"))
    signed_version: Mapped[int | None]
    signed_at: Mapped[datetime | None]
    signature: Mapped[Sealed | None]
    created_at: Mapped[datetime]


class NoteVersionRow(Base):
    """One version of a note; never changed."""

    __tablename__ = "note_versions"
    __table_args__ = _STRICT

    note_id: Mapped[str] = mapped_column(ForeignKey("notes.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    author_id: Mapped[str]
    content_sha256: Mapped[str]
    note: Mapped[Sealed]
    created_at: Mapped[datetime]


class AddendumRow(Base):
    """A correction or addition to a signed note; never changed."""

    __tablename__ = "note_addenda"
    __table_args__ = (UniqueConstraint("note_id", "number"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    note_id: Mapped[str] = mapped_column(ForeignKey("notes.id"))
    number: Mapped[int]
    author_id: Mapped[str]
    content_sha256: Mapped[str]
    text: Mapped[Sealed]
    created_at: Mapped[datetime]


class DocumentRow(Base):
    """A document made from a signed note.  It ends once: issued (the signature is sealed), or discarded."""

    __tablename__ = "documents"
    __table_args__ = (Index(None, "encounter_id"), Index(None, "patient_id"), _STRICT)

    id: Mapped[str] = mapped_column(primary_key=True)
    encounter_id: Mapped[str] = mapped_column(ForeignKey("encounters.id"))
    patient_id: Mapped[str] = mapped_column(ForeignKey("patients.id"))
    generation_id: Mapped[str] = mapped_column(ForeignKey("generations.id"))
    clinician_id: Mapped[str]
    template: Mapped[str]
    signed_version: Mapped[int | None]
    signed_at: Mapped[datetime | None]
    signature: Mapped[Sealed | None]
    discarded_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class DocumentVersionRow(Base):
    """One version of a document; never changed."""

    __tablename__ = "document_versions"
    __table_args__ = _STRICT

    document_id: Mapped[str] = mapped_column(ForeignKey("documents.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    author_id: Mapped[str]
    content_sha256: Mapped[str]
    document: Mapped[Sealed]
    created_at: Mapped[datetime]


def _never(table: str, verb: str, condition: str = "") -> str:
    when = f" WHEN {condition}" if condition else ""
    name = f"{table}_no_{verb.lower()}"
    return (
        f"CREATE TRIGGER {name} BEFORE {verb} ON {table}{when} "
        f"BEGIN SELECT RAISE(ABORT, '{table} refuses {verb.lower()}'); END"
    )


_SIGNED: Final = "(SELECT signed_version FROM notes WHERE id = NEW.note_id)"

_ENDED: Final = "(SELECT coalesce(signed_at, discarded_at) FROM documents WHERE id = NEW.document_id)"

TRIGGERS: Final[tuple[str, ...]] = (
    _never("moments", "UPDATE"),
    _never("moments", "DELETE"),
    _never("transcripts", "UPDATE"),
    _never("transcripts", "DELETE"),
    _never("note_versions", "UPDATE"),
    _never("note_versions", "DELETE"),
    _never("note_versions", "INSERT", f"{_SIGNED} IS NOT NULL"),
    _never("note_addenda", "UPDATE"),
    _never("note_addenda", "DELETE"),
    _never("note_addenda", "INSERT", f"{_SIGNED} IS NULL"),
    _never("notes", "UPDATE", "OLD.signed_version IS NOT NULL"),
    _never("notes", "DELETE"),
    _never("document_versions", "UPDATE"),
    _never("document_versions", "DELETE"),
    _never("document_versions", "INSERT", f"{_ENDED} IS NOT NULL"),
    _never("documents", "UPDATE", "coalesce(OLD.signed_at, OLD.discarded_at) IS NOT NULL"),
    _never("documents", "DELETE"),
    _never("patients", "UPDATE", "OLD.shredded_at IS NOT NULL"),
    _never("patients", "DELETE"),
)
"""What the database refuses by itself."""
