"""Accounts of the clinic's staff.

Rules kept here:

* User names are compared after normalising: case and width of letters do not matter.
* Password hash and display name are sealed under the staff key: a stolen database gives nothing to guess against.
* Whatever ends a session everywhere (disabling, a new password) raises `session_epoch`.
* Every change is in the audit log, by id.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import select

from clinic.audit.events import (
    InvitationUsed,
    LoggedOut,
    PasswordReset,
    SessionsEnded,
    UserCreated,
    UserDisabled,
    UserEnabled,
)
from clinic.domain import OPERATOR, Actor, Role, UserId, new_id
from clinic.errors import InputError, RecordError
from clinic.records import passwords
from clinic.records.models import InvitationRow, LoginFailureRow, UserRow
from clinic.records.sealed import STAFF, Place
from clinic.records.work import UnitOfWork

_NAME_LENGTH: Final = 64
_DISPLAY_LENGTH: Final = 200
_OPERATOR_NAME: Final = "command line"


@dataclass(frozen=True, slots=True)
class User:
    """One account."""

    id: UserId
    username: str
    display_name: str = field(repr=False)
    role: Role
    disabled: bool
    session_epoch: int
    created_at: datetime

    @property
    def actor(self) -> Actor:
        """The account as the one who acts."""
        return Actor(user_id=self.id, role=self.role)


class Users:
    """The accounts, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def create(self, username: str, *, display_name: str, role: Role, password: str, actor: Actor) -> User:
        """Open an account.

        Raises:
            InputError: `weak_password`, or a name that cannot be used.
            RecordError: `record_conflict` if the user name is taken.
        """
        name = _checked_username(username)
        shown = _checked_display_name(display_name)
        passwords.require_strong(password, username=name)
        if self._row(name) is not None:
            raise RecordError("this user name is taken", code="record_conflict", hint="choose another user name")
        user_id = new_id()
        row = UserRow(
            id=user_id,
            username=name,
            role=Role(role).value,
            display_name=self._work.vault.seal(UserRow.display_name, shown.encode(), Place(STAFF, user_id)),
            session_epoch=1,
            row_version=1,
            created_at=self._work.now(),
        )
        self._seal_password(row, password)
        self._work.add(row)
        self._work.append(UserCreated(user_id=user_id, role=row.role), actor=actor)
        return self._user(row)

    def get(self, user_id: str) -> User | None:
        """Return the account with this id, disabled ones too."""
        row = self._work.session.get(UserRow, user_id)
        return None if row is None else self._user(row)

    def by_username(self, username: str) -> User | None:
        """Return the account with this user name, disabled ones too."""
        row = self._row(normalise_username(username))
        return None if row is None else self._user(row)

    def list(self) -> tuple[User, ...]:
        """Return all accounts in the order of their user names."""
        rows = self._work.session.scalars(select(UserRow).order_by(UserRow.username))
        return tuple(self._user(row) for row in rows)

    def names(self) -> dict[UserId, str]:
        """Return the name that others see for everybody who can have acted, the command line included."""
        return {OPERATOR.user_id: _OPERATOR_NAME} | {user.id: user.display_name for user in self.list()}

    def disable(self, username: str, actor: Actor) -> User:
        """Close an account and end its sessions; does nothing if it is closed already."""
        row = self._require(username)
        if row.disabled_at is None:
            row.disabled_at = self._work.now()
            row.session_epoch += 1
            self._work.append(UserDisabled(user_id=row.id), actor=actor)
        return self._user(row)

    def enable(self, username: str, actor: Actor) -> User:
        """Open a closed account again, with the password it had; its old sessions stay ended."""
        row = self._require(username)
        if row.disabled_at is not None:
            row.disabled_at = None
            self._work.append(UserEnabled(user_id=row.id), actor=actor)
        return self._user(row)

    def reset_password(self, username: str, password: str, actor: Actor) -> User:
        """Set a new password, end all sessions, and forget failed logins."""
        row = self._require(username)
        passwords.require_strong(password, username=row.username)
        row.session_epoch += 1
        row.row_version += 1
        self._seal_password(row, password)
        failures = self._work.session.get(LoginFailureRow, row.id)
        if failures is not None:
            self._work.session.delete(failures)
        self._work.append(PasswordReset(user_id=row.id), actor=actor)
        waiting = self._work.session.get(InvitationRow, row.id)
        if waiting is not None:  # a one-time code for the password before this one
            self._work.session.delete(waiting)
            self._work.append(InvitationUsed(subject=row.id), actor=actor)
        return self._user(row)

    def end_sessions(self, user_id: str, actor: Actor) -> User:
        """End every session of an account; it may sign in again."""
        row = self._work.require(UserRow, user_id, what="account")
        row.session_epoch += 1
        self._work.append(SessionsEnded(user_id=row.id), actor=actor)
        return self._user(row)

    def logged_out(self, user: User) -> None:
        """Record that somebody ended their session."""
        self._work.append(LoggedOut(user_id=user.id), actor=user.actor)

    # --- for `records.login` only ---------------------------------------------------------------------

    def password_hash(self, user_id: str) -> str:
        """Open the stored password hash."""
        row = self._work.require(UserRow, user_id, what="account")
        return self._work.vault.open(UserRow.password_hash, row.password_hash, _password_place(row)).decode()

    def rehash(self, user_id: str, password: str) -> None:
        """Hash the (verified) password again, under today's parameters."""
        row = self._work.require(UserRow, user_id, what="account")
        row.row_version += 1
        self._seal_password(row, password)

    def _seal_password(self, row: UserRow, password: str) -> None:
        hashed = passwords.hash_password(self._work.hasher, password).encode()
        row.password_hash = self._work.vault.seal(UserRow.password_hash, hashed, _password_place(row))

    def _require(self, username: str) -> UserRow:
        row = self._row(normalise_username(username))
        if row is None:
            raise RecordError("there is no such account", hint="see `clinic user list`")
        return row

    def _row(self, name: str) -> UserRow | None:
        return self._work.session.scalar(select(UserRow).where(UserRow.username == name))

    def _user(self, row: UserRow) -> User:
        shown = self._work.vault.open(UserRow.display_name, row.display_name, Place(STAFF, row.id)).decode()
        return User(
            id=UserId(row.id),
            username=row.username,
            display_name=shown,
            role=Role(row.role),
            disabled=row.disabled_at is not None,
            session_epoch=row.session_epoch,
            created_at=row.created_at,
        )


def normalise_username(username: str) -> str:
    """Return a user name in the form in which names are compared."""
    return unicodedata.normalize("NFKC", username).strip().casefold()


def _password_place(row: UserRow) -> Place:
    return Place(STAFF, row.id, row.row_version)


def _checked_username(username: str) -> str:
    name = normalise_username(username)
    if not 1 <= len(name) <= _NAME_LENGTH or not all(c.isalnum() or c in "._-@" for c in name):
        raise InputError(
            "this user name cannot be used",
            hint=f"letters, digits and . _ - @, at most {_NAME_LENGTH} characters, no blanks",
        )
    return name


def _checked_display_name(display_name: str) -> str:
    shown = " ".join(display_name.split())
    if not 1 <= len(shown) <= _DISPLAY_LENGTH or not shown.isprintable():
        raise InputError("this display name cannot be used", hint=f"1 to {_DISPLAY_LENGTH} printable characters")
    return shown
