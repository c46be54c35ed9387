"""How much happened on each day, by the log alone: counts of events, no entry is opened.

Rules kept here:

* A day is one of the box's own calendar; the log keeps UTC.
* Days on which nothing happened are there, with zeros.
* What is counted is read, not verified.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What is counted together."""

    LOOKED = "looked"  # somebody saw a record, or took something of it out
    DRAFTED = "drafted"  # the policy allowed a draft, a document or a question
    DENIED = "denied"  # the policy refused one
    REFUSED = "refused"  # somebody, or a program, did not get in


EVENTS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(
        (
            *("patients.listed", "patient.viewed", "patient.accounted", "encounter.viewed", "audio.played"),
            *("note.copied", "note.exported"),
        ),
        Kind.LOOKED,
    ),
    "generation.authorized": Kind.DRAFTED,
    "generation.denied": Kind.DENIED,
    **dict.fromkeys(("login.failed", "factor.refused", "passkey.refused", "token.refused"), Kind.REFUSED),
}
"""The events that are counted, and as what."""

Minute = tuple[str, str, int]
"""`2026-01-02T03:04` in UTC, the name of an event, how often: a day begins at a whole minute in every zone."""


@dataclass(frozen=True, slots=True)
class Day:
    """One day, and how often each kind happened."""

    day: date
    counts: Mapping[Kind, int]


def since(today: date, days: int, zone: tzinfo | None = None) -> datetime:
    """Return the moment at which the first of the last `days` days began."""
    first = today - timedelta(days=days - 1)
    return datetime(first.year, first.month, first.day, tzinfo=zone).astimezone(UTC)


def per_day(minutes: Iterable[Minute], *, today: date, days: int, zone: tzinfo | None = None) -> tuple[Day, ...]:
    """Return the last `days` days, oldest first.

    Example:
        >>> found = per_day([("2026-01-02T03:04", "note.copied", 2)], today=date(2026, 1, 2), days=2, zone=UTC)
        >>> [(each.day.day, each.counts[Kind.LOOKED]) for each in found]
        [(1, 0), (2, 2)]
    """
    counted: Counter[tuple[date, Kind]] = Counter()
    for minute, event, number in minutes:
        kind = EVENTS.get(event)
        if kind is not None:
            moment = datetime.strptime(f"{minute}+0000", "%Y-%m-%dT%H:%M%z")
            counted[moment.astimezone(zone).date(), kind] += number
    dates = [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
    return tuple(Day(each, {kind: counted[each, kind] for kind in Kind}) for each in dates)
