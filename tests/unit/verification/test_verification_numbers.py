"""Numbers and quantities, written and spoken."""

from __future__ import annotations

import pytest

from clinic.verification.numbers import numbers
from clinic.verification.quantities import quantities
from clinic.verification.units import same
from clinic.verification.words import tokenize


@pytest.mark.parametrize(
    ("spoken", "value"),
    [
        ("twenty six", 26),
        ("seventy-six", 76),
        ("one forty", 140),
        ("one oh two", 102),
        ("one twenty eight", 128),
        ("five hundred", 500),
        ("fifteen hundred", 1500),
        ("one thousand two hundred", 1200),
        ("a hundred and one point four", 101.4),
        ("two thousand eight", 2008),
        ("nineteen eighty five", 1985),
        ("thirty seven point two", 37.2),
        ("point five", 0.5),
        ("1,000", 1000),
        ("98.6", 98.6),
        ("21st", 21),
    ],
)
def test_a_spoken_number_is_its_value(spoken: str, value: float) -> None:
    """Each way of saying a number gives the value that a clinician would write."""
    assert [n.value for n in numbers(tokenize(spoken))] == [value]


def test_an_ambiguous_number_keeps_its_other_readings() -> None:
    """`one forty` is 140, and may be 1 and 40."""
    (number,) = numbers(tokenize("one forty"))
    assert number.readings == {140.0, 1.0, 40.0}


@pytest.mark.parametrize(
    ("noted", "said"),
    [
        ("140/90", "one forty over ninety"),
        ("500 mg", "five hundred milligrams"),
        ("0.5 g", "five hundred milligrams"),
        ("b.i.d.", "twice a day"),
        ("twice daily", "every twelve hours"),
        ("q6h", "every six hours"),
        ("QDS", "four times a day"),
        ("daily", "once a day"),
        ("2 weeks", "fourteen days"),
        ("3/7", "three days"),
        ("2/52", "a fortnight"),
        ("12 months", "one year"),
        ("26-year-old", "I'm twenty six"),
        ("1/10/09", "January tenth two thousand nine"),
        ("July 31, 2008", "the thirty first of July"),
        ("9/10", "a nine"),
        ("2-1/2 years", "two and a half years"),
        ("1996", "ninety six"),
        ("5 times a week", "five days a week"),
        ("38.2 C", "thirty eight point two"),
    ],
)
def test_a_written_quantity_is_found_in_what_was_said(noted: str, said: str) -> None:
    """A note's shorthand equals the words that were spoken."""
    (quantity,) = quantities(tokenize(noted))
    assert any(same(quantity, other) for other in quantities(tokenize(said)))


@pytest.mark.parametrize(
    ("noted", "said"),
    [
        ("500 mg", "five hundred micrograms"),
        ("500 mg", "five hundred millilitres"),
        ("140/90", "one thirty over ninety"),
        ("90/140", "one forty over ninety"),
        ("twice a day", "three times a day"),
        ("2 weeks", "two days"),
        ("10 mg", "one hundred milligrams"),
        ("12.5 mg", "twelve milligrams"),
        ("January 10", "the tenth of June"),
    ],
)
def test_another_quantity_is_not_the_same(noted: str, said: str) -> None:
    """A changed number, unit, order, frequency or month is another quantity."""
    (quantity,) = quantities(tokenize(noted))
    assert not any(same(quantity, other) for other in quantities(tokenize(said)))


@pytest.mark.parametrize("name", ["C5-6", "COVID-19", "B12", "HbA1c"])
def test_a_number_in_a_name_is_no_quantity(name: str) -> None:
    """Names that hold digits are names."""
    assert quantities(tokenize(name)) == ()
