"""What a small model gets dangerously wrong, as it was seen in drafts of the sample consultation."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from clinic.domain import DraftStatement, Segment, StatementStatus, Transcript
from clinic.verification import checks, verify
from clinic.verification.allergies import kin
from clinic.verification.checks import CHECKS
from clinic.verification.notes import split_sentences
from clinic.verification.vocabulary import drug_names, table
from tests.unit.verification.verification_cases import codes, note, one, transcript

TURNS = tomllib.loads(resources.files("clinic").joinpath("demo/script.toml").read_text(encoding="utf-8"))["turn"]
SPOKEN = Transcript(
    segments=tuple(Segment(id=f"s{i}", speaker=t["speaker"], text=t["text"]) for i, t in enumerate(TURNS, start=1))
)
SENTENCES = [sentence for turn in TURNS for sentence in split_sentences(turn["text"])]
HEARD = Transcript(segments=tuple(Segment(id=f"s{i}", text=text) for i, text in enumerate(SENTENCES, start=1)))
"""The sample as the recogniser cuts it: a sentence a segment, nobody named."""

BOTH = pytest.mark.parametrize("said", [SPOKEN, HEARD], ids=["turns", "sentences"])


@BOTH
@pytest.mark.parametrize(
    ("text", "code", "check"),
    [
        pytest.param(
            "Ibuprofen 400 mg three times a day, penicillin 500 mg once a day for pain and fever.",
            "dose_mismatch", checks.wrong_dose, id="dose-of-another-drug",
        ),
        pytest.param("Azithromycin 1 g once a day.", "dose_mismatch", checks.wrong_dose, id="dose"),
        pytest.param("Azithromycin 500 mg four times a day.", "dose_mismatch", checks.wrong_dose, id="frequency"),
        pytest.param("Paracetamol 1 g for three days.", "dose_mismatch", checks.wrong_dose, id="duration"),
        pytest.param("Avoid azithromycin.", "plan_mismatch", checks.wrong_plan, id="avoid"),
        pytest.param("Stop ibuprofen.", "plan_mismatch", checks.wrong_plan, id="stop"),
        pytest.param("Withhold azithromycin.", "plan_mismatch", checks.wrong_plan, id="withhold"),
        pytest.param("Azithromycin is contraindicated.", "plan_mismatch", checks.wrong_plan, id="contraindicated"),
        pytest.param("Start penicillin.", "plan_mismatch", checks.wrong_plan, id="start"),
        pytest.param("Prescribe penicillin.", "plan_mismatch", checks.wrong_plan, id="prescribe"),
        pytest.param("Start penicillin.", "allergy_conflict", checks.allergy_conflict, id="allergen"),
        pytest.param("Prescribe amoxicillin.", "allergy_conflict", checks.allergy_conflict, id="class"),
        pytest.param("Co-amoxiclav 500 mg.", "allergy_conflict", checks.allergy_conflict, id="class-by-dose"),
        pytest.param("Allergic to azithromycin.", "allergy_conflict", checks.allergy_conflict, id="wrong-allergy"),
        pytest.param(
            "The patient has a history of allergic rhinitis.", "term_not_said", checks.term_not_said, id="diagnosis"
        ),
    ],
)  # fmt: skip
def test_a_dangerous_statement_is_noticed_by_its_check_only(
    said: Transcript, text: str, code: str, check: checks.Check
) -> None:
    """Each kind of error is flagged with its code; with that check taken out it goes unnoticed."""
    statement = one(said, text, section="plan")
    assert code in codes(statement)
    assert statement.status is StatementStatus.FLAGGED
    assert code not in codes(one(said, text, section="plan", checks=[c for c in CHECKS if c is not check]))


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "Azithromycin 500 mg once a day for three days.",
        "Avoid penicillin.",
        "Do not give penicillin.",
        "Penicillin is contraindicated because of allergy.",
        "Azithromycin prescribed instead of penicillin due to allergy.",
        "Because of penicillin allergy, start azithromycin 500 mg once a day for 3 days.",
        "Allergic to penicillin.",
        "Penicillin allergy (rash in childhood).",
        "Penicillin gave a rash.",
        "Ibuprofen 400 mg three times a day.",
        "Continue ibuprofen.",
        "Paracetamol 1 g up to four times a day.",
        "Azithromycin 500 mg once daily for three days, paracetamol 1 g up to four times daily for pain and fever.",
        "Come back in one week if not better.",
        "Review in one week.",
        "No cough. No rash.",
        "Tonsillitis, likely bacterial.",
        "Sore throat for four days.",
    ],
)
def test_a_correct_statement_stays_supported(said: Transcript, text: str) -> None:
    """What was said, in a note's words, has evidence and no reason against it, in whichever section it stands."""
    for section in ("subjective", "plan"):
        statement = one(said, text, section=section)
        assert codes(statement) == []
        assert statement.evidence


