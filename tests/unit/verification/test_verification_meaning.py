"""`clinic.verification`: numbers of something else, whose condition it is, letters, assent, findings."""

from __future__ import annotations

import pytest

from clinic.domain import Transcript
from clinic.verification.checks import CHECKS, Check, wrong_label, wrong_numbers, wrong_subject
from clinic.verification.words import tokenize
from tests.unit.verification.verification_cases import codes, note, one, transcript


def without(check: Check) -> list[Check]:
    """Return all checks but one."""
    return [c for c in CHECKS if c is not check]


LABS = transcript(
    "D: Your hemoglobin a1c is a little elevated at eight. I will repeat the hemoglobin a1c in about six months.",
    "P: Okay. I have diabetes. I had COVID-19 as well.",
)


@pytest.mark.parametrize(
    ("right", "wrong", "check"),
    [
        ("Hemoglobin A1c is elevated at 8.", "Hemoglobin A1c is elevated at 6.", wrong_numbers),
        ("Had COVID-19.", "Had COVID-22.", wrong_label),
        ("Repeat hemoglobin A1c in 6 months.", "Repeat hemoglobin A1c in 8 months.", wrong_numbers),
    ],
    ids=["other-meaning", "label", "unit-elsewhere"],
)
def test_a_number_said_of_something_else(right: str, wrong: str, check: Check) -> None:
    """The number was said, but not of this: found, and without its check believed."""
    assert codes(one(LABS, right)) == []
    assert codes(one(LABS, wrong)) == ["number_mismatch"]
    assert codes(one(LABS, wrong, checks=without(check))) == []


FAMILY = transcript(
    "D: And your father?", "P: A stroke.", "D: And your mother?", "P: She died of breast cancer.",
    "D: And you yourself?", "P: Just asthma.",
)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "The patient had a stroke.",
        "Breast cancer in the patient.",
        "The patient died of breast cancer, father - stroke.",
    ],
    ids=["answer", "in-the-patient", "first-of-a-list"],
)
def test_the_patient_for_a_relative(text: str) -> None:
    """Under a heading of the family, too, `the patient` is not one of the relatives."""
    assert codes(one(FAMILY, text, section="Family history")) == ["subject_mismatch"]
    assert codes(one(FAMILY, text, section="Family history", checks=without(wrong_subject))) == []


@pytest.mark.parametrize("text", ["Father - stroke.", "Stroke in the patient's father.", "Mother: breast cancer."])
def test_a_relative_where_it_was_said(text: str) -> None:
    """The possessive is no subject."""
    assert codes(one(FAMILY, text, section="Family history")) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I had an M R I.", ["i", "had", "an", "mri", "."]),
        ("The E R sent me", ["the", "er", "sent", "me"]),
        ("Vitamin A I take", ["vitamin", "a", "i", "take"]),
        ("Plan A. B is next", ["plan", "a", ".", "b", "is", "next"]),
    ],
    ids=["three", "two", "a-and-i", "sentence"],
)
def test_letters_that_were_spelled(text: str, words: list[str]) -> None:
    """An abbreviation said letter by letter is one word; `A` and `I` beside each other are none."""
    assert [t.text for t in tokenize(text)] == words
    assert all(text[t.start : t.end].replace(" ", "").lower() == t.text for t in tokenize(text))


def plan(last: str) -> Transcript:
    """Return a conversation that ends with the patient's `last` words."""
    return transcript("D: Hello.", "P: My knee hurts.", "D: I would rest the knee for a week.", f"P: {last}")


AGREED = "The patient understands and agrees with the recommended medical treatment plan."


def test_assent_stands_behind_agreement() -> None:
    """`Sounds good` is what `agrees with the plan` says; a refusal and silence are not."""
    statement = one(plan("Okay, sounds good."), AGREED)
    assert codes(statement) == []
    assert [e.segment for e in statement.evidence] == ["s4"]
    assert "unsupported" in codes(one(plan("No, I can't rest."), AGREED))
    assert "unsupported" in codes(one(plan("I have a dog."), AGREED))
    assert codes(one(plan("Okay, sounds good."), "The patient agrees with the plan to amputate her leg.")) != []


EXAM = transcript(
    "D: I do hear a slight murmur, and there is no swelling.",
    "D: Any dizziness?",
    "P: No.",
    "D: I think you have a lumbar strain.",
)


def test_findings_and_denials_are_missed() -> None:
    """What was found, diagnosed, excluded and denied is listed when the note lacks it."""
    found = note(EXAM, "Seen today.").omissions
    assert {o.kind for o in found} == {"finding", "denial"}
    assert any("murmur" in o.text for o in found)
    assert any("strain" in o.text for o in found)
    whole = note(EXAM, "Slight murmur, no swelling.", "Denies dizziness.", "Lumbar strain.").omissions
    assert whole == ()
