"""The worker process: runs queued jobs one at a time, and finishes what a killed worker left.

Rules kept here:

* One worker for each data folder: it holds `run/worker.lock` (flock, gone with the process) from before its first look
  at the job store until its end.  A second one would take up the first one's running jobs.
* One job at a time: speech recognition and generation already use the machine's cores.  Backups and drills have a queue
  of their own, one at a time as well, so that a long one keeps nobody's draft waiting.
* Every encounter that says it is queued or running has a job; one that lost it (a crash between the two databases, a
  full disk that kept a job from saying how it ended) gets a new one, at start and every few seconds.  A job that had
  begun is taken up again by DBOS at its first unfinished step.
* What runs is heard in passing by a thread of this process, with the jobs' own recogniser: one transcription at a time.
* The command line's own encounters are not touched: `clinic consult` runs them in its own process, without a job.
  They are known by their clinician, `OPERATOR`.  One whose process was killed stays as it was; run the command again.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from dbos import DBOS

from clinic.config import Config
from clinic.domain import OPERATOR, Actor, EncounterId, EncounterState, Role, UserId
from clinic.errors import ClinicError, JobError, StorageError
from clinic.jobs.listening import Hearing, Listening, forget_old
from clinic.jobs.queue import JobQueue
from clinic.jobs.store import QUEUE, UPKEEP_QUEUE, job_store_errors, worker_config
from clinic.jobs.upkeep import (
    Upkeep,
    finish_shredding,
    keep_due_checkpoint,
    keep_last_checkpoint,
    look_after,
    register_upkeep,
)
from clinic.jobs.workflows import Flow, Running, register
from clinic.records.encounters import Encounter
from clinic.records.records import Records

_POLL_S: Final = 0.25
_SWEEP_S: Final = 5.0
_UPKEEP_POLL_S: Final = 1.0
_log = logging.getLogger(__name__)


def run_worker(
    config: Config,
    flow: Flow,
    records: Records,
    *,
    upkeep: Upkeep | None = None,
    hearing: Hearing | None = None,
    sweep_s: float = _SWEEP_S,
) -> None:
    """Run jobs until SIGTERM or SIGINT; with `hearing`, recordings are heard in passing while they run.

    Raises:
        JobError: `worker_running` if this data folder has a worker, `worker_unavailable` if the job store is damaged.
    """
    with only_worker(config):
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        queue, running = JobQueue(config), Running()
        queue.check()  # before DBOS, which would print a traceback of a damaged store
        with job_store_errors():
            DBOS(config=worker_config(config))
            register(flow, running)
            if upkeep is not None:
                register_upkeep(upkeep)
            DBOS.launch()
            DBOS.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=_POLL_S)
            if upkeep is not None:
                DBOS.register_queue(UPKEEP_QUEUE, worker_concurrency=1, polling_interval_sec=_UPKEEP_POLL_S)
        sweep = Sweep(records, queue, running)
        sweep.first()
        gc.freeze()  # what is loaded by now stays: a full collection would look through it within a decision (80 ms)
        if hearing is not None:
            listen(config, records, hearing, lambda: running.nothing() and not queue.positions(), stop)
        _log.info("worker ready")
        while not stop.wait(sweep_s):
            sweep.again()
            finish_shredding(records, queue)
            keep_due_checkpoint(records)
            forget_old(records)
            if upkeep is not None:
                look_after(upkeep, queue)
        DBOS.destroy(workflow_completion_timeout_sec=0)
        keep_last_checkpoint(records)


def listen(
    config: Config, records: Records, hearing: Hearing, may_hear: Callable[[], bool], stop: threading.Event
) -> threading.Thread:
    """Start hearing recordings while they run, in a thread that ends with `stop`, and with the process."""
    listening = Listening(records, hearing, may_hear=may_hear, max_duration_s=config.speech.max_duration_s)
    thread = threading.Thread(target=listening.run, args=(stop,), name="listening", daemon=True)
    thread.start()
    return thread


@contextmanager
def only_worker(config: Config) -> Iterator[None]:
    """Hold this data folder's worker lock.

    Raises:
        JobError: `worker_running` if another process holds it.
        StorageError: the lock file cannot be made.
    """
    path = config.run_dir / "worker.lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StorageError(
            f"cannot open `{path}`: {os.strerror(error.errno or 0).lower()}",
            hint="check that the data folder is there, has space and belongs to the clinic's account",
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise JobError(
            "a worker runs on this data folder already",
            code="worker_running",
            hint="one is enough: `clinic serve` starts its own; stop that first to run another",
        ) from None
    try:
        yield
    finally:
        os.close(fd)


class Sweep:
    """Gives a new job to every unfinished encounter that has none.

    While the worker runs, an encounter counts as an orphan when two looks in a row find it without a job: whoever marks
    an encounter as queued is given the time to add its job.
    """

    def __init__(self, records: Records, queue: JobQueue, running: Running) -> None:
        self._records = records
        self._queue = queue
        self._running = running
        self._suspects: frozenset[EncounterId] = frozenset()

    def first(self) -> None:
        """At start: whatever has no job in the store lost it."""
        try:
            adopt_orphans(self._records, self._queue)
        except ClinicError as error:
            _log.error("unfinished encounters could not be looked after: %s", error.code)

    def again(self) -> None:
        """Look again; what cannot be read or written now is tried the next time."""
        try:
            orphans = [e for e in _unfinished(self._records) if not self._is_live(e.id)]
            adopted = [e for e in orphans if e.id in self._suspects]
            self._suspects = frozenset(e.id for e in orphans if e not in adopted)
            for encounter in adopted:
                _adopt(self._records, self._queue, encounter)
        except ClinicError as error:
            _log.error("unfinished encounters could not be looked after: %s", error.code)

    def _is_live(self, encounter_id: EncounterId) -> bool:
        # What the store says has begun may have died with a write that the disk refused: what runs here is what counts.
        return encounter_id in self._running or self._queue.has_waiting_job(encounter_id)


def adopt_orphans(records: Records, queue: JobQueue) -> int:
    """Enqueue every unfinished encounter that has no live job; return how many there were.

    Encounters of the command line (`OPERATOR`) are left alone: they run in its own process, without a job.
    """
    orphans = [encounter for encounter in _unfinished(records) if not queue.has_live_job(encounter.id)]
    for encounter in orphans:
        _adopt(records, queue, encounter)
    return len(orphans)


def _unfinished(records: Records) -> list[Encounter]:
    with records.read() as tx:
        return [e for e in tx.encounters.unfinished() if e.clinician_id != OPERATOR.user_id]


def _adopt(records: Records, queue: JobQueue, encounter: Encounter) -> None:
    if queue.gave_up(encounter.id):  # it killed the worker again and again: say so, instead of trying for ever
        with records.write() as tx:
            tx.encounters.mark(encounter.id, state=EncounterState.FAILED, error_code="job_failed")
        return
    with records.write() as tx:  # first: as long as the store cannot be written, a job could not end visibly either
        if tx.encounters.get(encounter.id).state not in (EncounterState.QUEUED, EncounterState.RUNNING):
            return
        tx.encounters.mark(encounter.id, state=EncounterState.QUEUED)
    queue.enqueue(encounter.id, actor=Actor(user_id=UserId(encounter.clinician_id), role=Role.CLINICIAN))
