"""Keeping the second sink (`sink.py`) up to the log, and what follows where it is not.

Rules kept here:

* Required: an entry that is not in it counts as not recorded, and with a guard that latches.
* Optional: that it was lost, and that it is complete again, is recorded; it is tried again after a while.
* One that holds something else than the log is never passed over, optional or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Final

from clinic.audit.entry import RawEntry
from clinic.audit.events import SinkLost, SinkRestored
from clinic.audit.guard import Guard
from clinic.audit.latch import WORDS, Reason
from clinic.audit.reading import LogReader
from clinic.audit.sink import SecondSink, SinkError, SinkReport
from clinic.errors import AuditError

_RETRY_S: Final = 30.0


class Copier:
    """Copies what `reader` reads into the sink."""

    def __init__(self, reader: LogReader, sink: SecondSink, *, guard: Guard | None) -> None:
        self._reader = reader
        self._sink = sink
        self._guard = guard
        self._lost_at: float | None = None

    @property
    def is_behind(self) -> bool:
        """Whether the sink failed when this process last wrote to it."""
        return self._lost_at is not None

    def copy(self, seq: int) -> SinkLost | SinkRestored | None:
        """Bring the sink up to entry `seq`, unless it failed a moment ago; return what is to be recorded, if anything.

        Raises:
            AuditError: it is required and not up to date, or holds something else.
        """
        if self._lost_at is not None and monotonic() < self._lost_at:
            return None
        try:
            last = self._sink.catch_up(self._rows, up_to=seq)
        except SinkError as error:
            return self._lose(error)
        if self._lost_at is None:
            return None
        self._lost_at = None
        return SinkRestored(last=last)

    def compare(self) -> SinkReport:
        """Compare the sink with the whole log."""
        return self._sink.verify(self._rows)

    def _lose(self, error: SinkError) -> SinkLost | None:
        reason = Reason.SINK_DIFFERS if error.differs else Reason.SINK_FAILED
        if self._sink.required or error.differs:
            if self._guard is not None:
                raise self._guard.latch(reason).refusal() from error
            raise AuditError(str(error), hint=WORDS[reason][1]) from error
        first = self._lost_at is None
        self._lost_at = monotonic() + _RETRY_S
        is_known = not first or self._reader.sink_state() == SinkLost.name
        return None if is_known else SinkLost(reason=reason.value)

    def _rows(self, first: int) -> Iterator[RawEntry]:
        return self._reader.raw_entries(first=first)
