"""From when to when: a range of entries named by numbers or by days.

Rules kept here:

* Days are UTC, as the log's times are, and both ends are included.
* Order is by number, never by time: a range of days goes from the first entry that lies in it to the last, so nothing
  of these days is missing, even where the clock once went back.
* What cannot be read, or holds nothing, is an error, never an empty or a whole export.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

from clinic.audit.entry import RawEntry
from clinic.errors import InputError

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a range: the number of an entry, or a day."""

    seq: int | None = None
    day: str | None = None

    @classmethod
    def parse(cls, text: str) -> Bound:
        """Read `812` or `2026-11-26`.

        Raises:
            InputError: `range_invalid`.
        """
        if _NUMBER.fullmatch(text):
            return cls(seq=int(text))
        try:
            if _DAY.fullmatch(text):
                return cls(day=date.fromisoformat(text).isoformat())
        except ValueError:
            pass  # the 31st of February
        hint = "give the number of an entry, or a day as 2026-11-26 (UTC)"
        raise InputError("neither a number nor a day", code="range_invalid", hint=hint)


def resolve(rows: Iterable[RawEntry], start: Bound | None, end: Bound | None) -> tuple[int, int | None]:
    """Return first and last number; the rows are gone over only where a day is named.

    Raises:
        InputError: `range_invalid` where no entry lies in these days.
    """
    start, end = start or Bound(seq=1), end or Bound()
    if start.day is None and end.day is None:
        return start.seq or 1, end.seq
    first = last = 0
    for row in rows:
        if _from(row, start) and _until(row, end):
            first, last = first or row.seq, row.seq
    if not first:
        hint = "`clinic audit tail` shows when the log was written to"
        raise InputError("no entry lies in these days", code="range_invalid", hint=hint)
    return first, last


def _from(row: RawEntry, bound: Bound) -> bool:
    return row.at[:10].decode("ascii", "replace") >= bound.day if bound.day else row.seq >= (bound.seq or 1)


def _until(row: RawEntry, bound: Bound) -> bool:
    if bound.day:
        return row.at[:10].decode("ascii", "replace") <= bound.day
    return bound.seq is None or row.seq <= bound.seq
