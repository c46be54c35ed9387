"""One-time codes: with one somebody sets their own password, or sets a new clinic up in the browser.

Rules kept here:

* A code is shown once, to who made it; stored is its SHA-256 (49 bits of chance), sealed under the staff key with its
  end.  One waits for each account at most: a new one replaces it.
* It is good once, for a day (for setting up: 30 days, and only while there is no administrator), and used up in the
  transaction of what it was used for.
* An attempt is counted before the code is looked at, and failures wait as failed logins do (`records.login`).
* A name without an account, an account without a code, a wrong code and one that is too old are answered alike.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import select

from clinic.audit.events import InvitationMade, InvitationUsed, LoginFailed
from clinic.domain import OPERATOR, Actor, Role
from clinic.errors import AuthenticationError
from clinic.records import passwords
from clinic.records.login import NOBODY, Begin, forgive, take_attempt, unknown_subject
from clinic.records.models import InvitationRow, UserRow
from clinic.records.recovery import LETTERS, plain
from clinic.records.sealed import STAFF, Place
from clinic.records.users import User, Users, normalise_username
from clinic.records.work import UnitOfWork

GOOD_FOR: Final = timedelta(days=1)
SETUP: Final = "setup"
"""The subject of the code by which the first administrator is made; no account has this id."""
SETUP_GOOD_FOR: Final = timedelta(days=30)
_SETUP_HINT: Final = (
    "type the code that `clinic init` printed; where it is lost, "
    "`clinic user add NAME --role administrator` at the box makes the administrator without it"
)
_HALF: Final = 5


class _Data(BaseModel):
    """What is sealed of a code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    until: datetime


_DATA: Final = TypeAdapter(_Data)


class Invitations:
    """The codes that wait, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def make(self, subject: str, actor: Actor) -> str:
        """Make a code for an account (its id) or `SETUP`, in place of one that waits, and return it."""
        code = "".join(secrets.choice(LETTERS) for _ in range(2 * _HALF))
        until = self._work.now() + (SETUP_GOOD_FOR if subject == SETUP else GOOD_FOR)
        row = self._work.session.get(InvitationRow, subject)
        if row is None:
            row = InvitationRow(subject=subject, row_version=0)
        row.row_version += 1
        row.created_at = self._work.now()
        data = _Data(sha256=_digest(code), until=until)
        row.data = self._work.vault.seal_json(InvitationRow.data, data.model_dump(mode="json"), _place(row))
        self._work.add(row)
        self._work.append(InvitationMade(subject=subject), actor=actor)
        return f"{code[:_HALF]}-{code[_HALF:]}"

    def waits(self, subject: str) -> bool:
        """Whether a code waits that is still good."""
        row = self._work.session.get(InvitationRow, subject)
        return row is not None and self._work.now() < self._open(row).until

    def is_setup_open(self) -> bool:
        """Whether the first administrator may still be made in the browser."""
        administrator = select(UserRow.id).where(UserRow.role == Role.ADMINISTRATOR.value).limit(1)
        return self._work.session.scalar(administrator) is None and self.waits(SETUP)

    def check(self, subject: str) -> None:
        """Open what is sealed, for the sweep; `DecryptionError` if it does not open where it stands."""
        self._open(self._work.require(InvitationRow, subject, what="code"))

    # --- for `redeem` and `set_up` only ---------------------------------------------------------------

    def fits(self, subject: str, typed: str) -> bool:
        """Whether this is the code that waits."""
        row = self._work.session.get(InvitationRow, subject)
        if row is None:
            return False
        data = self._open(row)
        return hmac.compare_digest(data.sha256, _digest(plain(typed))) and self._work.now() < data.until

    def use_up(self, subject: str, actor: Actor) -> None:
        """Let the code of a subject be good no more."""
        self._work.session.delete(self._work.require(InvitationRow, subject, what="code"))
        self._work.append(InvitationUsed(subject=subject), actor=actor)

    def _open(self, row: InvitationRow) -> _Data:
        return self._work.vault.open_json(InvitationRow.data, row.data, _place(row), _DATA)


def redeem(begin: Begin, username: str, code: str, password: str) -> User:
    """Set the password of the account that the code was made for.

    Raises:
        InputError: `weak_password`.
        AuthenticationError: `invitation_refused`, or `login_locked` while too many failures are recent.
    """
    name = normalise_username(username)
    passwords.require_strong(password, username=name)
    subject = _count(begin, name)
    with begin() as work:
        user = Users(work).by_username(name)
        if user is not None and not user.disabled and Invitations(work).fits(user.id, code):
            forgive(work, subject)
            Invitations(work).use_up(user.id, user.actor)
            return Users(work).reset_password(name, password, user.actor)
        _refuse(work, user, "invitation_refused")
    raise _refused()


def set_up(begin: Begin, code: str, *, username: str, display_name: str, password: str) -> User:
    """Make the first administrator.

    Raises:
        InputError: `weak_password`, or a name that cannot be used.
        AuthenticationError: `invitation_refused`, or `login_locked` while too many failures are recent.
    """
    subject = _count(begin, None)
    with begin() as work:
        if Invitations(work).is_setup_open() and Invitations(work).fits(SETUP, code):
            forgive(work, subject)
            made = Users(work).create(
                username, display_name=display_name, role=Role.ADMINISTRATOR, password=password, actor=OPERATOR
            )
            Invitations(work).use_up(SETUP, made.actor)
            return made
        _refuse(work, None, "invitation_refused")
    raise AuthenticationError("this is not the code of this box", code="invitation_refused", hint=_SETUP_HINT)


def _count(begin: Begin, name: str | None) -> str:
    """Count an attempt as failed for now, and return as whose."""
    locked = False
    with begin() as work:
        user = None if name is None else Users(work).by_username(name)
        unknown = SETUP if name is None else unknown_subject(work, name)
        subject = f"invitation:{user.id if user else unknown}"
        if not take_attempt(work, subject):
            _refuse(work, user, "login_locked")
            locked = True
    if locked:
        raise AuthenticationError("too many failed attempts", code="login_locked", hint="wait up to 15 minutes")
    return subject


def _refuse(work: UnitOfWork, user: User | None, reason: str) -> None:
    user_id, actor = (user.id, user.actor) if user else (NOBODY.user_id, NOBODY)
    work.append(LoginFailed(user_id=user_id, reason=reason), actor=actor)


def _refused() -> AuthenticationError:
    return AuthenticationError(
        "name or code is wrong, or the code was used or is too old",
        code="invitation_refused",
        hint="the administrator makes a new one",
    )


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _place(row: InvitationRow) -> Place:
    return Place(STAFF, row.subject, row.row_version)