@BOTH
def test_an_allergen_that_is_listed_as_medication_is_flagged(said: Transcript) -> None:
    """A bare name is enough, under any heading but that of allergies; with words around it, it depends on them."""
    for section in ("medications", "background", "subjective"):
        assert "allergy_conflict" in codes(one(said, "Penicillin.", section=section))
        assert "allergy_conflict" not in codes(one(said, "Allergic to penicillin.", section=section))
        assert "allergy_conflict" not in codes(one(said, "Azithromycin.", section=section))
    assert "allergy_conflict" not in codes(one(said, "Penicillin.", section="allergies"))


@pytest.mark.parametrize("text", ["HTN.", "Hypertension.", "The patient has hypertension."])
def test_a_measured_blood_pressure_is_no_diagnosis(text: str) -> None:
    """A reading does not say that it is too high; who says so, in any of its names, does."""
    measured = transcript("Your blood pressure is 132 over 84.")
    assert "term_not_said" in codes(one(measured, text))
    assert codes(one(measured, "Blood pressure 132/84.")) == []
    assert codes(one(transcript("You have high blood pressure, as we said."), text)) == []


NARROWER = [
    ("I have had a sore throat for three days.", "Strep throat."),
    ("I get chest pain on the stairs.", "Angina."),
    ("My sinuses hurt.", "Sinusitis."),
    ("Your tonsils are red.", "Tonsillitis."),
    ("You have an infection.", "Sepsis."),
    ("There is a clot in the leg.", "Pulmonary embolism."),
    ("We check your thyroid.", "Hypothyroidism."),
    ("She had a stroke.", "TIA."),
    ("It is your arthritis.", "Rheumatoid arthritis."),
    ("He has a liver disease.", "Cirrhosis."),
    ("I have heartburn.", "GERD."),
    ("We look at the prostate.", "BPH."),
]
"""What was said, and a diagnosis that says more."""


@pytest.mark.parametrize(("said", "text"), NARROWER, ids=[text for _, text in NARROWER])
def test_a_diagnosis_that_says_more_must_have_been_said(said: str, text: str) -> None:
    """A word for the symptom, the organ or the whole family of illnesses does not name the illness."""
    assert "term_not_said" in codes(one(transcript(said), text))
    assert "term_not_said" not in codes(one(transcript(said, f"We call it {text}"), text))
    others = [check for check in CHECKS if check is not checks.term_not_said]
    assert "term_not_said" not in codes(one(transcript(said), text, checks=others))


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("It was a mini-stroke.", "TIA."),
        ("It is wear, osteoarthritis.", "DJD."),
        ("This is angina.", "Chest pain."),
        ("You have strep throat.", "Sore throat."),
        ("You have prediabetes.", "Borderline diabetes."),
    ],
)
def test_the_same_said_otherwise_or_less_is_supported(said: str, text: str) -> None:
    """Another name of the same illness, and the wider word where the narrower was said, were said."""
    assert codes(one(transcript(said), text)) == []


STOPPED = transcript(
    "D: She takes metformin 500 mg twice a day and lisinopril 10 mg once daily.",
    "D: The cough is from it. Stop lisinopril, start losartan 50 mg once a day.",
)


@pytest.mark.parametrize("text", ["Continue lisinopril 10 mg once daily.", "Lisinopril 10 mg once daily."])
def test_what_was_stopped_in_the_end_does_not_go_on(text: str) -> None:
    """That it was taken before does not make it the plan; negative control: without the check nothing is flagged."""
    assert "plan_mismatch" in codes(one(STOPPED, text, section="plan"))
    others = [check for check in CHECKS if check is not checks.wrong_plan]
    assert codes(one(STOPPED, text, section="plan", checks=others)) == []


