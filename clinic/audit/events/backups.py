"""Events of backups: made, found, re-keyed, drilled, restored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from clinic.audit.events.schema import AuditEvent, Code, Count, Digest, Id


@dataclass(frozen=True, slots=True)
class BackupCreated(AuditEvent):
    """A backup was written and read back; it holds the log up to `entries`.  `sha256` is that of its sealed data."""

    name: ClassVar[str] = "backup.created"
    backup: Id
    destination: Id
    entries: Count
    size: Count
    sha256: Digest


@dataclass(frozen=True, slots=True)
class BackupFound(AuditEvent):
    """A backup of this clinic exists that this log did not know: the log itself goes on from an older backup."""

    name: ClassVar[str] = "backup.found"
    backup: Id
    destination: Id
    entries: Count
    size: Count
    sha256: Digest


@dataclass(frozen=True, slots=True)
class BackupFailed(AuditEvent):
    """A backup, re-key or drill did not come to its end."""

    name: ClassVar[str] = "backup.failed"
    operation: Code
    code: Code


@dataclass(frozen=True, slots=True)
class BackupRekeyed(AuditEvent):
    """A backup holds no key any more of any patient who was shredded up to entry `through`."""

    name: ClassVar[str] = "backup.rekeyed"
    backup: Id
    destination: Id
    generation: Count
    through: Count
    forgotten: Count


@dataclass(frozen=True, slots=True)
class BackupRemoved(AuditEvent):
    """A backup is no more: expired, found missing from its disk, or written off with its disk."""

    name: ClassVar[str] = "backup.removed"
    backup: Id
    destination: Id
    reason: Code


@dataclass(frozen=True, slots=True)
class BackupDrilled(AuditEvent):
    """A backup was restored for the exercise, read, and removed again.  `result` is `ok` or an error code."""

    name: ClassVar[str] = "backup.drilled"
    backup: Id
    result: Code
    entries: Count
    patients: Count
    seconds: Count


@dataclass(frozen=True, slots=True)
class BackupRestored(AuditEvent):
    """This log goes on from a backup that ended at `entries`; `witnessed` is the longest it was known to have been."""

    name: ClassVar[str] = "backup.restored"
    backup: Id
    entries: Count
    witnessed: Count
    reason: Code


EVENTS: Final = (
    BackupCreated,
    BackupFound,
    BackupFailed,
    BackupRekeyed,
    BackupRemoved,
    BackupDrilled,
    BackupRestored,
)
