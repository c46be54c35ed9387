"""The page reads along: its own clinician's, recorded as a look, only new lines, nothing after the end."""

from __future__ import annotations

import pytest

from clinic.domain import Role
from clinic.records.live_texts import LiveLine, LiveText
from clinic.records.patients import Patient
from tests.functional.web_world import Browser, World

LINES = (
    LiveLine(0.5, 3.0, "The canary coughs."),
    LiveLine(3.0, 20.0, "", skipped=True),
    LiveLine(20.0, 22.0, "Since."),
)


@pytest.fixture
def browser(world: World) -> Browser:
    """The browser of the clinician who records."""
    return world.browser(Role.CLINICIAN)


def heard(world: World, recording: str) -> None:
    """Let the worker have heard something."""
    with world.records.write() as tx:
        assert tx.live_texts.store(recording, LiveText(LINES, 23.0, "en"))


def test_the_page_reads_along(world: World, browser: Browser, patient: Patient) -> None:
    """Asked for with the recording; the first look is recorded, later ones are not; only new lines are given."""
    path = f"/encounters/{world.encounter(patient).id}"
    assert browser.get(f"{path}/live", json=True).get_json() == {"heard_until": 0, "lines": [], "listening": False}
    recording = browser.send(f"{path}/recording", {"mime": "audio/webm", "live": True}).get_json()["id"]
    heard(world, recording)
    seen = world.events().count("encounter.viewed")
    assert seen == 1
    answer = browser.get(f"{path}/live", json=True).get_json()
    assert answer["listening"]
    assert answer["heard_until"] == 23.0
    assert [line["text"] for line in answer["lines"]] == ["The canary coughs.", "", "Since."]
    assert [line["skipped"] for line in answer["lines"]] == [False, True, False]
    newer = browser.get(f"{path}/live?after=2", json=True).get_json()
    assert [line["text"] for line in newer["lines"]] == ["Since."]
    assert world.events().count("encounter.viewed") == seen
    assert browser.get(f"{path}/live?after=-1", json=True).status_code == 422


def test_it_ends_with_the_recording(world: World, browser: Browser, patient: Patient) -> None:
    """Once the recording is complete there is nothing more to read."""
    path = f"/encounters/{world.encounter(patient).id}"
    recording = browser.send(f"{path}/recording", {"mime": "audio/webm", "live": True}).get_json()["id"]
    heard(world, recording)
    browser.put(f"/recordings/{recording}/chunks/0", b"sound")
    assert browser.send(f"{path}/recording/complete", {"chunks": 1}).status_code == 202
    answer = browser.get(f"{path}/live", json=True)
    assert answer.status_code == 409
    assert "canary" not in answer.text


def test_nobody_else_reads_along(world: World, browser: Browser, patient: Patient) -> None:
    """A colleague is refused, and so is everybody once consent is withdrawn."""
    path = f"/encounters/{world.encounter(patient).id}"
    recording = browser.send(f"{path}/recording", {"mime": "audio/webm", "live": True}).get_json()["id"]
    heard(world, recording)
    refused = world.colleague().get(f"{path}/live", json=True)
    assert refused.status_code == 403
    browser.post(f"{path}/consent", consent="withdrawn")
    answer = browser.get(f"{path}/live", json=True)
    assert answer.status_code == 409
    assert "canary" not in refused.text + answer.text


def test_a_file_is_not_read_along(world: World, browser: Browser, patient: Patient) -> None:
    """What does not ask is not heard; where the clinic switched it off, nobody is."""
    path = f"/encounters/{world.encounter(patient).id}"
    browser.send(f"{path}/recording", {"mime": "audio/webm"})
    with world.records.read() as tx:
        assert tx.live_texts.wanted() == ()
    speech = world.services.config.speech.model_copy(update={"live_text": False})
    world.services.config = world.services.config.model_copy(update={"speech": speech})
    browser.send(f"{path}/recording", {"mime": "audio/webm", "live": True})
    with world.records.read() as tx:
        assert tx.live_texts.wanted() == ()
