"""The JSON API as an EMR uses it, through the client that docs/api.md shows: from a patient to a note."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import pytest
from werkzeug.serving import make_server

from clinic.api import progress, standing
from clinic.api.app import create_api, mount
from clinic.api.calls import Call
from clinic.api.models import EncounterAnswered
from clinic.api.progress import Pace
from clinic.app import create_app
from clinic.consultation import Consultation
from clinic.domain import EncounterId, EncounterState, Scope
from clinic.errors import RecordError
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from clinic.verification import review
from deploy.clinic_client import Clinic, Refused
from tests.functional.api_world import CHUNK, Program, code, program
from tests.functional.test_audit_first import FakeGenerator
from tests.functional.web_world import CANARY, World

TEXT = "Cough for three days. No fever. Allergic to penicillin. Paracetamol 500 mg as needed."


@pytest.fixture
def emr(world: World) -> Program:
    """A program with every scope; streams of events end at once."""
    mount(world.app, create_api(world.services, pace=Pace(lasts_s=0.2, looks_s=0.05)))
    return program(world)


def write_draft(world: World, encounter_id: str) -> None:
    """Do what the worker does, with a model that is scripted."""
    flow = Consultation(
        world.records,
        policy_set=world.services.policy,
        transcriber=lambda: pytest.fail("nothing is heard"),
        generator=FakeGenerator,
        max_audio_s=60,
    )
    flow.run(EncounterId(encounter_id), actor=world.actor())


def drafted(world: World, clinic: Clinic) -> str:
    """Take a text to its draft; return the encounter's id."""
    patient = clinic.create_patient(name=CANARY, date_of_birth="1961-03-05", sex="female", record_number="MRN-4711")
    encounter = clinic.open_encounter(patient, kind="dictation", language="en")["id"]
    clinic.record_consent(encounter, "given")
    assert clinic.submit_text(encounter, TEXT)["state"] == "queued"
    assert world.services.jobs.queued == [encounter]
    write_draft(world, encounter)
    return encounter


def test_from_a_patient_to_a_signed_document(world: World, emr: Program) -> None:
    """Everything that the form does up to the signature; the signature is the clinician's, in the form."""
    clinic = emr.client
    encounter = drafted(world, clinic)
    assert clinic.wait(encounter)["state"] == "drafted"
    assert clinic.transcript(encounter)["transcript"]["segments"][0]["text"] == "Cough for three days."
    note = clinic.note(encounter)
    assert (note["version"], note["signed"], note["decision"]["outcome"]) == (1, False, "redact")
    assert all(statement["evidence"] or statement["reasons"] for statement in note["note"]["statements"])
    with pytest.raises(Refused) as refused:
        clinic.document(encounter)
    assert refused.value.code == "note_unsigned"

    browser = world.browser()
    assert browser.sign_in("clinician").status_code == 302
    page = browser.get(f"/encounters/{encounter}")
    assert CANARY in page.text
    for statement in note["note"]["statements"]:
        if statement["status"] == "flagged":
            version = clinic.note(encounter)["version"]
            browser.post(f"/encounters/{encounter}/note/statements/{statement['id']}/confirm", version=version)
    version = clinic.note(encounter)["version"]
    assert browser.post(f"/encounters/{encounter}/note/sign", version=version, attestation="yes").status_code == 303
    document = clinic.document(encounter)
    assert (document["resourceType"], document["type"]) == ("Bundle", "document")
    assert CANARY in json.dumps(document)
    assert [found["id"] for found in clinic.encounters(state="signed")] == [encounter]


def in_the_clear(folder: Path, words: bytes) -> list[str]:
    """Return the files of a folder in which these words lie in the clear."""
    return [path.name for path in folder.rglob("*") if path.is_file() and words in path.read_bytes()]


