"""When the log keeps a checkpoint of itself: after so many entries, before one is too old, and when it is told to.

Rules kept here:

* Where the log does not lead on from the checkpoint that was kept last, nothing is kept; with a guard, that latches.
* An append never waits for another one that is keeping: the next one does it.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from clinic.audit.checkpoint import NoteSigner
from clinic.audit.faults import reported
from clinic.audit.guard import Guard
from clinic.audit.kept import Rhythm, add, sign_on
from clinic.audit.latch import Reason
from clinic.audit.reading import Begin, LogReader
from clinic.domain import Clock
from clinic.errors import AuditError


class Keeper:
    """Keeps checkpoints of what `reader` reads, by `begin`, signed by `signer`, in this rhythm."""

    def __init__(
        self,
        reader: LogReader,
        begin: Begin,
        signer: NoteSigner,
        *,
        clock: Clock,
        rhythm: Rhythm,
        guard: Guard | None,
    ) -> None:
        self._reader = reader
        self._begin = begin
        self._signer = signer
        self._clock = clock
        self._rhythm = rhythm
        self._guard = guard
        self._keeping = threading.Lock()
        self._kept_size: int | None = None

    def keep(self) -> int | None:
        """Sign the log as it stands and keep that; return over how many entries, or None if that is kept already.

        Raises:
            AuditError: `audit_damaged`: the log does not lead on from the checkpoint that was kept last; with a guard,
                that latches.  Or it cannot be read or written.
        """
        last = self._reader.newest_kept()
        size = last.size if last is not None else 0
        if self._reader.size() <= size:
            return None
        try:
            kept = sign_on(last, self._reader.raw_entries(first=max(size, 1)), self._signer)
        except AuditError as error:
            if error.code != "audit_unavailable" and self._guard is not None:
                self._guard.latch(Reason.DAMAGED)
            raise
        with reported("written", self._guard, Reason.WRITE_FAILED), self._begin() as connection:
            added = add(connection, kept)
        self._kept_size = kept.size
        return kept.size if added else None

    def keep_if_due(self) -> int | None:
        """Do so if an entry without a kept checkpoint is too old, or there are too many of them."""
        last = self._reader.newest_kept()
        covered = self._kept_size = last.size if last is not None else 0
        if self._rhythm.entries and self._reader.size() - covered >= self._rhythm.entries:
            return self.keep()
        oldest = next(self._reader.entries(first=covered + 1, last=covered + 1), None)
        if oldest is None or not self._rhythm.minutes:
            return None
        age = self._clock() - datetime.fromisoformat(oldest.at)
        return self.keep() if age >= timedelta(minutes=self._rhythm.minutes) else None

    def keep_after(self, seq: int) -> None:
        """Do so if there are too many with entry `seq`, unless another thread or process does.

        Held up, it is left to the next one.

        Raises:
            AuditError: `audit_damaged`, as `keep`.
        """
        if not self._rhythm.entries or seq - (self._kept_size or 0) < self._rhythm.entries:
            return
        if not self._keeping.acquire(blocking=False):
            return
        try:
            last = self._reader.newest_kept()
            self._kept_size = last.size if last is not None else 0
            if seq - self._kept_size >= self._rhythm.entries:
                self.keep()
        except AuditError as error:
            if error.code != "audit_unavailable":
                raise
        finally:
            self._keeping.release()
