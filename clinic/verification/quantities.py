"""Quantities: the numbers of a text with what they count (doses, measurements, frequencies, durations, dates, ratios).

Rules kept here:

* No quantity lies inside another; the longest reading wins (`one forty over ninety` is one ratio).
* A number that is part of a name (`C5-6`, `COVID-19`) is no quantity.
"""

from __future__ import annotations

from collections.abc import Iterator

from clinic.verification.numbers import Number, numbers
from clinic.verification.units import (
    COUNTS,
    DATE,
    MONTHS,
    PERIODS,
    RATE,
    RATES,
    RATIO,
    TIME,
    TIMES,
    UNITS,
    Quantity,
)
from clinic.verification.words import Kind, Token

_PER = frozenset({"a", "per", "each", "every", "/", "an"})
_SKIP = frozenset({"-", "'"})


def quantities(tokens: tuple[Token, ...]) -> tuple[Quantity, ...]:
    """Find the quantities among `tokens`, in order, none inside another."""
    return tuple(_Reader(tokens).read())


_MONTHS_A_YEAR = 12
_DAYS_A_MONTH = 30.4375


def _is_year(text: str) -> bool:
    """Whether digits after a slash can only be a year (`2008`, `07`, `93`), not the lower number of a ratio."""
    return text.isdigit() and (
        len(text) == len("2008") or text[0] == "0" or (text[0] in "6789" and len(text) == len("93"))
    )


