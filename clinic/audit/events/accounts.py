"""Events of accounts, sessions, second factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from clinic.audit.events.schema import AuditEvent, Code, Count, Id, Ids, RoleName


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
class LoginChallenged(AuditEvent):
    """Name and password were right; nobody is signed in before the second factor is."""

    name: ClassVar[str] = "login.challenged"
    user_id: Id


@dataclass(frozen=True, slots=True)
class LoginConfirmed(AuditEvent):
    """Somebody who is signed in has proved once more who they are; `how` is `password` or `code`."""

    name: ClassVar[str] = "login.confirmed"
    user_id: Id
    how: Code


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


@dataclass(frozen=True, slots=True)
class FactorRequired(AuditEvent):
    """Accounts of these roles, and of no others, have to have a second factor."""

    name: ClassVar[str] = "factor.required"
    roles: Ids


@dataclass(frozen=True, slots=True)
class RecoveryMade(AuditEvent):
    """An account has this many new recovery codes; those before them are good for nothing."""

    name: ClassVar[str] = "recovery.made"
    user_id: Id
    left: Count


@dataclass(frozen=True, slots=True)
class RecoveryUsed(AuditEvent):
    """A recovery code was used in place of the second factor; this many are left."""

    name: ClassVar[str] = "recovery.used"
    user_id: Id
    left: Count


@dataclass(frozen=True, slots=True)
class PasskeyAdded(AuditEvent):
    """An account has a passkey more."""

    name: ClassVar[str] = "passkey.added"
    passkey: Id
    user_id: Id


@dataclass(frozen=True, slots=True)
class PasskeyRemoved(AuditEvent):
    """A passkey opens nothing any more."""

    name: ClassVar[str] = "passkey.removed"
    passkey: Id
    user_id: Id


@dataclass(frozen=True, slots=True)
class PasskeyUsed(AuditEvent):
    """A passkey has answered."""

    name: ClassVar[str] = "passkey.used"
    passkey: Id
    user_id: Id


@dataclass(frozen=True, slots=True)
class PasskeyRefused(AuditEvent):
    """What a passkey answered was not accepted; `user_id` is `unknown` where the passkey is no account's."""

    name: ClassVar[str] = "passkey.refused"
    user_id: Id
    reason: Code


@dataclass(frozen=True, slots=True)
class SessionsEnded(AuditEvent):
    """Every session of an account was ended."""

    name: ClassVar[str] = "sessions.ended"
    user_id: Id


@dataclass(frozen=True, slots=True)
class SessionEnded(AuditEvent):
    """One session of an account was ended from another: by its owner, or by an administrator."""

    name: ClassVar[str] = "session.ended"
    user_id: Id


@dataclass(frozen=True, slots=True)
class InvitationMade(AuditEvent):
    """A one-time code was made, for the account `subject`, or for `setup`, the first administrator."""

    name: ClassVar[str] = "invitation.made"
    subject: Id


@dataclass(frozen=True, slots=True)
class InvitationUsed(AuditEvent):
    """A one-time code was used, and is good no more."""

    name: ClassVar[str] = "invitation.used"
    subject: Id


EVENTS: Final = (
    UserCreated,
    UserDisabled,
    UserEnabled,
    PasswordReset,
    LoginSucceeded,
    LoginFailed,
    LoginChallenged,
    LoginConfirmed,
    LoggedOut,
    FactorEnrolled,
    FactorRemoved,
    FactorRefused,
    FactorRequired,
    RecoveryMade,
    RecoveryUsed,
    PasskeyAdded,
    PasskeyRemoved,
    PasskeyUsed,
    PasskeyRefused,
    SessionsEnded,
    SessionEnded,
    InvitationMade,
    InvitationUsed,
)
