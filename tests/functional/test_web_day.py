"""The day list and the search: what is shown to whom, what is recorded, what the page may ask by itself."""

from __future__ import annotations

import re
from datetime import date

import pytest

from clinic.domain import Consent, EncounterState, Role, Stage
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient, PatientData
from clinic.web import day
from tests.functional.web_world import CANARY, Browser, World


@pytest.fixture
def browser(world: World) -> Browser:
    """A clinician's browser."""
    return world.browser(Role.CLINICIAN)


def rows(page: str) -> dict[str, str]:
    """Return the rows of a page by encounter."""
    return dict(re.findall(r'data-encounter="([0-9a-f]{32})"(.*?)</li>', page, re.DOTALL))


def queue(world: World, patient: Patient) -> Encounter:
    """Return an encounter whose job waits."""
    encounter = world.encounter(patient)
    with world.records.write() as tx:
        tx.encounters.mark(encounter.id, state=EncounterState.QUEUED)
    world.services.jobs.queued.append(encounter.id)
    return encounter


def test_list_is_the_first_page(world: World, browser: Browser, patient: Patient) -> None:
    """After signing in a clinician sees each of their encounters with patient, state, and place in the queue."""
    drafted, first, second = world.drafted(patient), queue(world, patient), queue(world, patient)
    running = world.encounter(patient)
    with world.records.write() as tx:
        tx.encounters.mark(running.id, state=EncounterState.RUNNING, stage=Stage.GENERATE)
    assert browser.get("/").location == "/day"
    shown = rows(browser.get("/day").text)
    assert set(shown) == {drafted.id, first.id, second.id, running.id}
    assert all(CANARY in row and "born 5 Mar 1961" in row for row in shown.values())
    for encounter, words in (
        (drafted, "Draft to review"),
        (first, "Next in the queue"),
        (second, "Number 2 in the queue"),
        (running, "Write draft"),
    ):
        assert words in shown[encounter.id]


def test_empty_list_says_what_to_do(world: World, browser: Browser) -> None:
    """Without an encounter the page leads on."""
    assert world.events().count("patients.listed") == 1  # the page to which signing in leads
    for show in ("mine", "all"):
        page = browser.get(f"/day?show={show}").text
        assert 'data-testid="day-empty"' in page
        assert rows(page) == {}


def test_mine_and_everybodys(world: World, browser: Browser, patient: Patient) -> None:
    """A colleague sees mine only when asking for everybody's, and then with my name."""
    mine, colleague = world.drafted(patient), world.colleague()
    assert set(rows(browser.get("/day").text)) == {mine.id}
    assert rows(colleague.get("/day").text) == {}
    assert "Test clinician" in rows(colleague.get("/day?show=all").text)[mine.id]
    assert browser.get("/day?show=theirs").status_code == 422


def test_look_is_recorded_and_asking_is_not(world: World, browser: Browser, patient: Patient) -> None:
    """The list is a list of patients in the log, page or piece; what the page asks by itself names nobody."""
    world.drafted(patient)
    before = world.events().count("patients.listed")
    browser.get("/day")
    browser.client.get("/day", headers={"X-Fragment": "day"}, base_url="https://clinic.test")
    assert world.events().count("patients.listed") == before + 2
    asked = browser.get("/day/state", json=True)
    assert world.events().count("patients.listed") == before + 2
    assert CANARY not in asked.text
    assert patient.id not in asked.text


def test_state_says_what_the_rows_say(world: World, browser: Browser, patient: Patient) -> None:
    """State, label and place of each encounter of the same list."""
    queued = queue(world, patient)
    (told,) = browser.get("/day/state", json=True).get_json()["encounters"]
    assert told == {"id": queued.id, "state": "queued", "label": "Waiting", "place": "Next in the queue"}
    assert world.colleague().get("/day/state", json=True).get_json() == {"encounters": []}


def test_asking_does_not_keep_the_session_alive(world: World, browser: Browser) -> None:
    """A page that is left open does not keep its user signed in."""
    idle = world.services.config.web.idle_minutes * 60
    answers = []
    for _ in range(2):
        world.uptime.now += 0.6 * idle
        answers.append(browser.get("/day/state", json=True).status_code)
    assert answers == [200, 401]


def test_queue_that_cannot_be_read_is_said(world: World, browser: Browser, patient: Patient) -> None:
    """The list is shown without places, and says why."""
    queued = queue(world, patient)
    world.services.jobs.broken = True
    page = browser.get("/day").text
    assert 'data-testid="queue-unread"' in page
    assert "Place in the queue unknown" in rows(page)[queued.id]
    (told,) = browser.get("/day/state", json=True).get_json()["encounters"]
    assert told["place"] == "Place in the queue unknown"


def test_refused_consent_is_shown_today(world: World, browser: Browser, patient: Patient) -> None:
    """An encounter without consent is in the list of its day, and says so."""
    refused = world.encounter(patient, consent=Consent.REFUSED)
    assert "consent: refused" in rows(browser.get("/day").text)[refused.id]


def test_limit_is_said(world: World, browser: Browser, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the page holds: the newest, and how many there are."""
    monkeypatch.setattr(day, "MOST", 1)
    world.encounter(patient)
    newest = world.encounter(patient)
    page = browser.get("/day").text
    assert set(rows(page)) == {newest.id}
    assert "The newest 1 of 2 are shown" in page


@pytest.mark.parametrize("text", ["5.3.1961", "5 Mar 1961", "MRN 4711", "quint marb"])
def test_search_finds_what_fits(browser: Browser, patient: Patient, text: str) -> None:
    """By date of birth, record number, beginnings of names; nothing of it is in the address."""
    found = browser.post("/patients/search", text=text)
    assert f"/patients/{patient.id}" in found.text
    assert 'data-testid="only-similar"' not in found.text


def test_similar_names_are_shown_as_that(world: World, browser: Browser, patient: Patient) -> None:
    """Only where nobody fits, and never mixed with who does; what is shown is recorded."""
    with world.records.write() as tx:
        tx.patients.create(PatientData("Jane Smyth", date(1980, 1, 1)), world.actor())
    before = world.events().count("patients.listed")
    alike = browser.post("/patients/search", text="smith").text
    assert 'data-testid="only-similar"' in alike
    assert "Jane Smyth" in alike.split('data-testid="similar"')[1]
    assert CANARY not in alike
    assert world.events().count("patients.listed") == before + 1
    with world.records.write() as tx:
        tx.patients.create(PatientData("John Smith", date(1980, 1, 1)), world.actor())
    fitting = browser.post("/patients/search", text="smith").text
    assert "John Smith" in fitting
    assert "Jane Smyth" not in fitting
    assert "no name sounds alike" in browser.post("/patients/search", text="zzz").text
    assert patient.id not in fitting


def test_a_long_list_says_that_it_is_not_all(world: World, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """More patients than a page holds: the first by name, the number of all, and only what was shown is recorded."""
    monkeypatch.setattr("clinic.web.patients._SHOWN", 2)
    with world.records.write() as tx:
        for name in ("Cara", "Anna", "Bela"):
            tx.patients.create(PatientData(f"{name} Longlist"), world.actor())
    found = browser.post("/patients/search", text="longlist").text
    assert "The first 2 of 3" in found
    assert "Anna Longlist" in found
    assert "Bela Longlist" in found
    assert "Cara Longlist" not in found
    assert list(world.records.audit.entries())[-1].body == b'{"count":2}'
