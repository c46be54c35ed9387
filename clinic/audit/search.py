"""Looking for entries: by event, by actor, by time, a page at a time.

Rules kept here:

* A page begins behind the number of an entry, never at a count from the end: it stays where it is while the log grows.
* What is found is read, not verified.
* A filter is a value of fixed shape; what somebody typed never becomes part of a statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from clinic.audit.entry import Entry, RawEntry, timestamp

_WANTED: Final = (
    "(:event IS NULL OR event = :event) AND (:kind IS NULL OR substr(event, 1, length(:kind)) = :kind) "
    "AND (:actor IS NULL OR actor = :actor) "
    "AND (:since IS NULL OR at >= :since) AND (:until IS NULL OR at < :until)"
)
_COUNT: Final = text(f"SELECT count(*) FROM audit_entries WHERE {_WANTED}")  # noqa: S608 - constants only
_ANY: Final = text(
    f"SELECT EXISTS (SELECT 1 FROM audit_entries WHERE {_WANTED} "  # noqa: S608 - constants only
    "AND (:above IS NULL OR seq > :above) AND (:below IS NULL OR seq < :below))"
)


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for; what is None does not matter.

    Attributes:
        event: the name of an event (`login.failed`), or the beginning of several with its dot (`login.`).
        actor: the id of whoever did it.
        since, until: from this moment on; before that moment.
    """

    event: str | None = None
    actor: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def values(self) -> dict[str, Any]:
        """Return the values of the statements."""
        is_kind = self.event is not None and self.event.endswith(".")
        return {
            "event": None if is_kind else self.event,
            "kind": self.event if is_kind else None,
            "actor": self.actor,
            "since": None if self.since is None else timestamp(self.since),
            "until": None if self.until is None else timestamp(self.until),
        }


@dataclass(frozen=True, slots=True)
class Found:
    """One page: its entries, the newest first; how many there are in all; whether some stand before or behind it."""

    entries: tuple[Entry, ...]
    total: int
    has_newer: bool
    has_older: bool


def find(
    connection: Connection, columns: str, search: Search, *, before: int | None, after: int | None, limit: int
) -> Found:
    """Return the newest entries below `before`, or the oldest above `after`, or else the newest of all."""
    values, order = search.values(), "DESC" if after is None else "ASC"
    statement = text(
        f"SELECT {columns} FROM audit_entries WHERE (:before IS NULL OR seq < :before) "  # noqa: S608 - constants only
        f"AND (:after IS NULL OR seq > :after) AND {_WANTED} ORDER BY seq {order} LIMIT :limit"
    )
    rows = connection.execute(statement, values | {"before": before, "after": after, "limit": limit}).all()
    entries = sorted((Entry.from_raw(RawEntry(*row)) for row in rows), key=lambda entry: entry.seq, reverse=True)
    newest, oldest = (entries[0].seq, entries[-1].seq) if entries else ((before or 1) - 1, (after or 0) + 1)
    return Found(
        tuple(entries),
        total=int(connection.execute(_COUNT, values).scalar_one()),
        has_newer=_any(connection, values, above=newest),
        has_older=_any(connection, values, below=oldest),
    )


def _any(connection: Connection, values: dict[str, Any], *, above: int | None = None, below: int | None = None) -> bool:
    return bool(connection.execute(_ANY, values | {"above": above, "below": below}).scalar_one())
