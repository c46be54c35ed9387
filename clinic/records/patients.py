"""Patients.

Rules kept here:

* Everything about a patient is one sealed value under the patient's own key; the row holds nothing else to read.
* Seeing a patient or the list of patients is an audit event; the audit log knows patients by pseudonym only.
* Record numbers are unique after normalising: found through the blind index, decided after opening.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, func, select

from clinic.audit.events import PatientCreated, PatientsListed, PatientUpdated, PatientViewed
from clinic.domain import Actor, PatientId, new_id
from clinic.errors import InputError, RecordError
from clinic.records import lookup
from clinic.records.blind_index import normalise
from clinic.records.models import PatientRow
from clinic.records.sealed import Place
from clinic.records.work import UnitOfWork, shredded

_NAME_LENGTH: Final = 200
_SHORT_LENGTH: Final = 64
_EARLIEST: Final = date(1875, 1, 1)


@dataclass(frozen=True, slots=True)
class PatientData:
    """What is known about a patient.  Blanks are trimmed; its repr shows nothing of it."""

    name: str = field(repr=False)
    date_of_birth: date | None = field(default=None, repr=False)
    sex: str | None = field(default=None, repr=False)
    record_number: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Trim and check.

        Raises:
            InputError: `input_invalid`, naming the field and never its value.
        """
        object.__setattr__(self, "name", _text("name", self.name, _NAME_LENGTH))
        for name in ("sex", "record_number"):
            value: str | None = getattr(self, name)
            object.__setattr__(self, name, _text(name, value, _SHORT_LENGTH) if value and value.strip() else None)
        if self.record_number is not None and not normalise(self.record_number):
            raise InputError("the record number holds no letter or digit", hint="leave it empty if there is none")
        if self.date_of_birth is not None and self.date_of_birth < _EARLIEST:
            raise InputError("the date of birth is too long ago", hint="check the year")


@dataclass(frozen=True, slots=True)
class Patient:
    """A patient."""

    id: PatientId
    data: PatientData
    created_at: datetime


_DATA: Final = TypeAdapter(PatientData)


