"""`clinic.verification`: questions with their answers, sides, shorthand, strangers with a dose, omissions again."""

from __future__ import annotations

import pytest

from clinic.domain import DraftStatement, Transcript
from clinic.verification import verify_statement
from clinic.verification.checks import CHECKS, wrong_drugs, wrong_negation, wrong_side
from clinic.verification.negation import Polarity, answer, hesitates
from clinic.verification.notes import claims_nothing
from clinic.verification.passages import hear
from clinic.verification.quantities import quantities
from clinic.verification.review import add, add_from_omission, edit
from clinic.verification.words import tokenize

from .verification_cases import codes, note, one, transcript


def polarity(said: Transcript, key: str) -> set[Polarity]:
    """Return how a term was meant, wherever it was said."""
    return {mention.polarity for mention in hear(said).mentions[key]}


@pytest.mark.parametrize(
    ("lines", "key", "expected"),
    [
        (("D: Any chest pain?", "P: Um", "P: No, I don't think so."), "=chest pain", Polarity.DENIED),
        (("D: Any fever?", "P: ", "P: Mm, no, not that I've noticed."), "=fever", Polarity.DENIED),
        (("D: Do you have a cough?", "P: A slight one."), "=cough", Polarity.AFFIRMED),
        (("D: Any allergies to drugs ? i did n't ask .", "P: no , none ."), "=allergy", Polarity.DENIED),
        (("D: okay alright and any dizziness at all", "P: I moved house."), "=dizziness", Polarity.ASKED),
        (("D: How is your asthma?", "P: Much better."), "=asthma", Polarity.AFFIRMED),
        (("D: When did the nausea start?", "P: On Monday."), "=nausea", Polarity.AFFIRMED),
        (("D: Is the headache worse when you lie down?", "P: No."), "=headache", Polarity.AFFIRMED),
        (("D: What about the rash?", "P: No, that is gone."), "=rash", Polarity.DENIED),
        (("D: No fever?", "P: I moved house."), "=fever", Polarity.DENIED),
        (("D: If you have any trouble at all, or you get chest pain, call me.",), "=chest pain", Polarity.DOUBTED),
        (("D: Can you tell me if you have any fever?", "P: No."), "=fever", Polarity.DENIED),
        (("D: Do you have a cough?", "P: I have never had that."), "=cough", Polarity.DENIED),
        (("P: She denies no headache.",), "=headache", Polarity.AFFIRMED),
        (("P: I wish I had some weight loss.",), "=weight loss", Polarity.DOUBTED),
    ],
    ids=[
        "after-um", "after-nothing", "slight", "asker-goes-on", "any-without-mark", "how-is-your", "when-did-the",
        "definite", "what-about", "no-fever-silence", "long-condition", "tell-me-if", "have-never", "denies-no", "wish",
    ],
)  # fmt: skip
def test_a_question_is_settled_by_its_answer(lines: tuple[str, ...], key: str, expected: Polarity) -> None:
    """Questions are settled over hesitation, what they take for granted is affirmed, and advice settles nothing."""
    assert polarity(transcript(*lines), key) == {expected}


@pytest.mark.parametrize(
    ("text", "nothing"), [("Um", True), ("", True), ("Oh, well.", True), ("Okay.", False), ("No.", False)]
)
def test_hesitation(text: str, nothing: bool) -> None:  # noqa: FBT001
    """A reply that says nothing yet is passed over; a yes, a no and an okay are replies."""
    assert hesitates(text) is nothing


def test_split_contractions_are_one_word() -> None:
    """Some transcripts write `did n't`."""
    assert answer("i did n't have that") is Polarity.DENIED


EXERCISE = transcript(
    "D: You came for chest pain.", "P: Yes, I had chest pain on Saturday.",
    "D: No chest pain while you were doing exercises for your knee?",
    "P: No.",
)  # fmt: skip


def test_the_closest_mention_decides() -> None:
    """A denial with its circumstances stands beside the same thing affirmed elsewhere."""
    assert codes(one(EXERCISE, "Denies chest pain while doing exercises for his knee.")) == []
    turned = "Reports chest pain while doing exercises for his knee."
    assert codes(one(EXERCISE, turned)) == ["negation_mismatch"]
    assert codes(one(EXERCISE, turned, checks=[c for c in CHECKS if c is not wrong_negation])) == []


LISTED = transcript(
    "D: Any chest pain, shortness of breath or belly pain?", "P: Shortness of breath. No belly pain though."
)


def test_what_was_asked_and_not_affirmed_may_be_denied() -> None:
    """The patient answered a list with the one that is there."""
    assert codes(one(LISTED, "Denies chest pain.")) == []
    assert codes(one(LISTED, "Denies shortness of breath.")) == ["negation_mismatch"]


KNEES = transcript(
    "D: The right knee is red and swollen.", "D: The left knee is normal, with a full range of motion.",
    "P: The right knee hurts.",
    "D: We will X-ray the right knee.",
)  # fmt: skip


