"""What the audit log says of backups: which there are, what failed, when the last drill was, what is outstanding.

Rules kept here:

* The log is the one record of backups; nothing else is asked whether one exists or which patients it may still hold.
* A backup holds the keys of the patients of its moment.  Whoever was shredded later must be taken out of it; until the
  log says so (`backup.rekeyed`, `backup.removed`), that is outstanding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from clinic.audit.entry import Entry
from clinic.audit.events import (
    BackupCreated,
    BackupDrilled,
    BackupFailed,
    BackupFound,
    BackupRekeyed,
    BackupRemoved,
)
from clinic.audit.log import AuditLog

SHREDDED: Final = "patient.shredded"
_NAMES: Final = (
    *(event.name for event in (BackupCreated, BackupFound, BackupFailed, BackupRekeyed, BackupRemoved, BackupDrilled)),
    SHREDDED,
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A backup that exists as far as the log knows.

    Attributes:
        through: up to which entry shreds are already followed.
        generation: of its keys.
    """

    backup: str
    destination: str
    at: datetime
    entries: int
    size: int
    through: int
    generation: int = 1


@dataclass(frozen=True, slots=True)
class Drilled:
    """The last drill."""

    backup: str
    at: datetime
    result: str
    seconds: int

    @property
    def ok(self) -> bool:
        """Whether it went well."""
        return self.result == "ok"


@dataclass(frozen=True, slots=True)
class Failed:
    """An operation that failed since the last backup that went well."""

    operation: str
    code: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A backup that still holds the keys of `patients` shredded patients."""

    backup: str
    destination: str
    patients: int


@dataclass(slots=True)
class History:
    """The state of backups after the entry `seen`."""

    seen: int = 0
    kept: dict[str, Kept] = field(default_factory=dict)
    last: Kept | None = None
    drill: Drilled | None = None
    failures: tuple[Failed, ...] = ()
    shredded: dict[str, int] = field(default_factory=dict)

    def outstanding(self) -> tuple[Outstanding, ...]:
        """Return the backups that must still be re-keyed, oldest first."""
        found = []
        for kept in self.kept.values():
            patients = sum(1 for seq in self.shredded.values() if seq > kept.through)
            if patients:
                found.append(Outstanding(kept.backup, kept.destination, patients))
        return tuple(found)

    def at(self, destination: str) -> tuple[Kept, ...]:
        """Return the backups at one destination, oldest first."""
        return tuple(kept for kept in self.kept.values() if kept.destination == destination)

    def take(self, entry: Entry) -> None:
        """Follow one entry."""
        _STEPS[entry.event](self, entry, json.loads(entry.body))
        self.seen = entry.seq


def history(audit: AuditLog, *, known: History | None = None) -> History:
    """Read the log; with `known`, only what was added since."""
    found = known or History()
    for entry in audit.named(*_NAMES, first=found.seen + 1):
        found.take(entry)
    return found


def _created(state: History, entry: Entry, body: dict[str, Any]) -> None:
    made = _kept(body, datetime.fromisoformat(entry.at), through=body["entries"])
    state.kept[made.backup] = state.last = made
    state.failures = ()


def _found(state: History, entry: Entry, body: dict[str, Any]) -> None:
    """Its number of entries may be that of a history that was given up: every shred counts as not yet followed."""
    del entry
    at = datetime.strptime(body["backup"][:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    found = _kept(body, at, through=0)
    state.kept[found.backup] = found
    if state.last is None or state.last.at < found.at:
        state.last = found


def _kept(body: dict[str, Any], at: datetime, *, through: int) -> Kept:
    return Kept(
        backup=body["backup"],
        destination=body["destination"],
        at=at,
        entries=body["entries"],
        size=body["size"],
        through=through,
    )


def _failed(state: History, entry: Entry, body: dict[str, Any]) -> None:
    failure = Failed(operation=body["operation"], code=body["code"], at=datetime.fromisoformat(entry.at))
    state.failures = (*state.failures, failure)


def _rekeyed(state: History, entry: Entry, body: dict[str, Any]) -> None:
    del entry
    kept = state.kept.get(body["backup"])
    if kept is not None:
        through = max(kept.through, body["through"])
        state.kept[kept.backup] = replace(kept, through=through, generation=body["generation"])


def _removed(state: History, entry: Entry, body: dict[str, Any]) -> None:
    del entry
    gone = state.kept.pop(body["backup"], None)
    if gone is not None and state.last is not None and state.last.backup == gone.backup:
        state.last = max(state.kept.values(), key=lambda kept: kept.at, default=None)


def _drilled(state: History, entry: Entry, body: dict[str, Any]) -> None:
    at = datetime.fromisoformat(entry.at)
    state.drill = Drilled(backup=body["backup"], at=at, result=body["result"], seconds=body["seconds"])


def _shredded(state: History, entry: Entry, body: dict[str, Any]) -> None:
    state.shredded[body["patient"]] = entry.seq


_STEPS: Final[dict[str, Callable[[History, Entry, dict[str, Any]], None]]] = {
    BackupCreated.name: _created,
    BackupFailed.name: _failed,
    BackupRekeyed.name: _rekeyed,
    BackupRemoved.name: _removed,
    BackupDrilled.name: _drilled,
    BackupFound.name: _found,
    SHREDDED: _shredded,
}
