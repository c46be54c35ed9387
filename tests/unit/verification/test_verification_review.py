"""Review: a clinician's edits."""

from __future__ import annotations

import pytest

from clinic.domain import Note, Omission, Reason, StatementStatus
from clinic.errors import InputError, RecordError
from clinic.verification import review
from tests.unit.verification.test_verification_checks import VISIT
from tests.unit.verification.verification_cases import codes, note, transcript


@pytest.fixture
def draft() -> Note:
    """A note with one supported and one flagged statement."""
    return note(VISIT, "Denies fever.", "Takes lisinopril 20 mg daily.", section="subjective")


def test_confirming_settles_a_flag(draft: Note) -> None:
    """A confirmed statement keeps its reasons and is open no longer."""
    assert draft.open_flags == ("n2",)
    done = review.confirm(draft, "n2")
    assert done.open_flags == ()
    assert done.statements[1].status is StatementStatus.CONFIRMED
    assert done.statements[1].reasons == draft.statements[1].reasons
    assert draft.open_flags == ("n2",)


def test_an_edit_is_verified_again(draft: Note) -> None:
    """The new text has its own evidence; the status says that a person wrote it."""
    done = review.edit(draft, "n2", "Takes lisinopril 10 mg daily.", VISIT)
    assert done.statements[1].status is StatementStatus.EDITED
    assert codes(done.statements[1]) == []
    assert "s8" in [e.segment for e in done.statements[1].evidence]


def test_an_edit_that_the_transcript_contradicts_is_flagged(draft: Note) -> None:
    """One rule for edited and added words: with a reason against them they wait for a decision."""
    wrong = review.edit(draft, "n1", "Takes lisinopril 40 mg daily.", VISIT)
    assert wrong.statements[0].status is StatementStatus.FLAGGED
    assert codes(wrong.statements[0]) == ["number_mismatch"]
    assert "n1" in wrong.open_flags
    assert review.confirm(wrong, "n1").statements[0].status is StatementStatus.CONFIRMED


def test_removing_keeps_the_statement_in_sight(draft: Note) -> None:
    """A removed statement stays with that status."""
    done = review.remove(draft, "n2")
    assert done.statements[1].status is StatementStatus.REMOVED
    assert done.open_flags == ()


def test_what_is_put_back_is_read_again(draft: Note) -> None:
    """A removed statement comes back flagged with its reasons, or supported; never confirmed."""
    for before in (draft, review.confirm(draft, "n2")):
        back = review.restore(review.remove(before, "n2"), "n2", VISIT)
        assert back.statements[1].status is StatementStatus.FLAGGED
        assert back.statements[1].reasons == draft.statements[1].reasons
    assert review.restore(review.remove(draft, "n1"), "n1", VISIT).statements[0].status is StatementStatus.SUPPORTED


def test_a_reason_from_the_rest_of_the_note_survives_removal(draft: Note) -> None:
    """A flag that the statement alone would not get is not lost by removing it and putting it back."""
    reason = Reason(code="contradiction", message="another statement says otherwise")
    flagged = draft.statements[0].model_copy(update={"reasons": (reason,), "status": StatementStatus.FLAGGED})
    removed = review.remove(draft.model_copy(update={"statements": (flagged,)}), "n1")
    assert review.restore(removed, "n1", VISIT).statements[0].reasons == (reason,)


def test_only_what_is_removed_is_put_back_and_only_what_stands_is_confirmed(draft: Note) -> None:
    """Confirming is no way back into the note, and putting back is no second reading of what stands."""
    with pytest.raises(RecordError) as confirmed:
        review.confirm(review.remove(draft, "n2"), "n2")
    with pytest.raises(RecordError) as restored:
        review.restore(draft, "n2", VISIT)
    assert confirmed.value.code == restored.value.code == "record_conflict"


def test_adding_finds_evidence_or_flags(draft: Note) -> None:
    """A clinician's own statement is supported where it was said and flagged where it was not."""
    done = review.add(draft, "subjective", "Left ear pain.", VISIT)
    assert done.statements[2].status is StatementStatus.SUPPORTED
    assert done.statements[2].id == "n3"
    assert review.add(done, "plan", "Refer to cardiology.", VISIT).open_flags == ("n2", "n4")


def test_a_statement_is_added_at_the_end_of_its_section(draft: Note) -> None:
    """Sections stay together."""
    done = review.add(review.add(draft, "plan", "Follow up in 2 weeks.", VISIT), "subjective", "Left ear pain.", VISIT)
    assert [s.section for s in done.statements] == ["subjective", "subjective", "subjective", "plan"]


def test_an_omission_is_taken_over_in_its_own_words(draft: Note) -> None:
    """Taking over an omission adds its text, with evidence, and strikes it from the list."""
    omission = draft.omissions[0]
    done = review.add_from_omission(draft, omission, "subjective", VISIT)
    assert omission not in done.omissions
    assert done.statements[2].text == omission.text
    assert omission.segment in [e.segment for e in done.statements[2].evidence]


def test_unknown_statements_and_empty_texts_are_refused(draft: Note) -> None:
    """A statement or omission that is not there, or a text without words, changes nothing."""
    with pytest.raises(RecordError) as unknown:
        review.confirm(draft, "n9")
    assert unknown.value.code == "statement_unknown"
    with pytest.raises(InputError) as empty:
        review.edit(draft, "n1", "  \n ", VISIT)
    assert empty.value.code == "text_empty"
    with pytest.raises(RecordError) as gone:
        review.add_from_omission(draft, Omission(segment="s1", kind="drug", text="x"), "plan", VISIT)
    assert gone.value.code == "omission_unknown"


@pytest.mark.parametrize("removed", [False, True], ids=["stated", "removed"])
def test_words_are_held_against_the_allergies_of_the_note(*, removed: bool) -> None:
    """What the rest of the note states speaks against a drug that is typed; what was removed from it does not."""
    said = transcript("Let us start amoxicillin 500 mg today.")
    before = note(said, "Allergic to penicillin.", "Start amoxicillin 500 mg.")
    if removed:
        before = review.remove(before, "n1")
    edited = review.edit(before, "n2", "Start amoxicillin 500 mg today.", said)
    added = review.add(before, "plan", "Start amoxicillin 500 mg today.", said)
    expected = [] if removed else ["allergy_conflict"]
    assert codes(edited.statements[1]) == codes(added.statements[-1]) == expected
