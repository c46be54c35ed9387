"""Ranges: by number, by day, both ends included, nothing silently empty."""

from __future__ import annotations

import pytest

from clinic.audit.entry import RawEntry
from clinic.audit.export_range import Bound, resolve
from clinic.errors import InputError

DAYS = ("2026-01-01", "2026-01-02", "2026-01-02", "2026-01-01", "2026-01-03", "2026-01-05")
ROWS = [
    RawEntry(seq, f"{day}T03:04:05.678Z".encode(), b"u", b"auditor", b"key.sealed", b"{}", bytes(32), bytes(32))
    for seq, day in enumerate(DAYS, start=1)
]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param(None, None, (1, None), id="all"),
        pytest.param("2", None, (2, None), id="from a number"),
        pytest.param("2", "4", (2, 4), id="numbers"),
        pytest.param("2026-01-02", None, (2, 6), id="from a day"),
        pytest.param(None, "2026-01-02", (1, 4), id="to a day"),
        pytest.param("2026-01-02", "2026-01-02", (2, 3), id="one day"),
        pytest.param("2026-01-01", "2026-01-01", (1, 4), id="a day that the clock came back to"),
        pytest.param("2026-01-04", "2026-12-31", (6, 6), id="days without entries on both ends"),
        pytest.param("3", "2026-01-02", (3, 4), id="a number and a day"),
        pytest.param("2026-01-02", "5", (2, 5), id="a day and a number"),
    ],
)
def test_a_range_is_found(start: str | None, end: str | None, expected: tuple[int, int | None]) -> None:
    """The numbers of the first and of the last entry that lie in it."""
    bounds = [None if text is None else Bound.parse(text) for text in (start, end)]
    assert resolve(ROWS, *bounds) == expected


@pytest.mark.parametrize("text", ["", "0", "-3", "1.5", "yesterday", "2026-02-31", "2026-1-2", "1" * 20, "\u0661"])
def test_what_is_neither_number_nor_day_is_refused(text: str) -> None:
    """A mistyped end is a usage error, not another range."""
    with pytest.raises(InputError) as caught:
        Bound.parse(text)
    assert (caught.value.code, caught.value.exit_code) == ("range_invalid", 2)


def test_days_without_entries_are_refused() -> None:
    """Nothing to export is said, not exported."""
    for start, end in (("2026-01-04", "2026-01-04"), ("2026-01-03", "2026-01-01")):
        with pytest.raises(InputError) as caught:
            resolve(ROWS, Bound.parse(start), Bound.parse(end))
        assert caught.value.code == "range_invalid"
