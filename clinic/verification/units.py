"""Units: what numbers can count, and when two quantities are the same.

Rules kept here:

* Units are compared by what they measure: 14 days are 2 weeks, 0.5 g are 500 mg; 500 mg are never 500 mcg.
* A missing unit matches any unit (speech leaves units out); two different units match only if they convert.
* Frequencies are rates per day: `b.i.d.`, `twice a day` and `every twelve hours` are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TIME, RATE, RATIO, DATE, TIMES = "time", "rate", "ratio", "date", "times"
MASS = "mass"
DOSE_DIMENSIONS = frozenset({MASS, "volume", "tablet", "puff", "drop", "unit"})

UNITS: dict[str, tuple[str, float]] = {
    word: (dimension, factor)
    for words, dimension, factor in (
        ("mcg microgram micrograms ug mics", MASS, 0.001),
        ("mg milligram milligrams mgs milligramme milligrammes", MASS, 1.0),
        ("g gm gms gram grams", MASS, 1000.0),
        ("kg kgs kilogram kilograms kilos kilo", MASS, 1e6),
        ("ml mls cc ccs milliliter milliliters millilitre millilitres", "volume", 1.0),
        ("l liter liters litre litres", "volume", 1000.0),
        ("mm millimeter millimeters millimetre millimetres", "length", 1.0),
        ("cm centimeter centimeters centimetre centimetres", "length", 10.0),
        ("minute minutes min mins", TIME, 1 / 1440),
        ("hour hours hr hrs", TIME, 1 / 24),
        ("day days d", TIME, 1.0),
        ("week weeks wk wks", TIME, 7.0),
        ("fortnight fortnights", TIME, 14.0),
        ("month months mo mos", TIME, 30.4375),
        ("year years yr yrs yo y", TIME, 365.25),
        ("pound pounds lb lbs", "pound", 1.0),
        ("inch inches", "inch", 1.0),
        ("feet foot ft", "foot", 1.0),
        ("mile miles", "mile", 1.0),
        ("percent %", "percent", 1.0),
        ("degree degrees ° c f", "degree", 1.0),
        ("mmhg", "pressure", 1.0),
        ("bpm", "beat", 1.0),
        ("tablet tablets tab tabs pill pills capsule capsules caps", "tablet", 1.0),
        ("puff puffs", "puff", 1.0),
        ("drop drops", "drop", 1.0),
        ("unit units", "unit", 1.0),
        ("pack packs", "pack", 1.0),
        ("times time", TIMES, 1.0),
    )
    for word in words.split()
}
RATES = {
    "bid": 2.0, "bd": 2.0, "tid": 3.0, "tds": 3.0, "qid": 4.0, "qds": 4.0, "qd": 1.0, "od": 1.0, "daily": 1.0,
    "qhs": 1.0, "nightly": 1.0, "weekly": 1 / 7, "hourly": 24.0, "fortnightly": 1 / 14, "everyday": 1.0,
}  # fmt: skip
COUNTS = {"once": 1.0, "twice": 2.0, "thrice": 3.0}
PERIODS = {
    "day": 1.0, "morning": 1.0, "evening": 1.0, "night": 1.0, "week": 7.0, "month": 30.4375, "year": 365.25,
    "bedtime": 1.0, "hour": 1 / 24,
}  # fmt: skip
MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul", "august aug",
            "september sep sept", "october oct", "november nov", "december dec",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
_CLOSE = 0.004
_SCALE_TOPS = frozenset({5.0, 10.0})


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity: the values it may have, in which dimension, and where it stands."""

    values: frozenset[float]  # in the dimension's base unit
    raw: frozenset[float]  # as said
    dimension: str | None
    first: int
    last: int
    start: int
    end: int
    spelled: bool  # in words, not digits
    pair: tuple[float, ...] = ()  # a ratio's two numbers; a date's (month, day, year), 0 for unknown
    ordinal: bool = False
    vague: bool = False  # `a week`, `a couple of days`: worth something as said, nothing to check as noted

    @property
    def name(self) -> str:
        """What a clinician would call it."""
        return _NAMES.get(self.dimension or "", "dose" if self.dimension in DOSE_DIMENSIONS else "number")


_NAMES = {
    TIME: "duration", RATE: "frequency", DATE: "date", RATIO: "measurement", "degree": "measurement",
    "pressure": "measurement", "percent": "measurement", "beat": "measurement", "pound": "measurement",
    "inch": "measurement", "foot": "measurement", "length": "measurement",
}  # fmt: skip


def same(noted: Quantity, said: Quantity) -> bool:
    """Whether `said` supports `noted`."""
    if noted.dimension == DATE:
        return _same_date(noted, said)
    if noted.dimension == RATIO:
        return _same_ratio(noted, said)
    if noted.dimension == said.dimension and noted.dimension is not None:
        return _meet(noted.values, said.values, close=noted.raw != said.raw and noted.dimension == TIME)
    if {noted.dimension, said.dimension} == {TIME, RATE}:  # `every six hours` heard as `six hours`, `a day` as daily
        return _meet(noted.values, frozenset(1 / v for v in said.values if v))
    if noted.dimension is None or said.dimension in {None, DATE, RATIO} or _loose(noted, said):
        return _meet(noted.raw, said.raw) or _same_year(noted, said)
    return False


def _same_year(noted: Quantity, said: Quantity) -> bool:
    """`1996` heard as `ninety six`."""
    return noted.dimension is None and any(1900 <= n < 2100 and n % 100 in said.raw for n in noted.raw)  # noqa: PLR2004


def _loose(noted: Quantity, said: Quantity) -> bool:
    """Counts of doses and of times are said in many ways (`two tablets`, `two times`, `two`)."""
    countable = {TIMES, "tablet", "puff", "drop", "unit", "pack", "degree", "beat", "pressure", "percent"}
    both = {noted.dimension, said.dimension}
    return both == {RATE, TIMES} or (both <= countable and TIMES in both)


def _same_ratio(noted: Quantity, said: Quantity) -> bool:
    if said.dimension == RATIO:
        return noted.pair == said.pair
    top = noted.pair[1] if len(noted.pair) > 1 else 0.0
    return top in _SCALE_TOPS and said.dimension in {None, TIMES} and noted.pair[0] in said.raw


def _same_date(noted: Quantity, said: Quantity) -> bool:
    if said.dimension != DATE:
        return False
    pairs = list(zip(noted.pair, said.pair, strict=False))
    return all(a == b or 0 in (a, b) for a, b in pairs) and any(a == b != 0 for a, b in pairs)


_ROUGHLY = 0.09  # `4 weeks` and `a month`


def _meet(some: frozenset[float], others: frozenset[float], *, close: bool = False) -> bool:
    return any(math.isclose(a, b, rel_tol=_tolerance(a, b, close=close)) for a in some for b in others)


def _tolerance(one: float, other: float, *, close: bool) -> float:
    if close and min(one, other) >= 28 and (one % 7 == 0) != (other % 7 == 0):  # noqa: PLR2004 (weeks against months)
        return _ROUGHLY
    return _CLOSE if one != int(one) or other != int(other) else 1e-9
