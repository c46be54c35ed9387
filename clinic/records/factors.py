"""The second factor: a code of six digits that changes every 30 seconds (RFC 6238), from an app on one's own phone.

Rules kept here:

* The secret is sealed under the staff key and shown once, while it is enrolled; it counts from its first right code on.
* An attempt is counted and committed before the code is looked at, and failures wait as failed logins do
  (`records.login`): guessing a code takes years, and trying many at once gains nothing.
* A code is good once: its time step is kept, and neither it nor an earlier one is taken again.  The step before and
  the step after are taken too, for clocks that differ by a little.
* Where that is asked for, a recovery code (`records.recovery`) does as well.
* What a code is given for is done in the transaction that uses the code up: both are committed, or neither.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

import pyotp

from clinic.audit.events import FactorEnrolled, FactorRefused, FactorRemoved, LoginSucceeded
from clinic.domain import Actor
from clinic.errors import AuthenticationError, RecordError
from clinic.records.login import Begin, confirmed, forgive, take_attempt
from clinic.records.models import SecondFactorRow
from clinic.records.passkeys import Passkeys
from clinic.records.recovery import RecoveryCodes, looks_like_one
from clinic.records.sealed import STAFF, Place
from clinic.records.users import User, Users
from clinic.records.work import UnitOfWork

T = TypeVar("T")

STEP_S: Final = 30
ENROLMENT: Final = timedelta(minutes=15)
"""How long a new secret waits for its first code."""

_ISSUER: Final = "Clinic"
_REFUSALS: Final = {
    "factor_locked": ("too many wrong codes", "wait up to 15 minutes, or ask the administrator"),
    "factor_missing": (
        "this account has no second factor",
        "set it up: `Second factor` on the page of your name",
    ),
    "factor_wrong": ("the code is not right", "type the six digits that the app shows now; set the phone's clock"),
    "factor_used": ("this code was used already", "wait until the app shows the next one, at most 30 seconds"),
}


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the app on the phone needs; shown once."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


class SecondFactors:
    """The second factors, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def begin(self, user: User) -> Enrolment:
        """Make a new secret; it counts once `prove` has seen its first code.

        Raises:
            RecordError: `factor_enrolled` the account has one; the administrator removes it first.
        """
        row = self._work.session.get(SecondFactorRow, user.id)
        if row is not None and row.confirmed_at is not None:
            raise RecordError(
                "this account has a second factor already",
                code="factor_enrolled",
                hint="the administrator removes it first: `clinic user totp NAME --remove`",
            )
        secret = pyotp.random_base32()
        if row is None:
            row = SecondFactorRow(user_id=user.id, row_version=0, last_step=0)
        row.row_version += 1
        row.created_at = self._work.now()
        row.secret = self._work.vault.seal(SecondFactorRow.secret, secret.encode(), _place(row))
        self._work.add(row)
        return Enrolment(secret, pyotp.TOTP(secret).provisioning_uri(name=user.username, issuer_name=_ISSUER))

    def is_enrolled(self, user_id: str) -> bool:
        """Whether the account has a second factor that counts."""
        row = self._work.session.get(SecondFactorRow, user_id)
        return row is not None and row.confirmed_at is not None

    def reset(self, user_id: str, actor: Actor) -> bool:
        """Take app, passkeys and recovery codes away; return whether there was anything that counted."""
        app, passkeys = self.remove(user_id, actor), Passkeys(self._work).remove_all(user_id, actor)
        RecoveryCodes(self._work).remove(user_id, actor)
        return app or passkeys > 0

    def remove(self, user_id: str, actor: Actor) -> bool:
        """Take the app away; return whether there was one that counted.

        The recovery codes go with the last second factor.
        """
        row = self._work.session.get(SecondFactorRow, user_id)
        if row is None:
            return False
        counted = row.confirmed_at is not None
        self._work.session.delete(row)
        forgive(self._work, _subject(user_id))
        if counted:
            self._work.append(FactorRemoved(user_id=user_id), actor=actor)
            self.tidy(user_id, actor)
        return counted

    def tidy(self, user_id: str, actor: Actor) -> None:
        """Take the recovery codes away if there is nothing left in whose place they could stand."""
        if not self.is_enrolled(user_id) and not Passkeys(self._work).of(user_id):
            RecoveryCodes(self._work).remove(user_id, actor)

    # --- for `prove` and the sweep only ---------------------------------------------------------------

    def secret(self, user_id: str) -> str | None:
        """Open the stored secret, one that waits for its first code too."""
        row = self._work.session.get(SecondFactorRow, user_id)
        return None if row is None else self._open(row)

    def use(self, user_id: str, code: str, *, enrolling: bool) -> str | None:
        """Use a code up and return None, or return the code of the refusal."""
        row = self._work.session.get(SecondFactorRow, user_id)
        if row is None or not self._fits(row, enrolling=enrolling):
            return "factor_missing"
        step = _step_of(self._open(row), code, self._work.now())
        if step is None:
            return "factor_wrong"
        if step <= row.last_step:
            return "factor_used"
        row.last_step = step
        if enrolling:
            row.confirmed_at = self._work.now()
        return None

    def _fits(self, row: SecondFactorRow, *, enrolling: bool) -> bool:
        if not enrolling:
            return row.confirmed_at is not None
        return row.confirmed_at is None and timedelta(0) <= self._work.now() - row.created_at < ENROLMENT

    def _open(self, row: SecondFactorRow) -> str:
        return self._work.vault.open(SecondFactorRow.secret, row.secret, _place(row)).decode()


