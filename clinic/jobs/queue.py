"""Putting jobs into the queue, from the web process or the worker itself.

Rules kept here:

* Only ids and enum values go in.
* One encounter has at most one job that waits: the workflow id is the encounter's id and the number of the attempt, so
  two processes that add the same attempt add one job.
* A job that has begun does not count as the answer to a new request: it may be the one that has just failed and is
  ending.  The new attempt waits behind it (the worker runs one at a time) and does nothing if nothing is left to do.
* Nobody waits behind somebody else's pile: the queue is worked off in rounds, and a round has one job of each clinician
  who waits.  A new job goes into the round after its clinician's last waiting one, at the earliest into the round that
  is being worked off (start-time fair queueing); within a round the older job comes first.
* Whatever is wrong with the job store is a `JobError`.
"""

from __future__ import annotations

from functools import cached_property

from dbos import DBOSClient, EnqueueOptions, WorkflowStatus

from clinic.config import Config
from clinic.domain import Actor, EncounterId
from clinic.jobs.store import QUEUE, UPKEEP_QUEUE, UPKEEP_WORKFLOW, WORKFLOW, job_store_errors, open_client

_WAITING = ("ENQUEUED", "DELAYED")
_BEGUN = "PENDING"
_FIRST_ROUND = 1
_GIVEN_UP = "MAX_RECOVERY_ATTEMPTS_EXCEEDED"


class JobQueue:
    """The queue of one data folder."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @cached_property
    def _client(self) -> DBOSClient:
        return open_client(self._config)

    def enqueue(self, encounter_id: EncounterId, *, actor: Actor) -> str:
        """Add the job for one encounter and return its id; a job that waits is returned, not doubled.

        Mark the encounter as queued before: a job whose encounter is not does nothing.

        Raises:
            JobError: `worker_unavailable` if the job store cannot be read or written.
        """
        with job_store_errors():
            attempts = self._attempts(encounter_id)
            for attempt in attempts:
                if attempt.status in _WAITING:
                    return attempt.workflow_id
            job_id = f"{encounter_id}:{max(map(_number, attempts), default=0) + 1}"
            turn = self._round(actor.user_id)
            options = EnqueueOptions(queue_name=QUEUE, workflow_name=WORKFLOW, workflow_id=job_id, priority=turn)
            self._client.enqueue(options, encounter_id, actor.user_id, actor.role.value)
        return job_id

    def enqueue_upkeep(self, task: str, *, actor: Actor) -> str:
        """Add a task of upkeep and return its job's id; one that waits or runs is returned, not doubled.

        Raises:
            JobError: `worker_unavailable` if the job store cannot be read or written.
        """
        with job_store_errors():
            attempts = self._upkeep(task)
            for attempt in attempts:
                if attempt.status in (*_WAITING, _BEGUN):
                    return attempt.workflow_id
            job_id = f"{UPKEEP_WORKFLOW}:{task}:{max(map(_number, attempts), default=0) + 1}"
            options = EnqueueOptions(queue_name=UPKEEP_QUEUE, workflow_name=UPKEEP_WORKFLOW, workflow_id=job_id)
            self._client.enqueue(options, task, actor.user_id, actor.role.value)
        return job_id

    def pending_upkeep(self, task: str) -> bool:
        """Whether a task of upkeep waits or runs.

        Raises:
            JobError: `worker_unavailable` if the job store cannot be read.
        """
        with job_store_errors():
            return any(attempt.status in (*_WAITING, _BEGUN) for attempt in self._upkeep(task))

    def has_live_job(self, encounter_id: EncounterId) -> bool:
        """Whether a job for this encounter waits or runs.

        Raises:
            JobError: `worker_unavailable` if the job store cannot be read.
        """
        with job_store_errors():
            return any(attempt.status in (*_WAITING, _BEGUN) for attempt in self._attempts(encounter_id))

    def has_waiting_job(self, encounter_id: EncounterId) -> bool:
        """Whether a job for this encounter waits to be begun.

        Raises:
            JobError: `worker_unavailable` if the job store cannot be read.
        """
        with job_store_errors():
            return any(attempt.status in _WAITING for attempt in self._attempts(encounter_id))

    def positions(self) -> dict[EncounterId, int]:
        """Return which encounters wait for their job, and which in turn each of them is (from 1).

        Raises:
            JobError: `worker_unavailable` if the job store cannot be read.
        """
        with job_store_errors():
            waiting = self._client.list_workflows(
                queue_name=QUEUE, status=list(_WAITING), load_input=False, load_output=False
            )
        turns = sorted(waiting, key=lambda job: (_priority(job), job.created_at or 0))
        encounters = dict.fromkeys(EncounterId(job.workflow_id.rpartition(":")[0]) for job in turns)
        return {encounter_id: turn for turn, encounter_id in enumerate(encounters, start=1)}

    def check(self) -> None:
        """Read from the job store.

        Raises:
            JobError: `worker_unavailable` if that cannot be done.
        """
        with job_store_errors():
            self._client.list_workflows(limit=1, load_input=False, load_output=False)

    def gave_up(self, encounter_id: EncounterId) -> bool:
        """Whether the newest job of this encounter killed the worker so often that it is not taken up again.

        Raises:
            JobError: `worker_unavailable` if the job store cannot be read.
        """
        with job_store_errors():
            newest = max(self._attempts(encounter_id), key=_number, default=None)
        return newest is not None and newest.status == _GIVEN_UP

    def _round(self, user_id: str) -> int:
        """Return the round of a user's next job; the store works off the smallest number first."""
        waiting = self._client.list_workflows(
            queue_name=QUEUE, status=list(_WAITING), load_input=True, load_output=False
        )
        present = min((_priority(job) for job in waiting), default=_FIRST_ROUND)
        own = [_priority(job) for job in waiting if job.input is not None and job.input["args"][1] == user_id]
        return max(present, max(own, default=0) + 1)

    def _upkeep(self, task: str) -> list[WorkflowStatus]:
        prefix = f"{UPKEEP_WORKFLOW}:{task}:"
        return self._client.list_workflows(workflow_id_prefix=prefix, load_input=False, load_output=False)

    def _attempts(self, encounter_id: EncounterId) -> list[WorkflowStatus]:
        return self._client.list_workflows(workflow_id_prefix=f"{encounter_id}:", load_input=False, load_output=False)


def _number(attempt: WorkflowStatus) -> int:
    return int(attempt.workflow_id.rpartition(":")[2])


def _priority(job: WorkflowStatus) -> int:
    return max(job.priority or 0, _FIRST_ROUND)  # jobs that an older program added have none
