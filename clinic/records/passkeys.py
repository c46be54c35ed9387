"""Passkeys (WebAuthn): a device or a security key proves who somebody is, and that it was they who unlocked it.

Rules kept here:

* What a browser sends is verified by py_webauthn; user verification (finger, face, PIN) is always asked for, so a
  passkey stands for both factors.
* A passkey is bound to the name of the box in the address (`rp_id`) and to its origin: a page of another name cannot
  ask for it.  A browser gives none to an address that is a number.
* A challenge is random, the caller's own, and good once (`web.passkeys` keeps them); attestation is not asked for:
  which make of device it is, nobody needs to know.
* The counter of a device only grows: one that does not is a copy of the key, and is refused.  Most passkeys that a
  telephone keeps in step with others have none.
* Account, key, name and counter are sealed under the staff key, so whoever can only write to the database gives nobody
  another's account; in the clear, for looking up, are the account's id and the SHA-256 of the public handle.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, TypeAdapter
from sqlalchemy import select

from clinic.audit.events import LoginSucceeded, PasskeyAdded, PasskeyRefused, PasskeyRemoved, PasskeyUsed
from clinic.domain import Actor, UserId, new_id
from clinic.errors import AuthenticationError, InputError, RecordError
from clinic.records.login import NOBODY, Begin
from clinic.records.models import PasskeyRow
from clinic.records.sealed import STAFF, Place
from clinic.records.users import User, Users
from clinic.records.work import UnitOfWork

MOST: Final = 10
"""Passkeys of one account."""
NAME_LENGTH: Final = 60
_LABEL: Final = "Clinic"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a browser is: the name of the box, and the origin of the page.

    Example:
        >>> Site("clinic.lan", "https://clinic.lan:8443").rp_id
        'clinic.lan'
    """

    rp_id: str
    origin: str


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey, without its key.  `backed_up`: the device keeps it in step with others of its owner."""

    id: str
    user_id: UserId
    name: str = field(repr=False)
    rp_id: str
    backed_up: bool
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Credential:
    """What a browser has made, verified: public handle and key (COSE), counter, whether it is kept elsewhere, too."""

    id: bytes = field(repr=False)
    public_key: bytes = field(repr=False)
    sign_count: int
    backed_up: bool


class _Data(BaseModel):
    """What is sealed of a passkey."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: str
    name: str
    credential_id: str
    public_key: str
    rp_id: str
    sign_count: int
    backed_up: bool


_DATA: Final = TypeAdapter(_Data)


