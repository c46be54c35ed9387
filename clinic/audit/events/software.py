"""Events of the program itself: what was installed, which licences were accepted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from clinic.audit.events.schema import AuditEvent, Code, Digest, Id


@dataclass(frozen=True, slots=True)
class ProgramInstalled(AuditEvent):
    """From here on the log is written by `version`, installed from this bundle; `signer` is its builder's key."""

    name: ClassVar[str] = "program.installed"
    version: Id
    bundle: Digest
    signer: Id


@dataclass(frozen=True, slots=True)
class LicenceAccepted(AuditEvent):
    """The administrator accepted the licence of a model, with this text; `how` is `typed` or `option`."""

    name: ClassVar[str] = "licence.accepted"
    licence: Id
    sha256: Digest
    how: Code


EVENTS: Final = (ProgramInstalled, LicenceAccepted)
