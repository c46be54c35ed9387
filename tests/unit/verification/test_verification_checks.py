"""The checks, each with what it must notice, what it must leave alone, and what happens without it."""

from __future__ import annotations

import pytest

from clinic.domain import Segment, StatementStatus, Transcript
from clinic.verification import checks, result
from clinic.verification.checks import CHECKS
from tests.unit.verification.verification_cases import codes, note, one, timed, transcript

VISIT = transcript(
    "D: Good morning. What brings you in?",
    "P: I've had a sore throat and a cough for about five days now.",
    "D: Any fever?",
    "P: No.",
    "D: Any chest pain or shortness of breath?",
    "P: No, nothing like that. My left ear hurts a bit though.",
    "D: Do you take any medication?",
    "P: Just lisinopril, ten milligrams once a day.",
    "D: Are you allergic to anything?",
    "P: Yes, penicillin. It gave me a rash.",
    "D: Do you smoke?",
    "P: I used to, I quit two years ago.",
    "D: Your blood pressure is one forty over ninety, and your temperature is thirty seven point two.",
    "D: Take paracetamol, five hundred milligrams twice a day for a week.",
    "D: If you get short of breath or it gets worse, call us straight away. Come back in two weeks.",
)


@pytest.mark.parametrize(
    "text",
    [
        "5-day history of sore throat and cough.",
        "Denies fever.",
        "No chest pain or SOB.",
        "Left earache.",
        "Takes lisinopril 10 mg daily.",
        "Allergic to penicillin (rash).",
        "Former smoker, quit 2 years ago.",
        "BP 140/90, temp 37.2.",
        "Acetaminophen 500 mg b.i.d. for 7 days.",
        "Follow-up in 2 weeks.",
        "Call if dyspnoea develops or symptoms worsen.",
    ],
)
def test_a_faithful_statement_is_supported(text: str) -> None:
    """A statement that says what was said, in a note's words, has evidence and no reason against it."""
    statement = one(VISIT, text)
    assert codes(statement) == []
    assert statement.status is StatementStatus.SUPPORTED
    assert statement.evidence


@pytest.mark.parametrize(
    ("text", "code", "check"),
    [
        pytest.param("Takes lisinopril 20 mg daily.", "number_mismatch", checks.wrong_numbers, id="dose"),
        pytest.param("Takes lisinopril 10 mcg daily.", "number_mismatch", checks.wrong_numbers, id="unit"),
        pytest.param("Paracetamol 500 mg three times a day.", "number_mismatch", checks.wrong_numbers, id="frequency"),
        pytest.param("BP 160/90.", "number_mismatch", checks.wrong_numbers, id="pressure"),
        pytest.param("Sore throat and cough for 8 days.", "number_mismatch", checks.wrong_numbers, id="duration"),
        pytest.param("Weighs 82 kg, sore throat and cough.", "number_not_said", checks.wrong_numbers, id="measure"),
        pytest.param("Takes amlodipine once a day.", "drug_not_said", checks.wrong_drugs, id="drug"),
        pytest.param("Takes fosinopril once a day.", "drug_sound_alike", checks.wrong_drugs, id="sound-alike"),
        pytest.param("Reports fever.", "negation_mismatch", checks.wrong_negation, id="fever"),
        pytest.param("Denies sore throat and cough.", "negation_mismatch", checks.wrong_negation, id="throat"),
        pytest.param("No known drug allergies.", "negation_mismatch", checks.wrong_negation, id="allergy"),
        pytest.param("Right ear pain.", "laterality_mismatch", checks.wrong_side, id="side"),
        pytest.param("Works as a lorry driver.", "unsupported", checks.unsupported, id="invented"),
    ],
)
def test_a_planted_error_is_noticed_by_its_check_only(text: str, code: str, check: checks.Check) -> None:
    """Each kind of error is flagged with its code; with that check taken out it goes unnoticed."""
    statement = one(VISIT, text)
    assert code in codes(statement)
    assert statement.status is StatementStatus.FLAGGED
    without = one(VISIT, text, checks=[c for c in CHECKS if c is not check])
    assert code not in codes(without)


def test_a_cited_segment_that_does_not_exist_is_a_reason() -> None:
    """A citation is a candidate: an unknown one flags the statement, a wrong one changes nothing."""
    unknown = one(VISIT, "Denies fever.", cited=("s99",))
    assert codes(unknown) == ["cited_unknown"]
    assert codes(one(VISIT, "Denies fever.", cited=("s99",), checks=[checks.unsupported])) == []
    wrong = one(VISIT, "Denies fever.", cited=("s8",))
    assert codes(wrong) == []
    assert [e.segment for e in wrong.evidence] == ["s3", "s4"]


