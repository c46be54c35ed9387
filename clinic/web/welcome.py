"""One-time codes: setting one's own password, and setting a new clinic up.

Rules kept here:

* A code is typed, never part of an address, which lands in histories and logs.
* `/setup` exists only until the clinic has an administrator; after that it is a page like any that never was.
* Whatever is wrong with name or code is answered alike (`records.invitations`).
"""

from __future__ import annotations

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from clinic.errors import AuthenticationError, InputError, RecordError, http_status
from clinic.web.access import public
from clinic.web.auth import welcome
from clinic.web.forms import RedeemForm, SetupForm
from clinic.web.ports import services
from clinic.web.security import LOGIN_LIMIT, limiter

blueprint = Blueprint("welcome", __name__)
_GONE = 404


@blueprint.get("/welcome")
@public
def code() -> ResponseReturnValue:
    """Ask for a one-time code and a password of one's own."""
    return render_template("welcome.html", problem=None, values={})


@blueprint.post("/welcome")
@public
@limiter.limit(LOGIN_LIMIT)
def redeem() -> ResponseReturnValue:
    """Set the password; signing in with it is the next step."""
    try:
        form = RedeemForm.parse()
        services().records.redeem(form.username, form.code, form.password)
    except (InputError, AuthenticationError) as error:
        return render_template("welcome.html", problem=error, values=request.form), http_status(error)
    flash("Your password is set. Sign in with it.")
    return redirect(url_for("auth.login"), 303)


@blueprint.get("/setup")
@public
def setup() -> ResponseReturnValue:
    """Ask for the code that `clinic init` has printed, and for the first administrator."""
    _require_open()
    return render_template("setup.html", problem=None, values={})


@blueprint.post("/setup")
@public
@limiter.limit(LOGIN_LIMIT)
def set_up() -> ResponseReturnValue:
    """Make the first administrator, who is signed in at once."""
    _require_open()
    try:
        form = SetupForm.parse()
        user = services().records.set_up(
            form.code, username=form.username, display_name=form.display_name, password=form.password
        )
    except (InputError, AuthenticationError, RecordError) as error:
        return render_template("setup.html", problem=error, values=request.form), http_status(error)
    start = welcome(user, None)
    flash("The clinic is set up. Make the other accounts now, and set up your second factor: a click on your name.")
    return redirect(start, 303)


def _require_open() -> None:
    with services().records.read() as tx:
        if not tx.invitations.is_setup_open():
            abort(_GONE)
