"""Signed notes go out and patients come in: as it is typed and on the page, audited, nothing lost, nobody twice."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fhir.resources.R4B.bundle import Bundle

from clinic.cli import main
from clinic.domain import Role
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from tests.functional.web_world import CANARY, NOTE, Browser, World

ANN = {"resourceType": "Patient", "name": [{"text": "Ann Lee"}]}
MR = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]}


@pytest.fixture
def browser(world: World) -> Browser:
    """A signed-in clinician."""
    return world.browser(Role.CLINICIAN)


def typed(world: World, *arguments: str) -> Result:
    """Run `clinic` on the world's data folder."""
    return CliRunner().invoke(main, [*arguments, "--home", str(world.services.config.home)])


def signed(world: World, browser: Browser, patient: Patient) -> Encounter:
    """Return an encounter whose note is signed, its flagged statement removed."""
    encounter = world.drafted(patient)
    path = f"/encounters/{encounter.id}/note"
    browser.get(f"/encounters/{encounter.id}")
    assert browser.post(f"{path}/statements/n2/remove", version=1).status_code == 303
    assert browser.post(f"{path}/sign", version=2, attestation="yes").status_code == 303
    return encounter


def put(folder: Path, *resources: dict[str, Any]) -> str:
    """Write a Bundle of `resources` and return its path."""
    file = folder / "patients.json"
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": r} for r in resources]}
    file.write_text(json.dumps(bundle), encoding="utf-8")
    return str(file)


def fates(world: World, file: str) -> list[str]:
    """Import a file and say what became of its patients."""
    done = typed(world, "patient", "import", file, "--json")
    assert done.exit_code == 0, done.output
    return [one["fate"] for one in json.loads(done.stdout)]


# --- notes go out -----------------------------------------------------------------------------------------


def test_a_signed_note_is_saved_from_its_page(world: World, browser: Browser, patient: Patient) -> None:
    """The file is a valid document with the kept statements only; neither name nor address holds the patient."""
    encounter = signed(world, browser, patient)
    assert 'data-testid="note-export"' in browser.get(f"/encounters/{encounter.id}").text
    response = browser.get(f"/encounters/{encounter.id}/note/document")
    assert response.mimetype == "application/fhir+json"
    assert response.headers["Content-Disposition"] == f"attachment; filename=note-{encounter.id[:8]}.fhir.json"
    assert response.headers["Cache-Control"] == "no-store"
    Bundle.model_validate_json(response.data)
    assert CANARY in response.text
    shown = [statement.text in response.text for statement in NOTE.statements]
    assert shown == [True, False, True]
    assert world.events()[-1] == "note.exported"


def test_the_accounting_says_that_it_was_taken_out(world: World, browser: Browser, patient: Patient) -> None:
    """Whoever looks at who used the record sees it in words."""
    encounter = signed(world, browser, patient)
    browser.get(f"/encounters/{encounter.id}/note/document")
    assert "Taken out <code>note.exported</code>" in browser.get(f"/patients/{patient.id}/accounting").text


def test_a_draft_does_not_go_out(world: World, browser: Browser, patient: Patient) -> None:
    """Unsigned, or without a note: refused with a hint, and no entry says otherwise."""
    for encounter in (world.drafted(patient), world.encounter(patient)):
        response = browser.get(f"/encounters/{encounter.id}/note/document")
        assert response.status_code == 409
        assert "note_unsigned" in response.text
    assert "note.exported" not in world.events()


@pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.AUDITOR])
def test_only_clinicians_take_notes_out(world: World, browser: Browser, patient: Patient, role: Role) -> None:
    """Who does not read records does not export them."""
    encounter = signed(world, browser, patient)
    assert world.browser(role).get(f"/encounters/{encounter.id}/note/document").status_code == 403
    assert "note.exported" not in world.events()


def test_a_signed_note_is_written_to_a_file(world: World, browser: Browser, patient: Patient, tmp_path: Path) -> None:
    """The typed command writes the same for its owner only, replaces nothing, and says so in the log."""
    encounter = signed(world, browser, patient)
    target = tmp_path / "note.json"
    assert typed(world, "note", "export", encounter.id, str(target)).exit_code == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    bundle = json.loads(target.read_bytes())
    page = json.loads(browser.get(f"/encounters/{encounter.id}/note/document").data)
    assert bundle["entry"] == page["entry"]
    before = target.read_bytes()
    again = typed(world, "note", "export", encounter.id, str(target))
    assert "output_exists" in again.output
    assert target.read_bytes() == before
    assert world.events().count("note.exported") == 2


@pytest.mark.parametrize("target", ["/nowhere/note.json", "/proc/note.json"])
def test_a_file_that_cannot_be_written_is_told(world: World, browser: Browser, patient: Patient, target: str) -> None:
    """One error with its code; the note is as it was."""
    encounter = signed(world, browser, patient)
    refused = typed(world, "note", "export", encounter.id, target)
    assert refused.exit_code != 0
    assert "output_unwritable" in refused.output
    assert CANARY not in refused.output


