"""The audit log: append, read back, sign.

Rules kept here:

* An entry is appended inside a transaction that holds the write lock, right after the last entry was read: the chain
  has no gap and no fork, whatever number of processes write.
* Any failure to write or to read back is an `AuditError`: whoever wanted to record something must then not do it.
* Appending is O(1).  The Merkle tree is not stored: `head` and `checkpoint` hash what was added since they were last
  asked (the compact tree is kept in memory), so there is no second truth in the database that could be forged.
* Signed checkpoints are kept beside the entries as these grow (`kept.py`): what was signed once must stay true.
* What this process has seen once must stay: a log that is shorter or other than before is reported, never signed, and
  nothing is appended to it.
* With a `Guard`, a failure latches: nothing is appended or confirmed until `clear` has verified the whole log.
* An entry counts only when it is in the second sink, too, if one is required: `committed` is called after each commit.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Final

from sqlalchemy import Connection, RootTransaction, bindparam, text
from sqlalchemy.exc import SQLAlchemyError

from clinic.audit.chain import damaged, extend
from clinic.audit.checkpoint import Checkpoint, NoteSigner
from clinic.audit.database_file import DatabaseFile
from clinic.audit.entry import GENESIS, Entry, RawEntry, entry_hash, timestamp
from clinic.audit.events import (
    AuditEvent,
    ClockRegressed,
    LatchCleared,
    LatchSet,
    SinkLost,
    SinkRestored,
    from_canonical,
    is_id,
)
from clinic.audit.guard import Guard
from clinic.audit.kept import Kept, Rhythm, add, all_kept, newest, sign_on
from clinic.audit.latch import WORDS, Latch, Reason
from clinic.audit.proof import Proof
from clinic.audit.search import Found, Search, find
from clinic.audit.sink import SecondSink, SinkError, SinkReport
from clinic.audit.tables import audit_entries
from clinic.audit.tree import CompactTree, inclusion_proof
from clinic.audit.verify import VerifyReport, verify_log
from clinic.domain import OPERATOR, Actor, Clock, utc_now
from clinic.errors import AuditError, StorageError

__all__ = ["AuditLog", "Begin", "Entry", "Head"]

Begin = Callable[[], AbstractContextManager[Connection]]
Seal = Callable[[int], bytes]
"""Gives the sealed part of an entry whose number it is told."""

_PAGE: Final = 1000
# As BLOBs, because a damaged text that is no UTF-8 any more must reach verification, not stop the driver.
_COLUMNS: Final = "seq, " + ", ".join(
    f"CAST({column} AS BLOB) AS {column}"
    for column in ("at", "actor", "role", "event", "body", "prev_hash", "hash", "sealed")
)
# What every append and confirmation runs goes to the driver as it is: SQLAlchemy's own statements take twice as long.
_NAMES: Final = tuple(audit_entries.columns.keys())
_INSERT: Final = f"INSERT INTO audit_entries ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))})"  # noqa: S608 - constants only
_LAST: Final = f"SELECT {_COLUMNS} FROM audit_entries ORDER BY seq DESC LIMIT 1"  # noqa: S608 - constants only
_ONE: Final = f"SELECT {_COLUMNS} FROM audit_entries WHERE seq = ?"  # noqa: S608 - constants only
# Each page is a transaction of its own: a slow reader blocks nobody.  By rowid, which is `seq` in our table, because
# even in a table that somebody put in its place no row can hide from it: neither a number given twice, nor one below 1.
_PAGE_OF_ROWS: Final = (
    f"SELECT rowid AS place, {_COLUMNS} FROM audit_entries "  # noqa: S608 - constants only
    "WHERE rowid >= ? AND rowid <= ? ORDER BY rowid LIMIT ?"
)
_PAGE_OF_NAMED: Final = text(
    f"SELECT seq AS place, {_COLUMNS} FROM audit_entries "  # noqa: S608 - constants only
    "WHERE seq >= :first AND event IN :names ORDER BY seq LIMIT :page"
).bindparams(bindparam("names", expanding=True))
_LATEST: Final = text(
    f"SELECT {_COLUMNS} FROM audit_entries "  # noqa: S608 - constants only
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
_SIZE: Final = text("SELECT coalesce(max(seq), 0) FROM audit_entries")
_CLEARED: Final = text("SELECT body FROM audit_entries WHERE event = 'audit.cleared' ORDER BY seq DESC LIMIT 100")
_SINK_STATE: Final = text(
    "SELECT event FROM audit_entries WHERE event IN ('sink.lost', 'sink.restored') ORDER BY seq DESC LIMIT 1"
)
_SINK_RETRY_S: Final = 30.0
_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log stands: number of entries, hash of the last one (zeros if none), Merkle root."""

    size: int
    hash: bytes
    root: bytes


