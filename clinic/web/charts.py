"""Bars of counts per day, as numbers that a template draws: SVG made on the server, no script.

Rules kept here:

* What a picture shows stands beside it in words and as a table.
* The highest bar fills the height; a day with anything at all has a bar that can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from clinic.audit.activity import Day, Kind

DAYS: Final = 30
HEIGHT: Final = 100
STEP: Final = 10
"""Units of the drawing, not pixels: the picture is as wide as its place."""
_LEAST: Final = 3


@dataclass(frozen=True, slots=True)
class Bar:
    """One day: where its bar stands, how high it is, and what it says."""

    day: date
    count: int
    x: int
    height: int


@dataclass(frozen=True, slots=True)
class Chart:
    """One kind of event over the days."""

    kind: Kind
    bars: tuple[Bar, ...]
    total: int
    most: Bar

    @property
    def width(self) -> int:
        """How wide the drawing is."""
        return STEP * len(self.bars)


def chart(days: Sequence[Day], kind: Kind) -> Chart:
    """Return the bars of a kind; `days` has at least one."""
    counts = [day.counts[kind] for day in days]
    highest = max(counts)
    bars = tuple(
        Bar(day.day, count, STEP * place, 0 if count == 0 else max(_LEAST, round(HEIGHT * count / highest)))
        for place, (day, count) in enumerate(zip(days, counts, strict=True))
    )
    return Chart(kind, bars, sum(counts), max(bars, key=lambda bar: bar.count))
