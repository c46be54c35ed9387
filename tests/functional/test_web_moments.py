"""Marks and typed notes on the pages: kept while it is recorded, shown in their place, taken into the note by hand."""

from __future__ import annotations

import re

import pytest

from clinic.domain import Consent, EncounterKind, EncounterState, Role, StatementStatus, new_id
from clinic.records.encounters import Encounter
from clinic.records.moments import Moment
from clinic.records.patients import Patient
from tests.functional.test_audit_first import FakeGenerator
from tests.functional.test_glass import flow
from tests.functional.web_world import ORIGIN, Browser, World

TYPED = "Pressure at home 151 over 93."
MARKUP = "<b>canary</b>"
SAID = "Cough for three days. No fever. Take paracetamol five hundred milligrams twice a day. Come back in a week."


@pytest.fixture
def browser(world: World) -> Browser:
    """The browser of the clinician who records."""
    return world.browser(Role.CLINICIAN)


def moment(at: float, text: str = "") -> dict[str, object]:
    """Return a moment as the page sends it."""
    return {"id": new_id(), "at": at, "text": text}


def noted(world: World, encounter: Encounter, *moments: Moment) -> None:
    """Keep moments."""
    with world.records.write() as tx:
        for each in moments:
            tx.moments.add(encounter.id, each, actor=world.actor())


def test_they_are_kept_while_it_is_recorded(world: World, browser: Browser, patient: Patient) -> None:
    """Once each, and shown again when the page is loaded anew; nothing comes in after the recording."""
    encounter = world.encounter(patient)
    path = f"/encounters/{encounter.id}"
    sent = moment(12.345, MARKUP)
    for _ in range(2):
        assert browser.send(f"{path}/moments", sent).status_code == 201
    assert browser.send(f"{path}/moments", moment(3.0)).status_code == 201
    with world.records.read() as tx:
        assert [(kept.at, kept.text) for kept in tx.moments.of_encounter(encounter.id)] == [(3.0, ""), (12.35, MARKUP)]
    page = browser.get(path).text
    assert "&lt;b&gt;canary&lt;/b&gt;" in page
    assert MARKUP not in page
    with world.records.write() as tx:
        tx.encounters.mark(encounter.id, state=EncounterState.QUEUED)
    assert browser.send(f"{path}/moments", moment(5.0)).status_code == 409


WRONG: tuple[dict[str, object], ...] = ({"id": "x"}, {"at": -1}, {"at": "NaN"}, {"text": "x" * 1001}, {"at": None})


@pytest.mark.parametrize("wrong", WRONG, ids=["id", "negative", "nan", "long", "none"])
def test_what_is_no_moment_is_refused(
    world: World, browser: Browser, patient: Patient, wrong: dict[str, object]
) -> None:
    """With a sentence that repeats nothing of it."""
    path = f"/encounters/{world.encounter(patient).id}"
    answer = browser.send(f"{path}/moments", moment(1.0, "canary") | wrong)
    assert answer.status_code == 422
    assert "canary" not in answer.text


def test_nobody_else_adds_one(world: World, browser: Browser, patient: Patient) -> None:
    """Not a colleague, and nobody without consent."""
    path = f"/encounters/{world.encounter(patient).id}"
    assert world.colleague().send(f"{path}/moments", moment(1.0, "theirs")).status_code == 403
    browser.post(f"{path}/consent", consent="withdrawn")
    assert browser.send(f"{path}/moments", moment(1.0, "mine")).status_code == 409
    assert "moment.noted" not in world.events()


def test_they_stand_beside_what_was_said(world: World, browser: Browser, patient: Patient) -> None:
    """In the order of time; without consent they are hidden like everything else."""
    encounter = world.drafted(patient)
    noted(world, encounter, Moment(new_id(), 0.0, "first words"), Moment(new_id(), 9999.0, "last words"))
    page = browser.get(f"/encounters/{encounter.id}").text
    lines = re.findall(r'data-testid="(moment|segment)"', page)
    assert (lines[0], lines[-1], lines.count("moment")) == ("moment", "moment", 2)
    browser.post(f"/encounters/{encounter.id}/consent", consent=Consent.WITHDRAWN.value)
    assert "first words" not in browser.get(f"/encounters/{encounter.id}").text


@pytest.mark.parametrize("fragment", [False, True], ids=["page", "piece"])
def test_what_was_typed_is_taken_by_hand_and_flagged(
    world: World,
    browser: Browser,
    patient: Patient,
    fragment: bool,  # noqa: FBT001
) -> None:
    """It is offered until it is in the note; there it says that it was typed, and waits to be confirmed."""
    encounter = world.drafted(patient)
    typed, mark = Moment(new_id(), 61.0, TYPED), Moment(new_id(), 2.0, "")
    noted(world, encounter, typed, mark)
    path = f"/encounters/{encounter.id}"
    assert browser.get(path).text.count('data-testid="typed"') == 1
    form = {"csrf_token": browser.token, "version": "1", "moment": typed.id, "section": "plan"}
    headers = {"X-Fragment": "1"} if fragment else {}
    answer = browser.client.post(f"{path}/note/moments", data=form, headers=headers, base_url=ORIGIN)
    assert answer.status_code == (200 if fragment else 303)
    with world.records.read() as tx:
        stored = tx.notes.get(encounter.id)
    assert stored is not None
    (statement,) = [s for s in stored.note.statements if s.text == TYPED]
    assert (statement.status, statement.reasons[0].code) == (StatementStatus.FLAGGED, "typed")
    assert "1:01" in statement.reasons[0].message
    assert 'data-testid="typed"' not in browser.get(path).text
    assert browser.post(f"{path}/note/moments", version=2, moment=mark.id, section="plan").status_code == 422
    colleague = world.colleague().post(f"{path}/note/moments", version=2, moment=typed.id, section="plan")
    assert colleague.status_code == 403


def test_nothing_is_generated_from_them(world: World, patient: Patient) -> None:
    """What was typed reaches no prompt.  Negative control: the words of the transcript do."""
    encounter = world.encounter(patient, kind=EncounterKind.DICTATION)
    with world.records.write() as tx:
        tx.moments.add(encounter.id, Moment(new_id(), 1.0, "zanzibarol"), actor=world.actor())
    world.browser(Role.CLINICIAN).post(f"/encounters/{encounter.id}/text", text=f"{SAID} {SAID}")
    generator = FakeGenerator()
    flow(world, generator).run(encounter.id, actor=world.actor())
    asked = "".join(map(str, generator.history))
    assert "Cough for three days" in asked
    assert "zanzibarol" not in asked
