"""Counts per day: the box's own days, none left out, every refusal counted."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from clinic.audit.activity import EVENTS, Kind, per_day, since
from clinic.audit.events import REGISTRY
from clinic.web.charts import HEIGHT, chart

TODAY = date(2026, 3, 2)
EAST = timezone(timedelta(hours=5, minutes=30))


def test_every_counted_event_exists() -> None:
    """No name is misspelt; each kind has an event; every refusal of the log is counted."""
    assert set(EVENTS) <= set(REGISTRY)
    assert set(EVENTS.values()) == set(Kind)
    refusals = {name for name in REGISTRY if name.endswith(".refused") or name in {"login.failed", "generation.denied"}}
    assert refusals <= set(EVENTS)


def test_days_are_the_boxes_own() -> None:
    """A minute of the evening in UTC is the next day in the east, where a day begins at half past."""
    hours = [
        ("2026-03-01T18:29", "note.copied", 3),
        ("2026-03-01T18:30", "note.copied", 2),
        ("2026-03-02T01:00", "x.y", 9),
    ]
    west, east = (per_day(hours, today=TODAY, days=2, zone=zone) for zone in (UTC, EAST))
    assert [day.counts[Kind.LOOKED] for day in west] == [5, 0]
    assert [day.counts[Kind.LOOKED] for day in east] == [3, 2]


def test_days_without_anything_are_there() -> None:
    """Thirty days, whatever happened; what was before is not counted."""
    days = per_day([("2026-01-01T00:00", "login.failed", 7)], today=TODAY, days=30, zone=UTC)
    assert (len(days), days[0].day, days[-1].day) == (30, date(2026, 2, 1), TODAY)
    assert sum(day.counts[Kind.REFUSED] for day in days) == 0
    assert since(TODAY, 30, UTC) == datetime(2026, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(("counts", "heights"), [([0, 1, 1000], [0, 3, HEIGHT]), ([0, 0], [0, 0]), ([5], [HEIGHT])])
def test_bars_are_as_high_as_their_counts(counts: list[int], heights: list[int]) -> None:
    """The highest fills the height; one among thousands is still seen; nothing is nothing."""
    hours = [
        (f"2026-03-{2 - back:02}T12:00", "generation.denied", n) for back, n in enumerate(reversed(counts)) if back < 2
    ]
    hours += [("2026-02-28T12:00", "generation.denied", counts[0])] if len(counts) == 3 else []
    found = chart(per_day(hours, today=TODAY, days=len(counts), zone=UTC), Kind.DENIED)
    assert [bar.height for bar in found.bars] == heights
    assert (found.total, found.most.count) == (sum(counts), max(counts))
