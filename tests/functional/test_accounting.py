"""The accounting of disclosures as it is seen: typed, on the clinician's page, on the auditor's."""

from __future__ import annotations

import csv
import io
import json

import pytest
from click.testing import CliRunner, Result

from clinic.cli import main
from clinic.domain import Role, ShredReason
from clinic.records.patients import Patient
from tests.functional.web_world import CANARY, World

LINK = "link opened with the patient&#39;s key"


def typed(world: World, *arguments: str) -> Result:
    """Run `clinic audit accounting` on the world's data folder."""
    return CliRunner().invoke(main, ["audit", "accounting", *arguments, "--home", str(world.services.config.home)])


def test_as_it_is_typed(world: World, patient: Patient) -> None:
    """Text names who, what, when and the purpose; JSON and CSV hold the same lines; each question is recorded."""
    world.drafted(patient)
    text = typed(world, patient.id)
    assert text.exit_code == 0, text.output
    assert "note.drafted  by clinician (clinician)" in text.output
    document = json.loads(typed(world, patient.id, "--json").stdout)
    assert document["pseudonym"] == world.records.audit.pseudonym(patient.id)
    assert document["lines"][-1]["event"] == "patient.accounted"
    table = typed(world, patient.id, "--csv")
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    assert [row["event"] for row in rows[:-1]] == [line["event"] for line in document["lines"]]
    assert world.events().count("patient.accounted") == 3
    assert CANARY not in text.output + table.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["0" * 32], "record_unknown", id="nobody"),
        pytest.param(["ID", "--csv", "--json"], "input_invalid", id="both forms"),
        pytest.param(["ID", "--from", "2026-11-26", "--to", "2026-11-25"], "range_invalid", id="backwards"),
    ],
)
def test_mistakes_are_told_and_leave_no_entry(world: World, patient: Patient, arguments: list[str], code: str) -> None:
    """A patient who is not there, two forms at once, days the wrong way round."""
    refused = typed(world, *(argument.replace("ID", patient.id) for argument in arguments))
    assert refused.exit_code != 0
    assert code in refused.output
    assert "patient.accounted" not in world.events()


def test_clinician_in_charge_sees_it(world: World, patient: Patient) -> None:
    """Whoever has led an encounter sees the lines under the patient's name, and that is an entry; a table, too."""
    world.drafted(patient)
    browser = world.browser(Role.CLINICIAN)
    assert f"/patients/{patient.id}/accounting" in browser.get(f"/patients/{patient.id}").text
    page = browser.get(f"/patients/{patient.id}/accounting").text
    assert CANARY in page
    assert "note.drafted" in page
    assert LINK in page
    assert world.events()[-1] == "patient.accounted"
    table = browser.get(f"/patients/{patient.id}/accounting?layout=csv&from=2026-01-01")
    assert table.mimetype == "text/csv"
    assert table.headers["Content-Disposition"].startswith("attachment; filename=accounting-")
    assert CANARY not in table.text


def test_another_clinician_does_not(world: World, patient: Patient) -> None:
    """Who has led no encounter of this patient is refused, told whom to ask, and nothing is recorded as seen."""
    world.drafted(patient)
    refused = world.colleague().get(f"/patients/{patient.id}/accounting")
    assert refused.status_code == 403
    assert "not_in_charge" in refused.text
    assert CANARY not in refused.text
    assert "patient.accounted" not in world.events()


def test_auditor_sees_it_by_pseudonym(world: World, patient: Patient) -> None:
    """The log leads there; the page holds neither name nor id of the patient; an unknown pseudonym is no page."""
    world.drafted(patient)
    auditor, pseudonym = world.browser(Role.AUDITOR), world.records.audit.pseudonym(patient.id)
    assert f"/audit/accounting/{pseudonym}" in auditor.get("/audit").text
    page = auditor.get(f"/audit/accounting/{pseudonym}").text
    assert "note.drafted" in page
    assert LINK in page
    assert CANARY not in page
    assert patient.id not in page
    assert auditor.get(f"/audit/accounting/{'0' * 32}").status_code == 404
    assert world.browser(Role.ADMINISTRATOR).get(f"/audit/accounting/{pseudonym}").status_code == 403


@pytest.mark.parametrize("query", ["from=yesterday", "from=2026-02-31", "from=2026-03-02&to=2026-03-01", "layout=pdf"])
def test_days_that_are_none_are_explained(world: World, patient: Patient, query: str) -> None:
    """The page says what to mend; nothing fails."""
    world.drafted(patient)
    answer = world.browser(Role.CLINICIAN).get(f"/patients/{patient.id}/accounting?{query}")
    assert answer.status_code == 422
    assert "error-box" in answer.text


def test_after_a_shred_both_pages_say_so(world: World, patient: Patient) -> None:
    """The links are gone, said plainly; what the plain entries hold is still listed, without a name."""
    world.drafted(patient)
    world.records.shred(patient.id, reason=ShredReason.PATIENT_REQUEST, actor=world.actor())
    pseudonym = world.records.audit.pseudonym(patient.id)
    for role, path in ((Role.CLINICIAN, f"/patients/{patient.id}"), (Role.AUDITOR, "/audit")):
        where = f"{path}/accounting" if role is Role.CLINICIAN else f"{path}/accounting/{pseudonym}"
        page = world.browser(role).get(where).text
        assert "accounting-shredded" in page
        assert "patient.shredded" in page
        assert "patient request" in page
        assert LINK not in page
        assert CANARY not in page
