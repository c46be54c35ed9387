"""Destroying a patient's record for good.

Rules kept here:

* Who may see a patient may do it, after typing the patient's name as it is shown: nobody destroys a record unseen.
* Who does it proves once more who they are (`stepup`).
* The reason is one of a list; what is typed to confirm is compared and forgotten.
* The record is destroyed before the answer is given; the backups follow as a job of the worker.
"""

from __future__ import annotations

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from clinic.backup.schedule import Task
from clinic.domain import PatientId, Role
from clinic.errors import AuthenticationError, JobError, http_status
from clinic.web import sessions, stepup, wording
from clinic.web.access import allow
from clinic.web.forms import FormError, ShredForm
from clinic.web.ports import services

blueprint = Blueprint("shredding", __name__, url_prefix="/patients")


@blueprint.get("/<id:patient_id>/shred")
@allow(Role.CLINICIAN)
def confirm(patient_id: str) -> ResponseReturnValue:
    """Say what would be destroyed, and ask."""
    return _page(patient_id, {})


@blueprint.post("/<id:patient_id>/shred")
@allow(Role.CLINICIAN)
def shred(patient_id: str) -> ResponseReturnValue:
    """Destroy the record, then have the backups re-keyed."""
    try:
        form = ShredForm.parse()
    except FormError as error:
        return _page(patient_id, error.fields, status=422)
    with services().records.read() as tx:
        named = _plain(tx.patients.data(patient_id).name) == _plain(form.name)
    if not named:
        return _page(patient_id, {"name": "this is not the name of the patient; nothing was destroyed"}, status=422)
    try:
        stepup.require()
    except AuthenticationError as error:
        return _page(patient_id, {"proof": f"{error}: {error.hint}"}, status=http_status(error))
    done = services().records.shred(patient_id, reason=form.reason, actor=sessions.actor())
    flash("The record is destroyed for good." if done.finished else wording.SHRED_UNFINISHED)
    try:
        services().jobs.enqueue_upkeep(Task.REKEY.value, actor=sessions.actor())
    except JobError as error:
        current_app.logger.warning("backups not re-keyed code=%s", error.code)
        flash(wording.SHRED_BACKUPS_LATER)
    return redirect(url_for("patients.index"), 303)


def _page(patient_id: str, problems: dict[str, str], *, status: int = 200) -> ResponseReturnValue:
    with services().records.write() as tx:
        patient = tx.patients.get(PatientId(patient_id), sessions.actor())
        held = tx.shredding.holdings(patient_id)
    chosen = request.form.get("reason") or request.args.get("reason", "")
    page = render_template("patients/shred.html", patient=patient, held=held, chosen=chosen, problems=problems)
    return page, status


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()