def test_question_and_answer_are_evidence_together() -> None:
    """What a question names and the next segment answers is supported by both segments."""
    assert [e.segment for e in one(VISIT, "No fever.").evidence] == ["s3", "s4"]


def test_every_contradicted_term_of_a_list_is_named() -> None:
    """Each has its own reason, and what was denied has none."""
    said = transcript("D: Any cough or rash?", "P: No.", "P: I have a headache and a fever.")
    reasons = one(said, "No cough, headache, rash, fever.").reasons
    assert [r.code for r in reasons] == ["negation_mismatch"] * 2
    assert [r.message.split('"')[1] for r in reasons] == ["headache", "fever"]
    assert codes(one(said, "No cough, rash.")) == []


def test_an_allergy_is_shown_where_it_is_stated() -> None:
    """Not where the drug is only named, even if the draft cites that; under another heading nothing is preferred."""
    said = transcript("D: I will not give you penicillin.", "P: I know, I am allergic to penicillin, since childhood.")
    for cited in ((), ("s1",)):
        statement = one(said, "Penicillin.", section="Allergies", cited=cited)
        assert [e.segment for e in statement.evidence] == ["s2"]
    assert [e.segment for e in one(said, "Penicillin.", section="plan", cited=("s1",)).evidence] == ["s1"]


def test_an_unanswered_question_proves_neither() -> None:
    """A symptom that was asked about without an answer contradicts nothing."""
    said = transcript("D: Any fever?", "P: Let me think.", "D: And what about your cough?", "P: It comes and goes.")
    assert "negation_mismatch" not in codes(one(said, "No fever."))
    assert "negation_mismatch" not in codes(one(said, "Fever."))


def test_a_dose_of_another_drug_is_no_proof() -> None:
    """A number that was said of another drug does not support this one's dose."""
    said = transcript(
        "P: I take metformin five hundred milligrams.", "P: Then there is my garden.", "P: And the dog.", "P: Oh well.",
        "P: My wife is fine.", "P: And I take atorvastatin forty milligrams.",
    )  # fmt: skip
    assert codes(one(said, "Atorvastatin 500 mg.")) == ["number_mismatch"]
    assert codes(one(said, "Atorvastatin 40 mg.")) == []


def test_brand_and_generic_names_are_one_drug() -> None:
    """A note may name the substance of the brand that was said."""
    said = transcript("P: I took some Tylenol and my Ventolin.")
    assert codes(one(said, "Took paracetamol and salbutamol.")) == []


@pytest.mark.parametrize("text", ["Not discussed.", "Not mentioned", "Allergies: not discussed.", "N/A", "-", "…"])
def test_a_statement_that_claims_nothing_needs_no_evidence(text: str) -> None:
    """`Not discussed` is supported without evidence: it is an honest answer, not a claim."""
    statement = one(VISIT, text)
    assert (statement.status, statement.evidence, statement.reasons) == (StatementStatus.SUPPORTED, (), ())


def test_none_is_read_with_its_heading() -> None:
    """`None.` under allergies denies allergies, and is wrong where one was named."""
    clean = transcript("D: Any allergies?", "P: No.")
    assert codes(one(clean, "None.", section="Allergies")) == []
    assert codes(one(VISIT, "None.", section="Allergies")) == ["negation_mismatch"]


def test_seconds_are_those_of_the_matching_words() -> None:
    """Evidence plays the words that match, not the whole segment."""
    said = timed("well I was out in the garden all day and then my knee started to hurt quite badly")
    (found,) = one(said, "Knee pain.").evidence
    assert found.start is not None
    assert found.end is not None
    assert 15.0 <= found.start <= 16.0
    assert 17.5 <= found.end <= 19.0


def test_without_word_times_the_whole_segment_is_played() -> None:
    """A segment with times but no words is evidence from its start to its end."""
    said = timed("my knee hurts", words=False)
    (found,) = one(said, "Knee pain.").evidence
    assert (found.start, found.end) == (10.0, 11.5)


def test_without_times_evidence_has_none() -> None:
    """Text that was never spoken has segments and no seconds."""
    (found,) = one(transcript("P: My knee hurts."), "Knee pain.").evidence
    assert (found.segment, found.start, found.end) == ("s1", None, None)


def test_an_empty_transcript_supports_nothing() -> None:
    """Without a transcript every claim is flagged and nothing is omitted."""
    made = note(Transcript(segments=()), "Denies fever.")
    assert codes(made.statements[0]) == ["unsupported"]
    assert made.omissions == ()


def test_the_result_has_the_shape_of_the_command_line() -> None:
    """`result` gives what `clinic note verify --json` promises."""
    made = result(note(VISIT, "Reports fever."))
    (statement,) = made["statements"]
    assert set(statement) == {"id", "status", "evidence", "reasons"}
    assert statement["status"] == "flagged"
    assert statement["evidence"][0] == "s3"
    assert set(statement["reasons"][0]) == {"code", "message"}
    assert all(set(o) == {"segment", "kind", "text"} for o in made["omissions"])


