"""What the worker does beside drafting: backups and drills, as jobs of a queue of their own.

Rules kept here:

* Only the task's name and who asked for it go in; the result is `ok` or an error code.
* A task waits or runs once at a time; asking again while it waits or runs adds nothing.
* A shred that a crash or a reader cut off is finished here, too: first in the data folder, then in the backups.
* The audit log's checkpoints are kept by the clock here, and once more when the worker stops.
* What is due by itself is put into the same queue as what somebody asked for: there is one way by which it happens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Protocol

from dbos import DBOS

from clinic.domain import OPERATOR, Actor, Role, UserId
from clinic.errors import ClinicError
from clinic.jobs.queue import JobQueue
from clinic.jobs.store import UPKEEP_WORKFLOW
from clinic.records.records import Records

FAILED: Final = "job_failed"
REKEY: Final = "rekey"
"""The task that takes shredded patients out of the backups."""
_log = logging.getLogger(__name__)


class Upkeep(Protocol):
    """What the worker needs of `clinic.backup.schedule.Schedule`."""

    def due(self) -> Sequence[str]:
        """Return the tasks that are due now."""

    def run(self, task: str, actor: Actor) -> str:
        """Do a task; return `ok` or an error code."""


def register_upkeep(upkeep: Upkeep) -> None:
    """Register the workflow with DBOS.  Call once, before `DBOS.launch()`."""

    @DBOS.step(name="upkeep_task")
    def step(task: str, user_id: str, role: str) -> str:
        return _attempt(upkeep, task, Actor(user_id=UserId(user_id), role=Role(role)))

    @DBOS.workflow(name=UPKEEP_WORKFLOW, max_recovery_attempts=5)
    def upkeep_workflow(task: str, user_id: str, role: str) -> str:
        return step(task, user_id, role)

    del upkeep_workflow  # DBOS keeps it by name


def look_after(upkeep: Upkeep, queue: JobQueue) -> None:
    """Put what is due into the queue; what cannot be read or written now is tried the next time."""
    try:
        for task in upkeep.due():
            queue.enqueue_upkeep(task, actor=OPERATOR)
    except ClinicError as error:
        _log.error("backups could not be looked after: %s", error.code)


def finish_shredding(records: Records, queue: JobQueue) -> None:
    """Take out of the files what is left of the keys of shredded patients, then have the backups re-keyed."""
    try:
        if records.finish_shredding():
            queue.enqueue_upkeep(REKEY, actor=OPERATOR)
    except ClinicError as error:  # a reader in the way, a full disk: the next look does it
        _log.error("a shred could not be finished: %s", error.code)


def keep_due_checkpoint(records: Records) -> None:
    """Keep a checkpoint of the audit log if one is due by the clock; what cannot be done now is done the next time."""
    try:
        records.audit.keep_due_checkpoint()
    except ClinicError as error:  # a damaged log has latched, and is shown
        _log.error("a checkpoint of the audit log could not be kept: %s", error.code)


def keep_last_checkpoint(records: Records) -> None:
    """Keep a checkpoint over what was written until now; where that fails, the next start does it."""
    try:
        records.audit.keep_checkpoint()
    except ClinicError as error:
        _log.error("no last checkpoint of the audit log was kept: %s", error.code)


def _attempt(upkeep: Upkeep, task: str, actor: Actor) -> str:
    try:
        return upkeep.run(task, actor)
    except Exception as error:  # noqa: BLE001 - the worker must survive any job; only the type is logged
        _log.error("upkeep failed: %s", type(error).__name__)
        return FAILED
