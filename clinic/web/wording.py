"""What the pages say: labels for every value of the domain, and words for errors of the protocol.

Rules kept here:

* Every member of an enum has a label; a test holds the tables complete.
* A library's own error text is never shown: it may quote the request.
"""

from __future__ import annotations

from dataclasses import dataclass

from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException

from clinic.audit.accounting import Use
from clinic.audit.activity import Kind
from clinic.documents.assembly import Origin
from clinic.domain import (
    Consent,
    EncounterKind,
    EncounterState,
    GlassReason,
    Role,
    Scope,
    ShredReason,
    Stage,
    StatementStatus,
)
from clinic.records.changes import Change
from clinic.verification.marks import Mark


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong, and what to do next."""

    code: str
    message: str
    hint: str


KINDS = {
    EncounterKind.CONSULTATION: "Consultation",
    EncounterKind.DICTATION: "Dictation or text",
}
MARKS = {
    Mark.DRUG: "A drug: hear it before you rely on it",
    Mark.NUMBER: "A number: hear it before you rely on it",
}

ACTIVITY = {
    Kind.LOOKED: "Records looked at or taken out",
    Kind.DRAFTED: "Drafts, documents and questions that the policy allowed",
    Kind.DENIED: "Drafts, documents and questions that the policy refused",
    Kind.REFUSED: "People and programs refused",
}
SCOPES = {
    Scope.PATIENTS_READ: "find and read patients",
    Scope.PATIENTS_WRITE: "add and change patients",
    Scope.ENCOUNTERS_READ: "read encounters",
    Scope.ENCOUNTERS_WRITE: "open encounters and record consent",
    Scope.RECORDINGS_WRITE: "send recordings and texts",
    Scope.NOTES_READ: "read notes and transcripts",
    Scope.NOTES_WRITE: "write into drafts",
}
STATES = {
    EncounterState.OPEN: "Open",
    EncounterState.QUEUED: "Waiting",
    EncounterState.RUNNING: "In progress",
    EncounterState.DRAFTED: "Draft to review",
    EncounterState.SIGNED: "Signed",
    EncounterState.DENIED: "Refused by policy",
    EncounterState.FAILED: "Needs attention",
}
CONSENTS = {
    Consent.NOT_RECORDED: "Not asked yet",
    Consent.GIVEN: "Given",
    Consent.REFUSED: "Refused",
    Consent.WITHDRAWN: "Withdrawn",
}
STAGES = {
    Stage.TRANSCRIBE: ("Transcribe", "Turning speech into text; what was typed is taken as it is"),
    Stage.DECIDE: ("Check policy", "Deciding whether a draft may be written, and recording that decision"),
    Stage.GENERATE: ("Write draft", "The local model writes the note"),
    Stage.VERIFY: ("Verify", "Comparing every statement with what was said"),
    Stage.STORE: ("Store", "Sealing the draft"),
}
SHRED_REASONS = {
    ShredReason.PATIENT_REQUEST: "The patient asks for it",
    ShredReason.CONSENT_WITHDRAWN: "The patient withdrew consent",
    ShredReason.RETENTION_EXPIRED: "The time for which it must be kept is over",
    ShredReason.LEGAL_ORDER: "A court or authority orders it",
    ShredReason.CREATED_IN_ERROR: "It was made in error",
}
"""What a person may choose."""
GLASS_REASONS = {
    GlassReason.EMERGENCY: "Emergency: danger to life or health",
    GlassReason.COLLEAGUE_AWAY: "The colleague who opened it cannot be reached",
    GlassReason.ON_CALL: "I am on call outside the hours",
    GlassReason.PATIENT_WAITING: "The patient is here and waits for it",
}
SHRED_UNFINISHED = (
    "The record is destroyed. Some bytes of its key still lie in the files, because something is reading; "
    "the worker takes them out."
)
SHRED_BACKUPS_LATER = "The worker cannot be told to re-key the backups now; the next backup does it."
SHREDDED_PATIENT = "A patient whose record was destroyed"
USES = {
    Use.READ: "Read",
    Use.DISCLOSED: "Taken out",
    Use.CHANGED: "Changed",
    Use.GENERATED: "Generated",
    Use.REFUSED: "Refused by policy",
    Use.DESTROYED: "Destroyed",
    Use.OTHER: "Other",
}
"""What was done with a patient's record."""
STAGE_STATUSES = {
    "waiting": "Waiting",
    "current": "In progress",
    "done": "Done",
    "stopped": "Stopped here",
    "unreached": "Not reached",
}
STATUSES = {
    StatementStatus.SUPPORTED: "Supported",
    StatementStatus.FLAGGED: "Check this",
    StatementStatus.CONFIRMED: "Confirmed",
    StatementStatus.EDITED: "Edited",
    StatementStatus.REMOVED: "Removed",
}
DAY_GROUPS = {
    "yours": "For a clinician to do",
    "box": "The box is working on it",
    "done": "Signed today",
}
"""In whose hands an encounter of the day is."""
NO_RECORD_YET = "No part of the record until a clinician has signed it."
CHANGES = {
    Change.KEPT: "Kept",
    Change.CONFIRMED: "Confirmed",
    Change.EDITED: "Edited",
    Change.REMOVED: "Removed",
    Change.ADDED: "Added",
}
"""What became of a statement of the draft."""
CHECKED = {
    StatementStatus.SUPPORTED: "Supported by what was said",
    StatementStatus.EDITED: "Supported by what was said",
    StatementStatus.FLAGGED: "To check",
}
"""What a sentence is told to be while it is typed: of all statuses, verification gives these."""
DOCUMENT_STATES = {
    "draft": "Draft",
    "signed": "Issued",
    "discarded": "Discarded",
}
"""Where a document made from a signed note stands."""
ORIGINS = {
    Origin.QUOTED: "Quoted from the note",
    Origin.OWN: "Your words",
}
"""Where the words of a sentence of a document come from."""
CHECKED_AGAINST_NOTE = {
    StatementStatus.SUPPORTED: "Supported by the signed note",
    StatementStatus.EDITED: "Supported by the signed note",
    StatementStatus.FLAGGED: "To check",
}


