"""The audit log: append, read back, sign.

Rules kept here:

* An entry is appended inside a transaction that holds the write lock, right after the last entry was read
  (`appending.py`): the chain has no gap and no fork, whatever number of processes write.
* Any failure to write or to read back is an `AuditError`: whoever wanted to record something must then not do it.
* Appending is O(1).  What is signed and proved (`signing.py`) is hashed from the entries, never from a stored tree.
* Signed checkpoints are kept beside the entries as these grow (`keeping.py`): what was signed once must stay true.
* What this process has seen once must stay: a log that is shorter or other than before is reported, never signed, and
  nothing is appended to it.
* With a `Guard`, a failure latches: nothing is appended or confirmed until `clear` has verified the whole log.
* An entry counts only when it is in the second sink (`copying.py`), too, if one is required: `committed` is called
  after each commit.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from clinic.audit.appending import Appender, Seal
from clinic.audit.copying import Copier
from clinic.audit.database_file import DatabaseFile
from clinic.audit.entry import Entry
from clinic.audit.events import AuditEvent, LatchCleared, LatchSet, is_id
from clinic.audit.faults import reported
from clinic.audit.guard import Guard
from clinic.audit.keeping import Keeper
from clinic.audit.kept import Rhythm
from clinic.audit.latch import Latch, Reason
from clinic.audit.links import Link
from clinic.audit.reading import Begin, LogReader
from clinic.audit.signing import Head, SignedTree, signer_of
from clinic.audit.sink import SecondSink, SinkReport
from clinic.audit.tree import CompactTree
from clinic.audit.verify import VerifyReport, verify_log
from clinic.domain import OPERATOR, Actor, Clock, utc_now
from clinic.errors import AuditError

__all__ = ["AuditLog", "Begin", "Entry", "Head", "Seal"]


class AuditLog(LogReader):
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
        super().__init__(read or begin)
        self._begin = begin
        self._pseudonym_key = pseudonym_key
        self._signer = signer_of(signing_seed)
        self.guard = guard
        self.sink = sink
        self._appender = Appender(clock, file=DatabaseFile(path) if path is not None else None, guard=guard)
        # A reader of their own, so that nothing here holds on to itself: with the last use the key is gone.
        reader, rhythm = LogReader(read or begin), rhythm or Rhythm(entries=0, minutes=0)
        self._signed = SignedTree(reader, self._signer)
        self._keeper = Keeper(reader, begin, self._signer, clock=clock, rhythm=rhythm, guard=guard)
        self._copier = Copier(reader, sink, guard=guard) if sink is not None else None
        if guard is not None:
            guard.attach(self.was_cleared)

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
            with reported("written", self.guard, Reason.WRITE_FAILED):
                return self._appender.add(connection, event, actor, seal)
        with reported("written", self.guard, Reason.WRITE_FAILED), self._begin() as own:
            entry = self._appender.add(own, event, actor, seal)
        self.committed(entry.seq)
        return entry

    def confirm(self, entry: Entry) -> None:
        """Read an entry back in a new transaction; AuditError unless it is there, exactly, in the file at its path."""
        if self.guard is not None:
            self.guard.require_open()
        with reported("read back", self.guard, Reason.READ_BACK_FAILED), self._read() as connection:
            self._appender.confirm(connection, entry)

    def committed(self, seq: int) -> None:
        """Bring the second sink up to entry `seq`, which was just committed, and keep a checkpoint if one is due.

        Raises:
            AuditError: it is required and not up to date, or holds something else: nothing counts as recorded.  Or a
                checkpoint is due, and the log does not lead on from the one that was kept last.
        """
        happened = self._copier.copy(seq) if self._copier is not None else None
        if happened is not None:
            self.append(happened, actor=OPERATOR)
        self._keeper.keep_after(seq)

    # --- latch, second sink, kept checkpoints ---------------------------------------------------------

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
        was_set = LatchSet(latch=latch.id, reason=latch.reason.value, at_ms=since)
        with reported("written", self.guard, Reason.WRITE_FAILED), self._begin() as connection:
            self._appender.add(connection, was_set, actor)
            entry = self._appender.add(connection, LatchCleared(latch=latch.id, entries=entries), actor)
        self.committed(entry.seq)
        self.confirm(entry)

    @property
    def is_copy_behind(self) -> bool:
        """Whether the second sink failed when this process last wrote to it."""
        return self._copier is not None and self._copier.is_behind

    def settle_sink(self) -> None:
        """Bring the second sink up to the end of the log, or find that it does not fit: for a start."""
        if self._copier is not None:
            self.committed(self.size())

    def compare_sink(self) -> SinkReport | None:
        """Compare the second sink, if there is one, with the whole log."""
        return None if self._copier is None else self._copier.compare()

    def keep_checkpoint(self) -> int | None:
        """Sign the log as it stands and keep that; return over how many entries, or None if that is kept already.

        Raises:
            AuditError: `audit_damaged`: the log does not lead on from the checkpoint that was kept last; with a guard,
                that latches.  Or it cannot be read or written.
        """
        return self._keeper.keep()

    def keep_due_checkpoint(self) -> int | None:
        """Do so if an entry without a kept checkpoint is too old, or there are too many of them."""
        return self._keeper.keep_if_due()

    # --- verifying, signing ---------------------------------------------------------------------------

    def verify(self, *, checkpoint: str | None = None) -> VerifyReport:
        """Verify all entries against every kept checkpoint and, if given, one from elsewhere."""
        checkpoints = (checkpoint,) if checkpoint is not None else ()
        kept = self.kept_checkpoints()
        return verify_log(self.raw_entries(), vkey=self.vkey, checkpoints=checkpoints, kept=kept)

    def head(self) -> Head:
        """Return where the committed log stands now."""
        return self._signed.head()

    def tree(self, size: int) -> CompactTree:
        """Return the Merkle tree over the first `size` entries."""
        return self._signed.tree(size)

    def checkpoint(self, *, size: int | None = None) -> str:
        """Return a signed note over the log as it is, or was at an earlier size: hand it out, print it, keep it."""
        return self._signed.checkpoint(size)

    def links(self, sizes: Iterable[int]) -> Iterator[Link]:
        """Yield, for each of these ascending sizes, the checkpoint over it and the path to it from the one before.

        The log is gone over once, whatever number of sizes.

        Raises:
            AuditError: `audit_damaged`; `entry_unknown` where the log is not so long.
        """
        return self._signed.links(sizes)

    def prove(self, seq: int) -> str:
        """Return a C2SP `tlog-proof` that entry `seq` is in the log, for somebody who is not to see the others."""
        return self._signed.prove(seq)


def pseudonym_of(key: bytes, patient_id: str) -> str:
    """Return the name under which a patient appears in the log with this pseudonym key."""
    message = b"clinic-audit-pseudonym-v1\0" + patient_id.encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:32]
