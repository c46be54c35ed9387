"""Events of recordings, typed texts, transcripts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from clinic.audit.events.schema import AuditEvent, Code, Count, Digest, Id


@dataclass(frozen=True, slots=True)
class RecordingStarted(AuditEvent):
    """The first part of a recording is expected."""

    name: ClassVar[str] = "recording.started"
    encounter: Id
    recording: Id


@dataclass(frozen=True, slots=True)
class RecordingCompleted(AuditEvent):
    """All parts of a recording are stored."""

    name: ClassVar[str] = "recording.completed"
    encounter: Id
    recording: Id
    chunks: Count
    size: Count
    sha256: Digest


@dataclass(frozen=True, slots=True)
class AudioPlayed(AuditEvent):
    """Somebody listened to a recording."""

    name: ClassVar[str] = "audio.played"
    encounter: Id
    recording: Id


@dataclass(frozen=True, slots=True)
class TextSubmitted(AuditEvent):
    """A text was typed or pasted instead of a recording."""

    name: ClassVar[str] = "text.submitted"
    encounter: Id
    sha256: Digest
    words: Count


@dataclass(frozen=True, slots=True)
class MomentNoted(AuditEvent):
    """A moment of a recording was marked (no words), or a note typed at it."""

    name: ClassVar[str] = "moment.noted"
    encounter: Id
    moment: Id
    words: Count


@dataclass(frozen=True, slots=True)
class TranscriptionCompleted(AuditEvent):
    """Speech became a transcript."""

    name: ClassVar[str] = "transcription.completed"
    encounter: Id
    transcript_sha256: Digest
    model: Id
    model_sha256: Digest
    segments: Count
    speech_ms: Count


@dataclass(frozen=True, slots=True)
class TranscriptionFailed(AuditEvent):
    """Speech did not become a transcript."""

    name: ClassVar[str] = "transcription.failed"
    encounter: Id
    code: Code


@dataclass(frozen=True, slots=True)
class SpeakersAssigned(AuditEvent):
    """The voices of a recording were told apart: so many names, on so many segments of the transcript."""

    name: ClassVar[str] = "speakers.assigned"
    encounter: Id
    transcript_sha256: Digest
    model: Id
    model_sha256: Digest
    speakers: Count
    segments: Count


@dataclass(frozen=True, slots=True)
class SpeakersFailed(AuditEvent):
    """The voices of a recording could not be told apart; the transcript stands without names."""

    name: ClassVar[str] = "speakers.failed"
    encounter: Id
    code: Code


@dataclass(frozen=True, slots=True)
class SpeakersCorrected(AuditEvent):
    """Somebody corrected who said so many segments: a new version of the transcript."""

    name: ClassVar[str] = "speakers.corrected"
    encounter: Id
    transcript_sha256: Digest
    segments: Count


EVENTS: Final = (
    RecordingStarted,
    RecordingCompleted,
    AudioPlayed,
    TextSubmitted,
    MomentNoted,
    TranscriptionCompleted,
    TranscriptionFailed,
    SpeakersAssigned,
    SpeakersFailed,
    SpeakersCorrected,
)
