"""Idempotency keys: done once, whatever is sent again, whoever dies in between."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import uuid

import pytest

from clinic import capture
from clinic.domain import EncounterId
from clinic.home import open_records, unlock_home
from clinic.records.answers import Answers, StoredAnswer
from clinic.records.patients import Patient
from deploy.clinic_client import Refused, Reply, Request
from tests.functional.api_world import CHUNK, Program, code, later, over_wsgi, program
from tests.functional.web_world import World

KEY = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
ADA = {"name": "Ada Example"}


def patients(world: World) -> int:
    """Return how many patients there are."""
    return world.events().count("patient.created")


def test_the_same_request_gets_the_same_answer(world: World) -> None:
    """Byte for byte, marked as repeated, and done once; letters of the key may be large or small."""
    emr = program(world)
    first = emr.call("POST", "/patients", ADA, key=KEY)
    again = emr.call("POST", "/patients", ADA, key=KEY.upper())
    assert (first.status_code, first.headers.get("Idempotency-Replayed")) == (201, None)
    assert (again.status_code, again.data) == (201, first.data)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert patients(world) == 1


def test_without_kept_answers_it_would_be_done_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    monkeypatch.setattr(Answers, "find", lambda *_: None)
    monkeypatch.setattr(Answers, "keep", lambda *_: None)
    emr = program(world)
    for _ in range(2):
        assert emr.call("POST", "/patients", ADA, key=KEY).status_code == 201
    assert patients(world) == 2


def test_a_key_is_one_requests(world: World, patient: Patient) -> None:
    """Another body, or another address, under the same key is refused; another token has its own keys."""
    emr = program(world)
    emr.call("POST", "/patients", ADA, key=KEY)
    for path, body in (("/patients", {"name": "Eve"}), (f"/patients/{patient.id}/encounters", ADA)):
        answer = emr.call("POST", path, body, key=KEY)
        assert answer.status_code == 422
    assert code(emr.call("POST", "/patients", {"name": "Eve"}, key=KEY)) == "idempotency_key_reused"
    before = patients(world)
    assert program(world).call("POST", "/patients", {"name": "Eve"}, key=KEY).status_code == 201
    assert patients(world) == before + 1


def test_what_was_sent_cannot_be_guessed_from_what_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all keys of the clinic and the very request at hand, but not the token, the kept digest tells nothing."""
    kept: list[str] = []
    real = Answers.keep

    def watched(self: Answers, token_id: str, key: str, answer: StoredAnswer) -> None:
        kept.append(answer.request_sha256)
        real(self, token_id, key, answer)

    monkeypatch.setattr(Answers, "keep", watched)
    for emr in (program(world), program(world)):
        emr.call("POST", "/patients", ADA, key=KEY)
    assert len(set(kept)) == 2  # the same request by two tokens
    sent = json.dumps(["create_patient", "/patients"]).encode() + b"\n"
    for body in (json.dumps(ADA), json.dumps(ADA, separators=(",", ":"))):
        assert hashlib.sha256(sent + body.encode()).hexdigest() not in kept


@pytest.mark.parametrize("key", ["", "Ada Example 1961", KEY[:-1], KEY + "0"])
def test_a_key_is_a_uuid(world: World, key: str) -> None:
    """None, or one that could be a name, is refused before anything is done."""
    emr = program(world)
    headers = {"Idempotency-Key": key} if key else {}
    answer = emr.call("POST", "/patients", ADA, key="", headers=headers)
    expected = "idempotency_key_invalid" if key else "idempotency_key_missing"
    assert (answer.status_code, code(answer)) == (400, expected)
    assert patients(world) == 0


def test_an_answer_is_kept_for_a_day(world: World) -> None:
    """After that the key is forgotten, and so is what was kept."""
    emr = program(world)
    emr.call("POST", "/patients", ADA, key=KEY)
    later(world, hours=23)
    emr.call("POST", "/patients", ADA, key=KEY)
    assert patients(world) == 1
    later(world, hours=25)
    assert emr.call("POST", "/patients", ADA, key=KEY).headers.get("Idempotency-Replayed") is None
    assert patients(world) == 2


def test_a_refusal_is_not_kept(world: World, patient: Patient) -> None:
    """What was refused may be sent again with the same key once it is mended."""
    emr = program(world)
    encounter = emr.client.open_encounter(patient.id)["id"]
    refused = emr.call("POST", f"/encounters/{encounter}/text", {"text": "Cough."}, key=KEY)
    assert code(refused) == "consent_missing"
    emr.client.record_consent(encounter, "given")
    assert emr.call("POST", f"/encounters/{encounter}/text", {"text": "Cough."}, key=KEY).status_code == 202


def test_two_at_once_are_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first is being answered the second is told to wait; then it gets the first one's answer."""
    emr = program(world)
    inside, go_on = threading.Event(), threading.Event()
    real = Answers.find

    def slow(self: Answers, token_id: str, key: str) -> object:
        inside.set()
        assert go_on.wait(10)
        return real(self, token_id, key)

    monkeypatch.setattr(Answers, "find", slow)
    answers: list[int] = []
    first = threading.Thread(target=lambda: answers.append(emr.call("POST", "/patients", ADA, key=KEY).status_code))
    first.start()
    assert inside.wait(10)
    second = emr.call("POST", "/patients", ADA, key=KEY)
    assert (second.status_code, code(second)) == (409, "request_in_progress")
    go_on.set()
    first.join(10)
    assert answers == [201]
    assert emr.call("POST", "/patients", ADA, key=KEY).headers["Idempotency-Replayed"] == "true"
    assert patients(world) == 1


