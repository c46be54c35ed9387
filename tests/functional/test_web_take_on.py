"""Taking on a draft that nobody can finish: made on the command line, or by somebody whose account is disabled."""

from __future__ import annotations

import pytest

from clinic.domain import OPERATOR, Consent, EncounterId, EncounterKind, EncounterState, Role
from clinic.records.encounters import Encounter, Encounters
from clinic.records.patients import Patient
from tests.functional.web_world import NOTE, TRANSCRIPT, Browser, World


@pytest.fixture
def browser(world: World) -> Browser:
    """A clinician's browser."""
    return world.browser(Role.CLINICIAN)


@pytest.fixture
def headless(world: World, patient: Patient) -> Encounter:
    """A draft of the command line."""
    with world.records.write() as tx:
        opened = tx.encounters.open(
            patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=OPERATOR
        )
        tx.encounters.record_consent(opened.id, Consent.GIVEN, OPERATOR)
        tx.transcripts.store(opened.id, TRANSCRIPT)
        tx.notes.store_draft(opened.id, NOTE, generation_id=None, actor=OPERATOR)
        return tx.encounters.mark(opened.id, state=EncounterState.DRAFTED)


def clinician_of(world: World, encounter_id: EncounterId) -> str:
    """Return whose an encounter is."""
    with world.records.read() as tx:
        return tx.encounters.get(encounter_id).clinician_id


def take_on(browser: Browser, encounter: Encounter) -> int:
    """Press the button; return the status."""
    return browser.post(f"/encounters/{encounter.id}/take-on").status_code


def test_a_draft_of_the_command_line_is_taken_on(world: World, browser: Browser, headless: Encounter) -> None:
    """It is read first; then it is the clinician's, recorded, and the sweep agrees."""
    page = f"/encounters/{headless.id}"
    assert 'data-testid="take-on"' in browser.get(page).text
    assert take_on(browser, headless) == 303
    assert clinician_of(world, headless.id) == world.actor().user_id
    entry = list(world.records.audit.entries())[-1]
    assert (entry.event, entry.actor) == ("encounter.transferred", world.actor().user_id)
    shown = browser.get(page).text
    assert 'data-testid="take-on"' not in shown
    assert 'data-testid="note-read-only"' not in shown
    assert world.records.sweep() == ()


def test_a_draft_of_a_disabled_account_is_taken_on(world: World, patient: Patient) -> None:
    """The colleague may as soon as its clinician is gone, and not before."""
    encounter, colleague = world.drafted(patient), world.colleague()
    assert 'data-testid="take-on"' not in colleague.get(f"/encounters/{encounter.id}").text
    assert take_on(colleague, encounter) == 409
    with world.records.write() as tx:
        tx.users.disable("clinician", actor=world.actor(Role.ADMINISTRATOR))
    assert take_on(colleague, encounter) == 303
    assert clinician_of(world, encounter.id) != world.actor().user_id
    assert world.records.sweep() == ()


@pytest.mark.parametrize(
    "state", [EncounterState.OPEN, EncounterState.QUEUED, EncounterState.RUNNING, EncounterState.FAILED]
)
def test_only_a_draft_is_taken_on(world: World, browser: Browser, headless: Encounter, state: EncounterState) -> None:
    """What the command line still works on stays with it."""
    with world.records.write() as tx:
        tx.encounters.mark(headless.id, state=state)
    assert take_on(browser, headless) == 409
    assert clinician_of(world, headless.id) == OPERATOR.user_id


def test_without_consent_nothing_is_taken_on(world: World, browser: Browser, headless: Encounter) -> None:
    """A withdrawn consent hides the draft from the one who would take it on, too."""
    with world.records.write() as tx:
        tx.encounters.record_consent(headless.id, Consent.WITHDRAWN, OPERATOR)
    assert take_on(browser, headless) == 409
    assert clinician_of(world, headless.id) == OPERATOR.user_id


def test_twice_is_once(world: World, browser: Browser, headless: Encounter) -> None:
    """The second of two who press the button is told that it is somebody's."""
    colleague = world.colleague()
    assert take_on(browser, headless) == 303
    assert take_on(colleague, headless) == 409
    assert take_on(browser, headless) == 409
    assert world.events().count("encounter.transferred") == 1


def test_an_unrecorded_owner_is_found(world: World, headless: Encounter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: an owner put in the database without an entry is what the sweep names."""
    monkeypatch.setattr(Encounters, "can_be_taken_on", lambda *_: True)
    with world.records.write() as tx:
        monkeypatch.setattr(tx.encounters._work, "append", lambda *_, **__: None)
        tx.encounters.take_on(headless.id, world.actor())
    assert [finding.id for finding in world.records.sweep() if finding.kind == "encounter"] == [headless.id] * 2
