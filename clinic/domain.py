"""The words that every part of the system shares: transcript, statement, evidence, note, prompt.

Rules kept here:

* Values only: frozen, no I/O, no behaviour beyond what follows from the fields.
* Times are seconds from the start of the recording; timestamps elsewhere are UTC-aware.
* Anything that is stored or exchanged as JSON is a pydantic model that refuses unknown keys.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, NewType

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

PatientId = NewType("PatientId", str)
EncounterId = NewType("EncounterId", str)
RecordingId = NewType("RecordingId", str)
NoteId = NewType("NoteId", str)
DocumentId = NewType("DocumentId", str)
GenerationId = NewType("GenerationId", str)
UserId = NewType("UserId", str)


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# --- people -------------------------------------------------------------------------------------


class Role(StrEnum):
    """What somebody may do; each account has exactly one role."""

    CLINICIAN = "clinician"
    ADMINISTRATOR = "administrator"
    AUDITOR = "auditor"


class Actor(_Value):
    """Who acts: an account, or the operator of the command line (`OPERATOR`)."""

    user_id: UserId
    role: Role


class Scope(StrEnum):
    """What a token of the JSON API may be allowed.  There is none for signing: a person signs, in the form."""

    PATIENTS_READ = "patients:read"
    PATIENTS_WRITE = "patients:write"
    ENCOUNTERS_READ = "encounters:read"
    ENCOUNTERS_WRITE = "encounters:write"
    RECORDINGS_WRITE = "recordings:write"
    NOTES_READ = "notes:read"
    NOTES_WRITE = "notes:write"


# --- an encounter's life --------------------------------------------------------------------------


class Consent(StrEnum):
    """The patient's answer for this one encounter."""

    NOT_RECORDED = "not_recorded"
    GIVEN = "given"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class EncounterKind(StrEnum):
    """A recorded consultation, or a dictated or pasted text to summarise."""

    CONSULTATION = "consultation"
    DICTATION = "dictation"


class EncounterState(StrEnum):
    """Where an encounter stands."""

    OPEN = "open"  # consent, recording or text are still coming in
    QUEUED = "queued"
    RUNNING = "running"
    DRAFTED = "drafted"
    SIGNED = "signed"
    DENIED = "denied"
    FAILED = "failed"


class Stage(StrEnum):
    """The steps of the job that the page shows, in order."""

    TRANSCRIBE = "transcribe"
    DECIDE = "decide"
    GENERATE = "generate"
    VERIFY = "verify"
    STORE = "store"


# --- speech ---------------------------------------------------------------------------------------


