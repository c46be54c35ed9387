"""Events of patients, encounters, notes: who made, saw, changed or destroyed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from clinic.audit.events.schema import (
    AuditEvent,
    Code,
    ConsentName,
    Count,
    Digest,
    GlassReasonName,
    Id,
    KindName,
    Pseudonym,
)


@dataclass(frozen=True, slots=True)
class PatientCreated(AuditEvent):
    """A patient was added."""

    name: ClassVar[str] = "patient.created"
    patient: Pseudonym


@dataclass(frozen=True, slots=True)
class PatientViewed(AuditEvent):
    """Somebody opened a patient's data."""

    name: ClassVar[str] = "patient.viewed"
    patient: Pseudonym


@dataclass(frozen=True, slots=True)
class PatientAccounted(AuditEvent):
    """Somebody saw the accounting of a patient: so many entries of this log."""

    name: ClassVar[str] = "patient.accounted"
    patient: Pseudonym
    entries: Count


@dataclass(frozen=True, slots=True)
class PatientUpdated(AuditEvent):
    """A patient's data were changed."""

    name: ClassVar[str] = "patient.updated"
    patient: Pseudonym


@dataclass(frozen=True, slots=True)
class PatientsListed(AuditEvent):
    """Somebody saw a list of patients, or searched."""

    name: ClassVar[str] = "patients.listed"
    count: Count


@dataclass(frozen=True, slots=True)
class PatientShredded(AuditEvent):
    """A patient's key, data and audio were destroyed for good, with everything of so many encounters."""

    name: ClassVar[str] = "patient.shredded"
    patient: Pseudonym
    reason: Code
    encounters: Count
    recordings: Count


@dataclass(frozen=True, slots=True)
class ShreddingFinished(AuditEvent):
    """Nothing is left of the keys of so many shredded patients in the files of the data folder."""

    name: ClassVar[str] = "shredding.finished"
    patients: Count


@dataclass(frozen=True, slots=True)
class EncounterOpened(AuditEvent):
    """An encounter began."""

    name: ClassVar[str] = "encounter.opened"
    encounter: Id
    patient: Pseudonym
    kind: KindName
    template: Id


@dataclass(frozen=True, slots=True)
class EncounterViewed(AuditEvent):
    """Somebody opened an encounter."""

    name: ClassVar[str] = "encounter.viewed"
    encounter: Id
    patient: Pseudonym


@dataclass(frozen=True, slots=True)
class EncounterTransferred(AuditEvent):
    """A clinician took on an encounter whose own clinician cannot finish it: it is theirs from here."""

    name: ClassVar[str] = "encounter.transferred"
    encounter: Id
    patient: Pseudonym


@dataclass(frozen=True, slots=True)
class ConsentRecorded(AuditEvent):
    """The patient's answer for this encounter."""

    name: ClassVar[str] = "consent.recorded"
    encounter: Id
    patient: Pseudonym
    consent: ConsentName


@dataclass(frozen=True, slots=True)
class GlassBroken(AuditEvent):
    """The actor, with a second factor, broke the glass for one encounter, for so many minutes: this entry allows it."""

    name: ClassVar[str] = "glass.broken"
    encounter: Id
    patient: Pseudonym
    reason: GlassReasonName
    minutes: Count


@dataclass(frozen=True, slots=True)
class NoteDrafted(AuditEvent):
    """A draft was stored."""

    name: ClassVar[str] = "note.drafted"
    encounter: Id
    note: Id
    version: Count
    statements: Count
    flagged: Count
    omissions: Count
    content_sha256: Digest


@dataclass(frozen=True, slots=True)
class NoteEdited(AuditEvent):
    """A draft was changed."""

    name: ClassVar[str] = "note.edited"
    encounter: Id
    note: Id
    version: Count
    content_sha256: Digest


@dataclass(frozen=True, slots=True)
class NoteSigned(AuditEvent):
    """A clinician signed."""

    name: ClassVar[str] = "note.signed"
    encounter: Id
    note: Id
    version: Count
    content_sha256: Digest


@dataclass(frozen=True, slots=True)
class NoteAmended(AuditEvent):
    """An addendum was put to a signed note."""

    name: ClassVar[str] = "note.amended"
    encounter: Id
    note: Id
    addendum: Id
    content_sha256: Digest


@dataclass(frozen=True, slots=True)
class NoteExported(AuditEvent):
    """A signed note was taken out of the records as a document; where it went, the log cannot know."""

    name: ClassVar[str] = "note.exported"
    encounter: Id
    note: Id
    version: Count
    content_sha256: Digest


@dataclass(frozen=True, slots=True)
class NoteCopied(AuditEvent):
    """A note, signed or not, was given as text to be copied or printed; where it went, the log cannot know."""

    name: ClassVar[str] = "note.copied"
    encounter: Id
    note: Id
    version: Count
    content_sha256: Digest
    form: Code


EVENTS: Final = (
    PatientCreated,
    PatientViewed,
    PatientAccounted,
    PatientUpdated,
    PatientsListed,
    PatientShredded,
    ShreddingFinished,
    EncounterOpened,
    EncounterTransferred,
    EncounterViewed,
    ConsentRecorded,
    GlassBroken,
    NoteDrafted,
    NoteEdited,
    NoteSigned,
    NoteAmended,
    NoteExported,
    NoteCopied,
)