@pytest.mark.parametrize(
    ("section", "text"),
    [
        ("subjective", "Takes lisinopril 10 mg once daily."),
        ("plan", "Stop lisinopril."),
        ("plan", "Start losartan 50 mg once a day."),
        ("plan", "Metformin 500 mg twice a day."),
    ],
)
def test_what_was_taken_or_goes_on_may_be_noted(section: str, text: str) -> None:
    """The history stays true, and so does the rest of the plan."""
    assert codes(one(STOPPED, text, section=section)) == []


def test_a_denial_of_which_nobody_spoke_is_no_part_of_a_list() -> None:
    """Two of three were asked for; negative control: without the check the third slips in."""
    said = transcript("D: Any fever or chest pain?", "P: No.")
    statement = one(said, "No fever, chest pain, or hemoptysis.")
    assert codes(statement) == ["term_not_said"]
    assert statement.reasons[0].message == 'the note denies "hemoptysis", of which nobody spoke'
    assert codes(one(said, "No fever or chest pain.")) == []
    others = [check for check in CHECKS if check is not checks.term_not_said]
    assert codes(one(said, "No fever, chest pain, or hemoptysis.", checks=others)) == []


def test_the_reason_says_what_is_wrong_in_plain_words() -> None:
    """Reasons name both drugs, or what was said instead."""
    (dose, allergy) = one(HEARD, "Penicillin 500 mg once a day for pain and fever.", section="plan").reasons[:2]
    assert dose.message == 'the note has "500 mg" for "Penicillin", it was said of "azithromycin"'
    assert allergy.message == 'the note gives "Penicillin", but an allergy to "penicillin" was stated'
    (plan,) = one(HEARD, "Avoid azithromycin.").reasons
    assert plan.message == 'the note withholds "azithromycin", but it was given or taken'


# --- doses


def test_a_dose_may_follow_in_the_next_segments() -> None:
    """A dose belongs to the drug that is being talked of, across segments, until another drug is named."""
    said = transcript(
        "D: How much metformin do you take?", "P: Five hundred milligrams.", "D: How often?", "P: Twice a day.",
        "P: And lisinopril, ten milligrams daily.",
    )  # fmt: skip
    assert codes(one(said, "Metformin 500 mg twice a day.")) == []
    assert codes(one(said, "Lisinopril 10 mg daily.")) == []
    assert codes(one(said, "Metformin 10 mg twice a day."))
    assert codes(one(said, "Lisinopril 500 mg daily."))


def test_a_dose_before_its_drug_belongs_to_it() -> None:
    """`400 mg of ibuprofen` is a dose of ibuprofen, whatever was named before."""
    said = transcript("P: I take paracetamol and four hundred milligrams of ibuprofen.")
    assert codes(one(said, "Takes ibuprofen 400 mg.")) == []
    assert codes(one(said, "Takes paracetamol 400 mg.")) == ["dose_mismatch"]


# --- plans


@pytest.mark.parametrize(
    ("said", "text"),
    [
        pytest.param("P: I take ibuprofen. D: Stop taking that, please.", "Stop ibuprofen.", id="that"),
        pytest.param("D: If you bleed, stop the aspirin. P: I do take aspirin.", "Stop aspirin if bleeding.", id="if"),
        pytest.param("D: Do not stop the aspirin.", "Continue aspirin.", id="do-not-stop"),
        pytest.param("P: I take ibuprofen. D: No more anti-inflammatories.", "Takes ibuprofen.", id="both"),
        pytest.param("D: Continue everything except Prozac.", "Stop Prozac.", id="except"),
    ],
)
def test_both_ways_of_a_plan_may_be_noted_where_both_were_said(said: str, text: str) -> None:
    """A drug that was taken and is now stopped may be noted as either."""
    lines = said.replace(" D: ", "\nD: ").replace(" P: ", "\nP: ").splitlines()
    assert "plan_mismatch" not in codes(one(transcript(*lines), text))


