"""Proving once more who one is, before what cannot be taken back or gives others power.

Rules kept here:

* The form itself asks: for a code where the account has an app (a recovery code does as well), else for the password.
* It is asked for again after five minutes; having signed in does not count.
* A wrong answer counts as a failed login does, and nothing is done.
"""

from __future__ import annotations

from typing import Final

from flask import request, session

from clinic.errors import AuthenticationError
from clinic.web import devices, sessions
from clinic.web.ports import services

FIELD: Final = "proof"
GOOD_FOR_S: Final = 5 * 60
_LONGEST: Final = 1024
_MARK: Final = "confirmed"


def asked() -> str | None:
    """Return what the form has to ask for: `code`, `password`, or nothing, if it was given just now."""
    if sessions.current() is None or _is_fresh():
        return None
    return "code" if sessions.standing().app else "password"


def require() -> None:
    """Take the proof out of this request's form, unless it was given just now.

    Raises:
        AuthenticationError: `proof_missing`, or why it is refused (`records.login`, `records.factors`).
    """
    kind = asked()
    if kind is None:
        return
    user, typed = sessions.signed_in(), request.form.get(FIELD, "").strip()
    if not 0 < len(typed) <= _LONGEST:
        raise AuthenticationError(
            "prove that it is you", code="proof_missing", hint=f"this asks for your {kind} again, beside your session"
        )
    device = devices.known_for(user)
    if kind == "code":
        services().records.confirm_by_code(user, typed, device=device)
    else:
        services().records.confirm(user, password=typed, device=device)
    session[_MARK] = sessions.clock()


def _is_fresh() -> bool:
    given = session.get(_MARK)
    return isinstance(given, float) and 0 <= sessions.clock() - given < GOOD_FOR_S
