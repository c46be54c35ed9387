"""The documents of the API: what is sent, and what is answered.

Rules kept here:

* What is sent refuses unknown fields and converts nothing: a number in quotes is no number.
* Answers to a POST with an idempotency key hold ids, states and times only, for they are kept for a day.
* `Transcript`, `Note` and their parts are the words of `clinic.domain`, the same as in the command line's JSON.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from clinic.domain import Consent, EncounterKind, EncounterState, Note, Scope, Stage, Transcript
from clinic.records.recordings import MAX_CHUNKS
from clinic.speech.text import MAX_CHARACTERS

PAGE: Final = 50
LONGEST_PAGE: Final = 200

_PRINTABLE: Final = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
_ID_PATTERN: Final = r"^[0-9a-f]{32}$"

Id = Annotated[str, Field(pattern=_ID_PATTERN)]
Sex = Literal["female", "male", "other", "unknown"]
Cursor = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="From `next` of the page before.")]


class Sent(BaseModel):
    """What a program sends."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Answered(BaseModel):
    """What the clinic answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _decimal(value: object) -> object:
    """Take a number from a query string, written in one way only."""
    return (
        int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() and value[:1] != "0" else value
    )


def _whole(value: object) -> object:
    """Take `1.0` for `1`, as JSON Schema does; a number in quotes is no number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE), BeforeValidator(_decimal)] = PAGE
    cursor: Cursor | None = None


class EncounterQuery(PageQuery):
    """Which page of one's own encounters, in which state."""

    state: Annotated[EncounterState | None, Field(strict=False)] = None


# --- about the service --------------------------------------------------------------------------------


class TokenInfo(Answered):
    """The token that asked: what it may do, for whom, until when."""

    id: Id
    program: str
    clinician: str
    scopes: tuple[Scope, ...]
    expires_at: datetime


class SectionInfo(Answered):
    """A section of a kind of note."""

    id: str
    title: str


class TemplateInfo(Answered):
    """A kind of note."""

    id: str
    title: str
    sections: tuple[SectionInfo, ...]


class ServiceInfo(Answered):
    """What this clinic offers."""

    api: Literal["1"] = "1"
    templates: tuple[TemplateInfo, ...]
    audio_formats: tuple[str, ...]
    max_chunk_bytes: int
    max_chunks: int
    max_text_characters: int
    model: str


# --- patients -----------------------------------------------------------------------------------------


class PatientSent(Sent):
    """Who a patient is."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=_PRINTABLE)]
    date_of_birth: date | None = None
    sex: Sex | None = None
    record_number: Annotated[str | None, Field(max_length=64, pattern=_PRINTABLE)] = None


class PatientCreated(Answered):
    """A new patient."""

    id: Id
    created_at: datetime


class PatientAnswered(Answered):
    """A patient."""

    id: Id
    name: str
    date_of_birth: date | None
    sex: str | None
    record_number: str | None
    created_at: datetime


class PatientSearch(Sent):
    """Whom to look for: a record number, or words of name, number and date of birth; empty: everybody."""

    text: Annotated[str, Field(max_length=200)] = ""
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE), Whole] = PAGE
    cursor: Cursor | None = None


class PatientPage(Answered):
    """Patients by name; `next` asks for those after them."""

    patients: tuple[PatientAnswered, ...]
    next: Cursor | None


# --- encounters ---------------------------------------------------------------------------------------


class EncounterSent(Sent):
    """A new encounter; `template` is one of `GET /service`."""

    kind: EncounterKind = EncounterKind.CONSULTATION
    template: Annotated[str, Field(pattern=r"^[a-z0-9_.-]{1,64}$")] = "soap"
    language: Annotated[str | None, Field(pattern=r"^[a-z]{2,3}$")] = None


class StopReason(Answered):
    """Why the job of an encounter stopped; `reasons` are the policy's words where it refused."""

    code: str
    message: str
    hint: str
    reasons: tuple[str, ...]


class EncounterAnswered(Answered):
    """Where an encounter stands.  It holds nothing that was said."""

    id: Id
    patient_id: Id
    clinician_id: str
    own: bool
    kind: EncounterKind
    template: str
    language: str | None
    consent: Consent
    state: EncounterState
    stage: Stage | None
    stopped: StopReason | None
    created_at: datetime
    updated_at: datetime


class EncounterPage(Answered):
    """Encounters, newest first; `next` asks for those after them."""

    encounters: tuple[EncounterAnswered, ...]
    next: Cursor | None


class ConsentSent(Sent):
    """The patient's answer."""

    consent: Literal[Consent.GIVEN, Consent.REFUSED, Consent.WITHDRAWN]

    @field_validator("consent", mode="before")
    @classmethod
    def _a_member(cls, value: object) -> object:
        return Consent(value) if isinstance(value, str) and value in {member.value for member in Consent} else value


class TextSent(Sent):
    """Dictated or pasted text to be summarised."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


class TranscriptAnswered(Answered):
    """What was said."""

    encounter: Id
    transcript: Transcript


# --- recordings ---------------------------------------------------------------------------------------


class RecordingSent(Sent):
    """A new recording."""

    mime: Annotated[
        str,
        Field(
            max_length=100,
            pattern=r"^[A-Za-z]+/[A-Za-z0-9.+-]+( ?; ?[Cc][Oo][Dd][Ee][Cc][Ss]=\"?[A-Za-z0-9.,-]+\"?)?$",
            examples=["audio/webm;codecs=opus"],
        ),
    ]


class RecordingAnswered(Answered):
    """A recording, and the numbers of the chunks that are there."""

    id: Id
    encounter_id: Id
    complete: bool
    received: tuple[int, ...]
    size: int


class ChunkAcknowledged(Answered):
    """A chunk that is durable."""

    number: int
    sha256: str
    size: int


class CompletionSent(Sent):
    """How many chunks the recording has."""

    chunks: Annotated[int, Field(ge=1, le=MAX_CHUNKS), Whole]


# --- notes --------------------------------------------------------------------------------------------


class DecisionAnswered(Answered):
    """The policy's decision, as it was recorded before the draft was written."""

    outcome: Literal["permit", "redact"]
    policies: tuple[str, ...]
    policy_set: str
    audit_seq: int


class RedFlagAnswered(Answered):
    """Words that may mean an emergency or a danger, whatever the note says."""

    kind: str
    segment: str
    standing: str


class AddendumAnswered(Answered):
    """A correction to a signed note."""

    id: Id
    text: str
    author_id: str
    created_at: datetime


class NoteAnswered(Answered):
    """A note as it stands: a draft is nobody's word until `signed`."""

    encounter: Id
    version: int
    signed: bool
    signed_at: datetime | None
    note: Note
    decision: DecisionAnswered | None
    red_flags: tuple[RedFlagAnswered, ...]
    notices: tuple[str, ...]
    addenda: tuple[AddendumAnswered, ...]


_StatementText = Annotated[str, Field(min_length=1, max_length=4000, pattern=r"\S")]


class StatementSent(Sent):
    """A statement to add; `version` is that of the note that was seen."""

    version: Annotated[int, Field(ge=1, le=2**31), Whole]
    section: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,100}$")]
    text: _StatementText


class StatementTextSent(Sent):
    """Other words for a statement; `version` is that of the note that was seen."""

    version: Annotated[int, Field(ge=1, le=2**31), Whole]
    text: _StatementText


class NoteChanged(Answered):
    """The new version, and the statements on which a person has still to decide."""

    encounter: Id
    version: int
    open_flags: tuple[str, ...]
