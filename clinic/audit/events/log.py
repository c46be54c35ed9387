"""Events of the log itself: verified, latched, copied, witnessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from clinic.audit.events.schema import AuditEvent, Code, Count, Digest, Id


@dataclass(frozen=True, slots=True)
class AuditOpened(AuditEvent):
    """The log began."""

    name: ClassVar[str] = "log.opened"
    format_version: Count


@dataclass(frozen=True, slots=True)
class AuditExported(AuditEvent):
    """Entries `first` to `last` were exported; `sha256` is that of the encrypted file."""

    name: ClassVar[str] = "log.exported"
    first: Count
    last: Count
    sha256: Digest
    recipients: Count


@dataclass(frozen=True, slots=True)
class AuditVerified(AuditEvent):
    """The log was verified and found whole."""

    name: ClassVar[str] = "log.verified"
    entries: Count


@dataclass(frozen=True, slots=True)
class LatchSet(AuditEvent):
    """The log had failed, and everything was refused since `at_ms` (Unix time by the box's clock); written later."""

    name: ClassVar[str] = "audit.latched"
    latch: Id
    reason: Code
    at_ms: Count


@dataclass(frozen=True, slots=True)
class LatchCleared(AuditEvent):
    """A full verification of `entries` entries passed, and work goes on: what takes the latch off in every process."""

    name: ClassVar[str] = "audit.cleared"
    latch: Id
    entries: Count


@dataclass(frozen=True, slots=True)
class ClockRegressed(AuditEvent):
    """The clock stands this much before the time of the entry before: less than what latches."""

    name: ClassVar[str] = "clock.regressed"
    milliseconds: Count


@dataclass(frozen=True, slots=True)
class SinkLost(AuditEvent):
    """The second copy of the log (`optional`) is not written any more."""

    name: ClassVar[str] = "sink.lost"
    reason: Code


@dataclass(frozen=True, slots=True)
class SinkRestored(AuditEvent):
    """The second copy of the log is complete again up to the entry `last`."""

    name: ClassVar[str] = "sink.restored"
    last: Count


@dataclass(frozen=True, slots=True)
class WitnessAdded(AuditEvent):
    """A checkpoint over `entries` entries that this witness gave back is kept, and the log agrees with it."""

    name: ClassVar[str] = "witness.added"
    witness: Id
    entries: Count
    root: Digest


EVENTS: Final = (
    AuditOpened,
    AuditExported,
    AuditVerified,
    LatchSet,
    LatchCleared,
    ClockRegressed,
    SinkLost,
    SinkRestored,
    WitnessAdded,
)
