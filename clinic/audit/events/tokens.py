"""Events of the tokens by which other programs use the JSON API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from clinic.audit.events.schema import AuditEvent, Code, Count, Id, Ids


@dataclass(frozen=True, slots=True)
class TokenCreated(AuditEvent):
    """A program may act for an account, within `scopes`, for so many days."""

    name: ClassVar[str] = "token.created"
    token: Id
    user_id: Id
    scopes: Ids
    days: Count


@dataclass(frozen=True, slots=True)
class TokenRevoked(AuditEvent):
    """A token opens nothing any more."""

    name: ClassVar[str] = "token.revoked"
    token: Id


@dataclass(frozen=True, slots=True)
class TokenUsed(AuditEvent):
    """A program acted in the actor's name: so many entries just before this one are its doing."""

    name: ClassVar[str] = "token.used"
    token: Id
    operation: Code
    entries: Count


@dataclass(frozen=True, slots=True)
class TokenRefused(AuditEvent):
    """A program was refused what it asked for; `token` is `unknown` where what it sent is no token."""

    name: ClassVar[str] = "token.refused"
    token: Id
    operation: Code
    reason: Code


EVENTS: Final = (
    TokenCreated,
    TokenRevoked,
    TokenUsed,
    TokenRefused,
)
