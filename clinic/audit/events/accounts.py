"""Events of accounts, sessions, second factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from clinic.audit.events.schema import AuditEvent, Code, Id, RoleName


@dataclass(frozen=True, slots=True)
class UserCreated(AuditEvent):
    """An account was made."""

    name: ClassVar[str] = "user.created"
    user_id: Id
    role: RoleName


@dataclass(frozen=True, slots=True)
class UserDisabled(AuditEvent):
    """An account was closed."""

    name: ClassVar[str] = "user.disabled"
    user_id: Id


@dataclass(frozen=True, slots=True)
class UserEnabled(AuditEvent):
    """A closed account was opened again."""

    name: ClassVar[str] = "user.enabled"
    user_id: Id


@dataclass(frozen=True, slots=True)
class PasswordReset(AuditEvent):
    """An account got a new password."""

    name: ClassVar[str] = "password.reset"
    user_id: Id


@dataclass(frozen=True, slots=True)
class LoginSucceeded(AuditEvent):
    """Somebody signed in."""

    name: ClassVar[str] = "login.succeeded"
    user_id: Id


@dataclass(frozen=True, slots=True)
class LoginFailed(AuditEvent):
    """Somebody did not get in; `user_id` is `unknown` where the name typed is no account's."""

    name: ClassVar[str] = "login.failed"
    user_id: Id
    reason: Code


@dataclass(frozen=True, slots=True)
class LoggedOut(AuditEvent):
    """Somebody signed out."""

    name: ClassVar[str] = "login.ended"
    user_id: Id


@dataclass(frozen=True, slots=True)
class FactorEnrolled(AuditEvent):
    """An account has a second factor from here on: its first code was right."""

    name: ClassVar[str] = "factor.enrolled"
    user_id: Id


@dataclass(frozen=True, slots=True)
class FactorRemoved(AuditEvent):
    """An account has no second factor any more."""

    name: ClassVar[str] = "factor.removed"
    user_id: Id


@dataclass(frozen=True, slots=True)
class FactorRefused(AuditEvent):
    """A code of the second factor was not accepted."""

    name: ClassVar[str] = "factor.refused"
    user_id: Id
    reason: Code


EVENTS: Final = (
    UserCreated,
    UserDisabled,
    UserEnabled,
    PasswordReset,
    LoginSucceeded,
    LoginFailed,
    LoggedOut,
    FactorEnrolled,
    FactorRemoved,
    FactorRefused,
)
