"""Background jobs that fail, are tried again, lose their store, or meet a second worker.

The real queue, the real DBOS worker in its own process, the real flow; only the model is a fake, and files in the data
folder's `run/` say what goes wrong.  The worker is this file, run as a script: `HOME SWEEP_S`.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clinic.config import Config
from clinic.consultation import Consultation, end_of
from clinic.domain import (
    OPERATOR,
    Actor,
    Completion,
    Consent,
    EncounterId,
    EncounterKind,
    EncounterState,
    Role,
    Transcript,
    UserId,
)
from clinic.errors import ClinicError, GenerationError, JobError, PolicyDeniedError, StorageError
from clinic.failures import denying_policies
from clinic.generation.generator import Progress
from clinic.home import open_records, unlock_home
from clinic.jobs.queue import JobQueue
from clinic.jobs.worker import adopt_orphans, only_worker, run_worker
from clinic.policy.gate import ReleasedPrompt
from clinic.records.patients import PatientData
from clinic.records.records import Records
from clinic.services import PolicySource, build_consultation
from clinic.speech.text import text_to_transcript
from tests.conftest import ROOT, SAMPLE
from tests.functional.test_audit_first import TEXT, FakeGenerator, dictate, run

DOCTOR = Actor(user_id=UserId("doctor"), role=Role.CLINICIAN)
DEADLINE_S = 60
DYING_S = 1.5
NO_SWEEP = 3600.0

MODEL_FAILS = "model-fails"
END_UNWRITABLE = "end-unwritable"
KILLED_ENDS = "killed-ends"


# --- the worker ---------------------------------------------------------------------------------------


class FailingGenerator(FakeGenerator):
    """A model that fails as long as a file is there."""

    def __init__(self, switch: Path) -> None:
        super().__init__()
        self._switch = switch

    def generate(self, released: ReleasedPrompt, *, progress: Progress | None = None) -> Completion:
        """Fail, or answer."""
        if self._switch.exists():
            raise GenerationError("told to fail", code="model_interrupted")
        return super().generate(released, progress=progress)


class FailingFlow:
    """The real flow, whose job lives on for a moment after it said that it failed, or cannot say it at all."""

    def __init__(self, flow: Consultation, run_dir: Path) -> None:
        self._flow = flow
        self._run_dir = run_dir

    def __getattr__(self, name: str) -> Any:
        return getattr(self._flow, name)

    def stop(self, encounter_id: EncounterId, *, state: EncounterState, error_code: str) -> None:
        """Stop as the flow does; then take a while to end."""
        if (self._run_dir / END_UNWRITABLE).exists():
            (self._run_dir / KILLED_ENDS).touch()
            raise StorageError("the disk is full")
        self._flow.stop(encounter_id, state=state, error_code=error_code)
        time.sleep(DYING_S)


def main() -> None:
    """Run the worker."""
    config = Config.load(Path(sys.argv[1]))
    records = open_records(config, unlock_home(config))
    generator = FailingGenerator(config.run_dir / MODEL_FAILS)
    flow = FailingFlow(build_consultation(config, records, generator=lambda: generator), config.run_dir)
    run_worker(config, flow, records, sweep_s=float(sys.argv[2]))


@contextmanager
def worker(config: Config, *, sweep_s: float = NO_SWEEP) -> Iterator[None]:
    """Run the worker until the block ends."""
    with (config.logs_dir / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.functional.test_jobs", str(config.home), str(sweep_s)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    try:
        yield
        assert process.poll() is None, "the worker ended by itself"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)


def dictation(records: Records, actor: Actor = DOCTOR) -> EncounterId:
    """Store a clinician's dictation, ready for a job."""
    with records.write() as tx:
        patient = tx.patients.create(PatientData(name="Job Test"), actor=actor)
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.DICTATION, template="soap", language="en", actor=actor
        )
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, actor=actor)
        tx.transcripts.store(encounter.id, text_to_transcript(TEXT))
    return encounter.id


