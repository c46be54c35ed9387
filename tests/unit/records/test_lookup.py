"""Looking for patients: dates in every usual form, words anywhere, and what only sounds or looks alike."""

from __future__ import annotations

import doctest
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.records import lookup
from clinic.records.lookup import fits, fold, read, resembles, soundex

TODAY = date(2026, 11, 28)
BORN = date(1961, 3, 5)


def found(text: str, name: str = "Maria Santos", number: str | None = "MRN-1", born: date | None = BORN) -> bool:
    """Tell whether a patient fits what was typed."""
    return fits(read(text, today=TODAY), name=name, number=number, born=born)


@pytest.mark.parametrize(
    "text",
    [
        "1961-03-05", "1961/3/5", "1961.03.05", "5.3.1961", "05/03/1961", "3/5/1961", "5-3-61", "5. 3. 1961",
        "5 Mar 1961", "5 march 61", "5. M\u00e4r 1961", "March 5, 1961", "mar 5th 1961", "5th of March 1961",
        "05031961", "03051961", "19610305",
    ],
)  # fmt: skip
def test_date_of_birth_in_every_usual_form(text: str) -> None:
    """Day first, month first, year first, with names of months or none, with two or four digits of the year."""
    assert found(text)
    assert found(f"santos {text}")
    assert found(f"{text} santos")
    assert not found(f"jones {text}")
    assert not found(text, born=date(1961, 3, 6))
    assert not found(text, born=None)


@pytest.mark.parametrize("text", ["31/31/1990", "30.2.1990", "5.3.2030", "5.3.1800", "99999999"])
def test_what_is_no_date_of_birth_is_words(text: str) -> None:
    """An impossible or future date finds nobody by date; it may still be part of a number."""
    assert read(text, today=TODAY).born is None
    assert not found(text)
    assert found(text, number=f"X{text}")


def test_two_digits_are_both_centuries() -> None:
    """Somebody of 1905 and somebody of 2005 are both found."""
    assert [found("5.3.05", born=date(year, 3, 5)) for year in (1905, 2005, 1961)] == [True, True, False]


def test_date_may_be_part_of_a_number() -> None:
    """Eight digits that can be a date are found in a record number, too."""
    assert found("05031961", number="NHI 05031961-7", born=date(1999, 1, 1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("mar san", True, id="beginnings"),
        pytest.param("SANTOS, maria", True, id="surname-first"),
        pytest.param("antos", True, id="inside"),
        pytest.param("1961", True, id="year"),
        pytest.param("1961-03", True, id="year-and-month"),
        pytest.param("mrn-1 maria", True, id="number-and-name"),
        pytest.param("santoz", False, id="misspelt"),
        pytest.param("  ", False, id="blank"),
    ],
)
def test_words(text: str, expected: bool) -> None:  # noqa: FBT001 - the expectation
    """Every word must be part of name, number or date; misspelt ones are not."""
    assert found(text) is expected


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("smith", "Jane Smyth", True),
        ("mohamed", "Muhammad Ali", True),
        ("jonson", "Johnson", True),
        ("catherine", "Katherine Hill", True),
        ("ngyuen", "Nguyen", True),
        ("jose marti", "Jos\u00e9 Mart\u00ed", True),
        ("peter smith", "John Smyth", False),
        ("li", "Lee", False),
        ("jones", "Santos", False),
        ("", "Santos", False),
    ],
)
def test_what_sounds_or_looks_alike(text: str, name: str, *, expected: bool) -> None:
    """Each word must resemble one of the name; short words resemble nothing."""
    assert resembles(read(text, today=TODAY), name=name, born=None) is expected


def test_resemblance_does_not_bend_a_date() -> None:
    """A typed date of birth must be the patient's, however alike the name."""
    wanted = read("smith 5.3.1961", today=TODAY)
    assert resembles(wanted, name="Smyth", born=BORN)
    assert not resembles(wanted, name="Smyth", born=date(1961, 3, 6))


@pytest.mark.parametrize(
    ("word", "code"),
    [("robert", "r163"), ("rupert", "r163"), ("ashcraft", "a261"), ("tymczak", "t522"), ("pfister", "p236"),
     ("honeyman", "h555"), ("lee", "l000"), ("o'hara", None), ("\u0438\u0432\u0430\u043d", None)],
)  # fmt: skip
def test_soundex_is_the_published_one(word: str, code: str | None) -> None:
    """The examples of the United States National Archives; None for what it is not made for."""
    assert soundex(word) == code


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_read(text: str, name: str) -> None:
    """Whatever is typed or stored, the answer is yes or no; what fits its own name is found."""
    wanted = read(text, today=TODAY)
    fits(wanted, name=name, number=None, born=None)
    resembles(wanted, name=name, born=None)
    if wanted.born is None and wanted.words:
        assert fits(wanted, name=text, number=None, born=None)
    assert fold(fold(text)) == fold(text)


def test_example_holds() -> None:
    """The module's example is true."""
    assert doctest.testmod(lookup).failed == 0