def test_a_side_is_that_of_the_closest_sentence() -> None:
    """Where both knees were spoken of, what was said of each decides."""
    assert codes(one(KNEES, "Full range of motion of the left knee.")) == []
    turned = "Full range of motion of the right knee."
    assert codes(one(KNEES, turned)) == ["laterality_mismatch"]
    assert codes(one(KNEES, turned, checks=[c for c in CHECKS if c is not wrong_side])) == []


LEG = transcript(
    "D: She is here for left leg pain. Right leg pain, right leg pain?", "P: Yes.", "D: The leg is bruised."
)


def test_a_side_that_the_rest_of_the_note_gives_otherwise() -> None:
    """Said both ways, and everything else in the note has the other side."""
    rest = ("Evaluation of right leg pain.", "Right leg contusion.")
    whole = note(LEG, "Left leg pain.", *rest)
    assert codes(whole.statements[0]) == ["laterality_mismatch"]
    assert [codes(s) for s in note(LEG, "Right leg pain.", *rest).statements] == [[], [], []]
    assert codes(one(LEG, "Left leg pain.")) == []  # alone it is believed: it was said


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("Stopped 6/12 ago", {182.625}), ("Review in 10-14d", {10.0, 14.0}), ("Vision 6/12", set()),
        ("Unwell for 4/7", {4.0}), ("Review in 1/52", {7.0}),
    ],
    ids=["months", "days", "eye", "sevenths", "weeks"],
)  # fmt: skip
def test_shorthand_of_time(text: str, days: set[float]) -> None:
    """`6/12 ago` is six months, and how well an eye sees is not."""
    found = [q for q in quantities(tokenize(text)) if q.dimension == "time"]
    assert {value for q in found for value in q.values} == days


@pytest.mark.parametrize(
    ("text", "values"),
    [("three to four hundreds", {300, 400}), ("in the one twenties", {120}), ("five or six hundred", {500, 600})],
    ids=["to", "decade", "or"],
)
def test_spoken_ranges(text: str, values: set[int]) -> None:
    """The hundred belongs to both ends; a decade goes on a hundred."""
    assert values <= {value for q in quantities(tokenize(text)) for value in q.values}


def test_every_six_hours_however_written() -> None:
    """`q.6 h` is a frequency."""
    assert [q.dimension for q in quantities(tokenize("q.6 h with food"))] == ["rate"]


STATIN = transcript("D: I will start you on ten milligrams of Lipitor daily.", "P: Fine.")


def test_a_stranger_with_a_dose_is_flagged() -> None:
    """A name that nobody said, beside a dose without a drug, is no drug that was given."""
    assert codes(one(STATIN, "10 mg liplid daily.")) in (["drug_not_said"], ["drug_sound_alike"])
    assert codes(one(STATIN, "10 mg liplid daily.", checks=[c for c in CHECKS if c is not wrong_drugs])) == []
    assert codes(one(STATIN, "Lipitor 10 mg daily.")) == []


def test_a_heading_alone_claims_nothing() -> None:
    """A part of the examination with nothing under it."""
    assert claims_nothing("Musculoskeletal")
    assert not claims_nothing("Musculoskeletal pain")


TWICE = transcript(
    "D: Your blood pressure is 150 over 90.",
    "P: Is that high?",
    "D: Well, 150/90 is high. And your weight is 92 kilos.",
)


def test_omissions_are_looked_for_again() -> None:
    """What the clinician wrote is no omission any more, and what an edit loses has become one."""
    whole = note(TWICE, "Weight 92 kg.")
    assert any("150" in o.text for o in whole.omissions)
    added = add(whole, "objective", "Blood pressure 150/90.", TWICE)
    assert not any("150" in o.text for o in added.omissions)
    lost = edit(added, "n2", "Blood pressure was taken.", TWICE)
    assert any("150" in o.text for o in lost.omissions)


SPOKEN = transcript(
    "D: Your blood pressure is one fifty over ninety.", "P: Is that high?", "D: Well, 150 over 90 is high.",
    "D: Your pulse is 88.",
)  # fmt: skip


def test_a_measurement_is_offered_once() -> None:
    """Said twice, in words and in figures: one omission; taken over, none is left of it, and the other one stays."""
    whole = note(SPOKEN, "Seen today.")
    measured = [o for o in whole.omissions if o.kind == "measurement"]
    assert [o.segment for o in measured] == ["s1", "s4"]
    taken = add_from_omission(whole, measured[0], "objective", SPOKEN)
    assert [o.segment for o in taken.omissions if o.kind == "measurement"] == ["s4"]


def test_rest_of_the_note_may_be_given_as_drafts() -> None:
    """The public function takes the other statements as they are."""
    heard = hear(LEG)
    rest = [DraftStatement(section="", text=t) for t in ("Evaluation of right leg pain.", "Right leg contusion.")]
    found = verify_statement(DraftStatement(section="", text="Left leg pain."), heard, statement_id="n9", rest=rest)
    assert codes(found) == ["laterality_mismatch"]