class Passkeys:
    """The passkeys, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def of(self, user_id: str) -> tuple[Passkey, ...]:
        """Return the passkeys of an account, oldest first."""
        rows = self._work.session.scalars(
            select(PasskeyRow).where(PasskeyRow.user_id == user_id).order_by(PasskeyRow.created_at)
        )
        return tuple(self._passkey(row) for row in rows)

    def creation_options(self, user: User, site: Site, challenge: bytes) -> dict[str, Any]:
        """Return what the browser is told to make a new passkey for `user`.

        Raises:
            RecordError: `passkeys_full`.
        """
        import webauthn  # 14 MiB and a tenth of a second: for who uses passkeys only
        from webauthn.helpers import structs

        known = [self._open(row) for row in self._rows(user.id)]
        if len(known) >= MOST:
            raise RecordError(f"an account has at most {MOST} passkeys", code="passkeys_full", hint="remove one first")
        options = webauthn.generate_registration_options(
            rp_id=site.rp_id,
            rp_name=_LABEL,
            user_id=user.id.encode(),
            user_name=user.username,
            user_display_name=user.display_name,
            challenge=challenge,
            authenticator_selection=structs.AuthenticatorSelectionCriteria(
                resident_key=structs.ResidentKeyRequirement.REQUIRED,
                user_verification=structs.UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=[
                structs.PublicKeyCredentialDescriptor(id=_bytes(data.credential_id)) for data in known
            ],
        )
        return dict(json.loads(webauthn.options_to_json(options)))

    def add(self, user: User, answer: dict[str, Any], *, name: str, site: Site, challenge: bytes) -> Passkey:
        """Keep a new passkey, if the browser's answer is to this challenge, from this site.

        Raises:
            InputError: a name that cannot be used.
            AuthenticationError: `passkey_refused`.
            RecordError: `passkeys_full`; `record_conflict` if it is known already.
        """
        import webauthn
        from webauthn.helpers.exceptions import WebAuthnException

        shown = _checked(name)
        if len(self._rows(user.id)) >= MOST:
            raise RecordError(f"an account has at most {MOST} passkeys", code="passkeys_full", hint="remove one first")
        try:
            found = webauthn.verify_registration_response(
                credential=answer,
                expected_challenge=challenge,
                expected_rp_id=site.rp_id,
                expected_origin=site.origin,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, TypeError, KeyError):
            raise refused() from None
        return self.keep(user, _credential(found), name=shown, rp_id=site.rp_id)

    def keep(self, user: User, credential: Credential, *, name: str, rp_id: str) -> Passkey:
        """Keep what was verified.

        Raises:
            RecordError: `record_conflict` if it is known already.
        """
        handle = _handle(credential.id)
        if self._row(handle) is not None:
            raise RecordError("this passkey is known already", code="record_conflict", hint="it needs no second entry")
        data = _Data(
            user_id=user.id,
            name=name,
            credential_id=_text(credential.id),
            public_key=_text(credential.public_key),
            rp_id=rp_id,
            sign_count=credential.sign_count,
            backed_up=credential.backed_up,
        )
        row = PasskeyRow(id=new_id(), user_id=user.id, credential_sha256=handle, created_at=self._work.now())
        row.row_version = 0
        self._keep(row, data)
        self._work.add(row)
        self._work.append(PasskeyAdded(passkey=row.id, user_id=user.id), actor=user.actor)
        return self._passkey(row)

    def rename(self, user_id: str, passkey_id: str, name: str) -> None:
        """Call a passkey of an account otherwise; only its owner reads the name.

        Raises:
            InputError: a name that cannot be used.
            RecordError: `record_unknown`.
        """
        row = self._own(user_id, passkey_id)
        self._keep(row, self._open(row).model_copy(update={"name": _checked(name)}))

    def remove(self, user_id: str, passkey_id: str, actor: Actor) -> None:
        """Let a passkey of an account open nothing any more.

        Raises:
            RecordError: `record_unknown`.
        """
        self._drop(self._own(user_id, passkey_id), actor)

    def remove_all(self, user_id: str, actor: Actor) -> int:
        """Let no passkey of an account open anything any more; return how many there were."""
        rows = self._rows(user_id)
        for row in rows:
            self._drop(row, actor)
        return len(rows)

    def check(self, passkey_id: str) -> None:
        """Open what is sealed, for the sweep.

        Raises:
            DecryptionError: it does not open where it stands.
            ValueError: the handle in the clear is not that of the sealed one.
        """
        row = self._work.require(PasskeyRow, passkey_id, what="passkey")
        if _handle(_bytes(self._open(row).credential_id)) != row.credential_sha256:
            raise ValueError("the handle of a passkey is not that of the sealed one")

    # --- for `sign_in` only ---------------------------------------------------------------------------

    def verify(self, answer: dict[str, Any], *, site: Site, challenge: bytes) -> User | str:
        """Return whose passkey has answered, or the code of the refusal; the counter moves on."""
        import webauthn
        from webauthn.helpers.exceptions import WebAuthnException

        row, user = self._named(answer)
        if row is None or user is None:
            return "passkey_unknown"
        if user.disabled:
            return "user_disabled"
        data = self._open(row)
        try:
            found = webauthn.verify_authentication_response(
                credential=answer,
                expected_challenge=challenge,
                expected_rp_id=site.rp_id,
                expected_origin=site.origin,
                credential_public_key=_bytes(data.public_key),
                credential_current_sign_count=0,  # compared here, so that the log tells a copied key from a bad answer
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, TypeError, KeyError):
            return "passkey_invalid"
        if data.rp_id != site.rp_id:
            return "passkey_invalid"
        if (found.new_sign_count or data.sign_count) and found.new_sign_count <= data.sign_count:
            return "passkey_copied"
        self._keep(
            row,
            data.model_copy(update={"sign_count": found.new_sign_count, "backed_up": bool(found.credential_backed_up)}),
        )
        row.last_used_at = self._work.now()
        self._work.append(PasskeyUsed(passkey=row.id, user_id=user.id), actor=user.actor)
        return user

    def owner(self, answer: dict[str, Any]) -> User | None:
        """Return whose passkey an answer names, right or wrong."""
        return self._named(answer)[1]

    def _named(self, answer: dict[str, Any]) -> tuple[PasskeyRow | None, User | None]:
        try:
            row = self._row(_handle(_bytes(answer["rawId"])))
        except (KeyError, ValueError, TypeError, AttributeError):
            return None, None
        if row is None or self._open(row).user_id != row.user_id:
            return None, None
        return row, Users(self._work).get(row.user_id)

    def _rows(self, user_id: str) -> list[PasskeyRow]:
        return list(self._work.session.scalars(select(PasskeyRow).where(PasskeyRow.user_id == user_id)))

    def _row(self, handle: str) -> PasskeyRow | None:
        return self._work.session.scalar(select(PasskeyRow).where(PasskeyRow.credential_sha256 == handle))

    def _own(self, user_id: str, passkey_id: str) -> PasskeyRow:
        row = self._work.require(PasskeyRow, passkey_id, what="passkey")
        if row.user_id != user_id:
            raise RecordError("there is no such passkey", hint="load the page again")
        return row

    def _drop(self, row: PasskeyRow, actor: Actor) -> None:
        self._work.append(PasskeyRemoved(passkey=row.id, user_id=row.user_id), actor=actor)
        self._work.session.delete(row)

    def _keep(self, row: PasskeyRow, data: _Data) -> None:
        row.row_version += 1
        row.data = self._work.vault.seal_json(PasskeyRow.data, data.model_dump(), _place(row))

    def _open(self, row: PasskeyRow) -> _Data:
        return self._work.vault.open_json(PasskeyRow.data, row.data, _place(row), _DATA)

    def _passkey(self, row: PasskeyRow) -> Passkey:
        data = self._open(row)
        return Passkey(
            id=row.id,
            user_id=UserId(row.user_id),
            name=data.name,
            rp_id=data.rp_id,
            backed_up=data.backed_up,
            created_at=row.created_at,
            last_used_at=row.last_used_at,
        )


def request_options(site: Site, challenge: bytes) -> dict[str, Any]:
    """Return what the browser is told to sign in with whatever passkey it has for this site; the same for everybody."""
    import webauthn
    from webauthn.helpers import structs

    options = webauthn.generate_authentication_options(
        rp_id=site.rp_id, challenge=challenge, user_verification=structs.UserVerificationRequirement.REQUIRED
    )
    return dict(json.loads(webauthn.options_to_json(options)))


def sign_in(begin: Begin, answer: dict[str, Any], *, site: Site, challenge: bytes) -> User:
    """Sign in whoever's passkey has answered this challenge, from this site.

    Raises:
        AuthenticationError: `passkey_refused`, whatever was wrong; the log says what.
    """
    with begin() as work:
        found = Passkeys(work).verify(answer, site=site, challenge=challenge)
        if isinstance(found, User):
            work.append(LoginSucceeded(user_id=found.id), actor=found.actor)
            return found
        owner = Passkeys(work).owner(answer)
        user_id, actor = (owner.id, owner.actor) if owner else (NOBODY.user_id, NOBODY)
        work.append(PasskeyRefused(user_id=user_id, reason=found), actor=actor)
    raise refused()


def refused() -> AuthenticationError:
    """Return what is said of every passkey that is not taken, whatever the reason."""
    return AuthenticationError(
        "this passkey was not accepted", code="passkey_refused", hint="sign in with your password"
    )


def _checked(name: str) -> str:
    shown = " ".join(name.split())
    if not 1 <= len(shown) <= NAME_LENGTH or not shown.isprintable():
        raise InputError(
            "this name cannot be used", code="passkey_name", hint=f"1 to {NAME_LENGTH} printable characters"
        )
    return shown


def _credential(found: Any) -> Credential:
    return Credential(
        found.credential_id, found.credential_public_key, found.sign_count, bool(found.credential_backed_up)
    )


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _handle(credential_id: bytes) -> str:
    return hashlib.sha256(credential_id).hexdigest()


def _place(row: PasskeyRow) -> Place:
    return Place(STAFF, row.id, row.row_version)
