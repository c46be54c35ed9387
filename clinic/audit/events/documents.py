"""Events of the documents that are made from signed notes: letters, instructions for patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from clinic.audit.events.schema import AuditEvent, Code, Count, Digest, Id


@dataclass(frozen=True, slots=True)
class DocumentDrafted(AuditEvent):
    """A document was drafted from a signed note, by the generation that was allowed for it."""

    name: ClassVar[str] = "document.drafted"
    encounter: Id
    document: Id
    generation: Id
    template: Id
    version: Count
    statements: Count
    flagged: Count
    content_sha256: Digest


@dataclass(frozen=True, slots=True)
class DocumentEdited(AuditEvent):
    """A new version of a document was saved."""

    name: ClassVar[str] = "document.edited"
    encounter: Id
    document: Id
    version: Count
    content_sha256: Digest


@dataclass(frozen=True, slots=True)
class DocumentSigned(AuditEvent):
    """A clinician issued a document; it is locked from here on."""

    name: ClassVar[str] = "document.signed"
    encounter: Id
    document: Id
    version: Count
    content_sha256: Digest


@dataclass(frozen=True, slots=True)
class DocumentDiscarded(AuditEvent):
    """A draft of a document was given up; it cannot be issued any more."""

    name: ClassVar[str] = "document.discarded"
    encounter: Id
    document: Id


@dataclass(frozen=True, slots=True)
class DocumentCopied(AuditEvent):
    """A signed document was given as text to be copied or printed; where it went, the log cannot know."""

    name: ClassVar[str] = "document.copied"
    encounter: Id
    document: Id
    version: Count
    content_sha256: Digest
    form: Code


EVENTS: Final = (DocumentDrafted, DocumentEdited, DocumentSigned, DocumentDiscarded, DocumentCopied)