def enrol(begin: Begin, actor: Actor, code: str) -> None:
    """Let a new secret count, if this is its code.

    Raises:
        AuthenticationError: as `prove`.
    """
    event = FactorEnrolled(user_id=actor.user_id)
    prove(begin, actor, code, lambda work: work.append(event, actor=actor), enrolling=True)


def finish_sign_in(begin: Begin, user: User, code: str, *, device: str | None = None) -> User:
    """Sign an account in whose password was right (`login.SignIn.challenged`), if this is its code.

    Raises:
        AuthenticationError: as `prove`; `signed_out` if the account was changed since the password was right.
    """

    def let_in(work: UnitOfWork) -> User:
        now = Users(work).get(user.id)
        if now is None or now.disabled or now.session_epoch != user.session_epoch:
            raise AuthenticationError("your account was changed just now", code="signed_out", hint="sign in again")
        work.append(LoginSucceeded(user_id=now.id), actor=now.actor)
        return now

    return prove(begin, user.actor, code, let_in, recovery=True, device=device)


def confirm_code(begin: Begin, user: User, code: str, *, device: str | None = None) -> None:
    """Let somebody who is signed in prove by a code that it is still they.

    Raises:
        AuthenticationError: as `prove`.
    """
    prove(begin, user.actor, code, lambda work: confirmed("code")(work, user), recovery=True, device=device)


def prove(
    begin: Begin,
    actor: Actor,
    code: str,
    then: Callable[[UnitOfWork], T],
    *,
    enrolling: bool = False,
    recovery: bool = False,
    device: str | None = None,
) -> T:
    """Use up a code of the actor's second factor, and do `then` in the same transaction.

    Args:
        begin: opens a writing unit of work, committed at its end.
        actor: whose code it has to be.
        code: what was typed.
        then: what the code is for.
        enrolling: the code is the first of a new secret.
        recovery: a recovery code does as well.
        device: a device on which the account has signed in before; its failures are counted apart (`records.login`).

    Raises:
        AuthenticationError: `factor_missing`, `factor_wrong`, `factor_used` or `factor_locked`; it is recorded.
    """
    subject = _subject(actor.user_id, device)
    with begin() as work:
        refusal = None if take_attempt(work, subject) else "factor_locked"
        if refusal is not None:
            _record(work, actor, refusal)
    if refusal is None:
        with begin() as work:
            if recovery and looks_like_one(code):
                refusal = None if RecoveryCodes(work).use(actor.user_id, code, actor) else "factor_wrong"
            else:
                refusal = SecondFactors(work).use(actor.user_id, code, enrolling=enrolling)
            if refusal is None:
                forgive(work, subject)
                return then(work)
            _record(work, actor, refusal)
    message, hint = _REFUSALS[refusal]
    raise AuthenticationError(message, code=refusal, hint=hint)


def _record(work: UnitOfWork, actor: Actor, refusal: str) -> None:
    work.append(FactorRefused(user_id=actor.user_id, reason=refusal), actor=actor)


def _step_of(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step of a code, if it is one of the three that are taken."""
    typed = "".join(code.split())
    present = int(now.timestamp()) // STEP_S
    found = None
    for step in (present - 1, present, present + 1):
        if hmac.compare_digest(pyotp.TOTP(secret).at(step * STEP_S).encode(), typed.encode()):
            found = step
    return found


def _subject(user_id: str, device: str | None = None) -> str:
    return f"factor:{user_id}:{device}" if device else f"factor:{user_id}"


def _place(row: SecondFactorRow) -> Place:
    return Place(STAFF, row.user_id, row.row_version)
