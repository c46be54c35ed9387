"""When the next backup and the next drill are due, and the worker's way of doing them.

Rules kept here:

* What is due follows from the log and the clock alone: a run that was missed (the box was off, the disk away) is due at
  once, and a restart changes nothing.
* After a failure the next try waits, so that a missing disk fills no log; the failure stays visible meanwhile.  One
  that the log itself refuses to take (it is latched, its disk is full) is waited out as well.
* A drill that failed is tried again with the next backup: that one may serve.
* Without a configured destination nothing is made by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from clinic.backup.create import create
from clinic.backup.drill import drill
from clinic.backup.history import History, Outstanding, history
from clinic.backup.rekey import rekey
from clinic.backup.site import Site
from clinic.config import Config
from clinic.domain import Actor
from clinic.errors import ClinicError

_RETRY: Final = timedelta(hours=1)
_GRACE: Final = 2


class Task(StrEnum):
    """What the worker can be told to do.  The values are stored in the job store."""

    CREATE = "create"
    DRILL = "drill"
    REKEY = "rekey"


@dataclass(frozen=True, slots=True)
class Health:
    """How it stands with backups.  `late` and `drill_late` say that something is overdue, not just due."""

    next_backup: datetime | None
    next_drill: datetime | None
    late: bool
    drill_late: bool
    outstanding: tuple[Outstanding, ...]


def health(config: Config, known: History, now: datetime) -> Health:
    """Return what is due when, and what is overdue."""
    every = timedelta(hours=config.backup.every_hours)
    drills = timedelta(days=config.backup.drill_days)
    next_backup = None
    if config.backup.destination is not None:
        next_backup = _next(known, Task.CREATE, None if known.last is None else known.last.at + every, now)
    next_drill = None
    if known.kept:
        next_drill = _next(known, Task.DRILL, _planned_drill(known, drills), now)
    return Health(
        next_backup=next_backup,
        next_drill=next_drill,
        late=known.last is None or now - known.last.at > _GRACE * every,
        drill_late=known.drill is None or not known.drill.ok or now - known.drill.at > _GRACE * drills,
        outstanding=known.outstanding(),
    )


def _planned_drill(known: History, every: timedelta) -> datetime | None:
    if known.drill is None or (not known.drill.ok and known.last is not None and known.last.at > known.drill.at):
        return None
    return known.drill.at + every


def _next(known: History, task: Task, planned: datetime | None, now: datetime) -> datetime:
    """Return when a task is to be run: as planned, at once if never before, an hour after a failure at the earliest."""
    failed = max((f.at + _RETRY for f in known.failures if f.operation == task.value), default=None)
    due = planned if planned is not None else now
    return due if failed is None else max(due, failed)


class Schedule:
    """The worker's side: says what is due, and does it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known = History()
        self._not_before: dict[Task, datetime] = {}

    def due(self) -> tuple[str, ...]:
        """Return the tasks that are due now; only what was added to the log since the last look is read."""
        now = self._site.clock()
        self._known = history(self._site.records.audit, known=self._known)
        state = health(self._site.config, self._known, now)
        planned = {Task.CREATE: state.next_backup}
        if self._site.config.backup.destination is not None:
            planned[Task.DRILL] = state.next_drill
        return tuple(
            task.value
            for task, at in planned.items()
            if at is not None and max(at, self._not_before.get(task, at)) <= now
        )

    def run(self, task: str, actor: Actor) -> str:
        """Do a task; return `ok` or the code of what went wrong, which is in the log."""
        self._not_before[Task(task)] = self._site.clock() + _RETRY
        try:
            if Task(task) is Task.CREATE:
                create(self._site, actor=actor)
            elif Task(task) is Task.REKEY:
                rekey(self._site, actor=actor)
            else:
                drill(self._site, actor=actor)
        except ClinicError as error:
            return error.code
        del self._not_before[Task(task)]
        return "ok"
