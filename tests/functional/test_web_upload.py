"""Uploads never touch the disk in the clear: every file that the process holds open is searched for what was sent."""

from __future__ import annotations

from pathlib import Path
from stat import S_ISREG

import flask
import pytest
from flask import Response

from clinic.app import ClinicFlask
from clinic.domain import Consent, Role
from clinic.records.encounters import Encounters
from clinic.records.patients import Patient
from clinic.records.recordings import ChunkAck, Recordings
from tests.functional.web_world import ORIGIN, World

CANARY = b"the patient says the chest pain began on tuesday "
AUDIO = CANARY * (3 * 1024 * 1024 // len(CANARY))
"""More than what Werkzeug keeps in memory."""
BOUNDARY = "----clinic-test"


def multipart(fields: dict[str, str], audio: bytes) -> bytes:
    """Encode a form by hand: Werkzeug's test client would itself spill a big one to disk."""
    parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="audio"; filename="visit.webm"\r\n'
    head += "Content-Type: audio/webm\r\n\r\n"
    return "".join([*parts, head]).encode() + audio + f"\r\n--{BOUNDARY}--\r\n".encode()


def open_files_with(needle: bytes) -> list[str]:
    """Return the regular files, named or not, that this process holds open and that contain `needle`."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if S_ISREG(entry.stat().st_mode) and needle in Path(f"/proc/self/fd/{entry.name}").read_bytes():
                found.append(str(entry.readlink()))
        except OSError:
            continue
    return found


def upload(world: World, patient: Patient) -> tuple[int, list[str], str]:
    """Send a big file in a form; return status, the open files that held its bytes, and the encounter."""
    encounter = world.encounter(patient)
    spilled: list[str] = []

    @world.app.after_request
    def search(response: Response) -> Response:
        spilled.extend(open_files_with(CANARY))
        return response

    browser = world.browser(Role.CLINICIAN)
    response = browser.client.post(
        f"/encounters/{encounter.id}/recording/upload",
        data=multipart({"csrf_token": browser.token}, AUDIO),
        content_type=f"multipart/form-data; boundary={BOUNDARY}",
        headers={"Accept": "text/html"},
        base_url=ORIGIN,
    )
    return response.status_code, spilled, encounter.id


def test_upload_without_scripts(world: World, patient: Patient) -> None:
    """A whole file in a form is stored byte for byte and starts the job; none of it lies in the clear."""
    status, spilled, encounter_id = upload(world, patient)
    assert status == 303
    assert spilled == []
    with world.records.read() as tx:
        recording = tx.recordings.for_encounter(encounter_id)
        assert recording is not None
        stored = b"".join(tx.recordings.chunks(recording.id))
    assert recording.complete
    assert stored == AUDIO
    assert world.services.jobs.queued == [encounter_id]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_werkzeug_itself_would_have_spilled(world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: with the stock request class the same upload lies in a temporary file in the clear."""
    monkeypatch.setattr(ClinicFlask, "request_class", flask.Request)
    status, spilled, _ = upload(world, patient)
    assert status == 303
    assert spilled != []


def test_nothing_of_an_upload_is_readable(world: World, patient: Patient) -> None:
    """After an upload no file of the data folder holds the bytes that were sent."""
    assert upload(world, patient)[0] == 303
    files = [path for path in world.services.config.home.rglob("*") if path.is_file()]
    assert world.services.config.database in files
    for path in files:
        assert CANARY not in path.read_bytes(), path


def test_upload_over_the_limit_is_refused(world: World, patient: Patient) -> None:
    """The configured limit holds for the form, too."""
    world.app.config["MAX_UPLOAD_BYTES"] = 1024 * 1024
    assert upload(world, patient)[0] == 413


@pytest.mark.parametrize("audio", [AUDIO, CANARY], ids=["many pieces", "one piece"])
def test_consent_withdrawn_during_an_upload_stops_it(
    world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch, audio: bytes
) -> None:
    """Each piece asks for consent: withdrawn after the first, the others are not stored and no job starts."""
    monkeypatch.setitem(globals(), "AUDIO", audio)
    append = Recordings.append

    def withdraw(self: Recordings, recording_id: str, index: int, data: bytes) -> ChunkAck:
        ack = append(self, recording_id, index, data)
        encounter = Encounters(self._work).record_consent(
            self.encounter_of(recording_id), Consent.WITHDRAWN, world.actor()
        )
        assert encounter.consent is Consent.WITHDRAWN
        return ack

    monkeypatch.setattr(Recordings, "append", withdraw)
    status, _, encounter_id = upload(world, patient)
    assert status == 409
    with world.records.read() as tx:
        recording = tx.recordings.for_encounter(encounter_id)
    assert recording is not None
    assert (recording.received, recording.complete) == ((0,), False)
    assert world.services.jobs.queued == []


def test_form_without_a_file_is_explained(world: World, patient: Patient) -> None:
    """Sending the form without a file says so."""
    browser = world.browser(Role.CLINICIAN)
    response = browser.post(f"/encounters/{world.encounter(patient).id}/recording/upload")
    assert response.status_code == 422
    assert "No file was chosen" in response.text
