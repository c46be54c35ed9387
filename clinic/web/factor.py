"""One's own second factor: an app that shows codes, passkeys (`web.passkeys`), and recovery codes on paper.

Rules kept here:

* The password is asked for again, so that an unattended session enrols nobody's phone; new recovery codes, and taking
  the app away, ask for a code.
* The secret is on one page, once: after a mistyped code the form comes back without it.  So are recovery codes.
* These pages are open to an account that owes a second factor; every other page sends it here.
"""

from __future__ import annotations

from collections.abc import Sequence

import segno
from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from clinic.domain import Role
from clinic.errors import AuthenticationError, InputError, RecordError, http_status
from clinic.records.factors import Enrolment
from clinic.web import devices, sessions, stepup
from clinic.web.access import allow
from clinic.web.forms import FactorCodeForm, FactorForm
from clinic.web.origin import address_by_name, works_here
from clinic.web.ports import services
from clinic.web.security import LOGIN_LIMIT, limiter

blueprint = Blueprint("factor", __name__, url_prefix="/second-factor")
_Problem = AuthenticationError | InputError | RecordError


@blueprint.get("")
@allow(*Role, unfinished=True)
def show() -> ResponseReturnValue:
    """Say whether there is a second factor, or ask for the password to set one up."""
    return _page()


@blueprint.post("")
@allow(*Role, unfinished=True)
@limiter.limit(LOGIN_LIMIT)
def begin() -> ResponseReturnValue:
    """Make a secret and show it, as a code for the phone's camera and in letters."""
    user, records = sessions.signed_in(), services().records
    try:
        form = FactorForm.parse()
        records.confirm(user, password=form.password, device=devices.known_for(user))
        with records.write() as tx:
            enrolment = tx.factors.begin(user)
    except (AuthenticationError, InputError, RecordError) as error:
        return _page(problem=error)
    return _page(enrolment=enrolment, waiting=True)


@blueprint.post("/confirm")
@allow(*Role, unfinished=True)
@limiter.limit(LOGIN_LIMIT)
def confirm() -> ResponseReturnValue:
    """Take the first code; from then on the second factor counts, and there are recovery codes."""
    records, actor = services().records, sessions.actor()
    try:
        records.enrol_factor(FactorCodeForm.parse().code, actor=actor)
    except (AuthenticationError, InputError) as error:
        return _page(problem=error, waiting=error.code != "factor_missing")
    with records.write() as tx:
        codes = tx.recovery.make(actor.user_id, actor)
    return _codes(codes)


@blueprint.post("/recovery")
@allow(*Role)
@limiter.limit(LOGIN_LIMIT)
def recovery() -> ResponseReturnValue:
    """Make new recovery codes; those before them are good for nothing."""
    actor = sessions.actor()
    if not sessions.standing().has_factor:
        return redirect(url_for("factor.show"), 303)
    try:
        stepup.require()
    except AuthenticationError as error:
        return _page(problem=error)
    with services().records.write() as tx:
        codes = tx.recovery.make(actor.user_id, actor)
    return _codes(codes)


@blueprint.post("/remove")
@allow(*Role)
@limiter.limit(LOGIN_LIMIT)
def remove() -> ResponseReturnValue:
    """Take the app away, for another phone; the recovery codes go with it."""
    try:
        stepup.require()
    except AuthenticationError as error:
        return _page(problem=error)
    with services().records.write() as tx:
        tx.factors.remove(sessions.signed_in().id, sessions.actor())
    flash("The app is removed. Set up the new one now.")
    return redirect(url_for("factor.show"), 303)


def refusal_page(problem: _Problem) -> ResponseReturnValue:
    """Show the page with what went wrong."""
    return _page(problem=problem)


def _codes(codes: Sequence[str]) -> ResponseReturnValue:
    return render_template("factor_codes.html", codes=codes)


def _page(
    *, enrolment: Enrolment | None = None, waiting: bool = False, problem: _Problem | None = None
) -> ResponseReturnValue:
    with services().records.read() as tx:
        standing = tx.standing(sessions.signed_in())
        passkeys = tx.passkeys.of(sessions.signed_in().id)
    page = render_template(
        "factor.html",
        standing=standing,
        waiting=waiting,
        secret=enrolment.secret if enrolment else None,
        code=segno.make(enrolment.uri, error="m", micro=False).svg_data_uri(scale=5, light="white")
        if enrolment
        else None,
        problem=problem,
        passkeys=passkeys,
        passkeys_work=works_here(),
        passkey_address=address_by_name(),
    )
    return page, 200 if problem is None else http_status(problem)
