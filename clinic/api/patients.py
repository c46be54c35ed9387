"""Patients: create, read, change, search.

Rules kept here:

* What is searched for travels in a body, never in an address.
* Every look at a patient is an audited operation of `records`.
"""

from __future__ import annotations

from typing import Final

from flask import Response

from clinic.api.calls import Call
from clinic.api.models import PatientAnswered, PatientCreated, PatientPage, PatientSearch, PatientSent
from clinic.api.operations import Answer, Operation
from clinic.api.paging import page
from clinic.domain import PatientId, Scope
from clinic.records.patients import Patient, PatientData
from clinic.records.records import Transaction


def create(call: Call) -> Response:
    """Add a patient."""
    data = _data(call.body(PatientSent))

    def work(tx: Transaction) -> Answer:
        patient = tx.patients.create(data, call.actor)
        call.patient_id = patient.id
        return Answer(201, PatientCreated(id=patient.id, created_at=patient.created_at))

    return call.once(work)


def search(call: Call) -> Answer:
    """Look for patients."""
    wanted = call.body(PatientSearch)
    with call.services.records.read() as tx:
        fitting = tx.patients.find(wanted.text)
    ids, cursor = page(fitting, str, cursor=wanted.cursor, limit=wanted.limit)
    with call.writing() as tx:
        found = tx.patients.named(ids, call.actor).values()
    return Answer(200, PatientPage(patients=tuple(_answered(patient) for patient in found), next=cursor))


def show(call: Call, patient_id: str) -> Answer:
    """Show a patient."""
    with call.writing() as tx:
        patient = tx.patients.get(PatientId(patient_id), call.actor)
        call.patient_id = patient.id
    return Answer(200, _answered(patient))


def change(call: Call, patient_id: str) -> Answer:
    """Replace what is known about a patient."""
    data = _data(call.body(PatientSent))
    with call.writing() as tx:
        patient = tx.patients.update(PatientId(patient_id), data, call.actor)
        call.patient_id = patient.id
    return Answer(200, _answered(patient))


def _data(sent: PatientSent) -> PatientData:
    return PatientData(sent.name, sent.date_of_birth, sent.sex, sent.record_number)


def _answered(patient: Patient) -> PatientAnswered:
    data = patient.data
    return PatientAnswered(
        id=patient.id,
        name=data.name,
        date_of_birth=data.date_of_birth,
        sex=data.sex,
        record_number=data.record_number,
        created_at=patient.created_at,
    )


_READ: Final = Scope.PATIENTS_READ
_WRITE: Final = Scope.PATIENTS_WRITE

OPERATIONS: Final = (
    Operation(
        name="create_patient",
        method="POST",
        path="/patients",
        scope=_WRITE,
        view=create,
        summary="Add a patient",
        status=201,
        answers=PatientCreated,
        body=PatientSent,
        once=True,
    ),
    Operation(
        name="search_patients",
        method="POST",
        path="/patients/search",
        scope=_READ,
        view=search,
        summary="Patients that fit a text",
        status=200,
        answers=PatientPage,
        body=PatientSearch,
    ),
    Operation(
        name="show_patient",
        method="GET",
        path="/patients/{patient_id}",
        scope=_READ,
        view=show,
        summary="A patient",
        status=200,
        answers=PatientAnswered,
        problems=frozenset({410}),
    ),
    Operation(
        name="change_patient",
        method="PUT",
        path="/patients/{patient_id}",
        scope=_WRITE,
        view=change,
        summary="Replace a patient's details",
        status=200,
        answers=PatientAnswered,
        body=PatientSent,
        problems=frozenset({409, 410}),
    ),
)