class AuditLog:
    """The log in one database.

    Attributes:
        origin: names this log in checkpoints; derived from the key that signs them.
        vkey: the public key, as auditors configure it (C2SP verifier key).

    `begin` yields a connection inside BEGIN IMMEDIATE and commits on exit; `read` (default: `begin`) one for reading.
    With `path`, nothing counts as recorded unless the database file is still the one that lay there at the start.
    With `guard`, a failure latches the data folder.  With `sink`, entries are copied there after each commit.  With
    `rhythm`, checkpoints are kept as the log grows.
    Inside a write transaction call nothing here but `append` with its connection: all else would wait for its end; and
    call `committed` after it.
    """

    def __init__(
        self,
        begin: Begin,
        *,
        pseudonym_key: bytes,
        signing_seed: bytes,
        clock: Clock = utc_now,
        read: Begin | None = None,
        path: Path | None = None,
        guard: Guard | None = None,
        sink: SecondSink | None = None,
        rhythm: Rhythm | None = None,
    ) -> None:
        self._begin = begin
        self._read = read or begin
        self._pseudonym_key = pseudonym_key
        self._clock = clock
        self._file = DatabaseFile(path) if path is not None else None
        self._signer = _signer(signing_seed)
        self.guard = guard
        self.sink = sink
        self._sink_lost_at: float | None = None
        self._rhythm = rhythm or Rhythm(entries=0, minutes=0)
        self._keeping = threading.Lock()
        self._kept_size: int | None = None
        if guard is not None:
            guard.attach(self._was_cleared)
        self._lock = threading.Lock()
        self._committed = (0, GENESIS)
        self._transaction: weakref.ref[RootTransaction] | None = None
        self._seen = CompactTree()
        self._seen_hash = GENESIS

    @property
    def origin(self) -> str:
        """The name of this log in its checkpoints."""
        return self._signer.name

    @property
    def vkey(self) -> str:
        """The public key in C2SP form: `name+keyid+key`."""
        return str(self._signer.key)

    @property
    def public_key(self) -> str:
        """The same as `vkey`."""
        return self.vkey

    def pseudonym(self, patient_id: str) -> str:
        """Return the name under which a patient appears in the log: nobody without the key can go back."""
        return pseudonym_of(self._pseudonym_key, patient_id)

    # --- writing ------------------------------------------------------------------------------------

    def append(
        self, event: AuditEvent, *, actor: Actor, connection: Connection | None = None, seal: Seal | None = None
    ) -> Entry:
        """Add an entry, in the caller's write transaction (`connection`) or in its own, which is then committed.

        In the caller's transaction the entry counts only once that is committed and `committed` has returned, and an
        AuditError must end it.  With `seal` the entry gets a sealed part; what it raises ends the append.
        """
        if not is_id(actor.user_id):
            raise AuditError("the actor's id is not an identifier", code="event_invalid")
        if connection is not None:
            with self._reported("written", Reason.WRITE_FAILED):
                return self._add(connection, event, actor, seal)
        with self._reported("written", Reason.WRITE_FAILED), self._begin() as own:
            entry = self._add(own, event, actor, seal)
        self.committed(entry.seq)
        return entry

    def confirm(self, entry: Entry) -> None:
        """Read an entry back in a new transaction; AuditError unless it is there, exactly, in the file at its path."""
        self._require_open()
        with self._reported("read back", Reason.READ_BACK_FAILED), self._read() as conn:
            self._require_file(conn)
            row = conn.exec_driver_sql(_ONE, (entry.seq,)).one_or_none()
            if row is None or RawEntry(*row) != entry.raw():
                self._latch(Reason.READ_BACK_FAILED)
                raise AuditError(
                    f"audit entry `{entry.seq}` was not found as it was written",
                    hint="nothing that depends on it was done; check the disk and the database file",
                )

    def _add(self, connection: Connection, event: AuditEvent, actor: Actor, seal: Seal | None = None) -> Entry:
        self._require_file(None)
        last, now = self._last(connection), self._clock()
        if self.guard is not None and last is not None:
            regress = self.guard.regress_ms(last.at.decode("ascii", "replace"), now)
            if regress:
                flag = _entry_after(last, ClockRegressed(milliseconds=regress), OPERATOR, now)
                _insert(connection, flag)
                last = flag.raw()
        entry = _entry_after(last, event, actor, now, seal)
        _insert(connection, entry)
        return entry

    def _last(self, connection: Connection) -> RawEntry | None:
        """Return the last entry, which must be whole, and not before one that was seen committed."""
        row = connection.exec_driver_sql(_LAST).one_or_none()
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
            row = connection.exec_driver_sql(_ONE, (size,)).one_or_none()
            gone = row is None or RawEntry(*row).hash != known_hash
        else:
            gone = (seq, found) != (size, known_hash) and size > 0
        if gone:
            self._latch(Reason.SEQUENCE_GAP)
            raise damaged(f"the audit log no longer holds entry `{size}` as it was seen before")
        self._committed = (seq, found)
        self._transaction = weakref.ref(transaction) if isinstance(transaction, RootTransaction) else None

    def _require_open(self) -> None:
        if self.guard is not None:
            self.guard.require_open()

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
        if self.guard is not None:
            self.guard.latch(reason)

    @contextmanager
    def _reported(self, what: str, reason: Reason | None = None) -> Iterator[None]:
        """Turn every fault of the store into the one error that means: not recorded, so do not do it.

        With a guard and a `reason`, it latches, too.
        """
        try:
            yield
        except StorageError as error:
            self._refuse_if_latched(error, reason if reason is Reason.READ_BACK_FAILED else None)
            raise AuditError(f"the audit log cannot be {what}: {error}", hint=error.hint) from error
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            self._refuse_if_latched(error, reason)
            hint = "check that the disk is not full and that the data folder can be written, then try again"
            raise AuditError(f"the audit log cannot be {what}", hint=hint) from error

    def _refuse_if_latched(self, error: Exception, reason: Reason | None) -> None:
        if self.guard is None or reason is None:
            return
        latch = self.guard.note_fault(error, otherwise=reason)
        if latch is not None:
            raise latch.refusal() from error

    # --- latch and second sink ------------------------------------------------------------------------

    def committed(self, seq: int) -> None:
        """Bring the second sink up to entry `seq`, which was just committed, and keep a checkpoint if one is due.

        Raises:
            AuditError: it is required and not up to date, or holds something else: nothing counts as recorded.  Or a
                checkpoint is due, and the log does not lead on from the one that was kept last.
        """
        if self.sink is not None and (self._sink_lost_at is None or monotonic() >= self._sink_lost_at):
            self._copy(self.sink, seq)
        if self._rhythm.entries and seq - (self._kept_size or 0) >= self._rhythm.entries:
            self._keep_after(seq)

    def _copy(self, sink: SecondSink, seq: int) -> None:
        try:
            last = sink.catch_up(self._rows, up_to=seq)
        except SinkError as error:
            self._lose_sink(error)
        else:
            if self._sink_lost_at is not None:
                self._sink_lost_at = None
                self.append(SinkRestored(last=last), actor=OPERATOR)

    @property
    def is_copy_behind(self) -> bool:
        """Whether the second sink failed when this process last wrote to it."""
        return self._sink_lost_at is not None

    def settle_sink(self) -> None:
        """Bring the second sink up to the end of the log, or find that it does not fit: for a start."""
        if self.sink is not None:
            with self._reported("read"), self._read() as connection:
                last = self._last_seq(connection)
            self.committed(last)

    def compare_sink(self) -> SinkReport | None:
        """Compare the second sink, if there is one, with the whole log."""
        return None if self.sink is None else self.sink.verify(self._rows)

    def clear(self, *, actor: Actor, verify: Callable[[], VerifyReport] | None = None) -> VerifyReport:
        """Verify the whole log and, if it is whole, take the latch off: recorded first, with why it was set.

        `verify`: a verification of the whole log against more than the log itself, such as what witnesses saw.

        Raises:
            AuditLatchedError: what latched it lasts (the disk is still full).
            AuditError: the log still cannot be written, or the second sink does not fit; it stays latched.
        """
        latch = self.guard.current() if self.guard is not None else None
        report = (verify or self.verify)()
        if self.guard is None or latch is None or not report.ok:
            return report
        lasting = self.guard.still_wrong()
        if lasting is not None:
            raise lasting.refusal()
        with self.guard.clearing():
            self._record_clearing(latch, report.entries, actor)
        self.guard.lift(latch)
        return report

    def _record_clearing(self, latch: Latch, entries: int, actor: Actor) -> None:
        since = max(0, int(datetime.fromisoformat(latch.at).timestamp() * 1000))
        with self._reported("written", Reason.WRITE_FAILED), self._begin() as connection:
            self._add(connection, LatchSet(latch=latch.id, reason=latch.reason.value, at_ms=since), actor)
            entry = self._add(connection, LatchCleared(latch=latch.id, entries=entries), actor)
        self.committed(entry.seq)
        self.confirm(entry)

    def _last_seq(self, connection: Connection) -> int:
        row = connection.exec_driver_sql(_LAST).one_or_none()
        return 0 if row is None else int(row.seq)

    def _lose_sink(self, error: SinkError) -> None:
        reason = Reason.SINK_DIFFERS if error.differs else Reason.SINK_FAILED
        required = self.sink is not None and self.sink.required
        if required or error.differs:
            if self.guard is not None:
                raise self.guard.latch(reason).refusal() from error
            raise AuditError(str(error), hint=WORDS[reason][1]) from error
        first = self._sink_lost_at is None
        self._sink_lost_at = monotonic() + _SINK_RETRY_S
        if first and self._sink_state() != SinkLost.name:
            self.append(SinkLost(reason=reason.value), actor=OPERATOR)

    def _sink_state(self) -> str | None:
        with self._reported("read"), self._read() as connection:
            state: str | None = connection.execute(_SINK_STATE).scalar_one_or_none()
            return state

    def _was_cleared(self, latch_id: str) -> bool:
        with self._reported("read"), self._read() as connection:
            bodies = connection.execute(_CLEARED).scalars().all()
        events = (from_canonical(LatchCleared.name, body) for body in bodies)
        return any(isinstance(event, LatchCleared) and event.latch == latch_id for event in events)

    def _rows(self, first: int) -> Iterator[RawEntry]:
        return self.raw_entries(first=first)

    # --- kept checkpoints -----------------------------------------------------------------------------

    def keep_checkpoint(self) -> int | None:
        """Sign the log as it stands and keep that; return over how many entries, or None if that is kept already.

        Raises:
            AuditError: `audit_damaged`: the log does not lead on from the checkpoint that was kept last; with a guard,
                that latches.  Or it cannot be read or written.
        """
        last = self._newest_kept()
        size = last.size if last is not None else 0
        if self.size() <= size:
            return None
        try:
            kept = sign_on(last, self.raw_entries(first=max(size, 1)), self._signer)
        except AuditError as error:
            if error.code != "audit_unavailable":
                self._latch(Reason.DAMAGED)
            raise
        with self._reported("written", Reason.WRITE_FAILED), self._begin() as connection:
            added = add(connection, kept)
        self._kept_size = kept.size
        return kept.size if added else None

    def keep_due_checkpoint(self) -> int | None:
        """Do so if an entry without a kept checkpoint is too old, or there are too many of them."""
        last = self._newest_kept()
        covered = self._kept_size = last.size if last is not None else 0
        if self._rhythm.entries and self.size() - covered >= self._rhythm.entries:
            return self.keep_checkpoint()
        oldest = next(self.entries(first=covered + 1, last=covered + 1), None)
        if oldest is None or not self._rhythm.minutes:
            return None
        age = self._clock() - datetime.fromisoformat(oldest.at)
        return self.keep_checkpoint() if age >= timedelta(minutes=self._rhythm.minutes) else None

    def kept_checkpoints(self) -> tuple[Kept, ...]:
        """Return the checkpoints that are kept, the shortest log first; what is read is not verified."""
        with self._reported("read"), self._read() as connection:
            return all_kept(connection)

    def _newest_kept(self) -> Kept | None:
        with self._reported("read"), self._read() as connection:
            return newest(connection)

    def _keep_after(self, seq: int) -> None:
        """Keep a checkpoint after entry `seq`, unless another thread or process does; held up, the next one does."""
        if not self._keeping.acquire(blocking=False):
            return
        try:
            last = self._newest_kept()
            self._kept_size = last.size if last is not None else 0
            if seq - self._kept_size >= self._rhythm.entries:
                self.keep_checkpoint()
        except AuditError as error:
            if error.code != "audit_unavailable":
                raise
        finally:
            self._keeping.release()

    # --- reading ------------------------------------------------------------------------------------

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
            with self._reported("read"), self._read() as conn:
                found = conn.exec_driver_sql(_PAGE_OF_ROWS, (begin, end, _PAGE)).all()
            for row in found:
                yield RawEntry._make(row[1:])
            if len(found) < _PAGE:
                return
            begin = found[-1][0] + 1

    def named(self, *names: str, first: int = 1) -> Iterator[Entry]:
        """Yield the entries of these events from `first` on, in order; the database passes over all others."""
        while True:
            with self._reported("read"), self._read() as conn:
                found = conn.execute(_PAGE_OF_NAMED, {"first": first, "names": list(names), "page": _PAGE}).all()
            for place, *columns in found:
                first = place + 1
                yield Entry.from_raw(RawEntry(*columns))
            if len(found) < _PAGE:
                return

    def entry(self, seq: int) -> Entry:
        """Return one entry; AuditError if it is not there.  What is read is not verified."""
        found = next(self.entries(first=seq, last=seq), None)
        if found is None:
            raise AuditError(f"there is no audit entry `{seq}`", code="entry_unknown")
        return found

    def search(self, search: Search, *, before: int | None = None, after: int | None = None, limit: int) -> Found:
        """Return a page of the entries that are looked for (see `search.py`); what is read is not verified."""
        try:
            with self._reported("read"), self._read() as conn:
                return find(conn, _COLUMNS, search, before=before, after=after, limit=limit)
        except (UnicodeDecodeError, AttributeError):
            raise damaged("an audit entry that is looked for cannot be read") from None

    def size(self) -> int:
        """Return the number of the last entry: quick, however long the log."""
        with self._reported("read"), self._read() as conn:
            return int(conn.execute(_SIZE).scalar_one())

    def latest(self, event: str, *, after: int = 0) -> Entry | None:
        """Return the newest entry of this event with a number above `after`; what is read is not verified.

        It looks at every entry from the end down to it: tell `after` what was looked at before.
        """
        with self._reported("read"), self._read() as conn:
            row = conn.execute(_LATEST, {"event": event, "after": after}).one_or_none()
        return None if row is None else Entry.from_raw(RawEntry(*row))

    def count_since(self, since: datetime, *, actor_id: str, events: Sequence[str]) -> int:
        """Return how many entries of these events somebody has caused since then."""
        values = {"since": timestamp(since), "actor": actor_id, "events": json.dumps(list(events))}
        with self._reported("read"), self._read() as conn:
            return int(conn.execute(_COUNT_SINCE, values).scalar_one())

    def first_since(self, since: datetime) -> int:
        """Return the number of the first of the entries since then, looking back from the end: quick, however long."""
        with self._reported("read"), self._read() as conn:
            return int(conn.execute(_FIRST_SINCE, {"since": timestamp(since)}).scalar_one())

    def verify(self, *, checkpoint: str | None = None) -> VerifyReport:
        """Verify all entries against every kept checkpoint and, if given, one from elsewhere."""
        checkpoints = (checkpoint,) if checkpoint is not None else ()
        kept = self.kept_checkpoints()
        return verify_log(self.raw_entries(), vkey=self.vkey, checkpoints=checkpoints, kept=kept)

    # --- signing ------------------------------------------------------------------------------------

    def head(self) -> Head:
        """Return where the committed log stands now."""
        tree, last_hash = self._refresh()
        return Head(size=tree.size, hash=last_hash, root=tree.root())

    def tree(self, size: int) -> CompactTree:
        """Return the Merkle tree over the first `size` entries."""
        tree, _ = self._refresh()
        if tree.size == size:
            return tree
        return extend(CompactTree(), GENESIS, self.raw_entries(last=size), size)[0]

    def checkpoint(self, *, size: int | None = None) -> str:
        """Return a signed note over the log as it is, or was at an earlier size: hand it out, print it, keep it."""
        tree = self._refresh()[0] if size is None else self.tree(size)
        return self._signer.sign(Checkpoint(origin=self.origin, size=tree.size, root=tree.root()).text())

    def prove(self, seq: int) -> str:
        """Return a C2SP `tlog-proof` that entry `seq` is in the log, for somebody who is not to see the others."""
        leaves = [raw.hash for raw in self.raw_entries()]
        if not 1 <= seq <= len(leaves):
            raise AuditError(f"there is no audit entry `{seq}`", code="entry_unknown", hint=f"1 to {len(leaves)}")
        path = inclusion_proof(leaves, seq - 1)
        return Proof(index=seq - 1, path=path, checkpoint=self.checkpoint(size=len(leaves))).text()

    def _refresh(self) -> tuple[CompactTree, bytes]:
        """Hash what was added since the last time; the lock keeps two threads from adding it twice."""
        with self._lock:
            seen, seen_hash = self._seen, self._seen_hash
            rows = self.raw_entries(first=seen.size or None)
            if seen.size:
                known = next(rows, None)
                if known is None or known.seq != seen.size or known.hash != seen_hash:
                    raise damaged(f"the audit log no longer holds entry `{seen.size}` as it was seen before")
            self._seen, self._seen_hash = extend(seen.copy(), seen_hash, rows, None)
            return self._seen.copy(), self._seen_hash


def pseudonym_of(key: bytes, patient_id: str) -> str:
    """Return the name under which a patient appears in the log with this pseudonym key."""
    message = b"clinic-audit-pseudonym-v1\0" + patient_id.encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:32]


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


def _signer(seed: bytes) -> NoteSigner:
    """Name the log after its key: unique without asking anybody, and it says nothing about the clinic."""
    prefix = "clinic.local/audit"
    fingerprint = hashlib.sha256(NoteSigner(name=prefix, seed=seed).key.public).hexdigest()
    return NoteSigner(name=f"{prefix}/{fingerprint[:16]}", seed=seed)