def mark(records: Records, encounter: EncounterId, state: EncounterState, code: str | None = None) -> None:
    """Say where an encounter stands."""
    with records.write() as tx:
        tx.encounters.mark(encounter, state=state, error_code=code)


def state_of(records: Records, encounter: EncounterId) -> tuple[EncounterState, str | None]:
    """Return where the encounter stands."""
    with records.read() as tx:
        found = tx.encounters.get(encounter)
    return found.state, found.error_code


def start(config: Config, records: Records, encounter: EncounterId) -> str:
    """Queue an encounter as the web form does."""
    mark(records, encounter, EncounterState.QUEUED)
    return JobQueue(config).enqueue(encounter, actor=DOCTOR)


# --- trying again -------------------------------------------------------------------------------------


def test_retry_beside_the_dying_job_runs(config: Config, records: Records) -> None:
    """A job that is tried again while the failed one is still ending runs and is finished, without any sweep."""
    switch = config.run_dir / MODEL_FAILS
    switch.touch()
    encounter = dictation(records)
    queue = JobQueue(config)
    with worker(config):
        first = start(config, records, encounter)
        wait_for(lambda: state_of(records, encounter) == (EncounterState.FAILED, "model_interrupted"))
        assert queue.has_live_job(encounter), "the failed job was to be still ending"
        switch.unlink()
        assert start(config, records, encounter) != first
        wait_for(lambda: state_of(records, encounter)[0] is EncounterState.DRAFTED)


def test_waiting_job_is_not_doubled(config: Config, records: Records) -> None:
    """A job that has not begun is returned, not doubled."""
    encounter = dictation(records)
    assert start(config, records, encounter) == start(config, records, encounter)


def test_superfluous_job_does_nothing(config: Config, records: Records) -> None:
    """A job whose encounter is neither queued nor running leaves it, and the audit log, as they are."""
    encounter = dictation(records)
    mark(records, encounter, EncounterState.FAILED, "model_timeout")
    PolicySource(config, records)  # the first start of all is recorded
    entries = len(list(records.audit.entries()))
    queue = JobQueue(config)
    queue.enqueue(encounter, actor=DOCTOR)
    with worker(config):
        wait_for(lambda: not queue.has_live_job(encounter))
    assert state_of(records, encounter) == (EncounterState.FAILED, "model_timeout")
    assert len(list(records.audit.entries())) == entries


def test_drafted_encounter_is_not_left_queued(config: Config, records: Records) -> None:
    """A job queued beside a stored draft ends as drafted, with the same note."""
    encounter = dictate(records)
    run(config, records, FakeGenerator(), encounter)
    mark(records, encounter, EncounterState.QUEUED)
    run(config, records, FakeGenerator(), encounter)
    assert state_of(records, encounter)[0] is EncounterState.DRAFTED
    with records.read() as tx:
        assert len(tx.notes.history(encounter)) == 1


def test_end_that_cannot_be_written_is_repaired(config: Config, records: Records) -> None:
    """A job that fails and cannot even say so (a full disk) is run again by the sweep once that is possible."""
    fails, unwritable = config.run_dir / MODEL_FAILS, config.run_dir / END_UNWRITABLE
    fails.touch()
    unwritable.touch()
    encounter = dictation(records)
    queue = JobQueue(config)
    with worker(config, sweep_s=0.5):
        start(config, records, encounter)
        wait_for((config.run_dir / KILLED_ENDS).exists)
        unwritable.unlink()
        fails.unlink()
        wait_for(lambda: state_of(records, encounter)[0] is EncounterState.DRAFTED)
        wait_for(lambda: not queue.has_live_job(encounter))
    assert [e.event for e in records.audit.entries()].count("note.drafted") == 1


