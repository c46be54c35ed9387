"""Breaking the glass from the page of a refused encounter, and the list of who did.

Rules kept here:

* What broken glass lifts is decided by the policy set, asked again; the form (`processing.glass`) only offers it.
* Administrators and auditors see each use, and what relied on it; neither sees a patient.
"""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from clinic import capture
from clinic.audit.glass import MINUTES, uses
from clinic.domain import EncounterId, Role
from clinic.errors import AuthenticationError, http_status
from clinic.web import encounters, processing, sessions
from clinic.web.access import allow
from clinic.web.forms import FormError, GlassForm
from clinic.web.ports import services
from clinic.web.security import LOGIN_LIMIT, limiter

blueprint = Blueprint("glass", __name__)


@blueprint.post("/encounters/<id:encounter_id>/glass")
@allow(Role.CLINICIAN)
@limiter.limit(LOGIN_LIMIT)
def break_glass(encounter_id: str) -> ResponseReturnValue:
    """Break the glass for a refused encounter, and start its job again."""
    with services().records.read() as tx:
        encounter = tx.encounters.get(EncounterId(encounter_id))
    capture.require_consent(encounter)
    capture.require_stopped(encounter)
    try:
        form = GlassForm.parse()
        services().records.break_glass(encounter.id, reason=form.reason, code=form.code, actor=sessions.actor())
    except FormError as error:
        return encounters.render(encounter.id, problems=error.fields), 422
    except AuthenticationError as error:
        page = encounters.render(encounter.id, problems={"code": f"{error}: {error.hint}"})
        return page, http_status(error)
    processing.start(encounter.id, actor=sessions.actor())
    flash(f"The glass is broken for {MINUTES} minutes. It is recorded that you did it, and why.")
    return redirect(url_for("encounters.show", encounter_id=encounter.id), 303)


@blueprint.get("/glass")
@allow(Role.ADMINISTRATOR, Role.AUDITOR)
def index() -> ResponseReturnValue:
    """List who broke the glass, when, why, and what relied on it."""
    with services().records.read() as tx:
        names: dict[str, str] = {user.id: user.username for user in tx.users.list()}
    return render_template("glass/list.html", uses=uses(services().records.audit), names=names)
