"""Passkeys at the web form: making one, its name, taking it away, and signing in with it.

Rules kept here:

* The box is asked for by one of the names of its certificate (`web.origin`).
* A challenge is made here, belongs to one browser and one purpose, is good once and for five minutes.
* A new passkey, and taking one away, ask for proof (`stepup`).
* Signing in with one says the same whatever was wrong.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from threading import Lock
from typing import Final, cast

from flask import Blueprint, Flask, current_app, flash, jsonify, redirect, session, url_for
from flask.typing import ResponseReturnValue

from clinic.domain import Role
from clinic.errors import AuthenticationError
from clinic.records.passkeys import refused, request_options
from clinic.web import sessions, stepup
from clinic.web.access import allow, public
from clinic.web.auth import welcome
from clinic.web.factor import refusal_page
from clinic.web.forms import PasskeyAnswerForm, PasskeyForm, PasskeyNameForm
from clinic.web.origin import site
from clinic.web.ports import services
from clinic.web.security import LOGIN_LIMIT, limiter
from clinic.web.sessions import Uptime

blueprint = Blueprint("passkeys", __name__)
CHALLENGE_SECONDS: Final = 5 * 60
_MOST: Final = 1000
_EXTENSION: Final = "clinic.passkeys"
_MARK: Final = "challenge"
_SIGN_IN: Final = "sign-in"


@dataclass(frozen=True, slots=True)
class _Waiting:
    challenge: bytes
    purpose: str
    until: float


class Challenges:
    """The challenges that wait for their answer, each for one browser; the oldest go where there are too many."""

    def __init__(self, clock: Uptime) -> None:
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._lock = Lock()

    def make(self, purpose: str) -> tuple[str, bytes]:
        """Make a challenge for a purpose; return the name by which its browser finds it again, and the challenge."""
        now, name, challenge = self._clock(), secrets.token_urlsafe(16), secrets.token_bytes(32)
        with self._lock:
            alive = [(key, each) for key, each in self._waiting.items() if each.until > now]
            self._waiting = dict(alive[-(_MOST - 1) :])
            self._waiting[name] = _Waiting(challenge, purpose, now + CHALLENGE_SECONDS)
        return name, challenge

    def take(self, name: str, purpose: str) -> bytes | None:
        """Use a challenge up; None if there is none of this name and purpose any more."""
        with self._lock:
            found = self._waiting.pop(name, None)
        if found is None or found.purpose != purpose or found.until <= self._clock():
            return None
        return found.challenge


def configure(app: Flask, *, clock: Uptime) -> None:
    """Give an application its challenges."""
    app.extensions[_EXTENSION] = Challenges(clock)


@blueprint.post("/passkeys/options")
@allow(*Role, unfinished=True)
@limiter.limit(LOGIN_LIMIT)
def creation_options() -> ResponseReturnValue:
    """Tell the browser how to make a passkey, after a proof of who asks."""
    here, user = site(), sessions.signed_in()
    stepup.require()
    challenge = _ask(user.id)
    with services().records.read() as tx:
        return jsonify(tx.passkeys.creation_options(user, here, challenge))


@blueprint.post("/passkeys")
@allow(*Role, unfinished=True)
@limiter.limit(LOGIN_LIMIT)
def add() -> ResponseReturnValue:
    """Keep the passkey that the browser has made."""
    here, user = site(), sessions.signed_in()
    form = PasskeyForm.parse_json()
    challenge = _answered(user.id)
    with services().records.write() as tx:
        tx.passkeys.add(user, form.answer, name=form.name, site=here, challenge=challenge)
        has_codes = tx.standing(user).recovery_left > 0
    if has_codes:
        flash("The passkey is set up.")
    return jsonify(recovery_codes=has_codes), 201


@blueprint.post("/passkeys/<id:passkey_id>/name")
@allow(*Role)
def rename(passkey_id: str) -> ResponseReturnValue:
    """Call a passkey otherwise."""
    form = PasskeyNameForm.parse()
    with services().records.write() as tx:
        tx.passkeys.rename(sessions.signed_in().id, passkey_id, form.name)
    return redirect(url_for("factor.show"), 303)


@blueprint.post("/passkeys/<id:passkey_id>/remove")
@allow(*Role)
@limiter.limit(LOGIN_LIMIT)
def remove(passkey_id: str) -> ResponseReturnValue:
    """Let a passkey open nothing any more."""
    try:
        stepup.require()
    except AuthenticationError as error:
        return refusal_page(error)
    user = sessions.signed_in()
    with services().records.write() as tx:
        tx.passkeys.remove(user.id, passkey_id, sessions.actor())
        tx.factors.tidy(user.id, sessions.actor())
    flash("The passkey is removed. Delete it on the device, too: there it would be offered in vain.")
    return redirect(url_for("factor.show"), 303)


@blueprint.post("/login/passkey/options")
@public
@limiter.limit(LOGIN_LIMIT)
def sign_in_options() -> ResponseReturnValue:
    """Tell the browser what to sign; the same for everybody."""
    here = site()
    return jsonify(request_options(here, _ask(_SIGN_IN)))


@blueprint.post("/login/passkey")
@public
@limiter.limit(LOGIN_LIMIT)
def sign_in() -> ResponseReturnValue:
    """Check what the passkey has signed, and start a fresh session."""
    here = site()
    form = PasskeyAnswerForm.parse_json()
    challenge = _answered(_SIGN_IN)
    user = services().records.sign_in_by_passkey(form.answer, site=here, challenge=challenge)
    return jsonify(next=welcome(user, form.next))


def _ask(purpose: str) -> bytes:
    name, challenge = _challenges().make(purpose)
    session[_MARK] = name
    return challenge


def _answered(purpose: str) -> bytes:
    challenge = _challenges().take(str(session.pop(_MARK, "")), purpose)
    if challenge is None:
        raise refused()
    return challenge


def _challenges() -> Challenges:
    return cast("Challenges", current_app.extensions[_EXTENSION])
