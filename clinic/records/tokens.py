"""Tokens of the JSON API: a named program acts for one clinician's account, within the scopes it was given.

Rules kept here:

* A token is shown once, when it is made.  Stored is the SHA-256 of its secret (32 random bytes: there is nothing to
  guess), sealed under the staff key together with account, scopes and expiry: whoever can only write to the database
  can neither add a token nor widen one.
* The secret is compared in constant time, with a token that does not exist as well.
* It opens nothing once it is revoked or has expired, or while its account is disabled.
* Made, revoked, used and refused are audit events; a use is in the transaction of what was done with it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import select

from clinic.audit.events import TokenCreated, TokenRefused, TokenRevoked, TokenUsed
from clinic.domain import Actor, Role, Scope, UserId, new_id
from clinic.errors import DecryptionError, InputError, RecordError
from clinic.records.login import NOBODY
from clinic.records.models import ApiTokenRow
from clinic.records.sealed import STAFF, Place
from clinic.records.users import User, Users
from clinic.records.work import UnitOfWork

LONGEST_DAYS: Final = 366
_PREFIX: Final = "clinic_"
_FORM: Final = re.compile(r"clinic_([0-9a-f]{32})_([A-Za-z0-9_-]{43})", re.ASCII)
_NAME_LENGTH: Final = 100
_SEEN_EVERY: Final = timedelta(minutes=1)
"""How exactly the last use is kept: to the minute, so that an upload does not write the row again with each chunk."""

_UNKNOWN: Final = "unknown"


class _Grant(BaseModel):
    """What is sealed of a token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    user_id: str
    scopes: tuple[Scope, ...]
    expires_at: datetime
    secret_sha256: str


