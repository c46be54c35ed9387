"""Who may use which route.

Rules kept here:

* A view declares its access with exactly one of `public` and `allow`; the declaration is data, read by tests too.
* `enforce` runs before every view.  No declaration, no session or another role means no.
* While an account owes a second factor, only the routes that are `unfinished` are open to it: those to set one up, and
  out.
* A passive route is one that the page calls by itself (polling): it does not count as the user's activity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from flask import Flask, current_app, request

from clinic.domain import Role
from clinic.errors import AuthenticationError
from clinic.web import sessions

_View = TypeVar("_View", bound=Callable[..., object])
_ATTRIBUTE = "clinic_access"


@dataclass(frozen=True, slots=True)
class Access:
    """Who may use a route: everybody (`public`), or the accounts with one of `roles`."""

    public: bool
    roles: frozenset[Role]
    passive: bool = False
    unfinished: bool = False


def public(view: _View) -> _View:
    """Declare that a view needs no session and shows nothing that would need one."""
    setattr(view, _ATTRIBUTE, Access(public=True, roles=frozenset()))
    return view


def allow(*roles: Role, passive: bool = False, unfinished: bool = False) -> Callable[[_View], _View]:
    """Declare that a view is for signed-in accounts with one of these roles."""
    if not roles:
        raise RuntimeError("name at least one role")

    def declare(view: _View) -> _View:
        setattr(view, _ATTRIBUTE, Access(public=False, roles=frozenset(roles), passive=passive, unfinished=unfinished))
        return view

    return declare


def declared(app: Flask, endpoint: str) -> Access | None:
    """Return what the view behind an endpoint declares, or None if it declares nothing."""
    declaration = getattr(app.view_functions.get(endpoint), _ATTRIBUTE, None)
    return declaration if isinstance(declaration, Access) else None


def enforce() -> None:
    """Refuse the request unless its view is public or its session has a role that the view names.

    Raises:
        AuthenticationError: `signed_out` without a valid session, `not_allowed` for another role, `factor_required`
            while the account owes a second factor.
    """
    if request.endpoint is None:  # no route at all: the router answers 404 or 405 and nothing runs
        return
    access = declared(current_app, request.endpoint)
    if access is None:
        raise AuthenticationError("this page names nobody who may use it", code="not_allowed", hint="report this")
    if access.public:
        return
    user = sessions.current()
    if user is None:
        raise AuthenticationError("you are signed out", code="signed_out", hint="sign in again to go on")
    if user.role not in access.roles:
        raise AuthenticationError(
            "your account may not use this page",
            code="not_allowed",
            hint="ask the administrator if you should be able to",
        )
    if sessions.standing().owes_factor and not access.unfinished:
        raise AuthenticationError(
            "your role has to have a second factor, and you have none yet",
            code="factor_required",
            hint="set it up: `Second factor` on the page of your name",
        )
    if not access.passive:
        sessions.touch()
