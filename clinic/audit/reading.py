"""Reading the log, as it is stored: nothing that is read here is verified.

Rules kept here:

* Each page is a transaction of its own: a slow reader blocks nobody, and memory does not grow with the log.
* Damage reaches whoever verifies: a row is handed out exactly as it lies there, whatever it holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, text

from clinic.audit.chain import damaged
from clinic.audit.entry import Entry, RawEntry, timestamp
from clinic.audit.events import LatchCleared, from_canonical
from clinic.audit.faults import reported
from clinic.audit.kept import Kept, all_kept, newest
from clinic.audit.search import Found, Search, find
from clinic.errors import AuditError

Begin = Callable[[], AbstractContextManager[Connection]]

_PAGE: Final = 1000
# As BLOBs, because a damaged text that is no UTF-8 any more must reach verification, not stop the driver.
COLUMNS: Final = "seq, " + ", ".join(
    f"CAST({column} AS BLOB) AS {column}"
    for column in ("at", "actor", "role", "event", "body", "prev_hash", "hash", "sealed")
)
# What every append and confirmation runs goes to the driver as it is: SQLAlchemy's own statements take twice as long.
LAST: Final = f"SELECT {COLUMNS} FROM audit_entries ORDER BY seq DESC LIMIT 1"  # noqa: S608 - constants only
ONE: Final = f"SELECT {COLUMNS} FROM audit_entries WHERE seq = ?"  # noqa: S608 - constants only
# Each page is a transaction of its own: a slow reader blocks nobody.  By rowid, which is `seq` in our table, because
# even in a table that somebody put in its place no row can hide from it: neither a number given twice, nor one below 1.
_PAGE_OF_ROWS: Final = (
    f"SELECT rowid AS place, {COLUMNS} FROM audit_entries "  # noqa: S608 - constants only
    "WHERE rowid >= ? AND rowid <= ? ORDER BY rowid LIMIT ?"
)
_PAGE_OF_NAMED: Final = text(
    f"SELECT seq AS place, {COLUMNS} FROM audit_entries "  # noqa: S608 - constants only
    "WHERE seq >= :first AND event IN :names ORDER BY seq LIMIT :page"
).bindparams(bindparam("names", expanding=True))
_LATEST: Final = text(
    f"SELECT {COLUMNS} FROM audit_entries "  # noqa: S608 - constants only
    "WHERE seq > :after AND event = :event ORDER BY seq DESC LIMIT 1"
)
# From the end backwards to the first older entry: the number of all entries does not matter.
_COUNT_SINCE: Final = text(
    "SELECT count(*) FROM audit_entries WHERE seq > coalesce("
    "(SELECT seq FROM audit_entries WHERE at < :since ORDER BY seq DESC LIMIT 1), 0) "
    "AND actor = :actor AND event IN (SELECT value FROM json_each(:events))"
)
_FIRST_SINCE: Final = text(
    "SELECT coalesce((SELECT seq FROM audit_entries WHERE at < :since ORDER BY seq DESC LIMIT 1), 0) + 1"
)
_MINUTELY: Final = text(
    "SELECT substr(at, 1, 16) AS minute, event, count(*) FROM audit_entries "
    "WHERE seq >= :first AND event IN :names GROUP BY minute, event"
).bindparams(bindparam("names", expanding=True))
_SIZE: Final = text("SELECT coalesce(max(seq), 0) FROM audit_entries")
_CLEARED: Final = text("SELECT body FROM audit_entries WHERE event = 'audit.cleared' ORDER BY seq DESC LIMIT 100")
_SINK_STATE: Final = text(
    "SELECT event FROM audit_entries WHERE event IN ('sink.lost', 'sink.restored') ORDER BY seq DESC LIMIT 1"
)
_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**63 - 1


class LogReader:
    """The entries of one database; `read` yields a connection for reading."""

    def __init__(self, read: Begin) -> None:
        self._read = read

    def entries(self, *, first: int = 1, last: int | None = None) -> Iterator[Entry]:
        """Yield entries in order, both ends included; what is read is not verified (see `verify`)."""
        for raw in self.raw_entries(first=first, last=last):
            try:
                yield Entry.from_raw(raw)
            except (UnicodeDecodeError, AttributeError):
                raise damaged(f"audit entry `{raw.seq}` cannot be read") from None

    def raw_entries(self, *, first: int | None = None, last: int | None = None) -> Iterator[RawEntry]:
        """Yield rows exactly as stored, for verification and export; without bounds, whatever is in the table."""
        begin = _LOWEST if first is None else first
        end = _HIGHEST if last is None else last
        while begin <= end:
            with reported("read"), self._read() as conn:
                found = conn.exec_driver_sql(_PAGE_OF_ROWS, (begin, end, _PAGE)).all()
            for row in found:
                yield RawEntry._make(row[1:])
            if len(found) < _PAGE:
                return
            begin = found[-1][0] + 1

    def named(self, *names: str, first: int = 1) -> Iterator[Entry]:
        """Yield the entries of these events from `first` on, in order; the database passes over all others."""
        while True:
            with reported("read"), self._read() as conn:
                found = conn.execute(_PAGE_OF_NAMED, {"first": first, "names": list(names), "page": _PAGE}).all()
            for place, *columns in found:
                first = place + 1
                yield Entry.from_raw(RawEntry(*columns))
            if len(found) < _PAGE:
                return

    def entry(self, seq: int) -> Entry:
        """Return one entry; AuditError if it is not there.  What is read is not verified."""
        found = next(self.entries(first=seq, last=seq), None) if seq <= _HIGHEST else None
        if found is None:
            hint = f"the entries are numbered 1 to {self.size()}: look for it in the list of the audit log"
            raise AuditError(f"there is no audit entry `{seq}`", code="entry_unknown", hint=hint)
        return found

    def search(self, search: Search, *, before: int | None = None, after: int | None = None, limit: int) -> Found:
        """Return a page of the entries that are looked for (see `search.py`); what is read is not verified."""
        try:
            with reported("read"), self._read() as conn:
                return find(conn, COLUMNS, search, before=before, after=after, limit=limit)
        except (UnicodeDecodeError, AttributeError):
            raise damaged("an audit entry that is looked for cannot be read") from None

    def size(self) -> int:
        """Return the number of the last entry: quick, however long the log."""
        with reported("read"), self._read() as conn:
            return int(conn.execute(_SIZE).scalar_one())

    def latest(self, event: str, *, after: int = 0) -> Entry | None:
        """Return the newest entry of this event with a number above `after`; what is read is not verified.

        It looks at every entry from the end down to it: tell `after` what was looked at before.
        """
        with reported("read"), self._read() as conn:
            row = conn.execute(_LATEST, {"event": event, "after": after}).one_or_none()
        return None if row is None else Entry.from_raw(RawEntry(*row))

    def count_since(self, since: datetime, *, actor_id: str, events: Sequence[str]) -> int:
        """Return how many entries of these events somebody has caused since then."""
        values = {"since": timestamp(since), "actor": actor_id, "events": json.dumps(list(events))}
        with reported("read"), self._read() as conn:
            return int(conn.execute(_COUNT_SINCE, values).scalar_one())

    def first_since(self, since: datetime) -> int:
        """Return the number of the first of the entries since then, looking back from the end: quick, however long."""
        with reported("read"), self._read() as conn:
            return int(conn.execute(_FIRST_SINCE, {"since": timestamp(since)}).scalar_one())

    def minutely(self, since: datetime, *, events: Sequence[str]) -> list[tuple[str, str, int]]:
        """Return how many entries of these events there were since then, by minute (UTC, `2026-01-02T03:04`)."""
        first = self.first_since(since)
        with reported("read"), self._read() as conn:
            rows = conn.execute(_MINUTELY, {"first": first, "names": list(events)}).all()
        return [(str(minute), str(event), int(count)) for minute, event, count in rows]

    def kept_checkpoints(self) -> tuple[Kept, ...]:
        """Return the checkpoints that are kept, the shortest log first; what is read is not verified."""
        with reported("read"), self._read() as connection:
            return all_kept(connection)

    def newest_kept(self) -> Kept | None:
        """Return the longest of them."""
        with reported("read"), self._read() as connection:
            return newest(connection)

    def was_cleared(self, latch_id: str) -> bool:
        """Say whether one of the last hundred latches that were taken off is this one."""
        with reported("read"), self._read() as connection:
            bodies = connection.execute(_CLEARED).scalars().all()
        events = (from_canonical(LatchCleared.name, body) for body in bodies)
        return any(isinstance(event, LatchCleared) and event.latch == latch_id for event in events)

    def sink_state(self) -> str | None:
        """Return the newest event about the second sink, by name: lost or restored."""
        with reported("read"), self._read() as connection:
            state: str | None = connection.execute(_SINK_STATE).scalar_one_or_none()
            return state
