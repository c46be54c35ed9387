"""Patients: list, search, record.

Rules kept here:

* What is searched for travels in a request body, never in an address.
* Every look at a patient is an audited operation of `records`; what signed notes say at the top of the page is part of
  that look.  Reading one of these notes there is a recorded view of its encounter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from clinic.domain import EncounterKind, PatientId, Role
from clinic.errors import RecordError
from clinic.generation.template import title
from clinic.records.patients import PatientData
from clinic.web import sessions
from clinic.web.access import allow
from clinic.web.document_lists import by_encounter, listing
from clinic.web.forms import FormError, PatientForm, SearchForm
from clinic.web.note_templates import choices
from clinic.web.ports import services
from clinic.web.up_front import newest_signed, up_front

_SHOWN: Final = 200

blueprint = Blueprint("patients", __name__, url_prefix="/patients")


@blueprint.get("")
@allow(Role.CLINICIAN)
def index() -> ResponseReturnValue:
    """List all patients, the first `_SHOWN` of them."""
    with services().records.read() as tx:
        found = tx.patients.find("")
    return _listed(found, (), query=None)


@blueprint.post("/search")
@allow(Role.CLINICIAN)
def search() -> ResponseReturnValue:
    """List the patients that fit a text; if there are none, those whose names sound or look alike, and say so."""
    form = SearchForm.parse()
    if not form.text:
        return redirect(url_for("patients.index"))
    with services().records.read() as tx:
        found = tx.patients.find(form.text)
        similar = () if found else tx.patients.find_resembling(form.text)
    return _listed(found, similar, query=form.text)


def _listed(found: Sequence[PatientId], similar: Sequence[PatientId], *, query: str | None) -> str:
    with services().records.write() as tx:
        shown = tx.patients.named((found or similar)[:_SHOWN], sessions.actor())
    patients = [shown[patient_id] for patient_id in (found or similar)[:_SHOWN] if patient_id in shown]
    return render_template(
        "patients/list.html",
        patients=patients if found else [],
        similar=[] if found else patients,
        total=len(found or similar),
        query=query,
    )


@blueprint.get("/new")
@allow(Role.CLINICIAN)
def new() -> ResponseReturnValue:
    """Show the form for a new patient."""
    return render_template("patients/form.html", patient=None, values={}, problems={})


@blueprint.post("")
@allow(Role.CLINICIAN)
def create() -> ResponseReturnValue:
    """Store a new patient."""
    try:
        data = _data(PatientForm.parse())
        with services().records.write() as tx:
            patient = tx.patients.create(data, sessions.actor())
    except FormError as error:
        return _form_again(None, error.fields)
    except RecordError as error:
        return _form_again(None, _conflict(error))
    return redirect(url_for("patients.show", patient_id=patient.id), 303)


@blueprint.get("/<id:patient_id>")
@allow(Role.CLINICIAN)
def show(patient_id: str) -> ResponseReturnValue:
    """Show a patient: what signed notes say of allergies and drugs, and all encounters."""
    with services().records.write() as tx:
        patient = tx.patients.get(PatientId(patient_id), sessions.actor())
        encounters = tx.encounters.for_patient(patient.id)
        signed = newest_signed(tx, encounters)
        names = tx.users.names()
        documents = tx.documents.for_patient(patient.id)
    return render_template(
        "patients/show.html",
        patient=patient,
        encounters=encounters,
        quoted=up_front(*signed),
        names=names,
        documents=by_encounter(listing(documents)),
        titles={template_id: title(template_id) for template_id in {e.template for e in encounters}},
        kinds=tuple(EncounterKind),
        note_templates=choices(),
        language=services().config.speech.language,
    )


@blueprint.get("/<id:patient_id>/edit")
@allow(Role.CLINICIAN)
def edit(patient_id: str) -> ResponseReturnValue:
    """Show the form with a patient's details."""
    with services().records.write() as tx:
        patient = tx.patients.get(PatientId(patient_id), sessions.actor())
    return render_template("patients/form.html", patient=patient, values=_values(patient.data), problems={})


@blueprint.post("/<id:patient_id>")
@allow(Role.CLINICIAN)
def update(patient_id: str) -> ResponseReturnValue:
    """Store a patient's changed details."""
    try:
        data = _data(PatientForm.parse())
        with services().records.write() as tx:
            tx.patients.update(PatientId(patient_id), data, sessions.actor())
    except FormError as error:
        return _form_again(patient_id, error.fields)
    except RecordError as error:
        return _form_again(patient_id, _conflict(error))
    return redirect(url_for("patients.show", patient_id=patient_id), 303)


def _data(form: PatientForm) -> PatientData:
    return PatientData(name=form.name, date_of_birth=form.date_of_birth, sex=form.sex, record_number=form.record_number)


def _values(data: PatientData) -> dict[str, str]:
    born = data.date_of_birth.isoformat() if data.date_of_birth else ""
    return {
        "name": data.name,
        "date_of_birth": born,
        "sex": data.sex or "",
        "record_number": data.record_number or "",
    }


def _form_again(patient_id: str | None, problems: dict[str, str]) -> ResponseReturnValue:
    patient = {"id": patient_id} if patient_id else None
    return render_template("patients/form.html", patient=patient, values=request.form, problems=problems), 422


def _conflict(error: RecordError) -> dict[str, str]:
    if error.code != "record_conflict":
        raise error
    return {"record_number": "another patient has this record number"}