# --- patients come in -------------------------------------------------------------------------------------


def test_patients_of_other_systems_are_added_once(world: World, test_data: Path) -> None:
    """Synthea's and HL7's own bundles: each patient with name, date of birth, sex, number; again, and nobody twice."""
    folder = test_data / "fhir" / "dev"
    files = [*folder.glob("*Bundle*.json"), *folder.glob("*_*.json")]
    assert len(files) > 2
    assert [fates(world, str(file)) for file in files] == [["added"]] * len(files)
    assert [fates(world, str(file)) for file in files] == [["known"]] * len(files)
    with world.records.write() as tx:
        found = {p.data.name: p.data for p in tx.patients.list(world.actor())}
    hintz = found["Ned Hintz"]
    assert hintz.date_of_birth
    assert hintz.sex == "male"
    assert hintz.record_number


@pytest.mark.parametrize(
    ("first", "second", "fate"),
    [
        pytest.param({"birthDate": "1980-01-02"}, {"birthDate": "1980-01-02"}, "known", id="name and birth"),
        pytest.param({"birthDate": "1980-01-02"}, {"birthDate": "1981-01-02"}, "added", id="another birth"),
        pytest.param({}, {}, "unclear", id="name alone"),
        pytest.param({"birthDate": "1980-01-02"}, {"birthDate": "1980"}, "unclear", id="a year is no date"),
        pytest.param(
            {"identifier": [{"type": MR, "value": "A-1"}]},
            {"identifier": [{"type": MR, "value": "a 1"}], "gender": "female", "birthDate": "1980-01-02"},
            "differs",
            id="same number, more known",
        ),
        pytest.param(
            {"identifier": [{"type": MR, "value": "A-1"}], "birthDate": "1980-01-02"},
            {"identifier": [{"type": MR, "value": "A-2"}], "birthDate": "1980-01-02"},
            "added",
            id="two numbers are two people",
        ),
        pytest.param(
            {"identifier": [{"type": MR, "value": "A-1"}], "birthDate": "1980-01-02"},
            {"birthDate": "1980-01-02", "name": [{"given": ["LEE"], "family": "Ann"}]},
            "known",
            id="order and case of a name",
        ),
        pytest.param({"birthDate": "1980-01-02"}, {"name": [{"text": "Ann Leigh"}]}, "added", id="another name"),
    ],
)
def test_who_is_the_same(
    world: World, tmp_path: Path, first: dict[str, Any], second: dict[str, Any], fate: str
) -> None:
    """By record number, else by name and date of birth, else by people; in one file as in two."""
    assert fates(world, put(tmp_path, ANN | first, ANN | second)) == ["added", fate]
    with world.records.write() as tx:
        assert len(tx.patients.list(world.actor())) == (2 if fate == "added" else 1)


def test_the_official_name_counts(world: World, tmp_path: Path) -> None:
    """Of several names the official one; given names before the family's."""
    names = [
        {"use": "nickname", "text": "Annie"},
        {"use": "official", "given": ["Ann", "Marie"], "family": "Lee"},
    ]
    fates(world, put(tmp_path, ANN | {"name": names}))
    assert "Ann Marie Lee" in typed(world, "patient", "list").output


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param({"name": []}, id="no name"),
        pytest.param({"birthDate": "the fifth of March"}, id="not a date"),
        pytest.param({"birthDate": "2980-01-01"}, id="born in the future"),
        pytest.param({"birthDate": "1780-01-01"}, id="born too long ago"),
        pytest.param({"name": [{"text": "x" * 900}]}, id="a name without end"),
        pytest.param({"surprise": True}, id="unknown field"),
    ],
)
def test_one_bad_patient_and_nobody_is_added(world: World, tmp_path: Path, broken: dict[str, Any]) -> None:
    """The message names the place in the file and nothing of what stands there."""
    refused = typed(world, "patient", "import", put(tmp_path, ANN, ANN | {"name": [{"text": CANARY}]} | broken))
    assert refused.exit_code == 2
    assert "patient 2 of the file" in refused.output
    for private in (CANARY, "fifth of March", "xxx", "Lee"):
        assert private not in refused.output
    assert "patient.created" not in world.events()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("[]", id="list"),
        pytest.param('{"resourceType": "Observation"}', id="another resource"),
        pytest.param('{"resourceType": "Bundle", "entry": "x"}', id="entries are text"),
        pytest.param('{"resourceType": "Bundle", "entry": [1, {"resource": []}, null]}', id="entries are nothing"),
        pytest.param('{"resourceType": "Patient", "name": [{"text": "Ann"', id="cut off"),
        pytest.param("\udcff{}", id="not UTF-8"),
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_a_file_that_is_none_is_told(world: World, tmp_path: Path, text: str) -> None:
    """One code for whatever is not FHIR; nothing is added."""
    file = tmp_path / "strange.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    refused = typed(world, "patient", "import", str(file))
    assert refused.exit_code == 2
    assert "fhir_invalid" in refused.output
    assert "patient.created" not in world.events()
