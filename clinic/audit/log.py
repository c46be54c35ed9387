"""The audit log: append, read back, sign.

Rules kept here:

* An entry is appended inside a transaction that holds the write lock, right after the last entry was read: the chain
  has no gap and no fork, whatever number of processes write.
* Any failure to write or to read back is an `AuditError`: whoever wanted to record something must then not do it.
* Appending is O(1).  The Merkle tree is not stored: `head` and `checkpoint` hash what was added since they were last
  asked (the compact tree is kept in memory), so there is no second truth in the database that could be forged.
* What this process has seen once must stay: a log that is shorter or other than before is reported, never signed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import SQLAlchemyError

from clinic.audit.checkpoint import Checkpoint, NoteSigner
from clinic.audit.database_file import DatabaseFile
from clinic.audit.entry import GENESIS, Entry, RawEntry, entry_hash, timestamp
from clinic.audit.events import AuditEvent, is_id
from clinic.audit.proof import Proof
from clinic.audit.tables import audit_entries
from clinic.audit.tree import CompactTree, inclusion_proof
from clinic.audit.verify import VerifyReport, verify_log
from clinic.domain import Actor, Clock, utc_now
from clinic.errors import AuditError, StorageError

__all__ = ["AuditLog", "Begin", "Entry", "Head"]

Begin = Callable[[], AbstractContextManager[Connection]]

_PAGE: Final = 1000
# As BLOBs, because a damaged text that is no UTF-8 any more must reach verification, not stop the driver.
_COLUMNS: Final = "seq, " + ", ".join(
    f"CAST({column} AS BLOB) AS {column}" for column in ("at", "actor", "role", "event", "body", "prev_hash", "hash")
)
_LAST: Final = text(f"SELECT {_COLUMNS} FROM audit_entries ORDER BY seq DESC LIMIT 1")  # noqa: S608 - constants only
_ONE: Final = text(f"SELECT {_COLUMNS} FROM audit_entries WHERE seq = :seq")  # noqa: S608 - constants only
# Each page is a transaction of its own: a slow reader blocks nobody.  By rowid, which is `seq` in our table, because
# even in a table that somebody put in its place no row can hide from it: neither a number given twice, nor one below 1.
_PAGE_OF_ROWS: Final = text(
    f"SELECT rowid AS place, {_COLUMNS} FROM audit_entries "  # noqa: S608 - constants only
    "WHERE rowid >= :first AND rowid <= :last ORDER BY rowid LIMIT :page"
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
_SIZE: Final = text("SELECT coalesce(max(seq), 0) FROM audit_entries")
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
    Inside a write transaction call nothing here but `append` with its connection: all else would wait for its end.
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
    ) -> None:
        self._begin = begin
        self._read = read or begin
        self._pseudonym_key = pseudonym_key
        self._clock = clock
        self._file = DatabaseFile(path) if path is not None else None
        self._signer = _signer(signing_seed)
        self._lock = threading.Lock()
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

    def append(self, event: AuditEvent, *, actor: Actor, connection: Connection | None = None) -> Entry:
        """Add an entry, in the caller's write transaction (`connection`) or in its own, which is then committed.

        In the caller's transaction the entry counts only once that is committed, and an AuditError must end it.
        """
        if not is_id(actor.user_id):
            raise AuditError("the actor's id is not an identifier", code="event_invalid")
        with _reported("written"), nullcontext(connection) if connection is not None else self._begin() as conn:
            if self._file is not None:
                self._file.check()
            entry = self._next_entry(conn, event, actor)
            values = {column: getattr(entry, column) for column in audit_entries.columns.keys()}  # noqa: SIM118
            conn.execute(audit_entries.insert(), values)
        return entry

    def confirm(self, entry: Entry) -> None:
        """Read an entry back in a new transaction; AuditError unless it is there, exactly, in the file at its path."""
        with _reported("read back"), self._read() as conn:
            if self._file is not None:
                self._file.check_during(conn)
            row = conn.execute(_ONE, {"seq": entry.seq}).one_or_none()
            if row is None or RawEntry(*row) != entry.raw():
                raise AuditError(
                    f"audit entry `{entry.seq}` was not found as it was written",
                    hint="nothing that depends on it was done; check the disk and the database file",
                )

    def _next_entry(self, connection: Connection, event: AuditEvent, actor: Actor) -> Entry:
        row = connection.execute(_LAST).one_or_none()
        last = RawEntry(*row) if row is not None else None
        if last is not None and entry_hash(last) != last.hash:
            raise _damaged(f"the last audit entry (`{last.seq}`) was changed after it was written")
        entry = Entry(
            seq=last.seq + 1 if last else 1,
            at=timestamp(self._clock()),
            actor=actor.user_id,
            role=actor.role.value,
            event=event.name,
            body=event.to_canonical(),
            prev_hash=last.hash if last else GENESIS,
            hash=b"",
        )
        return Entry.from_raw(entry.raw()._replace(hash=entry_hash(entry.raw())))

    # --- reading ------------------------------------------------------------------------------------

    def entries(self, *, first: int = 1, last: int | None = None) -> Iterator[Entry]:
        """Yield entries in order, both ends included; what is read is not verified (see `verify`)."""
        for raw in self.raw_entries(first=first, last=last):
            try:
                yield Entry.from_raw(raw)
            except (UnicodeDecodeError, AttributeError):
                raise _damaged(f"audit entry `{raw.seq}` cannot be read") from None

    def raw_entries(self, *, first: int | None = None, last: int | None = None) -> Iterator[RawEntry]:
        """Yield rows exactly as stored, for verification and export; without bounds, whatever is in the table."""
        begin = _LOWEST if first is None else first
        end = _HIGHEST if last is None else last
        while begin <= end:
            with _reported("read"), self._read() as conn:
                found = conn.execute(_PAGE_OF_ROWS, {"first": begin, "last": end, "page": _PAGE}).all()
            for place, *columns in found:
                begin = place + 1
                yield RawEntry(*columns)
            if len(found) < _PAGE:
                return

    def named(self, *names: str, first: int = 1) -> Iterator[Entry]:
        """Yield the entries of these events from `first` on, in order; the database passes over all others."""
        while True:
            with _reported("read"), self._read() as conn:
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

    def size(self) -> int:
        """Return the number of the last entry: quick, however long the log."""
        with _reported("read"), self._read() as conn:
            return int(conn.execute(_SIZE).scalar_one())

    def latest(self, event: str, *, after: int = 0) -> Entry | None:
        """Return the newest entry of this event with a number above `after`; what is read is not verified.

        It looks at every entry from the end down to it: tell `after` what was looked at before.
        """
        with _reported("read"), self._read() as conn:
            row = conn.execute(_LATEST, {"event": event, "after": after}).one_or_none()
        return None if row is None else Entry.from_raw(RawEntry(*row))

    def count_since(self, since: datetime, *, actor_id: str, events: Sequence[str]) -> int:
        """Return how many entries of these events somebody has caused since then."""
        values = {"since": timestamp(since), "actor": actor_id, "events": json.dumps(list(events))}
        with _reported("read"), self._read() as conn:
            return int(conn.execute(_COUNT_SINCE, values).scalar_one())

    def verify(self, *, checkpoint: str | None = None) -> VerifyReport:
        """Verify all entries and, with a checkpoint, that this is still the log that it was signed over."""
        checkpoints = (checkpoint,) if checkpoint is not None else ()
        return verify_log(self.raw_entries(), vkey=self.vkey, checkpoints=checkpoints)

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
        return _extend(CompactTree(), GENESIS, self.raw_entries(last=size), size)[0]

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
                    raise _damaged(f"the audit log no longer holds entry `{seen.size}` as it was seen before")
            self._seen, self._seen_hash = _extend(seen.copy(), seen_hash, rows, None)
            return self._seen.copy(), self._seen_hash


def pseudonym_of(key: bytes, patient_id: str) -> str:
    """Return the name under which a patient appears in the log with this pseudonym key."""
    message = b"clinic-audit-pseudonym-v1\0" + patient_id.encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:32]


def _extend(
    tree: CompactTree, last_hash: bytes, rows: Iterator[RawEntry], size: int | None
) -> tuple[CompactTree, bytes]:
    for row in rows:
        if row.seq != tree.size + 1 or row.prev_hash != last_hash or entry_hash(row) != row.hash:
            raise _damaged(f"the audit log is not whole at entry `{tree.size + 1}`")
        tree.append(row.hash)
        last_hash = row.hash
    if size is not None and tree.size != size:
        raise AuditError(f"the audit log has no {size} entries", code="entry_unknown", hint=f"it has {tree.size}")
    return tree, last_hash


def _signer(seed: bytes) -> NoteSigner:
    """Name the log after its key: unique without asking anybody, and it says nothing about the clinic."""
    prefix = "clinic.local/audit"
    fingerprint = hashlib.sha256(NoteSigner(name=prefix, seed=seed).key.public).hexdigest()
    return NoteSigner(name=f"{prefix}/{fingerprint[:16]}", seed=seed)


def _damaged(message: str) -> AuditError:
    return AuditError(
        message, code="audit_damaged", hint="stop and run `clinic audit verify` with your last checkpoint"
    )


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Turn every fault of the store into the one error that means: not recorded, so do not do it."""
    try:
        yield
    except StorageError as error:
        raise AuditError(f"the audit log cannot be {what}: {error}", hint=error.hint) from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        hint = "check that the disk is not full and that the data folder can be written, then try again"
        raise AuditError(f"the audit log cannot be {what}", hint=hint) from error