def against_note(message: str) -> str:
    """Return what a check found, in the words for a document: it is held against the note, not against speech."""
    found = message.replace("nothing said supports this; not heard:", "nothing in the note supports this; not there:")
    found = found.replace("nothing said supports this", "nothing in the note supports this")
    return found.removesuffix(" was not said") + " is not in the note" if found.endswith(" was not said") else found


CHECKED_HERE = "Checked against what was said while you type."
ROLES = {
    Role.CLINICIAN: "Clinician",
    Role.ADMINISTRATOR: "Administrator",
    Role.AUDITOR: "Auditor",
}
LANGUAGES = {
    "en": "English",
    "fr": "French",
    "es": "Spanish",
    "pt": "Portuguese",
    "sw": "Swahili",
    "ar": "Arabic",
    "hi": "Hindi",
    "ur": "Urdu",
    "bn": "Bengali",
    "de": "German",
}

_HTTP = {
    400: ("request_invalid", "the request could not be understood", "go back and try again"),
    404: ("page_unknown", "there is no such page", "check the address, or go back to the start"),
    405: ("method_not_allowed", "this address does not take that kind of request", "go back to the start"),
    413: ("too_large", "what was sent is larger than allowed", "send audio in pieces of at most 1 MiB"),
    415: ("request_invalid", "the request is of a kind that is not understood here", "go back and try again"),
    429: ("too_many_requests", "too many attempts", "wait a minute, then try again"),
}


def http_problem(error: HTTPException, status: int) -> Problem:
    """Return the words for an error of the protocol."""
    if isinstance(error, CSRFError):
        return Problem("csrf_invalid", "the page is out of date", "load the page again, then repeat the step")
    code, message, hint = _HTTP.get(status, ("http_error", f"the request failed with status {status}", "try again"))
    return Problem(code, message, hint)