class _Reader:
    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self.tokens = tokens
        self.numbers = {n.first: n for n in numbers(tokens)}

    def read(self) -> Iterator[Quantity]:
        at = 0
        while at < len(self.tokens):
            quantity = self._at(at)
            if quantity is not None:
                yield quantity
                at = quantity.last + 1
            else:
                at += 1

    def _at(self, at: int) -> Quantity | None:
        number = self.numbers.get(at)
        if number is None:
            return self._rate_word(at) or self._month_first(at) or self._article(at)
        if self._is_label(at):
            return None
        return (
            self._numeric_date(number)
            or self._month_and_year(number)
            or self._and_a_half(number)
            or self._day_first(number)
            or self._ratio(number)
            or self._times_per(number.last + 1, number)
            or self._plain(number)
        )

    def word(self, at: int) -> str:
        return self.tokens[at].text if 0 <= at < len(self.tokens) else ""

    def _is_label(self, at: int) -> bool:
        """Whether a number belongs to a name (`C5-6`, `COVID-19`), not to a quantity."""
        if self.word(at - 1) != "-" or at < 2:  # noqa: PLR2004 (a dash and a name before it)
            return False
        name = self.tokens[at - 2]
        glued = name.end == self.tokens[at - 1].start and self.tokens[at - 1].end == self.tokens[at].start
        return glued and name.kind is Kind.WORD and (name.text[-1].isdigit() or name.text == "covid")

    def make(
        self, first: int, last: int, raw: frozenset[float], dimension: str | None, *, factor: float = 1.0,
        spelled: bool = False, pair: tuple[float, ...] = (), ordinal: bool = False, vague: bool = False,
    ) -> Quantity:  # fmt: skip
        values = frozenset(v * factor for v in raw)
        start, end = self.tokens[first].start, self.tokens[last].end
        return Quantity(values, raw, dimension, first, last, start, end, spelled, pair, ordinal, vague)

    # --- frequencies

    def _rate_word(self, at: int) -> Quantity | None:
        word = self.word(at)
        if word in COUNTS:
            return self._count_word(at)
        if word in RATES and not (word == "od" and at == 0):
            return self.make(at, at, frozenset({RATES[word]}), RATE, spelled=True)
        if word in {"every", "each", "q"}:
            return self._every(at)
        return None

    def _count_word(self, at: int) -> Quantity:
        count = frozenset({COUNTS[self.word(at)]})
        number = Number(next(iter(count)), frozenset(), at, at, written=False)
        return self._times_per(at + 1, number, counted=True) or self.make(at, at, count, TIMES, spelled=True)

    def _every(self, at: int) -> Quantity | None:
        """`every six hours`, `q6h`, `every other day`, `every morning`."""
        number = self.numbers.get(at + 1) or (self.numbers.get(at + 2) if self.word(at + 1) == "." else None)
        if number is not None:
            unit = self.word(number.last + 1)
            period = {"h": 1 / 24, "d": 1.0, "hr": 1 / 24, "hrs": 1 / 24}.get(unit) or self._period(unit)
            last = number.last + 1
            if self.word(last + 1) in {"to", "-"} and self.numbers.get(last + 2):
                return None
            if period:
                rates = frozenset(1 / (n * period) for n in number.readings if n)
                return self.make(at, last, rates, RATE, spelled=not number.written)
            return None
        if self.word(at + 1) == "other" and (period := self._period(self.word(at + 2))):
            return self.make(at, at + 2, frozenset({1 / (2 * period)}), RATE, spelled=True)
        period = self._period(self.word(at + 1))
        return self.make(at, at + 1, frozenset({1 / period}), RATE, spelled=True) if period else None

    @staticmethod
    def _period(word: str) -> float | None:
        return PERIODS.get(word) or PERIODS.get(word.removesuffix("s"))

    def _times_per(self, at: int, number: Number, *, counted: bool = False) -> Quantity | None:
        """`three times a day`, `5 x/week`, `twice daily`, `five days a week`, `two a day`, `6/day`."""
        i = at
        unit = self.word(i)
        if unit in {"times", "time", "x", "days", "nights", "hours"} and not counted:
            i += 1
        if self.word(i) in {"daily", "nightly", "weekly"} and (counted or i > at):
            period = 1 / RATES[self.word(i)]
        elif self.word(i) in _PER and (found := self._period(self.word(i + 1))):
            i, period = i + 1, found
        else:
            return None
        if i > at + 1 and unit in {"days", "hours"} and period < 7:  # noqa: PLR2004 (eight hours a day is no rate)
            return None
        return self.make(number.first, i, number.readings, RATE, factor=1 / period, spelled=not number.written)

    # --- dates

    def _month_first(self, at: int) -> Quantity | None:
        month = MONTHS.get(self.word(at))
        if month is None:
            return None
        i = at + 1
        while self.word(i) in {".", "the", ",", "of"}:
            i += 1
        number = self.numbers.get(i)
        if number is None:
            return None
        if number.value > 31:  # noqa: PLR2004 (no such day: it is a year)
            return self._date(at, number.last, month, 0.0, number.value)
        return self._with_year(at, number.last, month, number.value)

    def _day_first(self, number: Number) -> Quantity | None:
        i = number.last + 1
        if self.word(i) == "of":
            i += 1
        month = MONTHS.get(self.word(i))
        if month is None or not 1 <= number.value <= 31:  # noqa: PLR2004 (days of a month)
            return None
        return self._with_year(number.first, i, month, number.value)

    def _with_year(self, first: int, last: int, month: int, day: float) -> Quantity:
        i = last + 1
        while self.word(i) in {",", "of"}:
            i += 1
        year = self.numbers.get(i)
        if year is not None and (year.value >= 1900 or (year.written and self.word(i - 1) == "'")):  # noqa: PLR2004
            return self._date(first, year.last, month, day, year.value)
        return self._date(first, last, month, day, 0.0)

    def _numeric_date(self, number: Number) -> Quantity | None:
        i = number.last
        month, day, year = number, self.numbers.get(i + 2), self.numbers.get(i + 4)
        if self.word(i + 1) not in {"/", "-", "."} or self.word(i + 3) != self.word(i + 1) or not (day and year):
            return None
        if not (month.written and day.written and year.written) or self.tokens[i].end != self.tokens[i + 1].start:
            return None
        return self._date(month.first, year.last, int(month.value), day.value, year.value)

    def _month_and_year(self, number: Number) -> Quantity | None:
        """`03/2008`, `9/93`, `11/07`: a month and a year, not a ratio."""
        i = number.last
        year = self.numbers.get(i + 2)
        if self.word(i + 1) != "/" or year is None or not (number.written and year.written):
            return None
        if not 1 <= number.value <= _MONTHS_A_YEAR or not _is_year(self.word(year.first)):
            return None
        return self._date(number.first, year.last, int(number.value), 0.0, year.value)

    def _and_a_half(self, number: Number) -> Quantity | None:
        """`2-1/2`, `1 1/2` and `1/2`: halves as they are written."""
        i = number.last
        at = i + 2 if self.word(i + 1) == "-" else i + 1
        if [self.word(at + k) for k in range(3)] == ["1", "/", "2"]:
            return self._counted(number, frozenset({number.value + 0.5}), at + 2)
        if number.value == 1 and [self.word(i + k) for k in range(3)] == ["1", "/", "2"]:
            return self._counted(number, frozenset({0.5}), i + 2)
        return None

    def _date(self, first: int, last: int, month: int, day: float, year: float) -> Quantity:
        parts = (float(month), day, year % 100)
        raw = frozenset(v for v in (day, year) if v)
        return self.make(first, last, raw, DATE, pair=parts)

    # --- ratios and plain numbers

    def _ratio(self, number: Number) -> Quantity | None:
        i = number.last + 1
        joint = self.word(i)
        if joint == "out" and self.word(i + 1) == "of":
            i += 1
        elif joint not in {"/", "over"}:
            return None
        other = self.numbers.get(i + 1)
        if other is None:
            return None
        shorthand = {7.0: 1.0, 52.0: 7.0}.get(other.value)
        if other.value == _MONTHS_A_YEAR and self._lasts(number.first, other.last):
            shorthand = _DAYS_A_MONTH
        if joint == "/" and shorthand and number.value != other.value:
            return self.make(number.first, other.last, number.readings, TIME, factor=shorthand)
        last = other.last
        return self.make(
            number.first, last, number.readings | other.readings, RATIO, spelled=not number.written,
            pair=(number.value, other.value),
        )  # fmt: skip

    def _lasts(self, first: int, last: int) -> bool:
        """Whether the words around `6/12` make it six months, and not how well an eye sees."""
        return self.word(last + 1) in {"ago", "hx", "history", "of"} or self.word(first - 1) in {
            "for", "in", "past", "last", "every", "after", "-"
        }  # fmt: skip

    def _plain(self, number: Number) -> Quantity:
        raw, last = number.readings, number.last
        after = [self.word(last + k) for k in range(1, 6) if self.word(last + k) != "-"]
        if after[:3] == ["and", "a", "half"]:
            raw, last = frozenset({number.value + 0.5}), last + 3 + sum(self.word(last + k) == "-" for k in range(1, 6))
        return self._counted(number, raw, last)

    def _counted(self, number: Number, raw: frozenset[float], last: int) -> Quantity:
        """A number with the unit that follows it, if one does."""
        i = last + 1
        while self.word(i) in _SKIP or self.word(i) == "of":
            i += 1
        dimension, factor, end = None, 1.0, last
        if self.word(i) == "to" or self.word(i) == "or" or (self.word(last + 1) == "-" and i in self.numbers):
            dimension, factor = self._unit_of_range(i)
        elif self.word(i) in UNITS:
            dimension, factor = UNITS[self.word(i)]
            end = i
        return self.make(
            number.first, end, raw, dimension, factor=factor, spelled=not number.written, ordinal=number.ordinal
        )

    def _unit_of_range(self, at: int) -> tuple[str | None, float]:
        """In `four to five days` the days belong to both numbers."""
        second = self.numbers.get(at) or self.numbers.get(at + 1)
        if second is None:
            return None, 1.0
        i = second.last + 1
        while self.word(i) in _SKIP:
            i += 1
        return UNITS.get(self.word(i), (None, 1.0))

    def _article(self, at: int) -> Quantity | None:
        """`a week`, `half a pack`, `a couple of days`."""
        word = self.word(at)
        if word not in {"a", "an", "half", "couple", "dozen", "fortnight"}:
            return None
        if word == "fortnight":
            return self.make(at, at, frozenset({14.0}), TIME, spelled=True)
        amount = {"half": 0.5, "couple": 2.0, "dozen": 12.0}.get(word, 1.0)
        i = at + 1
        while self.word(i) in {"a", "an", "of", "-"}:
            i += 1
        unit = UNITS.get(self.word(i))
        if unit is None or self.word(i) in {"time", "times", "y", "mo", "min"}:
            return None
        return self.make(at, i, frozenset({amount}), unit[0], factor=unit[1], spelled=True, vague=True)
