"""The one workflow: transcribe, decide and generate, verify and store.

Rules kept here:

* A step returns `OK` or an error code, never text and never an exception: results are written to the job store.
* A job does nothing unless its encounter is queued or running: what has ended (by another attempt, by a signature)
  stays as it is.
* Every step may run again after a crash; `clinic.consultation` makes each of them find its own earlier result.
* Whatever goes wrong ends in a visible state of the encounter, with a code that `clinic.failures` puts into words.
  Where even that cannot be written (a full disk), the code is returned all the same; the encounter still says
  `running`, has no job, and so gets a new one from the worker's sweep once the store can be written.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from dbos import DBOS

from clinic.consultation import end_of
from clinic.domain import Actor, EncounterId, EncounterState, Role, UserId
from clinic.errors import ClinicError
from clinic.jobs.store import WORKFLOW

OK: Final = "ok"
NOTHING_TO_DO: Final = "nothing_to_do"
_log = logging.getLogger(__name__)


class Flow(Protocol):
    """What the workflow needs of `clinic.consultation.Consultation`."""

    def is_unfinished(self, encounter_id: EncounterId) -> bool:
        """Whether a job has still something to do."""

    def transcribe(self, encounter_id: EncounterId, *, actor: Actor) -> None:
        """Step 2."""

    def generate(self, encounter_id: EncounterId, *, actor: Actor) -> None:
        """Steps 3 to 6."""

    def store(self, encounter_id: EncounterId, *, actor: Actor) -> None:
        """Steps 7 and 8."""

    def stop(self, encounter_id: EncounterId, *, state: EncounterState, error_code: str) -> None:
        """Leave the encounter in a visible end state."""


class Running:
    """The encounters whose jobs run in this process: the truth, whatever the job store says."""

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._lock = threading.Lock()

    def __contains__(self, encounter_id: str) -> bool:
        with self._lock:
            return encounter_id in self._ids

    def nothing(self) -> bool:
        """Whether no job runs in this process."""
        with self._lock:
            return not self._ids

    @contextmanager
    def holding(self, encounter_id: str) -> Iterator[None]:
        """Count an encounter as running until the block ends."""
        with self._lock:
            self._ids.add(encounter_id)
        try:
            yield
        finally:
            with self._lock:
                self._ids.discard(encounter_id)


def register(flow: Flow, running: Running) -> None:
    """Register the workflow and its steps with DBOS.  Call once, before `DBOS.launch()`."""
    transcribe = _step("transcribe", flow, flow.transcribe)
    generate = _step("generate", flow, flow.generate)
    store = _step("store", flow, flow.store)

    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=10)
    def draft_encounter(encounter_id: str, user_id: str, role: str) -> str:
        with running.holding(encounter_id):
            for step in (transcribe, generate, store):
                code = step(encounter_id, user_id, role)
                if code != OK:
                    return code
        return OK

    del draft_encounter  # DBOS keeps it by name


def _step(name: str, flow: Flow, action: Callable[..., None]) -> Callable[[str, str, str], str]:
    @DBOS.step(name=name)
    def run(encounter_id: str, user_id: str, role: str) -> str:
        actor = Actor(user_id=UserId(user_id), role=Role(role))
        return _attempt(flow, action, EncounterId(encounter_id), actor)

    return run


def _attempt(flow: Flow, action: Callable[..., None], encounter_id: EncounterId, actor: Actor) -> str:
    try:
        if not flow.is_unfinished(encounter_id):
            return NOTHING_TO_DO
        action(encounter_id, actor=actor)
    except Exception as error:  # noqa: BLE001 - the worker must survive any job; only the type is logged, values may hold patient text
        if not isinstance(error, ClinicError):
            _log.error("job step failed: %s", type(error).__name__)
        state, code = end_of(error)
        _stop(flow, encounter_id, state, code)
        return code
    return OK


def _stop(flow: Flow, encounter_id: EncounterId, state: EncounterState, code: str) -> None:
    try:
        flow.stop(encounter_id, state=state, error_code=code)
    except Exception as error:  # noqa: BLE001 - as above; the sweep gives the encounter a new job
        why = error.code if isinstance(error, ClinicError) else type(error).__name__
        _log.error("the end of a job could not be recorded: %s", why)