def test_nothing_of_it_lies_in_the_clear(world: World, emr: Program, caplog: pytest.LogCaptureFixture) -> None:
    """After the whole flow, repeated and refused requests included, no file and no log line has a patient's words."""
    caplog.set_level("DEBUG")
    clinic = emr.client
    encounter = drafted(world, clinic)
    clinic.edit_statement(encounter, "n1", version=1, text=f"{CANARY} coughs.")
    for _ in range(2):
        emr.call("POST", "/patients", {"name": CANARY}, key="6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    emr.call("POST", "/patients", {"name": CANARY, CANARY: CANARY})
    emr.call("GET", "/encounters?cursor=" + CANARY.split()[0])
    assert [found["name"] for found in clinic.search(CANARY)] == [CANARY, CANARY]
    home = world.services.config.home
    for words in (CANARY, CANARY.split()[0], "MRN-4711", "penicillin"):
        assert in_the_clear(home, words.encode()) == []
        assert words not in caplog.text
    (home / "run" / "spilt").write_text(TEXT, encoding="utf-8")  # control: what lies there is found
    assert in_the_clear(home, b"penicillin") == ["spilt"]


def test_what_a_program_writes_is_decided_on_by_a_person(world: World, emr: Program) -> None:
    """Even words that the transcript supports are flagged until the form confirms them; till then nobody signs."""
    clinic = emr.client
    encounter = drafted(world, clinic)
    first = clinic.note(encounter)
    before = {statement["id"] for statement in first["note"]["statements"]}
    changed = clinic.add_statement(encounter, version=1, section="plan", text="Paracetamol 500 mg as needed.")
    (added,) = set(changed["open_flags"]) - before
    edited = clinic.edit_statement(encounter, "n1", version=2, text="Cough for three days.")
    assert {added, "n1"} <= set(edited["open_flags"])
    statements = {s["id"]: s for s in clinic.note(encounter)["note"]["statements"]}
    assert all(statements[item]["reasons"][0]["code"] == "from_program" for item in (added, "n1"))
    browser = world.browser()
    browser.sign_in("clinician")
    assert browser.get(f"/encounters/{encounter}").text.count("Another program wrote this") == 2
    with pytest.raises(RecordError) as caught, world.records.write() as tx:
        tx.notes.sign(EncounterId(encounter), expected_version=3, attestation="read", actor=world.actor())
    assert caught.value.code == "flags_open"


def test_without_that_flag_it_would_be_signed_unseen(
    world: World, emr: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: an edit that is treated as a clinician's own lifts the flag."""
    monkeypatch.setattr(review, "_flagged", lambda note, _statement: note)
    clinic = emr.client
    encounter = drafted(world, clinic)
    assert "n1" not in clinic.edit_statement(encounter, "n1", version=1, text="Cough for three days.")["open_flags"]


def test_a_changed_note_is_not_overwritten(world: World, emr: Program) -> None:
    """The version that was seen counts; the same change sent again is the same change."""
    clinic = emr.client
    encounter = drafted(world, clinic)
    first = clinic.edit_statement(encounter, "n1", version=1, text="Cough.")
    assert clinic.edit_statement(encounter, "n1", version=1, text="Cough.") == first
    with pytest.raises(Refused) as refused:
        clinic.edit_statement(encounter, "n1", version=1, text="Fever.")
    assert (refused.value.status, refused.value.code) == (409, "record_conflict")
    with pytest.raises(Refused) as refused:
        clinic.add_statement(encounter, version=2, section="nonsense", text="Cough.")
    assert (refused.value.status, refused.value.code) == (422, "input_invalid")


def test_a_recording_in_any_order(world: World, emr: Program, patient: Patient) -> None:
    """Chunks may come twice and out of order; what is missing is named; then the job is queued once."""
    clinic = emr.client
    encounter = clinic.open_encounter(patient.id)["id"]
    clinic.record_consent(encounter, "given")
    recording = clinic.start_recording(encounter, mime="audio/webm;codecs=opus")["id"]
    pieces = [CHUNK + bytes([number]) for number in range(3)]
    for number in (2, 0, 2):
        clinic.put_chunk(recording, number, pieces[number])
    assert clinic.recording(recording)["received"] == [0, 2]
    with pytest.raises(Refused) as refused:
        clinic.complete_recording(recording, chunks=3)
    assert (refused.value.status, refused.value.code) == (409, "audio_incomplete")
    clinic.put_chunk(recording, 1, pieces[1])
    assert clinic.complete_recording(recording, chunks=3)["state"] == "queued"
    assert world.services.jobs.queued == [encounter]
    with world.records.read() as tx:
        assert b"".join(tx.recordings.chunks(recording)) == b"".join(pieces)


def test_chunks_that_are_not_taken(emr: Program, patient: Patient) -> None:
    """Garbled on the way, other bytes under a number, no digest, too large, too high a number, nothing."""
    clinic = emr.client
    encounter = clinic.open_encounter(patient.id)["id"]
    clinic.record_consent(encounter, "given")
    recording = clinic.start_recording(encounter, mime="audio/wav")["id"]
    path = f"/recordings/{recording}/chunks/0"
    wrong = {"Content-Digest": "sha-256=:" + "A" * 43 + "=:"}
    assert code(emr.call("PUT", path, data=CHUNK, headers=wrong)) == "digest_mismatch"
    assert clinic.recording(recording)["received"] == []
    emr.client.put_chunk(recording, 0, CHUNK)
    other = emr.call("PUT", path, data=CHUNK + b"!")
    assert (other.status_code, code(other)) == (409, "record_conflict")
    assert code(emr.call("PUT", path, data=b"x" * (2**20 + 1))) == "too_large"
    assert code(emr.call("PUT", f"/recordings/{recording}/chunks/65536", data=CHUNK)) == "input_invalid"
    assert code(emr.call("PUT", path, data=b"")) == "audio_empty"
    assert code(emr.call("PUT", path, {"a": 1})) == "media_type"
    assert emr.call("PUT", path, data=CHUNK, headers={"Content-Encoding": "gzip"}).status_code == 415
    clinic.record_consent(encounter, "withdrawn")
    late = emr.call("PUT", f"/recordings/{recording}/chunks/1", data=CHUNK)
    assert (late.status_code, code(late)) == (409, "consent_missing")


def test_only_the_newest_recording_is_completed(emr: Program, patient: Patient) -> None:
    """An older one would be processed by nobody."""
    clinic = emr.client
    encounter = clinic.open_encounter(patient.id)["id"]
    clinic.record_consent(encounter, "given")
    older = clinic.start_recording(encounter, mime="audio/wav")["id"]
    clinic.put_chunk(older, 0, CHUNK)
    clinic.start_recording(encounter, mime="audio/wav")
    with pytest.raises(Refused) as refused:
        clinic.complete_recording(older, chunks=1)
    assert refused.value.code == "record_conflict"


def test_the_longest_text_is_taken_in_any_script(emr: Program, patient: Patient) -> None:
    """200,000 characters, each of them two escapes in JSON; one more is refused, and so is a body beyond all texts."""
    clinic = emr.client
    encounter = clinic.open_encounter(patient.id, kind="dictation")["id"]
    clinic.record_consent(encounter, "given")
    path, text = f"/encounters/{encounter}/text", "Cough. " + "\U0001f600" * 199_993
    headers = {"Content-Type": "application/json"}
    assert code(emr.call("POST", path, data=json.dumps({"text": text + "."}).encode(), headers=headers)) == (
        "input_invalid"
    )
    assert code(emr.call("POST", path, data=b" " * (3 * 2**20 + 1), headers=headers)) == "too_large"
    answer = emr.call("POST", path, data=json.dumps({"text": text}).encode(), headers=headers)
    assert answer.status_code == 202


def test_without_consent_nothing_is_taken_or_shown(world: World, emr: Program, patient: Patient) -> None:
    """The same rules as in the form, before the answer and after it is withdrawn."""
    clinic = emr.client
    encounter = clinic.open_encounter(patient.id)["id"]
    for act in (
        lambda: clinic.submit_text(encounter, TEXT),
        lambda: clinic.start_recording(encounter, mime="audio/wav"),
        lambda: clinic.transcript(encounter),
        lambda: clinic.note(encounter),
    ):
        with pytest.raises(Refused) as refused:
            act()
        assert refused.value.code == "consent_missing"
    shown = world.drafted(patient).id
    assert clinic.note(shown)["version"] == 1
    clinic.record_consent(shown, "withdrawn")
    for act in (lambda: clinic.transcript(shown), lambda: clinic.note(shown)):
        with pytest.raises(Refused) as refused:
            act()
        assert refused.value.code == "consent_missing"


def test_a_refusal_is_told_in_the_words_of_the_policy(world: World, emr: Program, patient: Patient) -> None:
    """A denied encounter names why; it can be tried again, and takes another text."""
    encounter = world.encounter(patient)
    with world.records.write() as tx:
        tx.encounters.mark(encounter.id, state=EncounterState.QUEUED)
        tx.encounters.mark(encounter.id, state=EncounterState.DENIED, error_code="denied:injection-certain")
    stopped = emr.client.encounter(encounter.id)["stopped"]
    assert stopped is not None
    assert stopped["code"] == "denied"
    assert "instruction" in stopped["reasons"][0] or "instructions" in stopped["reasons"][0]
    assert emr.client.retry(encounter.id)["state"] == "queued"
    assert world.services.jobs.queued == [encounter.id]
    with pytest.raises(Refused) as refused:
        emr.client.retry(encounter.id)
    assert refused.value.code == "step_unavailable"


def test_lists_come_in_pages(world: World, emr: Program) -> None:
    """Each once, in order; the cursor says nothing of anybody."""
    clinic = emr.client
    names = [f"Paged Person {letter}" for letter in "GCABFED"]
    ids = {name: clinic.create_patient(name=name) for name in names}
    assert [found["name"] for found in clinic.search("paged", limit=3)] == sorted(names)
    page = emr.call("POST", "/patients/search", {"text": "paged", "limit": 2}).get_json()
    assert len(page["next"]) == 23
    assert code(emr.call("POST", "/patients/search", {"text": "other", "cursor": page["next"]})) == "cursor_invalid"
    assert code(emr.call("POST", "/patients/search", {"cursor": "AAAA"})) == "cursor_invalid"
    opened = [clinic.open_encounter(ids["Paged Person A"])["id"] for _ in range(5)]
    assert [found["id"] for found in clinic.encounters(limit=2)] == opened[::-1]
    assert emr.call("GET", f"/patients/{ids['Paged Person A']}/encounters?limit=3").get_json()["next"]
    for query in ("limit=0", "limit=201", "limit=x", "limit=1&limit=2", "name=Ada", "state=nonsense"):
        answer = emr.call("GET", f"/encounters?{query}")
        assert (answer.status_code, code(answer)) == (422, "input_invalid")
    assert world.events().count("patients.listed") == 4


def test_patients_are_read_and_changed(emr: Program) -> None:
    """What was sent is what comes back; a record number is one patient's."""
    clinic = emr.client
    first = clinic.create_patient(name="Ada Example", date_of_birth="1980-02-29", sex="other", record_number="A-1")
    shown = clinic.patient(first)
    assert (shown["name"], shown["date_of_birth"], shown["sex"], shown["record_number"]) == (
        *("Ada Example", "1980-02-29", "other", "A-1"),
    )
    with pytest.raises(Refused) as refused:
        clinic.create_patient(name="Somebody Else", record_number="a 1")
    assert (refused.value.status, refused.value.code) == (409, "record_conflict")
    changed = emr.call("PUT", f"/patients/{first}", {"name": "Ada Changed"})
    assert changed.get_json()["record_number"] is None
    bodies: tuple[object, ...] = (
        {},
        {"name": ""},
        {"name": "\u0000"},
        {"name": 7},
        {"name": "x" * 201},
        {"name": "A", "sex": "F"},
        {"name": "A", "date_of_birth": "3/5/61"},
        {"name": "A", "date_of_birth": "2190-01-01"},
        {"name": "A", "surname": CANARY},
        [],
    )
    for body in bodies:
        answer = emr.call("POST", "/patients", body)
        assert (answer.status_code, code(answer)) == (422, "input_invalid"), body
        assert CANARY not in answer.text
        assert "surname" not in answer.text
    assert code(emr.call("POST", "/patients", data=b"{", headers={"Content-Type": "application/json"})) == (
        "input_invalid"
    )


def test_progress_is_streamed_and_streams_are_few(
    world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change is told at once; a fourth listener is asked to come back; a revoked token hears nothing more."""
    pace = Pace(lasts_s=60.0, looks_s=0.02)
    mount(world.app, create_api(world.services, pace=pace))
    emr = program(world)
    encounter = world.encounter(patient)
    path = f"/encounters/{encounter.id}/events"
    for _ in range(3):
        assert pace.free.acquire(blocking=False)
    busy = emr.call("GET", path)
    assert (busy.status_code, code(busy)) == (503, "streams_busy")
    assert busy.headers["Retry-After"] == "30"
    for _ in range(3):
        pace.free.release()
    told: Queue[EncounterState] = Queue()

    def answered(call: Call, found: Encounter, words: Mapping[str, str]) -> EncounterAnswered:
        told.put(found.state)
        return standing.answered(call, found, words)

    monkeypatch.setattr(progress, "answered", answered)
    heard: list[str] = []
    listener = threading.Thread(target=lambda: heard.extend(e["state"] for e in emr.client.watch(encounter.id)))
    listener.start()
    assert told.get(timeout=20) is EncounterState.OPEN
    for state in (EncounterState.QUEUED, EncounterState.RUNNING):
        with world.records.write() as tx:
            tx.encounters.mark(encounter.id, state=state)
        assert told.get(timeout=20) is state
    with world.records.write() as tx:
        (token,) = tx.tokens.list()
        tx.tokens.revoke(token.id, world.actor())
    listener.join(20)
    assert not listener.is_alive()
    assert heard == ["open", "queued", "running"]
    assert pace.free.acquire(blocking=False)


@contextmanager
def served(world: World) -> Iterator[str]:
    """Serve the application over HTTPS on this machine, with the clinic's own certificate."""
    tls = world.services.config.tls_dir
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls / "server.pem")
    server = make_server("127.0.0.1", 0, create_app(world.services), threaded=True, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_over_the_wire(world: World, patient: Patient) -> None:
    """The client over HTTPS trusts the clinic's authority, and nobody else's."""
    emr = program(world)
    ca = world.services.config.tls_dir / "ca.crt"
    with served(world) as url:
        clinic = Clinic(url, token=emr.secret, ca_file=str(ca))
        assert clinic.token()["program"] == "EMR"
        assert {template["id"] for template in clinic.service()["templates"]} >= {"soap", "handover"}
        encounter = clinic.open_encounter(patient.id)["id"]
        clinic.record_consent(encounter, "given")
        assert clinic.upload(encounter, [CHUNK, CHUNK], mime="audio/webm")["state"] == "queued"
        with world.records.write() as tx:
            tx.encounters.mark(encounter, state=EncounterState.FAILED, error_code="no_speech")
        stopped = clinic.wait(encounter)["stopped"]
        assert stopped is not None
        assert stopped["code"] == "no_speech"
        with pytest.raises(ssl.SSLCertVerificationError):
            Clinic(url, token=emr.secret, pause=lambda _: None).token()


@pytest.mark.usefixtures("emr")
def test_the_example_of_the_documentation_runs(world: World) -> None:
    """What docs/api.md shows is run as it stands, with a token of the scopes that it tells to give."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    assert "Clinic(" in example
    command = text.split("clinic token create")[1].split("clinic token list")[0]
    token = program(world, scopes=[Scope(name) for name in re.findall(r"--scope (\S+)", command)])
    clinic = token.client
    queued = clinic.wait

    def wait(encounter_id: str) -> object:
        write_draft_of_recording(world, encounter_id)
        return queued(encounter_id)

    clinic.wait = wait  # type: ignore[method-assign,assignment]
    names: dict[str, object] = {"Clinic": lambda *_args, **_kwargs: clinic, "TOKEN": token.secret, "chunks": [CHUNK]}
    exec(example.replace("from clinic_client import Clinic\n", ""), names)  # noqa: S102 - our own documentation
    note = names["note"]
    assert isinstance(note, dict)
    assert note["note"]["statements"]


def write_draft_of_recording(world: World, encounter_id: str) -> None:
    """Put in what the worker would have heard and drafted."""
    from tests.functional.web_world import NOTE, TRANSCRIPT

    with world.records.write() as tx:
        tx.transcripts.store(encounter_id, TRANSCRIPT)
        tx.notes.store_draft(encounter_id, NOTE, generation_id=None, actor=world.actor())
        tx.encounters.mark(encounter_id, state=EncounterState.DRAFTED)