class Patients:
    """The patients, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def create(self, data: PatientData, actor: Actor) -> Patient:
        """Add a patient with a key of their own.

        Raises:
            RecordError: `record_conflict` if another patient has this record number.
            InputError: the date of birth lies in the future.
        """
        self._check(data, patient_id=None)
        now = self._work.now()
        row = PatientRow(id=new_id(), row_version=1, created_at=now, updated_at=now)
        row.wrapped_dek = self._work.vault.enrol(row.id)
        self._fill(row, data)
        self._work.add(row)
        self._work.append(PatientCreated(patient=self._work.pseudonym(row.id)), actor=actor, patient_id=row.id)
        return Patient(id=PatientId(row.id), data=data, created_at=now)

    def get(self, patient_id: str, actor: Actor) -> Patient:
        """Return a patient to somebody who looks at them (audited)."""
        patient = self._patient(self._require(patient_id))
        event = PatientViewed(patient=self._work.pseudonym(patient_id))
        self._work.append(event, actor=actor, patient_id=patient_id)
        return patient

    def data(self, patient_id: str) -> PatientData:
        """Return a patient's data to the program itself (redaction, headings of a page that is audited otherwise)."""
        return self._patient(self._require(patient_id)).data

    def is_shredded(self, patient_id: str) -> bool:
        """Tell whether the patient's key is destroyed; `record_unknown` if there is no such patient."""
        return self._require(patient_id).wrapped_dek is None

    def with_pseudonym(self, pseudonym: str) -> str | None:
        """Return the id of the patient, shredded or not, whom the audit log knows by this pseudonym."""
        ids = self._work.session.scalars(select(PatientRow.id))
        return next((row_id for row_id in ids if self._work.pseudonym(row_id) == pseudonym), None)

    def list(self, actor: Actor) -> tuple[Patient, ...]:
        """Return all patients in the order of their names (audited)."""
        found = _in_order(self._all())
        self._work.append(PatientsListed(count=len(found)), actor=actor)
        return tuple(found)

    def find(self, text: str) -> tuple[PatientId, ...]:
        """Return who fits all that was typed, in the order of their names; everybody, if nothing was typed.

        The patient with this record number, if there is one.  Words may be parts of a name or number, a date of birth
        may have any usual form: see `lookup`.  Opens every patient, so do it where nobody waits to write: nothing that
        is found may be shown but by `named`, which records it.
        """
        return _ids(self._found(text) if text.strip() else self._all())

    def find_resembling(self, text: str) -> tuple[PatientId, ...]:
        """Return those whose names only sound or look like what was typed; for `named`, as `find`."""
        wanted = self._wanted(text)
        return _ids(p for p in self._all() if lookup.resembles(wanted, name=p.data.name, born=p.data.date_of_birth))

    def named(self, ids: Iterable[str], actor: Actor) -> dict[PatientId, Patient]:
        """Return some patients by id, in the order of the ids, those whose record is destroyed left out (audited)."""
        rows = (self._require(patient_id) for patient_id in dict.fromkeys(ids))
        found = [self._patient(row) for row in rows if row.shredded_at is None]
        self._work.append(PatientsListed(count=len(found)), actor=actor)
        return {patient.id: patient for patient in found}

    def update(self, patient_id: str, data: PatientData, actor: Actor) -> Patient:
        """Replace a patient's data.

        Raises:
            RecordError: `record_unknown`, `patient_shredded`, or `record_conflict` if another patient has this record
                number.
        """
        self._work.require_living(patient_id)
        row = self._require(patient_id)
        self._check(data, patient_id=patient_id)
        row.row_version += 1
        row.updated_at = self._work.now()
        self._fill(row, data)
        event = PatientUpdated(patient=self._work.pseudonym(patient_id))
        self._work.append(event, actor=actor, patient_id=patient_id)
        return self._patient(row)

    def rewrap(self, *, limit: int) -> int:
        """Wrap up to `limit` keys that are wrapped under another version under the active one; return how many."""
        rows = self._work.session.scalars(select(PatientRow).where(*self._to_rewrap()).limit(limit)).all()
        for row in rows:
            if row.wrapped_dek is not None:
                row.wrapped_dek = self._work.vault.rewrap(row.id, row.wrapped_dek)
        return len(rows)

    def to_rewrap(self) -> int:
        """Return how many keys are wrapped under another version than the active one."""
        return self._work.session.scalar(select(func.count()).where(*self._to_rewrap())) or 0

    def count_keys(self) -> int:
        """Return how many patients have a key."""
        return self._work.session.scalar(select(func.count()).where(PatientRow.wrapped_dek.is_not(None))) or 0

    def _to_rewrap(self) -> tuple[ColumnElement[bool], ...]:
        header = self._work.vault.wrapped_header
        return PatientRow.wrapped_dek.is_not(None), func.substr(PatientRow.wrapped_dek, 1, len(header)) != header

    def _fill(self, row: PatientRow, data: PatientData) -> None:
        row.data = self._work.vault.seal_json(PatientRow.data, _DATA.dump_python(data, mode="json"), _place(row))
        number = data.record_number
        row.record_number_index = None if number is None else self._work.record_number_index().bucket(number)

    def _check(self, data: PatientData, *, patient_id: str | None) -> None:
        if data.date_of_birth is not None and data.date_of_birth > self._work.now().date():
            raise InputError("the date of birth lies in the future", hint="check the year")
        if data.record_number is None:
            return
        if any(other.id != patient_id for other in self._with_record_number(data.record_number)):
            raise RecordError(
                "another patient has this record number",
                code="record_conflict",
                hint="search for the number: the patient may be here already",
            )

    def _with_record_number(self, value: str) -> Sequence[Patient]:
        wanted = normalise(value)
        if not wanted:
            return ()
        bucket = self._work.record_number_index().bucket(wanted)
        rows = self._work.session.scalars(select(PatientRow).where(PatientRow.record_number_index == bucket))
        patients = (self._patient(row) for row in rows)
        return [patient for patient in patients if normalise(patient.data.record_number or "") == wanted]

    def _found(self, text: str) -> Sequence[Patient]:
        wanted = self._wanted(text)
        return self._with_record_number(text) or [p for p in self._all() if _fits(wanted, p.data)]

    def _wanted(self, text: str) -> lookup.Wanted:
        return lookup.read(text, today=self._work.now().date())

    def _all(self) -> Sequence[Patient]:
        rows = self._work.session.scalars(select(PatientRow).where(PatientRow.shredded_at.is_(None)))
        return [self._patient(row) for row in rows]

    def _require(self, patient_id: str) -> PatientRow:
        return self._work.require(PatientRow, patient_id, what="patient")

    def _patient(self, row: PatientRow) -> Patient:
        if row.data is None:
            raise shredded()
        data = self._work.vault.open_json(PatientRow.data, row.data, _place(row), _DATA)
        return Patient(id=PatientId(row.id), data=data, created_at=row.created_at)


def _in_order(patients: Iterable[Patient]) -> list[Patient]:
    return sorted(patients, key=lambda patient: (lookup.fold(patient.data.name), patient.id))


def _ids(patients: Iterable[Patient]) -> tuple[PatientId, ...]:
    return tuple(patient.id for patient in _in_order(patients))


def _place(row: PatientRow) -> Place:
    return Place(row.id, row.id, row.row_version)


def _fits(wanted: lookup.Wanted, data: PatientData) -> bool:
    return lookup.fits(wanted, name=data.name, number=data.record_number, born=data.date_of_birth)


def _text(name: str, value: str, longest: int) -> str:
    trimmed = " ".join(unicodedata.normalize("NFC", value).split())
    if not 1 <= len(trimmed) <= longest or any(unicodedata.category(c) in {"Cc", "Cs"} for c in trimmed):
        raise InputError(f"the field `{name}` cannot be used", hint=f"1 to {longest} characters, no control characters")
    return trimmed