def test_begun_job_that_died_in_the_store_is_repaired(config: Config, records: Records) -> None:
    """A job that the store calls running, and nobody runs, does not keep its encounter from being finished."""
    encounter = dictation(records)
    with worker(config, sweep_s=0.5):
        mark(records, encounter, EncounterState.FAILED, "model_timeout")
        JobQueue(config).enqueue(encounter, actor=DOCTOR)
        wait_for(lambda: not JobQueue(config).has_live_job(encounter))
        with sqlite3.connect(config.jobs_database) as db:
            db.execute("UPDATE workflow_status SET status = 'PENDING'")
        mark(records, encounter, EncounterState.RUNNING)
        wait_for(lambda: state_of(records, encounter)[0] is EncounterState.DRAFTED)


def test_job_that_kills_the_worker_is_given_up(config: Config, records: Records) -> None:
    """A job that DBOS takes up no more ends visibly, instead of being added again for ever."""
    encounter = dictation(records)
    start(config, records, encounter)
    with sqlite3.connect(config.jobs_database) as db:
        db.execute("UPDATE workflow_status SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED'")
    adopt_orphans(records, JobQueue(config))
    assert state_of(records, encounter) == (EncounterState.FAILED, "job_failed")
    assert not JobQueue(config).has_live_job(encounter)


# --- fairness -----------------------------------------------------------------------------------------


NURSE = Actor(user_id=UserId("nurse"), role=Role.CLINICIAN)


def worked_off(config: Config, records: Records, *waiting: Actor) -> str:
    """Queue a job of each clinician in turn, let the worker do them all, and return their initials in its order.

    The order is the one that `positions` told while they waited.
    """
    for actor in waiting:
        encounter = dictation(records, actor)
        mark(records, encounter, EncounterState.QUEUED)
        JobQueue(config).enqueue(encounter, actor=actor)

    def actors() -> list[str]:
        return [entry.actor for entry in records.audit.named("generation.authorized")]

    told = JobQueue(config).positions()
    assert sorted(told.values()) == list(range(1, len(waiting) + 1))
    with worker(config):
        wait_for(lambda: len(actors()) == len(waiting))
    done = [json.loads(entry.body)["encounter"] for entry in records.audit.named("generation.authorized")]
    assert done == sorted(told, key=told.__getitem__)
    assert JobQueue(config).positions() == {}
    return "".join(actor[0] for actor in actors())


def test_nobody_waits_behind_somebody_elses_pile(config: Config, records: Records) -> None:
    """Four jobs of one clinician, then two of another: they take turns, each in their own order."""
    assert worked_off(config, records, *(DOCTOR,) * 4, *(NURSE,) * 2) == "dndndd"


