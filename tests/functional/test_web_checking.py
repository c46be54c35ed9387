"""Live checking: the answer is what saving gives, nothing is stored, looking is recorded, nobody else may ask."""

from __future__ import annotations

import logging

import pytest
from werkzeug.test import TestResponse

from clinic.domain import Consent, EncounterId, Role, StatementStatus
from clinic.records.notes import StoredNote
from clinic.records.patients import Patient
from clinic.web import checking, wording
from tests.functional.web_world import Browser, World

SUPPORTED = "Cough for two weeks."
FLAGGED = "Cough for nine weeks."


@pytest.fixture
def browser(world: World) -> Browser:
    """A clinician's browser."""
    return world.browser(Role.CLINICIAN)


def path_of(world: World, patient: Patient) -> str:
    """Return the address of a drafted encounter's check."""
    return f"/encounters/{world.drafted(patient).id}/note/check"


def note_of(world: World, path: str) -> StoredNote:
    """Return the note as it is stored."""
    with world.records.read() as tx:
        note = tx.notes.get(EncounterId(path.split("/")[2]))
    assert note is not None
    return note


def refusal(response: TestResponse) -> str:
    """Return the code of a refusal."""
    return str(response.get_json()["error"]["code"])


def test_sentence_is_told_what_it_is(world: World, browser: Browser, patient: Patient) -> None:
    """Words that were said are supported; a number that was not said is to be checked, with the reason in words."""
    path = path_of(world, patient)
    good = browser.send(path, {"statement": "n1", "text": SUPPORTED}).get_json()
    assert good == {
        "status": "edited",
        "label": wording.CHECKED[StatementStatus.EDITED],
        "reasons": [],
        "sourced": True,
    }
    bad = browser.send(path, {"statement": "n1", "text": FLAGGED}).get_json()
    assert bad["status"] == "flagged"
    assert any("nine" in reason for reason in bad["reasons"])
    new = browser.send(path, {"section": "plan", "text": "Start amoxicillin."}).get_json()
    assert new["status"] == "flagged"
    assert any("penicillin" in reason for reason in new["reasons"])


@pytest.mark.parametrize("text", [SUPPORTED, FLAGGED, "Not discussed."], ids=["supported", "flagged", "nothing"])
def test_answer_is_what_saving_gives(world: World, browser: Browser, patient: Patient, text: str) -> None:
    """A check of a changed and of a new statement tells the status and the reasons that the note then holds."""
    path = path_of(world, patient)
    changed = browser.send(path, {"statement": "n1", "text": text}).get_json()
    new = browser.send(path, {"section": "plan", "text": text}).get_json()
    browser.post(path.replace("/check", "/statements/n1/edit"), version=1, text=text)
    browser.post(path.replace("/check", "/statements"), version=2, section="plan", text=text)
    saved = {s.id: s for s in note_of(world, path).note.statements}
    for told, stored in ((changed, saved["n1"]), (new, saved["n4"])):
        assert (told["status"], told["reasons"]) == (stored.status.value, [r.message for r in stored.reasons])
        assert told["sourced"] == bool(stored.evidence)


def test_nothing_is_stored_or_logged(
    world: World, browser: Browser, patient: Patient, caplog: pytest.LogCaptureFixture
) -> None:
    """The note stays at its version; words and reasons are in no log line; what is asked is no part of the address."""
    path = path_of(world, patient)
    before = note_of(world, path)
    with caplog.at_level(logging.DEBUG):
        browser.send(path, {"statement": "n1", "text": FLAGGED})
        browser.send(path, {"statement": "none", "text": FLAGGED})
    assert note_of(world, path) == before
    assert "nine" not in caplog.text


def test_look_is_recorded_once_a_session(world: World, browser: Browser, patient: Patient) -> None:
    """The first check of an encounter in a session is a view in the log; the next are not; a new session is again."""
    path = path_of(world, patient)
    for views, asking in ((1, browser), (1, browser), (2, world.browser(Role.CLINICIAN))):
        assert asking.send(path, {"statement": "n1", "text": FLAGGED}).status_code == 200
        assert world.events().count("encounter.viewed") == views
    assert not {"note.edited", "generation.authorized"} & set(world.events())


def test_look_that_could_not_be_recorded_shows_nothing(
    world: World, browser: Browser, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the view cannot be recorded, nothing is answered, and the session is not taken for recorded."""
    path = path_of(world, patient)

    def fail(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(checking, "record_view", fail)
        assert browser.send(path, {"statement": "n1", "text": FLAGGED}).status_code == 500
    browser.send(path, {"statement": "n1", "text": FLAGGED})
    assert world.events().count("encounter.viewed") == 1


def test_forgotten_look_is_recorded_again() -> None:
    """The memory of looks is bounded: what falls out of it is not taken for recorded."""
    looks = checking.Looks()
    for number in range(1001):
        looks.add(("session", str(number)))
    assert ("session", "1000") in looks
    assert ("session", "0") not in looks


def test_colleague_may_not_check(world: World, patient: Patient) -> None:
    """Who may not edit the note gets no reasons, and no view is recorded that was not given."""
    path = path_of(world, patient)
    answer = world.colleague().send(path, {"statement": "n1", "text": FLAGGED})
    assert (answer.status_code, refusal(answer)) == (403, "not_allowed")
    assert "encounter.viewed" not in world.events()


def test_withdrawn_consent_ends_checking(world: World, browser: Browser, patient: Patient) -> None:
    """Once consent is withdrawn, no word of the transcript comes back, also not to a session that saw it before."""
    path = path_of(world, patient)
    assert browser.send(path, {"statement": "n1", "text": FLAGGED}).status_code == 200
    with world.records.write() as tx:
        tx.encounters.record_consent(EncounterId(path.split("/")[2]), Consent.WITHDRAWN, world.actor())
    assert refusal(browser.send(path, {"statement": "n1", "text": FLAGGED})) == "step_unavailable"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param({"text": FLAGGED}, "input_invalid", id="neither"),
        pytest.param({"text": FLAGGED, "statement": "n1", "section": "plan"}, "input_invalid", id="both"),
        pytest.param({"text": "   ", "statement": "n1"}, "input_invalid", id="blank"),
        pytest.param({"text": "x" * 4001, "statement": "n1"}, "input_invalid", id="too-long"),
        pytest.param({"text": FLAGGED, "statement": "n99"}, "statement_unknown", id="unknown"),
    ],
)
def test_useless_question_is_refused(
    world: World, browser: Browser, patient: Patient, body: dict[str, str], code: str
) -> None:
    """A question without words, place or statement is refused with a code."""
    assert refusal(browser.send(path_of(world, patient), body)) == code


def test_check_needs_a_token(world: World, browser: Browser, patient: Patient) -> None:
    """Another site cannot ask."""
    browser.token = "forged"
    assert refusal(browser.send(path_of(world, patient), {"statement": "n1", "text": FLAGGED})) == "csrf_invalid"
