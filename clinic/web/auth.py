"""Signing in and out, the start page, and one's own password.

Rules kept here:

* A failed sign-in says the same whatever was wrong, and always costs the same work (`records.login`).
* That an account has a second factor is seen only by who has the password.
* After signing in, a page may be returned to only if it is one of ours, named by ids.
"""

from __future__ import annotations

import re

from flask import Blueprint, Response, flash, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_wtf.csrf import generate_csrf

from clinic.domain import Role
from clinic.errors import AuthenticationError, InputError, http_status
from clinic.records.recovery import looks_like_one
from clinic.records.users import User
from clinic.web import devices, sessions
from clinic.web.access import allow, public
from clinic.web.forms import FormError, LoginForm, PasswordForm, SecondStepForm
from clinic.web.origin import works_here
from clinic.web.ports import services
from clinic.web.security import LOGIN_LIMIT, limiter

blueprint = Blueprint("auth", __name__)

HOME = {Role.CLINICIAN: "day.show", Role.ADMINISTRATOR: "admin.index", Role.AUDITOR: "audit.index"}
_NAME_LENGTH = 64
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
        "login.html",
        next=_return_path(),
        idle="idle" in request.args,
        restarted=sessions.restarted(),
        passkeys_work=works_here(),
        setup_open=_setup_open(),
    )


@blueprint.post("/login")
@public
@limiter.limit(LOGIN_LIMIT)
def sign_in() -> ResponseReturnValue:
    """Check name and password, and start a fresh session."""
    try:
        form = LoginForm.parse()
        found = services().records.sign_in(form.username, form.password, device=devices.known_for)
    except (FormError, AuthenticationError) as error:
        return _login_again(error)
    if found.challenged:
        sessions.half_way(found.user)
        return redirect(url_for("auth.second_step", next=_return_path()))
    return redirect(welcome(found.user, _return_path()))


@blueprint.get("/login/code")
@public
def second_step() -> ResponseReturnValue:
    """Ask for the second factor of who has just given the right password."""
    waiting = sessions.waiting_for()
    if waiting is None:
        return redirect(url_for("auth.login"))
    return _code_page(waiting)


def _code_page(waiting: User, problem: AuthenticationError | InputError | None = None) -> ResponseReturnValue:
    with services().records.read() as tx:
        standing = tx.standing(waiting)
    page = render_template(
        "login_code.html", next=_return_path(), standing=standing, problem=problem, passkeys_work=works_here()
    )
    return page, 200 if problem is None else http_status(problem)


@blueprint.post("/login/code")
@public
@limiter.limit(LOGIN_LIMIT)
def finish_sign_in() -> ResponseReturnValue:
    """Check the code, and start a fresh session."""
    waiting = sessions.waiting_for()
    if waiting is None:
        late = AuthenticationError("that took too long", code="signed_out", hint="sign in again")
        return _login_again(late)
    try:
        code = SecondStepForm.parse().code
        user = services().records.finish_sign_in(waiting, code, device=devices.known_for(waiting))
    except (FormError, AuthenticationError) as error:
        return _code_page(waiting, error)
    answer = redirect(welcome(user, _return_path()))
    if looks_like_one(code):
        left = sessions.standing().recovery_left
        flash(f"That recovery code is used up; {left} are left. New ones are made on the page of your name.")
    return answer


def _setup_open() -> bool:
    with services().records.read() as tx:
        return tx.invitations.is_setup_open()


def welcome(user: User, wanted: str | None) -> str:
    """Start a fresh session, and return where to: the page that was wanted, if it is one of ours, or the start."""
    sessions.begin(user)
    return wanted if wanted and _RETURN.fullmatch(wanted) else url_for(HOME[user.role])


@blueprint.post("/logout")
@allow(*Role, unfinished=True)
def sign_out() -> ResponseReturnValue:
    """End the session."""
    user = sessions.signed_in()
    sessions.end()
    with services().records.write() as tx:
        tx.users.logged_out(user)
    return redirect(url_for("auth.login"))


@blueprint.get("/session")
@allow(*Role, passive=True, unfinished=True)
def session_state() -> Response:
    """Give a page that outlived its session the token of the new one."""
    return jsonify(csrf_token=generate_csrf())


@blueprint.post("/session/touch")
@allow(*Role, unfinished=True)
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
        records.confirm(user, password=form.current, device=devices.known_for(user))
        with records.write() as tx:
            tx.users.reset_password(user.username, form.password, actor=sessions.actor())
            renewed = tx.users.get(user.id)
    except (InputError, AuthenticationError) as error:
        return render_template("password.html", problem=error), http_status(error)
    if renewed is not None:
        sessions.begin(renewed)
    flash("Your password is changed. Other devices are signed out.")
    return redirect(url_for("auth.start"))


def _login_again(error: AuthenticationError | InputError) -> ResponseReturnValue:
    name = request.form.get("username", "")[:_NAME_LENGTH]
    page = render_template(
        "login.html", next=_return_path(), problem=error, idle=False, username=name, passkeys_work=works_here()
    )
    return page, http_status(error)


def _return_path() -> str | None:
    path = request.values.get("next", "")
    return path if _RETURN.fullmatch(path) else None
