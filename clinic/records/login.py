"""Logging in: a name and a password against the accounts.

Rules kept here:

* An attempt is counted and committed before the password is looked at, so that many at once gain nothing and a crash
  forgives nothing; the result, with its audit event, is committed even when the answer is an error.
* After 5 failures in a row an account waits 30 seconds, then twice as long each time, at most 15 minutes.
* A device on which the account has signed in before counts for itself: whoever fails on purpose elsewhere locks nobody
  out of their own tablet, and gains no guess on it.
* A name without an account is treated alike in every visible way: work, waiting, message.
* No transaction is open while Argon2 works.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

from argon2 import PasswordHasher

from clinic.audit.events import LoginChallenged, LoginConfirmed, LoginFailed, LoginSucceeded
from clinic.domain import Actor, Role, UserId
from clinic.errors import AuthenticationError
from clinic.records import passwords
from clinic.records.models import LoginFailureRow
from clinic.records.standing import standing
from clinic.records.users import User, Users, normalise_username
from clinic.records.work import UnitOfWork

FREE_FAILURES: Final = 5
FIRST_WAIT: Final = timedelta(seconds=30)
LONGEST_WAIT: Final = timedelta(minutes=15)
FORGOTTEN_AFTER: Final = timedelta(hours=24)

NOBODY: Final = Actor(user_id=UserId("unknown"), role=Role.AUDITOR)
"""Who acts when a name is no account; the role with the fewest rights, because an actor must have one."""

T = TypeVar("T")
Begin = Callable[[], AbstractContextManager[UnitOfWork]]
DeviceOf = Callable[[User], str | None]
"""Names the device from which somebody tries, if this account has signed in on it before."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """Name and password were right; if `challenged`, nobody is signed in before the second factor is."""

    user: User
    challenged: bool


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A counted attempt: against which account (None: there is none), and what its password hash was."""

    subject: str
    user: User | None
    stored: str | None = field(repr=False)


def sign_in(
    begin: Begin, username: str, password: str, *, hasher: PasswordHasher, device: DeviceOf | None = None
) -> SignIn:
    """Return the account if name and password fit.  `begin` opens a writing unit of work, committed at its end.

    Raises:
        AuthenticationError: `login_failed` or `login_locked`.
    """
    return _check(begin, username, password, _let_in, hasher=hasher, device=device)


def confirm_password(
    begin: Begin, user: User, password: str, *, hasher: PasswordHasher, device: DeviceOf | None = None
) -> None:
    """Let somebody who is signed in prove by the password that it is still they.

    Raises:
        AuthenticationError: `login_failed` or `login_locked`.
    """
    try:
        _check(begin, user.username, password, confirmed("password"), hasher=hasher, device=device)
    except AuthenticationError as error:
        if error.code != "login_failed":
            raise
        raise AuthenticationError("this is not your password", hint="after 5 failures there is a wait") from None


def confirmed(how: str) -> Callable[[UnitOfWork, User], None]:
    """Return what records that somebody has proved once more who they are."""

    def record(work: UnitOfWork, user: User) -> None:
        work.append(LoginConfirmed(user_id=user.id, how=how), actor=user.actor)

    return record


def _let_in(work: UnitOfWork, user: User) -> SignIn:
    challenged = standing(work, user).has_factor
    event = LoginChallenged(user_id=user.id) if challenged else LoginSucceeded(user_id=user.id)
    work.append(event, actor=user.actor)
    return SignIn(user, challenged)


def _check(
    begin: Begin,
    username: str,
    password: str,
    then: Callable[[UnitOfWork, User], T],
    *,
    hasher: PasswordHasher,
    device: DeviceOf | None,
) -> T:
    """Check name and password, and do `then` in the transaction that forgives the failures before."""
    name = normalise_username(username)
    with begin() as work:
        attempt = _count(work, name, device)
    if attempt is None:
        raise AuthenticationError(
            "too many failed attempts", code="login_locked", hint="wait up to 15 minutes, or ask the administrator"
        )
    fits = passwords.verify(hasher, attempt.stored, password)
    with begin() as work:
        user = _settle(work, attempt, password, fits=fits)
        if user is not None:
            return then(work, user)
    raise AuthenticationError("user name or password is wrong", hint="check both; after 5 failures there is a wait")


def _count(work: UnitOfWork, name: str, device: DeviceOf | None) -> _Attempt | None:
    """Count this attempt as failed for now; None while the account has to wait."""
    users = Users(work)
    user = users.by_username(name)
    subject = user.id if user else unknown_subject(work, name)
    if user and device and (known := device(user)):
        subject = f"device:{known}:{user.id}"
    if not take_attempt(work, subject):
        _refuse(work, user, "login_locked")
        return None
    return _Attempt(subject, user, users.password_hash(user.id) if user else None)


def unknown_subject(work: UnitOfWork, name: str) -> str:
    """Return as whose the attempts for a name without an account are counted.

    Spelled out in hexadecimal, for the index reads `ann-b` and `annb` as one: two names of which one may
    be an account must not share a wait, or the wait tells that there is none.
    """
    return f"unknown:{work.username_index().bucket(name.encode().hex()):04x}"


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
