"""Patients from another system: the Patient resources of a FHIR R4 file become patients of this clinic.

Rules kept here:

* A file is taken whole or not at all: one resource that is not valid, and nothing of it is added.
* Nobody is added twice.  The same record number is the same patient, two record numbers are two patients; where one
  side has none, name and date of birth decide; where a date of birth is missing too, people have to: nobody is added.
* Who is here already is never changed: that something differs is told, for people to look at.
* Only what this program has a place for is read: name, date of birth, sex, record number.  Part of a date is no date.
* Messages say which resource by its place in the file, never what it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import JsonValue, TypeAdapter, ValidationError

from clinic.domain import Actor, PatientId
from clinic.errors import InputError
from clinic.records.blind_index import normalise
from clinic.records.patients import Patient, PatientData
from clinic.records.records import Transaction

LARGEST_BYTES: Final = 64 * 1024 * 1024
_JSON: Final = TypeAdapter(dict[str, JsonValue])
_MR: Final = "MR"
_USES: Final = ("official", "usual")


class Fate(StrEnum):
    """What became of one Patient resource."""

    ADDED = "added"
    KNOWN = "known"
    DIFFERS = "differs"
    """Here already, with something else in a field: nothing was changed."""
    UNCLEAR = "unclear"
    """Somebody of that name is here, and nothing tells whether it is the same: not added."""


@dataclass(frozen=True, slots=True)
class Imported:
    """One Patient resource of the file: its number among them, from 1, and the patient that it is, or may be."""

    number: int
    id: PatientId
    fate: Fate


def read_patients(data: bytes) -> tuple[PatientData, ...]:
    """Return the patients of a FHIR R4 Bundle, or of one Patient resource, in their order.

    Raises:
        InputError: `fhir_invalid` if it is neither, holds no patient, or one that is not valid.
    """
    if len(data) > LARGEST_BYTES:
        raise _invalid(f"the file is larger than {LARGEST_BYTES // 1024**2} MiB")
    try:
        document = _JSON.validate_json(data)
    except ValidationError:
        raise _invalid("the file is not a JSON object") from None
    found = tuple(_read(number, resource) for number, resource in enumerate(_resources(document), start=1))
    if not found:
        raise _invalid("the file holds no Patient resource")
    return found


def add_patients(tx: Transaction, people: Sequence[PatientData], *, actor: Actor) -> tuple[Imported, ...]:
    """Add those that are not here yet, in this transaction; looking at the list is audited, and so is each addition.

    Raises:
        InputError: `input_invalid`, naming the resource, for a date of birth in the future.
    """
    here = _Known(tx.patients.list(actor=actor))
    done: list[Imported] = []
    for number, person in enumerate(people, start=1):
        same, sure = here.find(person)
        if same is None:
            try:
                same = tx.patients.create(person, actor)
            except InputError as error:
                raise InputError(f"patient {number} of the file: {error}", hint=error.hint) from None
            here.add(same)
            fate = Fate.ADDED
        else:
            fate = _fate(person, same.data) if sure else Fate.UNCLEAR
        done.append(Imported(number, same.id, fate))
    return tuple(done)


class _Known:
    """The patients that are here, by what tells whether another one is the same."""

    def __init__(self, patients: Iterable[Patient]) -> None:
        self._by_number: dict[str, Patient] = {}
        self._by_name: dict[str, list[Patient]] = {}
        for patient in patients:
            self.add(patient)

    def add(self, patient: Patient) -> None:
        if patient.data.record_number:
            self._by_number[normalise(patient.data.record_number)] = patient
        self._by_name.setdefault(_name_key(patient.data), []).append(patient)

    def find(self, person: PatientData) -> tuple[Patient | None, bool]:
        """Return who may be the same, and whether that is sure."""
        number = normalise(person.record_number) if person.record_number else None
        if number is not None and number in self._by_number:
            return self._by_number[number], True
        doubtful = None
        for other in self._by_name.get(_name_key(person), ()):
            if number is not None and other.data.record_number is not None:
                continue
            if person.date_of_birth is None or other.data.date_of_birth is None:
                doubtful = other
            elif person.date_of_birth == other.data.date_of_birth:
                return other, True
        return doubtful, False


def _name_key(data: PatientData) -> str:
    return " ".join(sorted(data.name.casefold().split()))


def _fate(new: PatientData, old: PatientData) -> Fate:
    pairs = [(new.date_of_birth, old.date_of_birth), (new.sex, old.sex), (_name_key(new), _name_key(old))]
    return Fate.DIFFERS if any(a is not None and a != b for a, b in pairs) else Fate.KNOWN


# --- FHIR ---------------------------------------------------------------------------------------------


def _resources(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    match document.get("resourceType"):
        case "Patient":
            yield document
        case "Bundle":
            entries = document.get("entry") or []
            for entry in entries if isinstance(entries, list) else []:
                resource = entry.get("resource") if isinstance(entry, dict) else None
                if isinstance(resource, dict) and resource.get("resourceType") == "Patient":
                    yield resource
        case _:
            raise _invalid("the file is neither a FHIR Bundle nor a Patient resource")


def _read(number: int, resource: dict[str, Any]) -> PatientData:
    from fhir.resources.R4B.patient import Patient as FhirPatient  # takes half a second: only where it is needed

    try:
        patient = FhirPatient.model_validate(resource)
    except ValidationError:
        raise _invalid(f"patient {number} of the file is not a valid FHIR R4 Patient") from None
    name = _name(patient.name or ())
    if not name:
        raise _invalid(f"patient {number} of the file has no name")
    born = patient.birthDate
    try:
        return PatientData(
            name=name,
            date_of_birth=born if isinstance(born, date) and not isinstance(born, datetime) else None,
            sex=patient.gender,
            record_number=_record_number(patient.identifier or ()),
        )
    except InputError as error:
        raise _invalid(f"patient {number} of the file: {error}") from None


def _name(names: Iterable[Any]) -> str:
    """Return the official name if there is one, else the usual one, else the first."""
    ordered = sorted(names, key=lambda n: _USES.index(n.use) if n.use in _USES else len(_USES))
    for name in ordered:
        parts = [*(name.given or ()), *([name.family] if name.family else [])]
        text = " ".join(part for part in parts if part) or (name.text or "")
        if text.strip():
            return text
    return ""


def _record_number(identifiers: Iterable[Any]) -> str | None:
    for identifier in identifiers:
        codings = (identifier.type.coding or ()) if identifier.type else ()
        if identifier.value and any(coding.code == _MR for coding in codings):
            return str(identifier.value)
    return None


def _invalid(message: str) -> InputError:
    return InputError(message, code="fhir_invalid", hint="export a FHIR R4 Bundle of patients; none was added")