class Word(_Value):
    """One recognised word with its time (seconds) and the recogniser's probability (0 to 1).

    `heard_first`: what the recogniser wrote before a second hearing put the name of a drug there; None for all others.
    """

    text: str
    start: float
    end: float
    probability: Annotated[float, Field(ge=0, le=1)]
    heard_first: str | None = None

    @model_serializer(mode="wrap")
    def _without_nothing(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Leave `heard_first` out where there is none: nearly everywhere."""
        values: dict[str, object] = handler(self)
        if self.heard_first is None:
            values.pop("heard_first", None)
        return values


class Segment(_Value):
    """One stretch of speech.  `start`/`end` are None for text that was never spoken into the system."""

    id: str
    text: str
    speaker: str | None = None
    start: float | None = None
    end: float | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    words: tuple[Word, ...] = ()


class Transcript(_Value):
    """What was said, verbatim, in order.  `truncated`: the recording breaks off, there may have been more."""

    segments: tuple[Segment, ...]
    truncated: bool = False
    language: str | None = None
    duration_s: float | None = None
    model: str | None = None
    model_sha256: str | None = None
    speakers_error: str | None = None
    """Code of what kept the speakers from being told apart; absent from JSON where nothing did."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A transcript is stored under the digest of its JSON: one from before this field must keep its own.
        return {name: value for name, value in serialize(self).items() if name != "speakers_error" or value is not None}

    @property
    def text(self) -> str:
        """All segments, one a line, the speaker before the words where it is known."""
        return "\n".join(f"{s.speaker}: {s.text}" if s.speaker else s.text for s in self.segments)

    @property
    def word_count(self) -> int:
        """Words separated by white space."""
        return sum(len(s.text.split()) for s in self.segments)


class ShredReason(StrEnum):
    """Why a patient's record is destroyed: a code for the audit log, which has no room for more."""

    RETENTION_EXPIRED = "retention_expired"
    PATIENT_REQUEST = "patient_request"
    LEGAL_ORDER = "legal_order"
    CONSENT_WITHDRAWN = "consent_withdrawn"
    CREATED_IN_ERROR = "created_in_error"
    BEFORE_RESTORE = "before_restore"
    """Shredded before, and the restored backup is older than that: nobody chooses it, `clinic backup restore` does."""


class GlassReason(StrEnum):
    """Why somebody breaks the glass: a code for the audit log, which has no room for more."""

    EMERGENCY = "emergency"
    COLLEAGUE_AWAY = "colleague_away"
    ON_CALL = "on_call"
    PATIENT_WAITING = "patient_waiting"


# --- notes ----------------------------------------------------------------------------------------


class StatementStatus(StrEnum):
    """How a statement earned its place in the note."""

    SUPPORTED = "supported"
    FLAGGED = "flagged"
    CONFIRMED = "confirmed"
    EDITED = "edited"
    REMOVED = "removed"


class Reason(_Value):
    """Why a statement is flagged: a stable code and a sentence for the clinician."""

    code: str
    message: str


class Evidence(_Value):
    """The segment that supports a statement and, inside it, the seconds to play (None: text without audio)."""

    segment: str
    start: float | None = None
    end: float | None = None


class DraftStatement(_Value):
    """One sentence as the model wrote it; `cited` are the segment ids it named, if it named any."""

    section: str
    text: str
    cited: tuple[str, ...] = ()


class Statement(_Value):
    """One sentence of a note with its evidence and standing."""

    id: str
    section: str
    text: str
    evidence: tuple[Evidence, ...] = ()
    status: StatementStatus
    reasons: tuple[Reason, ...] = ()


class Omission(_Value):
    """Something said that the note does not carry."""

    segment: str
    kind: str
    text: str


class Note(_Value):
    """A note as shown to the clinician."""

    template: str
    model: str
    statements: tuple[Statement, ...]
    omissions: tuple[Omission, ...] = ()

    @property
    def open_flags(self) -> tuple[str, ...]:
        """Ids of the statements on which the clinician has still to decide."""
        return tuple(s.id for s in self.statements if s.status is StatementStatus.FLAGGED)


class Document(_Value):
    """A text made from a signed note, as shown to the clinician: a letter, instructions for the patient.

    Attributes:
        template: id of the document's template; `template_sha256` its digest.
        title, opening, closing, headings (section, its title, and what stands there if nothing else does; in
            order): what is on the paper beside the sentences, as the template had it.
        for_patient: it is read by the patient, and does not name them.
        source_sha256: digest of the note and its addenda that the sentences were held against.
        recipient: whom it is for, in the clinician's words; empty where the template has none.
        text: the sentences.  Their evidence names statements of the note (`n3`), or sentences of addenda (`a1.2`).
    """

    template: str
    template_sha256: str
    title: str
    opening: str | None = None
    closing: str | None = None
    headings: tuple[tuple[str, str, str], ...]
    for_patient: bool = False
    source_sha256: str
    recipient: str = ""
    text: Note

    @property
    def kept(self) -> tuple[Statement, ...]:
        """The sentences that stand in it."""
        return tuple(s for s in self.text.statements if s.status is not StatementStatus.REMOVED)


# --- generation -----------------------------------------------------------------------------------


class Action(StrEnum):
    """What a prompt is for; the policy decides per action."""

    DRAFT_NOTE = "draft_note"
    SUMMARISE_DICTATION = "summarise_dictation"
    LETTER = "letter"
    PATIENT_INSTRUCTIONS = "patient_instructions"
    ASK_RECORD = "ask_record"
    DESCRIBE_IMAGE = "describe_image"
    REDRAFT = "redraft"


class PromptField(StrEnum):
    """What of the record a prompt may hold; the policy allows each action its own."""

    TRANSCRIPT = "transcript"
    NOTE = "note"
    RECORD = "record"
    IMAGE = "image"
    INSTRUCTION = "instruction"
    PATIENT_NAME = "patient_name"
    DATE_OF_BIRTH = "date_of_birth"
    SEX = "sex"
    RECORD_NUMBER = "record_number"


class NoteStanding(StrEnum):
    """Whether an encounter has a note, and whether it is signed."""

    NONE = "none"
    DRAFT = "draft"
    SIGNED = "signed"


class PromptStyle(StrEnum):
    """How a model wants to be asked."""

    COMPLETION = "completion"  # base models: one text a section
    CHAT = "chat"  # instruct models: messages, answer under a JSON schema


class ModelIdentity(_Value):
    """Exactly which model answers: profile name, SHA-256 over weights (and adapter), what it can take."""

    id: str
    sha256: str
    profile: str
    style: PromptStyle
    context_tokens: int


NO_MODEL = ModelIdentity(id="none", sha256="0" * 64, profile="none", style=PromptStyle.COMPLETION, context_tokens=0)
"""Stands where a model would: for a text that is put together from quotes, and of which no model sees anything."""


class Message(_Value):
    """One turn of a chat prompt."""

    role: str
    content: str


class PromptPart(_Value):
    """One call to the model.  Exactly one of `text` (completion) and `messages` (chat) is set."""

    section: str
    text: str | None = None
    messages: tuple[Message, ...] = ()
    json_schema: dict[str, Any] | None = None
    max_tokens: int
    stop: tuple[str, ...] = ()


class Prompt(_Value):
    """Everything that one generation sends to the model: the unit that is decided, recorded and released.

    `fields` says what of the record the parts hold.
    """

    action: Action
    template: str
    template_sha256: str
    model: ModelIdentity
    parts: tuple[PromptPart, ...]
    fields: tuple[PromptField, ...] = (PromptField.TRANSCRIPT,)

    @property
    def sha256(self) -> str:
        """Digest of the canonical JSON of the whole prompt (sorted keys, no white space, UTF-8)."""
        return canonical_sha256(self.model_dump(mode="json"))


class SectionText(_Value):
    """What the model answered for one part."""

    section: str
    text: str
    finish_reason: str


class Completion(_Value):
    """A whole answer, part by part, with the engine's own token counts."""

    sections: tuple[SectionText, ...]
    tokens_in: int
    tokens_out: int
    attempts: int

    @property
    def sha256(self) -> str:
        """Digest of the canonical JSON of the answer."""
        return canonical_sha256(self.model_dump(mode="json"))


def canonical_json(value: Any) -> bytes:
    """Return sorted-key, compact UTF-8 JSON: the same value always gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def canonical_sha256(value: Any) -> str:
    """Return the hexadecimal SHA-256 of `canonical_json(value)`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


Clock = Callable[[], datetime]
"""Gives the present time, UTC-aware.  Injected wherever time matters, so that tests can set it."""


def utc_now() -> datetime:
    """Return the present time in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """Return a fresh random identifier (UUID4, 32 hexadecimal digits): says nothing about what it names."""
    return uuid.uuid4().hex


OPERATOR = Actor(user_id=UserId("operator"), role=Role.CLINICIAN)
"""The person at the command line, who holds the clinic key and so acts with a clinician's rights."""