def test_a_broken_job_store_is_not_taken_for_success(world: World, patient: Patient) -> None:
    """The encounter says that it failed, the answer is not kept, and the same request succeeds later."""
    emr = program(world)
    encounter = emr.client.open_encounter(patient.id, kind="dictation")["id"]
    emr.client.record_consent(encounter, "given")
    world.services.jobs.broken = True
    path, body = f"/encounters/{encounter}/text", {"text": "Cough."}
    answer = emr.call("POST", path, body, key=KEY)
    assert (answer.status_code, code(answer)) == (503, "worker_unavailable")
    assert emr.client.encounter(encounter)["state"] == "failed"
    world.services.jobs.broken = False
    assert emr.client.retry(encounter)["state"] == "queued"
    assert world.services.jobs.queued == [encounter]


# --- killed -----------------------------------------------------------------------------------------------


def die(*_args: object, **_kwargs: object) -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(world: World, emr: Program, path: str, body: object, *, dies_in: str) -> int:
    """Send a request in a process of its own, which dies at a certain place; return what ended it."""
    child = os.fork()
    if child == 0:
        try:
            world.services.records = open_records(world.services.config, unlock_home(world.services.config))
            target, _, name = dies_in.rpartition(".")
            setattr({"Answers": Answers, "capture": capture}[target], name, die)
            emr.call("POST", path, body, key=KEY)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def recorded(world: World, patient: Patient) -> tuple[Program, str, str]:
    """A program with a recording of one chunk: encounter and recording."""
    emr = program(world)
    encounter = emr.client.open_encounter(patient.id)["id"]
    emr.client.record_consent(encounter, "given")
    recording = emr.client.start_recording(encounter, mime="audio/webm")["id"]
    emr.client.put_chunk(recording, 0, CHUNK)
    return emr, encounter, recording


@pytest.mark.parametrize(
    ("dies_in", "done"),
    [("Answers.keep", False), ("capture.start", True)],
    ids=["before-the-commit", "after-the-commit"],
)
def test_killed_and_sent_again(world: World, recorded: tuple[Program, str, str], dies_in: str, *, done: bool) -> None:
    """Before the commit nothing is there, after it everything is; sent again, it is done once in the end."""
    emr, encounter, recording = recorded
    path, body = f"/recordings/{recording}/complete", {"chunks": 1}
    assert in_child(world, emr, path, body, dies_in=dies_in) == -signal.SIGKILL
    assert world.events().count("recording.completed") == int(done)
    assert emr.client.encounter(encounter)["state"] == ("queued" if done else "open")
    again = emr.call("POST", path, body, key=KEY)
    assert (again.status_code, again.get_json()["state"]) == (202, "queued")
    assert (again.headers.get("Idempotency-Replayed") == "true") is done
    assert world.events().count("recording.completed") == 1
    assert world.records.audit.verify().ok
    with world.records.read() as tx:
        assert [item.id for item in tx.encounters.unfinished()] == [EncounterId(encounter)]


def test_a_chunk_that_was_acknowledged_is_there(world: World, recorded: tuple[Program, str, str]) -> None:
    """The process dies before it can answer: the client sends it again and gets its acknowledgement, and it is one."""
    emr, _, recording = recorded
    child = os.fork()
    if child == 0:
        world.services.records = open_records(world.services.config, unlock_home(world.services.config))
        real = over_wsgi(world.app)

        def lost(request: Request) -> Reply:
            real(request)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        emr.client._send = lost
        clinic = emr.client
        clinic._send = lost
        clinic.put_chunk(recording, 1, CHUNK)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert emr.client.recording(recording)["received"] == [0, 1]
    emr.client.put_chunk(recording, 1, CHUNK)
    assert emr.client.complete_recording(recording, chunks=2)["state"] == "queued"


def test_the_client_sends_again_with_the_same_key(world: World) -> None:
    """An answer that is lost on the way costs nothing: the clinic has done it once."""
    emr = program(world)
    clinic = emr.client
    real, lost, keys = over_wsgi(world.app), [2], []

    def flaky(request: Request) -> Reply:
        reply: Reply = real(request)
        keys.append(request.headers["Idempotency-Key"])
        if lost[0]:
            lost[0] -= 1
            raise ConnectionResetError
        return reply

    clinic._send = flaky
    made = clinic.create_patient(name="Ada Example")
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert uuid.UUID(keys[0]).version == 4
    assert patients(world) == 1
    assert emr.pauses == [1.0, 2.0]
    clinic._send = real
    assert clinic.patient(made)["name"] == "Ada Example"
    with pytest.raises(Refused) as refused:
        clinic.patient("0" * 32)
    assert (refused.value.status, refused.value.code) == (404, "record_unknown")
