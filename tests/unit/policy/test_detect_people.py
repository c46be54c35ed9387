"""People: names told from words, in any language, without taking clinical words for people."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinic.policy.detectors.people import find_people


def named(text: str) -> list[str]:
    """Return the names in a text."""
    return [text[person.start : person.end] for person in find_people(text)]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("I spoke with Wisława Szczepańska today.", ["Wisława Szczepańska"]),
        ("Please call Mohmad R. Vizirov.", ["Mohmad R. Vizirov"]),
        ("Rebecca told us.", ["Rebecca"]),
        ("We asked Frank White about it.", ["Frank White"]),
        ("Signed by Adams, Reed and Kowalczyk", ["Adams", "Reed", "Kowalczyk"]),
        ("Is it Willemine van der Pas?", ["Willemine van der Pas"]),
        ("follow up with patricia desrosiers in a month", ["patricia desrosiers"]),
        ("hi , martha . how are you", ["martha"]),
        ("They moved from Loombah last year", ["Loombah"]),
    ],
)
def test_people_are_found(text: str, names: list[str]) -> None:
    """Names from anywhere are found whole, also between other words and written small."""
    assert named(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "Crohn's disease and a Wells score of 3, with a positive Chaddock reflex.",
        "The patient will take Metformin and Lisinopril. May I ask? Will you come? Mark it.",
        "Blood pressure, CHADS2 and NSAIDs. Mm-hmm. Ohh. OK.",
        "Guillain-Barré syndrome after a flu vaccine in March; Monday is fine.",
        "the ana was positive after a tia in the ed",
        "",
    ],
)
def test_clinical_words_are_no_people(text: str) -> None:
    """Diseases, scores, medicines, months, sounds and abbreviations are nobody."""
    assert named(text) == []


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(), max_size=300))
def test_people_are_sorted_and_inside_any_text(text: str) -> None:
    """For any text, half characters included: spans inside, not empty, in order, and the same again."""
    spans = [(person.start, person.end) for person in find_people(text)]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert [(person.start, person.end) for person in find_people(text)] == spans


@pytest.mark.timeout(20)
@pytest.mark.parametrize("unit", ["A ", "A B. ", "Aa "])
def test_a_long_row_of_letters_takes_no_longer_than_other_text(unit: str) -> None:
    """Twice the longest text that the form takes: under a second, where every letter once more cost a minute."""
    assert named(unit * (400_000 // len(unit))) is not None
