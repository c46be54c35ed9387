"""The devices on which an account has signed in before.

Rules kept here:

* A device keeps a signed cookie with a random name of its own and, for each account that has signed in on it, the
  account's session epoch: after a new password, or once its sessions were ended, the device is a stranger again.
* It proves nobody's identity and opens nothing.  Failed attempts on a known device are counted for that device
  (`records.login`), so that somebody who fails on purpose elsewhere does not lock people out of their own tablets.
* At most eight accounts are remembered, those that signed in last.
"""

from __future__ import annotations

from typing import Any, Final

from flask import Flask, Response, current_app, g, request
from itsdangerous import BadSignature, URLSafeSerializer

from clinic.domain import new_id
from clinic.records.users import User

COOKIE: Final = "__Host-clinic-device"
_MOST: Final = 8
_SECONDS: Final = 180 * 24 * 3600
_CHANGED: Final = "clinic_device"


def configure(app: Flask) -> None:
    """Let an application write the cookie."""
    app.after_request(_write)


def known_for(user: User) -> str | None:
    """Return the name of this device if the account, as it is now, has signed in on it before."""
    name, accounts = _read()
    return name if accounts.get(user.id) == user.session_epoch else None


def remember(user: User) -> None:
    """Note that the account has signed in on this device."""
    name, accounts = _read()
    accounts.pop(user.id, None)
    kept = dict([*accounts.items(), (user.id, user.session_epoch)][-_MOST:])
    setattr(g, _CHANGED, {"name": name or new_id(), "accounts": kept})


def _read() -> tuple[str | None, dict[str, int]]:
    try:
        found = _signer().loads(request.cookies.get(_name(), ""))
    except BadSignature:
        return None, {}
    return str(found["name"]), dict(found["accounts"])


def _write(response: Response) -> Response:
    changed: dict[str, Any] | None = g.pop(_CHANGED, None)
    if changed is not None:
        response.set_cookie(
            _name(),
            _signer().dumps(changed),
            max_age=_SECONDS,
            secure=current_app.config["SESSION_COOKIE_SECURE"],
            httponly=True,
            samesite="Strict",
        )
    return response


def _name() -> str:
    return COOKIE if current_app.config["SESSION_COOKIE_SECURE"] else "insecure-clinic-device"


def _signer() -> URLSafeSerializer:
    return URLSafeSerializer(current_app.config["SECRET_KEY"], salt="clinic.web.devices")
