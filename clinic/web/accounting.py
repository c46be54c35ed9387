"""The accounting of disclosures: for the clinician in charge by name, for the auditor by pseudonym.

Rules kept here:

* A clinician sees it who has led an encounter of the patient, the auditor for any patient; nobody else.
* The auditor's page names no patient: pseudonym in, pseudonym out.
* Seeing it, or taking it away as a table, is itself an entry of the log, committed before the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response, render_template, url_for
from flask.typing import ResponseReturnValue

from clinic.audit.accounting import PROOFS, Accounting, Proof, Use, as_csv
from clinic.domain import PatientId, Role
from clinic.errors import AuthenticationError, RecordError
from clinic.records.disclosures import disclosures, patient_with
from clinic.web import sessions, wording
from clinic.web.access import allow
from clinic.web.forms import AccountingForm, FormError
from clinic.web.ports import services

blueprint = Blueprint("accounting", __name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose accounting it is: what the page may call the patient, and where it lies."""

    title: str
    address: str
    back: str
    back_label: str


@blueprint.get("/patients/<id:patient_id>/accounting")
@allow(Role.CLINICIAN)
def of_patient(patient_id: str) -> ResponseReturnValue:
    """Show the clinician in charge what was done with the record."""
    _require_in_charge(patient_id)
    return _answer(patient_id, pseudonym=None)


@blueprint.get("/audit/accounting/<id:pseudonym>")
@allow(Role.AUDITOR)
def of_pseudonym(pseudonym: str) -> ResponseReturnValue:
    """Show the auditor what was done with the record of whoever has this pseudonym."""
    return _answer(patient_with(services().records, pseudonym), pseudonym=pseudonym)


def _require_in_charge(patient_id: str) -> None:
    with services().records.read() as tx:
        led = {encounter.clinician_id for encounter in tx.encounters.for_patient(patient_id)}
    if sessions.actor().user_id not in led:
        raise AuthenticationError(
            "only a clinician who has led an encounter of this patient may see this",
            code="not_in_charge",
            hint="ask the clinician in charge, or the auditor",
        )


def _answer(patient_id: str, *, pseudonym: str | None) -> ResponseReturnValue:
    problem: FormError | None = None
    try:
        form = AccountingForm.from_query()
    except FormError as error:
        form, problem = AccountingForm(), error
    found = disclosures(services().records, patient_id, actor=sessions.actor(), start=form.start, end=form.end)
    with services().records.read() as tx:
        names: dict[str, str] = {user.id: user.username for user in tx.users.list()}
    if form.layout == "csv" and problem is None:
        return _table(found, names)
    page = render_template(
        "accounting.html",
        subject=_subject(patient_id, pseudonym),
        found=found,
        names=names,
        form=form,
        problem=problem,
        uses=[(use, sum(line.use is use for line in found.lines)) for use in Use],
        doubts=[(proof, found.count(proof)) for proof in (Proof.UNSEALED, Proof.CONTRADICTED) if found.count(proof)],
        proofs=PROOFS,
        Proof=Proof,
    )
    return page, 200 if problem is None else 422


def _subject(patient_id: str, pseudonym: str | None) -> Subject:
    if pseudonym is not None:
        here = url_for("accounting.of_pseudonym", pseudonym=pseudonym)
        return Subject(f"Patient {pseudonym}", here, url_for("audit.index"), "Audit log")
    here = url_for("accounting.of_patient", patient_id=patient_id)
    try:
        with services().records.read() as tx:
            name = tx.patients.data(PatientId(patient_id)).name
    except RecordError as error:
        if error.code != "patient_shredded":
            raise
        return Subject(wording.SHREDDED_PATIENT, here, url_for("patients.index"), "Patients")
    return Subject(name, here, url_for("patients.show", patient_id=patient_id), "Patient")


def _table(found: Accounting, names: dict[str, str]) -> Response:
    response = Response(as_csv(found, names), mimetype="text/csv")
    response.headers["Content-Disposition"] = f"attachment; filename=accounting-{found.pseudonym[:16]}.csv"
    return response