def test_segments_with_the_same_id_do_not_break_it() -> None:
    """Two segments of one id are odd and harmless."""
    twice = Transcript(segments=(Segment(id="s1", text="Any fever?"), Segment(id="s1", text="No.")))
    assert codes(one(twice, "No fever.")) == []


FAMILY = transcript(
    "D: Any illnesses in the family?",
    "P: My mother had breast cancer, and my dad has diabetes.",
    "D: And you, any conditions yourself?",
    "P: Just asthma.",
)


@pytest.mark.parametrize("text", ["Mother had breast cancer.", "Asthma.", "Father has diabetes."])
def test_a_condition_of_the_right_person_is_supported(text: str) -> None:
    """What was said of a relative may be noted of that relative, the patient's own of the patient."""
    assert codes(one(FAMILY, text)) == []


def test_a_relatives_condition_is_not_the_patients() -> None:
    """A condition that was said of a relative only is flagged without the relative; under its heading it is right."""
    assert codes(one(FAMILY, "Patient has diabetes.")) == ["subject_mismatch"]
    assert codes(one(FAMILY, "Breast cancer.", section="Family history")) == []
    others = [c for c in CHECKS if c is not checks.wrong_subject]
    assert codes(one(FAMILY, "Patient has diabetes.", checks=others)) == []


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        ("The patient's brother has a sore throat.", True),
        ("Her mother takes lisinopril.", True),
        ("The patient has a sore throat.", False),
    ],
)
def test_a_relative_of_whom_nobody_spoke(text: str, flagged: bool) -> None:  # noqa: FBT001
    """What the patient said of themselves is not a relative's, unless a relative was spoken of near it, or speaks."""
    assert ("subject_mismatch" in codes(one(VISIT, text))) is flagged


def test_a_relative_who_is_spoken_of_or_speaks() -> None:
    """A relative named near the evidence, the family as a whole, and a carer who speaks are all left alone."""
    said = transcript("D: How is your brother?", "P: He has a sore throat.")
    assert codes(one(said, "Her brother has a sore throat.")) == []
    segments = (Segment(id="s1", speaker="guest_family", text="He has a sore throat, I noticed."),)
    assert codes(one(Transcript(segments=segments), "Mother reports a sore throat.")) == []


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        ("Knee pain for 3 weeks, 3 out of 10.", False),
        ("Knee pain for 21 days, 3 out of 10.", False),
        ("Knee pain for 3 months, 3 out of 10.", True),
    ],
)
def test_the_same_number_with_another_unit(text: str, flagged: bool) -> None:  # noqa: FBT001
    """A bare number in the same breath does not excuse a unit that was said otherwise."""
    said = transcript("P: My knee has hurt for three weeks now, it is three out of ten, like three knives.")
    assert ("number_mismatch" in codes(one(said, text))) is flagged


RUN_ON = (
    "so i have been staying on top of my tablets and i take them every morning with my breakfast at "
    "home and then there was this long journey with the children to the sea which we all liked a lot "
    "and it was not cold and i am not sure what else to tell you but we also saw the lighthouse and "
    "the harbour on the way back home"
)


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        ("Denies staying on top of his tablets.", True),
        ("He has not been staying on top of his tablets.", True),
        ("He has been staying on top of his tablets.", False),
        ("The journey to the sea was not cold.", False),
    ],
)
def test_a_denial_elsewhere_in_a_long_segment_is_no_denial_here(text: str, flagged: bool) -> None:  # noqa: FBT001
    """A `not` far from the words that the statement shares does not stand behind its `not` or `denies`."""
    assert ("negation_mismatch" in codes(one(transcript(f"P: {RUN_ON}"), text))) is flagged
    others = [c for c in CHECKS if c is not checks.wrong_negation]
    assert "negation_mismatch" not in codes(one(transcript(f"P: {RUN_ON}"), text, checks=others))


def test_a_doubt_reaches_only_so_far_in_speech_without_punctuation() -> None:
    """`not sure` at the end of a long run of words leaves a finding at its beginning as it was said."""
    said = transcript(
        "D: on the x-ray there is no fracture of the wrist and the bones are well aligned and the joint space is kept "
        "and your grip is strong and the skin is warm and dry so that is all very good news for you and i am not sure "
        "how long you will want to wear the splint but we can talk about that another time when you are back"
    )
    assert "negation_mismatch" in codes(one(said, "Wrist fracture."))
    assert "negation_mismatch" not in codes(one(said, "No wrist fracture."))