# --- allergies


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("D: Any allergies?", "P: Yes.", "P: Penicillin."), id="answer"),
        pytest.param(("D: Are you allergic to penicillin?", "P: Yes, I am."), id="yes"),
        pytest.param(("P: I'm allergic to penicillin, so I was given clarithromycin.",), id="stated"),
    ],
)
def test_an_allergy_is_stated_in_many_ways(lines: tuple[str, ...]) -> None:
    """An answer states an allergy as well as a sentence does, and only to what it names."""
    assert "allergy_conflict" in codes(one(transcript(*lines), "Start amoxicillin."))
    assert "allergy_conflict" not in codes(one(transcript(*lines), "Start clarithromycin."))


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(("D: Are you allergic to penicillin?", "P: No."), id="no"),
        pytest.param(("D: Any allergies?", "P: No.", "P: I had penicillin once."), id="denied"),
        pytest.param(("P: My mother is allergic to penicillin.",), id="relative"),
        pytest.param(("D: What do you take for your allergies?", "P: Penicillin, oddly."), id="taken-for-it"),
        pytest.param(("D: Because of your allergy, I will give you penicillin.",), id="because"),
        pytest.param(("D: If you are allergic to penicillin, tell me.", "P: I will."), id="if"),
    ],
)
def test_what_states_no_allergy_makes_no_conflict(lines: tuple[str, ...]) -> None:
    """Denied, asked, supposed or a relative's: no allergy of the patient."""
    assert "allergy_conflict" not in codes(one(transcript(*lines), "Start amoxicillin."))


def test_a_note_must_not_contradict_itself() -> None:
    """An allergy in one statement speaks against the drug in another."""
    said = transcript("D: I will prescribe amoxicillin, five hundred milligrams three times a day.")
    drafts = [
        DraftStatement(section="allergies", text="Penicillin."),
        DraftStatement(section="plan", text="Amoxicillin 500 mg three times a day."),
    ]
    made = verify(drafts, said, template="soap", model="test")
    assert codes(made.statements[1]) == ["allergy_conflict"]
    assert codes(note(said, drafts[1].text, section="plan").statements[0]) == []
    without = [c for c in CHECKS if c is not checks.allergy_conflict]
    assert codes(verify(drafts, said, template="soap", model="test", checks=without).statements[1]) == []


def test_the_classes_name_known_drugs_once() -> None:
    """Every drug of the table is one that `drugs.txt` knows, and stands in one class."""
    rows = [line.partition(":")[2].split("|") for line in table("drug_classes.txt")]
    members = [name.strip() for row in rows for name in row]
    assert set(members) <= set(drug_names())
    assert all(len(kin("+" + name)) == 1 for name in members)
    assert kin("+amoxicillin") == kin("+penicillin") == kin("+dicloxacillin") != kin("+cephalexin")


# --- questions, follow-up


@pytest.mark.parametrize("reply", ["P: Let me think.", "P: I don't know.", "D: And a cough?", "P: Hmm."])
def test_a_question_alone_is_no_evidence(reply: str) -> None:
    """What was only asked about supports nothing; with its answer it does."""
    said = transcript("D: Have you had a fever?", reply)
    assert "only_asked" in codes(one(said, "Fever."))
    assert codes(one(said, "Fever.", checks=[c for c in CHECKS if c is not checks.only_asked])) == []
    assert codes(one(transcript("D: Have you had a fever?", "P: Yes."), "Fever.")) == []
    assert codes(one(transcript("D: Have you had a fever?", "P: Thirty-nine last night."), "Fever.")) == []


def test_the_length_of_a_treatment_is_no_follow_up() -> None:
    """`For seven days` says nothing about when to come back."""
    said = transcript("D: Take amoxicillin, five hundred milligrams twice a day for seven days.", "P: Thank you.")
    assert "follow_up_not_said" in codes(one(said, "Review in one week."))
    others = [c for c in CHECKS if c is not checks.wrong_follow_up]
    assert "follow_up_not_said" not in codes(one(said, "Review in one week.", checks=others))
    assert codes(one(said, "Amoxicillin 500 mg twice daily for one week.")) == []
    assert codes(one(transcript("D: Let us see you in a week."), "Review in one week.")) == []


def test_stopping_one_drug_does_not_withhold_the_next() -> None:
    """`Stop one and start another`: each drug keeps its own verb, in transcript and note."""
    said = Transcript(segments=(Segment(id="s1", text="We will stop lisinopril and start losartan 50 mg daily."),))
    right = DraftStatement(section="plan", text="Stop lisinopril, start losartan 50 mg daily.")
    wrong = DraftStatement(section="plan", text="Start lisinopril, stop losartan.")
    note = verify([right, wrong], said, template="soap", model="m")
    assert note.statements[0].reasons == ()
    assert "plan_mismatch" in [reason.code for reason in note.statements[1].reasons]
