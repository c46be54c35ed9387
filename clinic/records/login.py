"""Logging in: a name and a password against the accounts.

Rules kept here:

* An attempt is counted and committed before the password is looked at, so that many at once gain nothing and a crash
  forgives nothing; the result, with its audit event, is committed even when the answer is an error.
* After 5 failures in a row an account waits 30 seconds, then twice as long each time, at most 15 minutes.
* A name without an account is treated alike in every visible way: work, waiting, message.
* No transaction is open while Argon2 works.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from argon2 import PasswordHasher

from clinic.audit.events import LoginFailed, LoginSucceeded
from clinic.domain import Actor, Role, UserId
from clinic.errors import AuthenticationError
from clinic.records import passwords
from clinic.records.models import LoginFailureRow
from clinic.records.users import User, Users, normalise_username
from clinic.records.work import UnitOfWork

FREE_FAILURES: Final = 5
FIRST_WAIT: Final = timedelta(seconds=30)
LONGEST_WAIT: Final = timedelta(minutes=15)
FORGOTTEN_AFTER: Final = timedelta(hours=24)

NOBODY: Final = Actor(user_id=UserId("unknown"), role=Role.AUDITOR)
"""Who acts when a name is no account; the role with the fewest rights, because an actor must have one."""

Begin = Callable[[], AbstractContextManager[UnitOfWork]]


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A counted attempt: against which account (None: there is none), and what its password hash was."""

    subject: str
    user: User | None
    stored: str | None = field(repr=False)


def authenticate(begin: Begin, username: str, password: str, *, hasher: PasswordHasher) -> User:
    """Return the account if name and password fit.  `begin` opens a writing unit of work, committed at its end.

    Raises:
        AuthenticationError: `login_failed` or `login_locked`.
    """
    name = normalise_username(username)
    with begin() as work:
        attempt = _count(work, name)
    if attempt is None:
        raise AuthenticationError(
            "too many failed attempts", code="login_locked", hint="wait up to 15 minutes, or ask the administrator"
        )
    fits = passwords.verify(hasher, attempt.stored, password)
    with begin() as work:
        user = _settle(work, attempt, password, fits=fits)
    if user is None:
        raise AuthenticationError("user name or password is wrong", hint="check both; after 5 failures there is a wait")
    return user


def _count(work: UnitOfWork, name: str) -> _Attempt | None:
    """Count this attempt as failed for now; None while the account has to wait."""
    users = Users(work)
    user = users.by_username(name)
    subject = user.id if user else f"unknown:{work.username_index().bucket(name):04x}"
    if not take_attempt(work, subject):
        _refuse(work, user, "login_locked")
        return None
    return _Attempt(subject, user, users.password_hash(user.id) if user else None)


def take_attempt(work: UnitOfWork, subject: str) -> bool:
    """Count an attempt as failed for now; False while the subject has to wait."""
    row = work.session.get(LoginFailureRow, subject)
    now = work.now()
    if row is not None and _waiting(row, now):
        return False
    if row is None:
        row = LoginFailureRow(subject=subject, failures=0, failed_at=now)
        work.add(row)
    elif now - row.failed_at > FORGOTTEN_AFTER:
        row.failures = 0
    row.failures += 1
    row.failed_at = now
    row.locked_until = now + wait if (wait := waiting_time(row.failures)) else None
    return True


def forgive(work: UnitOfWork, subject: str) -> None:
    """Forget the failures of a subject."""
    row = work.session.get(LoginFailureRow, subject)
    if row is not None:
        work.session.delete(row)


def _settle(work: UnitOfWork, attempt: _Attempt, password: str, *, fits: bool) -> User | None:
    users = Users(work)
    user = users.get(attempt.user.id) if attempt.user else None
    if user is None or not fits:
        _refuse(work, user, "login_failed")
        return None
    if user.disabled:
        _refuse(work, user, "user_disabled")
        return None
    stored = users.password_hash(user.id)
    if stored != attempt.stored:
        _refuse(work, user, "password_changed")
        return None
    forgive(work, attempt.subject)
    if work.hasher.check_needs_rehash(stored):
        users.rehash(user.id, password)
    work.append(LoginSucceeded(user_id=user.id), actor=user.actor)
    return user


def _refuse(work: UnitOfWork, user: User | None, reason: str) -> None:
    user_id, actor = (user.id, user.actor) if user else (NOBODY.user_id, NOBODY)
    work.append(LoginFailed(user_id=user_id, reason=reason), actor=actor)


def waiting_time(failures: int) -> timedelta:
    """Return how long an account waits after so many failures in a row."""
    if failures < FREE_FAILURES:
        return timedelta(0)
    doublings = min(failures - FREE_FAILURES, 10)
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


def _waiting(row: LoginFailureRow, now: datetime) -> bool:
    # A wait longer than the longest one means that the clock was set back: it must not lock an account for years.
    return row.locked_until is not None and timedelta(0) < row.locked_until - now <= LONGEST_WAIT
