"""`kill -9` in every stage of the job: a restart finishes it once, with one note and nothing unaudited."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clinic.audit.events import GenerationAuthorized, GenerationCompleted, GenerationInterrupted, from_canonical
from clinic.config import Config
from clinic.domain import OPERATOR, Consent, EncounterId, EncounterKind, EncounterState
from clinic.headless import running_model_server
from clinic.home import open_records, unlock_home
from clinic.jobs.queue import JobQueue
from clinic.records.patients import PatientData
from clinic.records.records import Records
from clinic.speech.text import text_to_transcript
from tests.conftest import SAMPLE

WORKER = Path(__file__).parent / "crash_worker.py"
DEADLINE_S = 180

pytestmark = pytest.mark.models


@pytest.fixture
def model_server(config: Config) -> Iterator[None]:
    """The real embedded model server on this data folder's socket."""
    with running_model_server(config):
        yield


TEXT = (
    "Cough for three days. No fever. Allergic to penicillin. Take paracetamol 500 mg twice a day. Come back in a week."
)


def open_encounter(records: Records, kind: EncounterKind) -> EncounterId:
    """Open an encounter of a new patient, with consent."""
    with records.write() as tx:
        patient = tx.patients.create(PatientData(name="Crash Test"), actor=OPERATOR)
        encounter = tx.encounters.open(patient.id, kind=kind, template="soap", language="en", actor=OPERATOR)
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, actor=OPERATOR)
    return encounter.id


def store_sample(records: Records) -> EncounterId:
    """Store the sample recording."""
    encounter = open_encounter(records, EncounterKind.CONSULTATION)
    data = SAMPLE.read_bytes()
    pieces = [data[at : at + (1 << 19)] for at in range(0, len(data), 1 << 19)]
    with records.write() as tx:
        recording = tx.recordings.start(encounter, mime="audio/flac", actor=OPERATOR)
        for number, piece in enumerate(pieces):
            tx.recordings.append(recording.id, number, piece)
        tx.recordings.complete(recording.id, chunks=len(pieces), actor=OPERATOR)
    return encounter


def store_text(records: Records) -> EncounterId:
    """Store a short dictation: for the stages after transcription it does as well, and is quicker."""
    encounter = open_encounter(records, EncounterKind.DICTATION)
    with records.write() as tx:
        tx.transcripts.store(encounter, text_to_transcript(TEXT))
    return encounter


def queue(config: Config, records: Records, encounter: EncounterId) -> None:
    """Mark as queued and enqueue, as the web form does."""
    with records.write() as tx:
        tx.encounters.mark(encounter, state=EncounterState.QUEUED)
    JobQueue(config).enqueue(encounter, actor=OPERATOR)


def start_worker(config: Config, stage: str, done: float) -> subprocess.Popen[bytes]:
    """Start the real worker, told when to kill itself."""
    with (config.logs_dir / "worker.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, str(WORKER), str(config.home), stage, str(done)], stdout=log, stderr=log
        )


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def state_of(records: Records, encounter: EncounterId) -> EncounterState:
    """Return where the encounter stands."""
    with records.read() as tx:
        return tx.encounters.get(encounter).state


def check_audit(records: Records) -> list[str]:
    """Check the log, and that completed answers each follow their own authorization; return the event names."""
    assert records.audit.verify().ok
    authorized: dict[str, int] = {}
    ended: set[str] = set()
    names = []
    for entry in records.audit.entries():
        names.append(entry.event)
        event = from_canonical(entry.event, entry.body)
        if isinstance(event, GenerationAuthorized):
            authorized[event.generation] = entry.seq
        elif isinstance(event, GenerationCompleted | GenerationInterrupted):
            assert authorized[event.generation] == event.authorized_seq < entry.seq
            assert event.generation not in ended
            ended.add(event.generation)
    assert set(authorized) == ended
    return names


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("stage", "done"),
    [
        pytest.param("transcribe", 0.3, id="transcribe"),
        pytest.param("decide", 0.0, id="decide"),
        pytest.param("generate", 0.3, id="generate"),
        pytest.param("verify", 0.0, id="verify"),
        pytest.param("store", 0.0, id="store-before"),
        pytest.param("store", 1.0, id="store-after"),
    ],
)
@pytest.mark.usefixtures("model_server")
def test_killed_job_is_finished_once(config: Config, records: Records, stage: str, done: float) -> None:
    """A worker killed in this stage is started again and finishes the job: one note, every generation accounted for."""
    encounter = store_sample(records) if stage == "transcribe" else store_text(records)
    queue(config, records, encounter)
    worker = start_worker(config, stage, done)
    assert worker.wait(DEADLINE_S) == -9, "the worker was to be killed in this stage"

    successor = start_worker(config, "never", 0)
    try:
        wait_for(lambda: state_of(records, encounter) is EncounterState.DRAFTED)
        time.sleep(1)  # were the job to run a second time, it would begin now
    finally:
        successor.terminate()
        successor.wait(30)

    fresh = open_records(config, unlock_home(config))
    with fresh.read() as tx:
        note = tx.notes.get(encounter)
        assert note is not None
        assert note.version == 1
        assert len(tx.notes.history(encounter)) == 1
    names = check_audit(fresh)
    assert names.count("note.drafted") == 1
    assert names.count("generation.completed") == 1
    assert names.count("generation.interrupted") == (1 if stage == "generate" else 0)
    assert names.count("transcription.completed") == (1 if stage == "transcribe" else 0)


def test_lost_job_is_adopted(config: Config, records: Records) -> None:
    """An encounter marked as queued whose job was lost between the two databases gets a new job at start."""
    from clinic.domain import Actor, Role, UserId
    from clinic.jobs.worker import adopt_orphans

    doctor = Actor(user_id=UserId("doctor"), role=Role.CLINICIAN)
    with records.write() as tx:
        patient = tx.patients.create(PatientData(name="Crash Test"), actor=doctor)
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=doctor
        )
        tx.encounters.mark(encounter.id, state=EncounterState.QUEUED)
    queue = JobQueue(config)
    assert adopt_orphans(records, queue) == 1
    assert queue.has_live_job(encounter.id)
    assert adopt_orphans(records, queue) == 0
