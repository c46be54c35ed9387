"""The FHIR document: valid for the standard's own models, whole in itself, with every signed word and none besides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given
from hypothesis import strategies as st

from clinic.domain import EncounterKind
from clinic.interop.document import Addition, Drafting, Patient, Person, Section, SignedNote, document, encode

SIGNED = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
LATER = datetime(2026, 11, 28, 8, 0, tzinfo=UTC)
DOCTOR = Person("a" * 32, "Dr Amal Okoye")
COLLEAGUE = Person("operator", "an account that is gone")
NOTE = SignedNote(
    id="1" * 32,
    title="SOAP note",
    version=3,
    content_sha256="c" * 64,
    sections=(
        Section("Subjective", ("Cough for two weeks.", "Temperature < 38 & no chills.")),
        Section("Objective", ()),
        Section("Plan", ("Doxycycline 100 mg twice daily.",)),
    ),
    addenda=(Addition("2" * 32, "Culture was\nnegative.", COLLEAGUE, LATER),),
    signed_by=DOCTOR,
    signed_at=SIGNED,
    attestation="I have read this note in full.",
    encounter_id="3" * 32,
    kind=EncounterKind.CONSULTATION,
    template="soap",
    began_at=SIGNED,
    language="en",
    patient=Patient("4" * 32, "Quintessa Marblethwaite", date(1961, 3, 5), "female", "MRN-4711"),
    drafting=Drafting("5" * 32, "gemma-3-270m", "d" * 64, 41, SIGNED),
)
BARE = replace(
    NOTE, addenda=(), drafting=None, kind=EncounterKind.DICTATION, patient=Patient("4" * 32, "N. N.", None, None, None)
)


def made(note: SignedNote) -> dict[str, Any]:
    """Return the document, which the standard's own models take."""
    found = document(note, assembled_at=LATER)
    Bundle.model_validate_json(encode(found))
    return found


def resources(found: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """Return the resources of one kind."""
    return [e["resource"] for e in found["entry"] if e["resource"]["resourceType"] == kind]


def references(value: Any) -> Iterator[str]:
    """Yield every reference in a document."""
    if isinstance(value, dict):
        yield from ([value["reference"]] if "reference" in value else [])
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def read(found: dict[str, Any]) -> list[str]:
    """Return the paragraphs of the narrative, read as XML."""
    sections = resources(found, "Composition")[0]["section"]
    return ["".join(p.itertext()) for s in sections for p in ET.fromstring(s["text"]["div"]) if p.text]  # noqa: S314 - ours


@pytest.mark.parametrize("note", [pytest.param(NOTE, id="full"), pytest.param(BARE, id="bare")])
def test_is_whole_in_itself(note: SignedNote) -> None:
    """A document Bundle begins with its Composition, names itself, and every reference is found inside, once."""
    found = made(note)
    assert found["type"] == "document"
    assert found["entry"][0]["resource"]["resourceType"] == "Composition"
    addresses = [entry["fullUrl"] for entry in found["entry"]]
    assert len(set(addresses)) == len(addresses)
    assert set(references(found)) <= set(addresses)


@pytest.mark.parametrize(
    ("kind", "template", "code"),
    [
        pytest.param(EncounterKind.CONSULTATION, "soap", "11488-4", id="consultation"),
        pytest.param(EncounterKind.DICTATION, "dictation", "34109-9", id="dictation"),
        pytest.param(EncounterKind.CONSULTATION, "first_visit", "34117-2", id="first visit"),
        pytest.param(EncounterKind.DICTATION, "follow_up", "11506-3", id="follow-up, dictated"),
        pytest.param(EncounterKind.CONSULTATION, "handover", "18761-7", id="handover"),
        pytest.param(EncounterKind.CONSULTATION, "gone", "11488-4", id="a template that is gone"),
    ],
)
def test_says_what_kind_of_document_it_is(kind: EncounterKind, template: str, code: str) -> None:
    """A LOINC code by template where there is one, otherwise by the kind of encounter."""
    found = made(replace(NOTE, kind=kind, template=template))
    (coding,) = resources(found, "Composition")[0]["type"]["coding"]
    assert (coding["system"], coding["code"]) == ("http://loinc.org", code)


def test_holds_every_signed_word() -> None:
    """Statements, addendum with author, attestation: as they were written, escaped; no empty section."""
    found = made(NOTE)
    assert read(found) == [
        "Cough for two weeks.",
        "Temperature < 38 & no chills.",
        "Doxycycline 100 mg twice daily.",
        "Culture was negative.",
        "an account that is gone, 2026-11-28T08:00:00+00:00",
        "I have read this note in full.",
    ]
    titles = [section["title"] for section in resources(found, "Composition")[0]["section"]]
    assert titles == ["Subjective", "Plan", "Addendum", "Attestation"]


def test_a_reader_sees_that_a_model_drafted_it() -> None:
    """Label, author and Provenance name model, weights and audit entry; without a model none of them is there."""
    found = made(NOTE)
    composition = resources(found, "Composition")[0]
    assert [label["code"] for label in composition["meta"]["security"]] == ["AIAST"]
    assert [author["display"] for author in composition["author"]] == ["Dr Amal Okoye", "gemma-3-270m"]
    assert resources(found, "Device")[0]["version"][0]["value"] == "d" * 64
    provenance = resources(found, "Provenance")[0]
    assert provenance["entity"][0]["what"]["identifier"]["value"] == "41"
    assert provenance["target"] == [{"reference": found["entry"][0]["fullUrl"]}]
    bare = made(BARE)
    assert "meta" not in resources(bare, "Composition")[0]
    assert resources(bare, "Device") == resources(bare, "Provenance") == []


def test_what_is_not_known_is_left_out() -> None:
    """No date of birth, sex or number is made up."""
    patient = resources(made(BARE), "Patient")[0]
    assert set(patient) == {"resourceType", "id", "name"}
    known = resources(made(NOTE), "Patient")[0]
    assert (known["birthDate"], known["gender"], known["identifier"][0]["value"]) == (
        "1961-03-05",
        "female",
        "MRN-4711",
    )


def test_an_addendum_makes_it_another_document_of_the_same_note() -> None:
    """The note keeps its identifier; the document does not, and says that it was amended."""
    before, after = made(replace(NOTE, addenda=())), made(NOTE)
    assert before["identifier"] != after["identifier"]
    notes = [resources(found, "Composition")[0] for found in (before, after)]
    assert notes[0]["identifier"] == notes[1]["identifier"]
    assert [note["status"] for note in notes] == ["final", "amended"]
    assert made(NOTE) == after


@given(st.text(max_size=60).filter(str.strip))
def test_any_text_is_a_narrative(text: str) -> None:
    """Whatever somebody typed, the narrative is well-formed XML that says it, less what cannot be printed."""
    div = document(replace(NOTE, sections=(Section("Plan", (text,)),)), assembled_at=LATER)
    first = resources(div, "Composition")[0]["section"][0]["text"]["div"]
    shown = "".join(ET.fromstring(first).itertext())  # noqa: S314 - our own document
    assert "".join(shown.split()) == "".join(c for c in text if c.isprintable() and not c.isspace())
