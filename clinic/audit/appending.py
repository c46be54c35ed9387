"""Adding an entry behind the last one, inside a transaction that holds the write lock.

Rules kept here:

* The last entry was read in the same transaction: the chain has no gap and no fork, whatever number of processes write.
* The last entry must be whole, and what this process has seen committed must still be there, as it was.
* The database file must be the one that lay at its path at the start.
* An entry counts only once it was read back as it was written.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, RootTransaction

from clinic.audit.chain import damaged
from clinic.audit.database_file import DatabaseFile
from clinic.audit.entry import GENESIS, Entry, RawEntry, entry_hash, timestamp
from clinic.audit.events import AuditEvent, ClockRegressed
from clinic.audit.guard import Guard
from clinic.audit.latch import Reason
from clinic.audit.reading import LAST, ONE
from clinic.audit.tables import audit_entries
from clinic.domain import OPERATOR, Actor, Clock
from clinic.errors import AuditError

Seal = Callable[[int], bytes]
"""Gives the sealed part of an entry whose number it is told."""

_NAMES: Final = tuple(audit_entries.columns.keys())
_INSERT: Final = f"INSERT INTO audit_entries ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))})"  # noqa: S608 - constants only


class Appender:
    """What one process remembers of the log between two appends.

    With `guard`, a failure latches the data folder; with `file`, that must stay the file.
    """

    def __init__(self, clock: Clock, *, file: DatabaseFile | None, guard: Guard | None) -> None:
        self._clock = clock
        self._file = file
        self._guard = guard
        self._committed = (0, GENESIS)
        self._transaction: weakref.ref[RootTransaction] | None = None

    def add(self, connection: Connection, event: AuditEvent, actor: Actor, seal: Seal | None = None) -> Entry:
        """Add an entry behind the last one, in a write transaction; what it raises must end that."""
        self._require_file(None)
        last, now = self._last(connection), self._clock()
        if self._guard is not None and last is not None:
            regress = self._guard.regress_ms(last.at.decode("ascii", "replace"), now)
            if regress:
                flag = _entry_after(last, ClockRegressed(milliseconds=regress), OPERATOR, now)
                _insert(connection, flag)
                last = flag.raw()
        entry = _entry_after(last, event, actor, now, seal)
        _insert(connection, entry)
        return entry

    def _last(self, connection: Connection) -> RawEntry | None:
        """Return the last entry, which must be whole, and not before one that was seen committed."""
        row = connection.exec_driver_sql(LAST).one_or_none()
        last = RawEntry(*row) if row is not None else None
        if last is not None and entry_hash(last) != last.hash:
            self._latch(Reason.DAMAGED)
            raise damaged(f"the last audit entry (`{last.seq}`) was changed after it was written")
        self._require_no_gap(connection, last)
        return last

    def _require_no_gap(self, connection: Connection, last: RawEntry | None) -> None:
        """Compare with what was committed when this process last looked: entries never go, and never change."""
        transaction = connection.get_transaction()
        if self._transaction is not None and self._transaction() is transaction:
            return  # what stands there now is not committed yet
        size, known_hash = self._committed
        seq, found = (last.seq, last.hash) if last is not None else (0, GENESIS)
        if seq > size > 0:
            row = connection.exec_driver_sql(ONE, (size,)).one_or_none()
            gone = row is None or RawEntry(*row).hash != known_hash
        else:
            gone = (seq, found) != (size, known_hash) and size > 0
        if gone:
            self._latch(Reason.SEQUENCE_GAP)
            raise damaged(f"the audit log no longer holds entry `{size}` as it was seen before")
        self._committed = (seq, found)
        self._transaction = weakref.ref(transaction) if isinstance(transaction, RootTransaction) else None

    def confirm(self, connection: Connection, entry: Entry) -> None:
        """Refuse unless the entry is there, exactly, in the file at its path."""
        self._require_file(connection)
        row = connection.exec_driver_sql(ONE, (entry.seq,)).one_or_none()
        if row is None or RawEntry(*row) != entry.raw():
            self._latch(Reason.READ_BACK_FAILED)
            raise AuditError(
                f"audit entry `{entry.seq}` was not found as it was written",
                hint="nothing that depends on it was done; check the disk and the database file",
            )

    def _require_file(self, connection: Connection | None) -> None:
        if self._file is None:
            return
        try:
            if connection is None:
                self._file.check()
            else:
                self._file.check_during(connection)
        except AuditError:
            self._latch(Reason.FILE_REPLACED)
            raise

    def _latch(self, reason: Reason) -> None:
        if self._guard is not None:
            self._guard.latch(reason)


def _entry_after(
    last: RawEntry | None, event: AuditEvent, actor: Actor, at: datetime, seal: Seal | None = None
) -> Entry:
    seq = last.seq + 1 if last else 1
    entry = Entry(
        seq=seq,
        at=timestamp(at),
        actor=actor.user_id,
        role=actor.role.value,
        event=event.name,
        body=event.to_canonical(),
        prev_hash=last.hash if last else GENESIS,
        hash=b"",
        sealed=None if seal is None else seal(seq),
    )
    return Entry.from_raw(entry.raw()._replace(hash=entry_hash(entry.raw())))


def _insert(connection: Connection, entry: Entry) -> None:
    connection.exec_driver_sql(_INSERT, tuple(getattr(entry, name) for name in _NAMES))