_GRANT: Final = TypeAdapter(_Grant)


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token, without its secret."""

    id: str
    name: str = field(repr=False)
    user_id: UserId
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None

    def standing(self, now: datetime, *, disabled: bool) -> str:
        """Return in words how the token stands; `disabled`: its account is."""
        if self.revoked_at is not None:
            return "revoked"
        if now >= self.expires_at:
            return "expired"
        return "account disabled" if disabled else "good"


@dataclass(frozen=True, slots=True)
class Presented:
    """What somebody sent as a token, looked up.

    Attributes:
        token: the token, if the secret fits one, usable or not.
        user: its account.
        refusal: why it opens nothing, as a code; None if it does.
    """

    token: ApiToken | None
    user: User | None
    refusal: str | None


class Tokens:
    """The tokens, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def create(
        self, user: User, *, name: str, scopes: Iterable[Scope], days: int, actor: Actor
    ) -> tuple[ApiToken, str]:
        """Make a token for an account; return it and what is shown once.

        Raises:
            InputError: `token_invalid_request`: no scope, a name or a number of days that cannot be used.
            RecordError: `token_account`: the account is disabled, or is no clinician's.
        """
        granted = tuple(sorted(set(scopes)))
        _check(name, granted, days)
        if user.disabled or user.role is not Role.CLINICIAN:
            raise RecordError(
                "a token acts for a clinician, and this account is none or is disabled",
                code="token_account",
                hint="name the account of a clinician: `clinic user list`",
            )
        secret = secrets.token_urlsafe(32)
        now = self._work.now()
        row = ApiTokenRow(id=new_id(), user_id=user.id, created_at=now)
        grant = _Grant(
            name=name,
            user_id=user.id,
            scopes=granted,
            expires_at=now + timedelta(days=days),
            secret_sha256=_digest(secret),
        )
        row.grant_data = self._work.vault.seal_json(ApiTokenRow.grant_data, grant.model_dump(mode="json"), _place(row))
        self._work.add(row)
        event = TokenCreated(token=row.id, user_id=user.id, scopes=tuple(scope.value for scope in granted), days=days)
        self._work.append(event, actor=actor)
        return self._token(row, grant), f"{_PREFIX}{row.id}_{secret}"

    def get(self, token_id: str) -> ApiToken:
        """Return a token; `record_unknown` if there is none."""
        row = self._work.require(ApiTokenRow, token_id, what="token")
        return self._token(row, self._grant(row))

    def list(self) -> tuple[ApiToken, ...]:
        """Return all tokens, revoked and expired ones too, oldest first."""
        rows = self._work.session.scalars(select(ApiTokenRow).order_by(ApiTokenRow.created_at, ApiTokenRow.id))
        return tuple(self._token(row, self._grant(row)) for row in rows)

    def revoke(self, token_id: str, actor: Actor) -> ApiToken:
        """Let a token open nothing from now on; does nothing if it is revoked already."""
        row = self._work.require(ApiTokenRow, token_id, what="token")
        if row.revoked_at is None:
            row.revoked_at = self._work.now()
            self._work.append(TokenRevoked(token=row.id), actor=actor)
        return self._token(row, self._grant(row))

    def look_up(self, presented: str) -> Presented:
        """Return whose token this is, and why it opens nothing if it does not."""
        form = _FORM.fullmatch(presented)
        row = None if form is None else self._work.session.get(ApiTokenRow, form[1])
        grant = None if row is None else self._grant(row)
        wanted = _digest("") if grant is None else grant.secret_sha256
        fits = hmac.compare_digest(_digest("-" if form is None else form[2]), wanted)
        if row is None or grant is None or not fits:
            return Presented(None, None, "token_invalid")
        token = self._token(row, grant)
        user = Users(self._work).get(grant.user_id)
        return Presented(token, user, self._refusal(token, user))

    def is_good(self, token_id: str) -> bool:
        """Tell whether a token opens something at this moment."""
        token = self.get(token_id)
        return self._refusal(token, Users(self._work).get(token.user_id)) is None

    def seen(self, token: ApiToken) -> bool:
        """Tell whether the last use of a token is known well enough to be left as it is."""
        return token.last_used_at is not None and self._work.now() - token.last_used_at < _SEEN_EVERY

    def touch(self, token_id: str) -> None:
        """Note that a token is used now."""
        self._work.require(ApiTokenRow, token_id, what="token").last_used_at = self._work.now()

    def used(self, token: ApiToken, operation: str, *, actor: Actor, patient_id: str | None = None) -> None:
        """Append that all events so far of this transaction are this program's doing."""
        event = TokenUsed(token=token.id, operation=operation, entries=self._work.appends)
        self._work.append(event, actor=actor, patient_id=patient_id)

    def refused(self, presented: Presented, operation: str, reason: str) -> None:
        """Append that a program was refused."""
        token_id = presented.token.id if presented.token else _UNKNOWN
        actor = presented.user.actor if presented.user else NOBODY
        self._work.append(TokenRefused(token=token_id, operation=operation, reason=reason), actor=actor)

    def _refusal(self, token: ApiToken, user: User | None) -> str | None:
        if token.revoked_at is not None:
            return "token_revoked"
        if self._work.now() >= token.expires_at:
            return "token_expired"
        if user is None or user.disabled or user.role is not Role.CLINICIAN:
            return "account_disabled"
        return None

    def _grant(self, row: ApiTokenRow) -> _Grant:
        grant = self._work.vault.open_json(ApiTokenRow.grant_data, row.grant_data, _place(row), _GRANT)
        if grant.user_id != row.user_id:
            raise DecryptionError("a token belongs to another account", hint="run `clinic doctor`")
        return grant

    def _token(self, row: ApiTokenRow, grant: _Grant) -> ApiToken:
        return ApiToken(
            id=row.id,
            name=grant.name,
            user_id=UserId(grant.user_id),
            scopes=frozenset(grant.scopes),
            created_at=row.created_at,
            expires_at=grant.expires_at,
            last_used_at=row.last_used_at,
            revoked_at=row.revoked_at,
        )


def _check(name: str, scopes: tuple[Scope, ...], days: int) -> None:
    if not 1 <= len(name) <= _NAME_LENGTH or not name.isprintable() or name != name.strip():
        raise _invalid("the name of the program cannot be used", f"1 to {_NAME_LENGTH} printable characters")
    if not scopes:
        raise _invalid("a token without a scope opens nothing", "name at least one scope")
    if not 1 <= days <= LONGEST_DAYS:
        raise _invalid("a token lasts a limited time", f"1 to {LONGEST_DAYS} days")


def _invalid(message: str, hint: str) -> InputError:
    return InputError(message, code="token_invalid_request", hint=hint)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _place(row: ApiTokenRow) -> Place:
    return Place(STAFF, row.id)