def test_without_rounds_they_would(config: Config, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with every job in the same round, the pile comes first."""
    monkeypatch.setattr(JobQueue, "_round", lambda *_: 1)
    assert worked_off(config, records, *(DOCTOR,) * 4, *(NURSE,) * 2) == "ddddnn"


def test_rounds_go_on_from_what_waits(config: Config, records: Records) -> None:
    """A newcomer joins the present round, not one that is over; an empty queue begins at the first round again."""
    queue = JobQueue(config)
    assert [queue._round("doctor"), queue._round("nurse")] == [1, 1]
    for _ in range(3):
        queue.enqueue(dictation(records), actor=DOCTOR)
    assert [queue._round("doctor"), queue._round("nurse")] == [4, 1]
    with sqlite3.connect(config.jobs_database) as db:
        db.execute("UPDATE workflow_status SET status = 'SUCCESS' WHERE priority < 3")
    assert [queue._round("doctor"), queue._round("nurse")] == [4, 3]
    with sqlite3.connect(config.jobs_database) as db:
        db.execute("UPDATE workflow_status SET status = 'SUCCESS'")
    assert [queue._round("doctor"), queue._round("nurse")] == [1, 1]


# --- one worker, and the command line beside it -------------------------------------------------------


def test_second_worker_is_refused(config: Config) -> None:
    """While one worker holds the data folder, another ends with exit code 5 before it touches a job."""
    with only_worker(config):
        refused = subprocess.run(
            [sys.executable, "-m", "clinic", "worker", "--home", str(config.home)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        with pytest.raises(JobError) as caught, only_worker(config):
            pass
    assert caught.value.code == "worker_running"
    assert refused.returncode == 5
    assert "worker_running" in refused.stderr
    with only_worker(config):
        """Free again."""


def test_running_consult_is_left_alone(config: Config, records: Records) -> None:
    """A worker that starts beside `clinic consult` does not take its encounter."""
    seen: list[tuple[int, bool]] = []
    encounter = dictate(records)

    def meanwhile(_prompt: object) -> None:
        seen.append((adopt_orphans(records, JobQueue(config)), JobQueue(config).has_live_job(encounter)))

    run(config, records, FakeGenerator(meanwhile), encounter)
    assert seen == [(0, False)]
    assert state_of(records, encounter)[0] is EncounterState.DRAFTED
    assert "generation.interrupted" not in [e.event for e in records.audit.entries()]


def test_consult_that_breaks_does_not_stay_running(config: Config, records: Records) -> None:
    """A defect in a headless run leaves a visible end: no worker will ever adopt it."""
    encounter = dictate(records)

    def break_(_prompt: object) -> None:
        raise RuntimeError("defect")

    with pytest.raises(RuntimeError):
        run(config, records, FakeGenerator(break_), encounter)
    assert state_of(records, encounter) == (EncounterState.FAILED, "unexpected")


@pytest.mark.parametrize("damage", ["garbage", "truncated", "empty"])
def test_damaged_job_store_is_said(config: Config, damage: str) -> None:
    """A damaged job store is a `JobError` with a hint, wherever it is met."""
    whole = config.jobs_database.read_bytes()
    config.jobs_database.write_bytes({"garbage": b"garbage" * 999, "truncated": whole[:5000], "empty": b""}[damage])
    encounter = EncounterId("one")
    queue = JobQueue(config)
    for ask in (queue.has_live_job, queue.gave_up, lambda e: queue.enqueue(e, actor=OPERATOR)):
        with pytest.raises(JobError) as caught:
            ask(encounter)
        assert caught.value.code == "worker_unavailable"
        assert caught.value.hint


def test_worker_with_damaged_job_store_ends_without_traceback(config: Config) -> None:
    """The worker says in one line that its job store is damaged."""
    config.jobs_database.write_bytes(b"garbage" * 999)
    ended = subprocess.run(
        [sys.executable, "-m", "clinic", "worker", "--home", str(config.home)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert ended.returncode == 5
    assert "worker_unavailable" in ended.stderr
    assert "Traceback" not in ended.stderr


# --- what the flow does with answers, consent and ends ------------------------------------------------


class EmptyOnce(FakeGenerator):
    """A model that writes nothing the first time."""

    def generate(self, released: ReleasedPrompt, *, progress: Progress | None = None) -> Completion:
        """Answer, at first with nothing."""
        completion = super().generate(released, progress=progress)
        if len(self.history) > 1:
            return completion
        empty = tuple(section.model_copy(update={"text": ""}) for section in completion.sections)
        return completion.model_copy(update={"sections": empty})


def test_empty_answer_can_be_tried_again(config: Config, records: Records) -> None:
    """An answer without a statement is set aside, in the log too; the next attempt asks the model anew."""
    generator, encounter = EmptyOnce(), dictate(records)
    with pytest.raises(GenerationError) as caught:
        run(config, records, generator, encounter)
    assert caught.value.code == "output_empty"
    assert [e.event for e in records.audit.entries()][-1] == "generation.failed"
    run(config, records, generator, encounter)
    assert len(generator.history) == 2
    assert state_of(records, encounter)[0] is EncounterState.DRAFTED
    assert records.audit.verify().ok
    assert records.sweep() == ()


class HearingTranscriber:
    """A recogniser during whose work something happens."""

    model = "fake"
    model_sha256 = "cd" * 32

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.asked = 0
        self.finished = 0
        self._meanwhile = meanwhile

    def transcribe(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Transcript:
        """Return a fixed transcript."""
        del audio, language
        self.asked += 1
        self._meanwhile()
        assert progress is not None
        progress(0.5)
        self.finished += 1
        return text_to_transcript(TEXT).model_copy(update={"model": self.model, "model_sha256": self.model_sha256})


def recorded(records: Records, consent: Consent) -> EncounterId:
    """Store the sample recording."""
    with records.write() as tx:
        patient = tx.patients.create(PatientData(name="Job Test"), actor=DOCTOR)
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=DOCTOR
        )
        tx.encounters.record_consent(encounter.id, consent, actor=DOCTOR)
        recording = tx.recordings.start(encounter.id, mime="audio/flac", actor=DOCTOR)
        data = SAMPLE.read_bytes()
        pieces = [data[at : at + (1 << 19)] for at in range(0, len(data), 1 << 19)]
        for number, piece in enumerate(pieces):
            tx.recordings.append(recording.id, number, piece)
        tx.recordings.complete(recording.id, chunks=len(pieces), actor=DOCTOR)
    return encounter.id


@pytest.mark.parametrize(
    ("before", "meanwhile", "asked"),
    [
        pytest.param(Consent.WITHDRAWN, Consent.WITHDRAWN, 0, id="withdrawn-before"),
        pytest.param(Consent.GIVEN, Consent.WITHDRAWN, 1, id="withdrawn-meanwhile"),
        pytest.param(Consent.GIVEN, Consent.GIVEN, 1, id="given"),
    ],
)
def test_withdrawn_consent_stops_transcription(
    config: Config, records: Records, before: Consent, meanwhile: Consent, asked: int
) -> None:
    """Without consent nothing is transcribed; withdrawn during the work, that ends at once; either way it says so."""
    encounter = recorded(records, before)

    def answer() -> None:
        with records.write() as tx:
            tx.encounters.record_consent(encounter, meanwhile, actor=DOCTOR)

    transcriber = HearingTranscriber(answer)
    flow = Consultation(
        records,
        policy_set=PolicySource(config, records),
        transcriber=lambda: transcriber,
        generator=FakeGenerator,
        max_audio_s=600,
    )
    if meanwhile is Consent.GIVEN:
        flow.transcribe(encounter, actor=DOCTOR)
    else:
        with pytest.raises(ClinicError) as caught:
            flow.run(encounter, actor=DOCTOR)
        assert caught.value.code == "consent_missing"
        assert state_of(records, encounter) == (EncounterState.DENIED, "consent_missing")
        assert [e.event for e in records.audit.entries()][-1] == "transcription.failed"
    assert transcriber.asked == asked
    assert transcriber.finished == (meanwhile is Consent.GIVEN)
    with records.read() as tx:
        assert (tx.transcripts.current(encounter) is not None) is (meanwhile is Consent.GIVEN)


def test_denied_headless_run_names_its_policies(config: Config, records: Records) -> None:
    """The command line stores a denial as the worker does, so that the form can give its reasons."""
    encounter = dictate(records, consent=Consent.REFUSED)
    with pytest.raises(PolicyDeniedError):
        run(config, records, FakeGenerator(), encounter)
    state, code = state_of(records, encounter)
    assert state is EncounterState.DENIED
    assert denying_policies(code or "") == ("consent-refused",)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PolicyDeniedError("no", policies=("a", "b")), (EncounterState.DENIED, "denied:a,b")),
        (PolicyDeniedError("no", code="consent_missing"), (EncounterState.DENIED, "consent_missing")),
        (GenerationError("no", code="model_timeout"), (EncounterState.FAILED, "model_timeout")),
        (ZeroDivisionError("no"), (EncounterState.FAILED, "unexpected")),
    ],
)
def test_each_error_has_one_end(error: Exception, expected: tuple[EncounterState, str]) -> None:
    """Command line and worker end an encounter alike."""
    assert end_of(error) == expected


if __name__ == "__main__":
    main()
