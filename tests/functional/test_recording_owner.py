"""Every second of a recording has an author: the clinician who opened the encounter, and nobody else."""

from __future__ import annotations

import hashlib

import pytest

from clinic import capture
from clinic.audit.events import RecordingCompleted, from_canonical
from clinic.domain import Actor, EncounterKind, RecordingId, Role
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from tests.functional.api_world import Program, code, program
from tests.functional.web_world import Browser, World

OURS, THEIRS = b"what the patient said", b"what a stranger adds"


def begun(world: World, encounter: Encounter) -> RecordingId:
    """Begin a recording with one chunk."""
    with world.records.write() as tx:
        recording = tx.recordings.start(encounter.id, mime="audio/webm", actor=world.actor())
        tx.recordings.append(recording.id, 0, OURS)
    return recording.id


def sound(world: World, recording: RecordingId) -> bytes:
    """Return what is stored of a recording."""
    with world.records.read() as tx:
        return b"".join(tx.recordings.chunks(recording))


@pytest.fixture
def browser(world: World) -> Browser:
    """The browser of the clinician who opened the encounter."""
    return world.browser(Role.CLINICIAN)


@pytest.fixture
def colleague(world: World) -> Browser:
    """The browser of another clinician."""
    return world.colleague()


@pytest.fixture
def emr(world: World, colleague: Browser) -> Program:
    """A program of that other clinician, with every scope."""
    assert colleague.token
    return program(world, username="colleague")


def test_a_colleague_adds_nothing(world: World, patient: Patient, colleague: Browser, emr: Program) -> None:
    """By the form and by the API: no start, no chunk, no end, no file, no text; the recording stays as it was."""
    encounter = world.encounter(patient, kind=EncounterKind.DICTATION)
    recording = begun(world, encounter)
    before, path = len(world.events()), f"/encounters/{encounter.id}"
    answers = {
        "start": colleague.send(f"{path}/recording", {"mime": "audio/webm"}),
        "resume": colleague.send(f"{path}/recording", {"mime": "audio/webm", "resume": True}),
        "chunk": colleague.put(f"/recordings/{recording}/chunks/1", THEIRS),
        "again": colleague.put(f"/recordings/{recording}/chunks/0", OURS),
        "end": colleague.send(f"{path}/recording/complete", {"chunks": 1}),
        "text": colleague.post(f"{path}/text", text="Cough for three days."),
    }
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 403)
    calls = {
        "start": emr.call("POST", f"{path}/recordings", {"mime": "audio/webm"}),
        "chunk": emr.call("PUT", f"/recordings/{recording}/chunks/1", data=THEIRS),
        "end": emr.call("POST", f"/recordings/{recording}/complete", {"chunks": 1}),
        "text": emr.call("POST", f"{path}/text", {"text": "Cough for three days."}),
    }
    assert {name: (answer.status_code, code(answer)) for name, answer in calls.items()} == dict.fromkeys(
        calls, (403, "not_allowed")
    )
    assert world.events()[before:] == []
    assert sound(world, recording) == OURS
    assert world.services.jobs.queued == []


def test_without_the_rule_a_stranger_would_be_in_it(
    world: World, patient: Patient, colleague: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: with the owner not looked at, the other clinician's sound is in the recording."""
    recording = begun(world, world.encounter(patient))

    def anybody(_encounter: Encounter, *, actor: Actor) -> None:
        assert actor.user_id

    monkeypatch.setattr(capture, "require_own", anybody)
    assert colleague.put(f"/recordings/{recording}/chunks/1", THEIRS).status_code == 200
    assert sound(world, recording) == OURS + THEIRS


def test_start_and_end_name_the_author(world: World, browser: Browser, patient: Patient) -> None:
    """The log says who began and who ended a recording, how many chunks it has, and their digest."""
    path = f"/encounters/{world.encounter(patient).id}/recording"
    recording = browser.send(path, {"mime": "audio/webm"}).get_json()["id"]
    for number, data in enumerate((OURS, OURS)):
        assert browser.put(f"/recordings/{recording}/chunks/{number}", data).status_code == 200
    assert browser.send(f"{path}/complete", {"chunks": 2}).status_code == 202
    told = [entry for entry in world.records.audit.entries() if entry.event.startswith("recording.")]
    assert [(entry.event, entry.actor) for entry in told] == [
        (name, world.actor().user_id) for name in ("recording.started", "recording.completed")
    ]
    ended = from_canonical(told[1].event, told[1].body)
    assert isinstance(ended, RecordingCompleted)
    assert (ended.chunks, ended.size, ended.sha256) == (2, 2 * len(OURS), hashlib.sha256(OURS + OURS).hexdigest())


def test_the_page_of_a_colleague_offers_no_recorder(
    world: World, browser: Browser, patient: Patient, colleague: Browser
) -> None:
    """Whose encounter it is stands in the place of the recorder."""
    path = f"/encounters/{world.encounter(patient).id}"
    assert 'id="recorder"' in browser.get(path).text
    page = colleague.get(path).text
    assert 'id="recorder"' not in page
    assert "Test clinician records here" in page
