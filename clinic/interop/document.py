"""A signed note as a FHIR R4 document: a Bundle that another system reads, stores and shows by itself.

Rules kept here:

* Pure: the same content always gives the same document.  Nothing is made up: what is not known is left out.
* What the clinician signed is in the Composition's narrative, word for word, and no sentence that was removed.
* Whoever reads it sees that a model drafted it: a Device among the authors, the security label `AIAST` ("Artificial
  Intelligence asserted", HL7 v3 ObservationValue), and a Provenance that names the entry of the audit log under which
  the model was asked.
* Standard codes only: LOINC for the kind of document, HL7's own for class, attestation and consent.

Shape: https://hl7.org/fhir/R4/documents.html
"""

from __future__ import annotations

import html
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from clinic.domain import EncounterKind

MEDIA_TYPE: Final = "application/fhir+json"
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
_LOINC: Final = "http://loinc.org"
_XHTML: Final = "http://www.w3.org/1999/xhtml"
_OURS: Final = uuid.UUID("6f0c0a52-6c1b-4d53-9a55-2a3ff0b4d3f0")  # names what has no UUID of its own; drawn once
_KINDS: Final = {
    EncounterKind.CONSULTATION: ("11488-4", "Consult note"),
    EncounterKind.DICTATION: ("34109-9", "Note"),
}
_TEMPLATES: Final = {
    "first_visit": ("34117-2", "History and physical note"),
    "follow_up": ("11506-3", "Progress note"),
    "handover": ("18761-7", "Transfer summary note"),
}
"""LOINC codes of templates that are a kind of document of their own; the rest go by the kind of encounter."""
_GENDERS: Final = frozenset({"male", "female", "other", "unknown"})

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an account: the id and the name that colleagues know."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Patient:
    """The patient; None is not known."""

    id: str
    name: str = field(repr=False)
    date_of_birth: date | None = field(repr=False)
    sex: str | None = field(repr=False)
    record_number: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it, one sentence each."""

    title: str
    statements: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Addition:
    """An addendum."""

    id: str
    text: str = field(repr=False)
    author: Person
    at: datetime


@dataclass(frozen=True, slots=True)
class Drafting:
    """What drafted the note: the model, the SHA-256 of its weights, the audit entry under which it was asked."""

    id: str
    model: str
    model_sha256: str
    audit_seq: int
    at: datetime


@dataclass(frozen=True, slots=True)
class SignedNote:
    """All that a document is made of.  `drafting` is None where no model was asked."""

    id: str
    title: str
    version: int
    content_sha256: str
    sections: tuple[Section, ...]
    addenda: tuple[Addition, ...]
    signed_by: Person
    signed_at: datetime
    attestation: str = field(repr=False)
    encounter_id: str
    kind: EncounterKind
    template: str
    began_at: datetime
    language: str | None
    patient: Patient
    drafting: Drafting | None

    @property
    def changed_at(self) -> datetime:
        """When it was signed, or when the newest addendum was."""
        return max([self.signed_at, *(addition.at for addition in self.addenda)])


def document(note: SignedNote, *, assembled_at: datetime) -> Json:
    """Return the Bundle: Composition first, then what it refers to."""
    resources = [
        _composition(note),
        _patient(note.patient),
        _encounter(note),
        *(_practitioner(person) for person in _people(note)),
        _consent(note),
    ]
    if note.drafting is not None:
        resources += [_device(note.drafting), _provenance(note, note.drafting)]
    return {
        "resourceType": "Bundle",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": _urn(note.id, "document", str(len(note.addenda)))},
        "type": "document",
        "timestamp": _instant(assembled_at),
        "entry": [{"fullUrl": f"urn:uuid:{r['id']}", "resource": r} for r in resources],
    }


def encode(bundle: Json) -> bytes:
    """Return the Bundle as UTF-8 JSON for a file."""
    return (json.dumps(bundle, ensure_ascii=False, indent=1) + "\n").encode()


# --- resources ----------------------------------------------------------------------------------------


def _composition(note: SignedNote) -> Json:
    code, display = _TEMPLATES.get(note.template, _KINDS[note.kind])
    author = _reference(note.signed_by.id, note.signed_by.name)
    authors = [author]
    found: Json = {"resourceType": "Composition", "id": _uuid(note.id, "composition")}
    if note.drafting is not None:
        authors.append(_reference(note.drafting.id, note.drafting.model))
        found["meta"] = {"security": [_coding("v3-ObservationValue", "AIAST", "Artificial Intelligence asserted")]}
    return found | {
        "identifier": {"system": "urn:ietf:rfc:3986", "value": _urn(note.id)},
        "status": "amended" if note.addenda else "final",
        "type": {"coding": [{"system": _LOINC, "code": code, "display": display}]},
        "subject": _reference(note.patient.id, note.patient.name),
        "encounter": _reference(note.encounter_id),
        "date": _instant(note.changed_at),
        "author": authors,
        "title": note.title,
        "attester": [{"mode": "legal", "time": _instant(note.signed_at), "party": author}],
        "section": [
            *(_section(s.title, s.statements) for s in note.sections if s.statements),
            *(_addendum(addition) for addition in note.addenda),
            _section("Attestation", (note.attestation,)),
        ],
    }


def _section(title: str, paragraphs: Sequence[str]) -> Json:
    return {"title": title, "text": _narrative(paragraphs)}


def _addendum(addition: Addition) -> Json:
    head = f"{addition.author.name}, {_instant(addition.at)}"
    section = _section("Addendum", (addition.text, head))
    return section | {"author": [_reference(addition.author.id, addition.author.name)]}


def _patient(patient: Patient) -> Json:
    found: Json = {"resourceType": "Patient", "id": _uuid(patient.id), "name": [{"text": _printable(patient.name)}]}
    if patient.record_number:
        kind = {"coding": [_coding("v2-0203", "MR", "Medical record number")]}
        found["identifier"] = [{"type": kind, "value": _printable(patient.record_number)}]
    if patient.sex in _GENDERS:
        found["gender"] = patient.sex
    if patient.date_of_birth:
        found["birthDate"] = patient.date_of_birth.isoformat()
    return found


def _encounter(note: SignedNote) -> Json:
    return {
        "resourceType": "Encounter",
        "id": _uuid(note.encounter_id),
        "status": "finished",
        "class": _coding("v3-ActCode", "AMB", "ambulatory"),
        "subject": _reference(note.patient.id),
        "participant": [{"individual": _reference(note.signed_by.id)}],
        "period": {"start": _instant(note.began_at)},
    }


def _practitioner(person: Person) -> Json:
    return {"resourceType": "Practitioner", "id": _uuid(person.id), "name": [{"text": _printable(person.name)}]}


def _consent(note: SignedNote) -> Json:
    """Return what the patient agreed to: a note cannot be signed without."""
    return {
        "resourceType": "Consent",
        "id": _uuid(note.encounter_id, "consent"),
        "status": "active",
        "scope": {"coding": [_coding("consentscope", "patient-privacy", "Privacy Consent")]},
        "category": [{"coding": [{"system": _LOINC, "code": "59284-0", "display": "Patient Consent"}]}],
        "patient": _reference(note.patient.id),
        "policyRule": {
            "coding": [_coding("v3-ActCode", "OPTIN", "opt-in")],
            "text": "recording or dictation of this encounter, and drafting its note with a model in the clinic",
        },
    }


def _device(drafting: Drafting) -> Json:
    return {
        "resourceType": "Device",
        "id": _uuid(drafting.id),
        "deviceName": [{"name": _printable(drafting.model), "type": "model-name"}],
        "type": {"text": "language model that drafts notes"},
        "version": [{"type": {"text": "SHA-256 of the weights"}, "value": drafting.model_sha256}],
    }


def _provenance(note: SignedNote, drafting: Drafting) -> Json:
    entry = {"system": _urn("audit-log"), "value": str(drafting.audit_seq)}
    return {
        "resourceType": "Provenance",
        "id": _uuid(note.id, "provenance"),
        "target": [{"reference": f"urn:uuid:{_uuid(note.id, 'composition')}"}],
        "recorded": _instant(note.signed_at),
        "agent": [
            _agent("assembler", "Assembler", _reference(drafting.id, drafting.model)),
            _agent("verifier", "Verifier", _reference(note.signed_by.id, note.signed_by.name)),
        ],
        "entity": [
            {
                "role": "source",
                "what": {"identifier": entry, "display": f"entry {drafting.audit_seq} of the clinic's audit log"},
            },
            {
                "role": "revision",
                "what": {
                    "identifier": {"system": _urn("content-sha256"), "value": note.content_sha256},
                    "display": f"version {note.version} of the note, as it was signed",
                },
            },
        ],
    }


def _agent(code: str, display: str, who: Json) -> Json:
    return {"type": {"coding": [_coding("provenance-participant-type", code, display)]}, "who": who}


# --- pieces ---------------------------------------------------------------------------------------------


def _people(note: SignedNote) -> list[Person]:
    people = {person.id: person for person in (note.signed_by, *(addition.author for addition in note.addenda))}
    return list(people.values())


def _narrative(paragraphs: Sequence[str]) -> Json:
    shown = "".join(f"<p>{html.escape(_printable(text))}</p>" for text in paragraphs)
    return {"status": "additional", "div": f'<div xmlns="{_XHTML}">{shown}</div>'}


def _printable(text: str) -> str:
    """Leave out what XML cannot hold, and keep lines as lines of one paragraph."""
    return "".join(c if c.isprintable() else " " for c in text if c.isprintable() or c.isspace())


def _coding(system: str, code: str, display: str) -> Json:
    return {"system": _TERMINOLOGY + system, "code": code, "display": display}


def _reference(of: str, display: str | None = None) -> Json:
    found = {"reference": f"urn:uuid:{_uuid(of)}"}
    return found | {"display": _printable(display)} if display else found


def _urn(*of: str) -> str:
    return f"urn:uuid:{_uuid(*of)}"


def _uuid(*of: str) -> str:
    """Return the UUID that an id of ours is; for anything else, one that is always the same."""
    if len(of) == 1:
        try:
            return str(uuid.UUID(hex=of[0]))
        except ValueError:
            pass
    return str(uuid.uuid5(_OURS, "/".join(of)))


def _instant(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
