"""Setting up one's second factor.

Rules kept here:

* The password is asked for again, so that an unattended session enrols nobody's phone.
* The secret is on one page, once: after a mistyped code the form comes back without it.
"""

from __future__ import annotations

import segno
from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from clinic.domain import Role
from clinic.errors import AuthenticationError, InputError, RecordError, http_status
from clinic.records.factors import Enrolment
from clinic.web import sessions
from clinic.web.access import allow
from clinic.web.forms import FactorCodeForm, FactorForm
from clinic.web.ports import services
from clinic.web.security import LOGIN_LIMIT, limiter

blueprint = Blueprint("factor", __name__, url_prefix="/second-factor")
_Problem = AuthenticationError | InputError | RecordError


@blueprint.get("")
@allow(Role.CLINICIAN)
def show() -> ResponseReturnValue:
    """Say whether there is a second factor, or ask for the password to set one up."""
    return _page()


@blueprint.post("")
@allow(Role.CLINICIAN)
@limiter.limit(LOGIN_LIMIT)
def begin() -> ResponseReturnValue:
    """Make a secret and show it, as a code for the phone's camera and in letters."""
    user, records = sessions.signed_in(), services().records
    try:
        form = FactorForm.parse()
        records.authenticate(user.username, form.password)
        with records.write() as tx:
            enrolment = tx.factors.begin(user)
    except (AuthenticationError, InputError, RecordError) as error:
        return _page(problem=error)
    return _page(enrolment=enrolment, waiting=True)


@blueprint.post("/confirm")
@allow(Role.CLINICIAN)
@limiter.limit(LOGIN_LIMIT)
def confirm() -> ResponseReturnValue:
    """Take the first code; from then on the second factor counts."""
    try:
        services().records.enrol_factor(FactorCodeForm.parse().code, actor=sessions.actor())
    except (AuthenticationError, InputError) as error:
        return _page(problem=error, waiting=error.code != "factor_missing")
    flash("Your second factor is set up.")
    return redirect(url_for("factor.show"), 303)


def _page(
    *, enrolment: Enrolment | None = None, waiting: bool = False, problem: _Problem | None = None
) -> ResponseReturnValue:
    with services().records.read() as tx:
        enrolled = tx.factors.is_enrolled(sessions.signed_in().id)
    page = render_template(
        "factor.html",
        enrolled=enrolled,
        waiting=waiting,
        secret=enrolment.secret if enrolment else None,
        code=segno.make(enrolment.uri, error="m", micro=False).svg_data_uri(scale=5, light="white")
        if enrolment
        else None,
        problem=problem,
    )
    return page, 200 if problem is None else http_status(problem)
