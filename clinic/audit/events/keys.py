"""Events of the clinic's key, and the ways to open it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from clinic.audit.events.schema import AuditEvent, Code, Count, Digest, Id


@dataclass(frozen=True, slots=True)
class KeyUnlocked(AuditEvent):
    """The clinic key was unlocked."""

    name: ClassVar[str] = "key.unlocked"
    slot_kind: Code


@dataclass(frozen=True, slots=True)
class KeySealed(AuditEvent):
    """The running clinic gave its key up and went back to the sealed page."""

    name: ClassVar[str] = "key.sealed"


@dataclass(frozen=True, slots=True)
class SharesRenewed(AuditEvent):
    """New recovery shares were made; those of before open nothing any more."""

    name: ClassVar[str] = "shares.renewed"


@dataclass(frozen=True, slots=True)
class CredentialRenewed(AuditEvent):
    """A new credential opens the clinic; those of before open nothing any more."""

    name: ClassVar[str] = "credential.renewed"


@dataclass(frozen=True, slots=True)
class SlotRemoved(AuditEvent):
    """One way to open the clinic was taken away; `left` are those that stay."""

    name: ClassVar[str] = "slot.removed"
    slot: Id
    slot_kind: Code
    left: Count


@dataclass(frozen=True, slots=True)
class AuthorityRenewed(AuditEvent):
    """A new local certificate authority is made; `certificate` is the SHA-256 of its certificate."""

    name: ClassVar[str] = "authority.renewed"
    certificate: Digest


@dataclass(frozen=True, slots=True)
class RotationBegun(AuditEvent):
    """Version `version` of the key-encryption key is about to be made; `keys` patients' keys are to be re-wrapped."""

    name: ClassVar[str] = "rotation.begun"
    version: Count
    keys: Count


@dataclass(frozen=True, slots=True)
class RotationFinished(AuditEvent):
    """All `keys` are wrapped under `version`; `destroyed` older versions are destroyed next."""

    name: ClassVar[str] = "rotation.finished"
    version: Count
    keys: Count
    destroyed: Count


EVENTS: Final = (
    KeyUnlocked,
    KeySealed,
    SharesRenewed,
    CredentialRenewed,
    SlotRemoved,
    AuthorityRenewed,
    RotationBegun,
    RotationFinished,
)
