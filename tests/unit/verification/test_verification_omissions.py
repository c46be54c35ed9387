"""Omissions: what was said and the note does not carry."""

from __future__ import annotations

import pytest

from clinic.domain import Note, StatementStatus
from clinic.verification import review
from clinic.verification.omissions import KINDS
from tests.unit.verification.test_verification_checks import VISIT
from tests.unit.verification.verification_cases import note, transcript

COMPLETE = (
    "Sore throat and cough for 5 days.",
    "Left ear pain.",
    "Denies fever, chest pain, shortness of breath.",
    "Lisinopril 10 mg daily.",
    "Allergic to penicillin, rash.",
    "BP 140/90, temperature 37.2.",
    "Paracetamol 500 mg twice a day for a week.",
    "Call if short of breath or if it gets worse.",
    "Follow up in 2 weeks.",
)


def kinds(made: Note) -> set[str]:
    """Return the kinds of a note's omissions."""
    return {omission.kind for omission in made.omissions}


def test_a_complete_note_omits_nothing() -> None:
    """A note that carries every fact has no omissions."""
    assert note(VISIT, *COMPLETE).omissions == ()


@pytest.mark.parametrize(
    ("without", "kind", "segment"),
    [
        (0, "complaint", "s2"),
        (1, "symptom", "s6"),
        (2, "denial", "s3"),
        (3, "drug", "s8"),
        (4, "allergy", "s10"),
        (5, "measurement", "s13"),
        (6, "drug", "s14"),
        (7, "safety_net", "s15"),
    ],
)
def test_a_missing_fact_is_listed(without: int, kind: str, segment: str) -> None:
    """Leave one fact out and it is listed with its segment, in the words that were said."""
    texts = [t for i, t in enumerate(COMPLETE) if i != without]
    found = [o for o in note(VISIT, *texts).omissions if (o.kind, o.segment) == (kind, segment)]
    assert found, note(VISIT, *texts).omissions
    said = {s.id: s.text for s in VISIT.segments}
    assert all(o.text in said[o.segment] for o in found)


def test_a_drug_without_its_dose_is_listed() -> None:
    """Naming the drug is not enough where a dose was said."""
    texts = [t.replace("Lisinopril 10 mg daily", "Takes lisinopril") for t in COMPLETE]
    assert [(o.kind, o.segment) for o in note(VISIT, *texts).omissions] == [("drug", "s8")]


def test_omissions_are_ranked() -> None:
    """What can harm comes first."""
    order = [KINDS.index(o.kind) for o in note(VISIT).omissions]
    assert order == sorted(order)
    assert note(VISIT).omissions[0].kind == "allergy"


def test_a_question_alone_is_no_omission() -> None:
    """What was only asked about was not said."""
    said = transcript("D: Have you had any seizures or palpitations?", "P: What do you mean?")
    assert note(said).omissions == ()


def test_a_removed_statement_carries_nothing() -> None:
    """Verified again without a statement, the note omits what it carried."""
    made = note(VISIT, *COMPLETE)
    removed = review.remove(made, "n5")
    standing = [s.text for s in removed.statements if s.status is not StatementStatus.REMOVED]
    assert kinds(note(VISIT, *standing)) == {"allergy"}


@pytest.mark.parametrize("said", ["This looks like", "It sounds like", "I think it's", "It seems to be"])
def test_a_diagnosis_that_the_clinician_names_is_listed(said: str) -> None:
    """However it is introduced, and only where the note lacks it; one to be looked for is none."""
    visit = transcript(f"D: {said} tonsillitis.")
    assert kinds(note(visit, "Sore throat.")) == {"finding"}
    assert kinds(note(visit, "Tonsillitis.")) == set()
    assert kinds(note(transcript("D: We look at people with tonsillitis."), "Sore throat.")) == set()
