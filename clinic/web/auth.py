"""Signing in and out, the start page, and one's own password.

Rules kept here:

* A failed sign-in says the same whatever was wrong, and always costs the same work (`records.users`).
* After signing in, a page may be returned to only if it is one of ours, named by ids.
"""

from __future__ import annotations

import re

from flask import Blueprint, Response, flash, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import generate_csrf

from clinic.domain import Role
from clinic.errors import AuthenticationError, InputError, http_status
from clinic.web import sessions
from clinic.web.access import allow, public
from clinic.web.forms import FormError, LoginForm, PasswordForm
from clinic.web.ports import services
from clinic.web.security import LOGIN_LIMIT, limiter

blueprint = Blueprint("auth", __name__)

HOME = {Role.CLINICIAN: "day.show", Role.ADMINISTRATOR: "admin.index", Role.AUDITOR: "audit.index"}
_RETURN = re.compile(r"^/(day|patients|encounters|users|audit)(/[0-9a-f]{32})?$")


@blueprint.get("/")
@allow(*Role)
def start() -> ResponseReturnValue:
    """Send everybody to the page where their work begins."""
    return redirect(url_for(HOME[sessions.signed_in().role]))


@blueprint.get("/login")
@public
def login() -> ResponseReturnValue:
    """Show the sign-in form."""
    if sessions.current() is not None:
        return redirect(url_for("auth.start"))
    return render_template(
        "login.html", next=_return_path(), idle="idle" in request.args, restarted=sessions.restarted()
    )


@blueprint.post("/login")
@public
@limiter.limit(LOGIN_LIMIT)
def sign_in() -> ResponseReturnValue:
    """Check name and password, and start a fresh session."""
    try:
        form = LoginForm.parse()
        user = services().records.authenticate(form.username, form.password)
    except FormError as error:
        return _login_again(error, 422)
    except AuthenticationError as error:
        return _login_again(error, http_status(error))
    sessions.begin(user)
    return redirect(_return_path() or url_for(HOME[user.role]))


@blueprint.post("/logout")
@allow(*Role)
def sign_out() -> ResponseReturnValue:
    """End the session."""
    user = sessions.signed_in()
    sessions.end()
    with services().records.write() as tx:
        tx.users.logged_out(user)
    return redirect(url_for("auth.login"))


@blueprint.get("/session")
@allow(*Role, passive=True)
def session_state() -> Response:
    """Give a page that outlived its session the token of the new one."""
    return jsonify(csrf_token=generate_csrf())


@blueprint.post("/session/touch")
@allow(*Role)
def touch() -> ResponseReturnValue:
    """Note that somebody is typing."""
    return "", 204


@blueprint.get("/password")
@allow(*Role)
def password() -> ResponseReturnValue:
    """Show the form for a new password."""
    return render_template("password.html", problem=None)


@blueprint.post("/password")
@allow(*Role)
@limiter.limit(LOGIN_LIMIT)
def change_password() -> ResponseReturnValue:
    """Change one's own password; every other session of the account ends."""
    user, records = sessions.signed_in(), services().records
    try:
        form = PasswordForm.parse()
        records.authenticate(user.username, form.current)
        with records.write() as tx:
            tx.users.reset_password(user.username, form.password, actor=sessions.actor())
            renewed = tx.users.get(user.id)
    except (InputError, AuthenticationError) as error:
        return render_template("password.html", problem=error), http_status(error)
    if renewed is not None:
        sessions.begin(renewed)
    flash("Your password is changed. Other devices are signed out.")
    return redirect(url_for("auth.start"))


def _login_again(error: AuthenticationError | InputError, status: int) -> ResponseReturnValue:
    return render_template("login.html", next=_return_path(), problem=error, idle=False), status


def _return_path() -> str | None:
    path = request.values.get("next", "")
    return path if _RETURN.match(path) else None
