"""The reading grade: the formula as it was published, syllables as they are spoken."""

from __future__ import annotations

import pytest

from clinic.documents.readability import grade, hardest, syllables

SPOKEN = """
the 1 cat 1 medicine 3 day 1 reaction 3 created 3 needed 2 wanted 2 apple 2 table 2 people 2 being 2 idea 3 area 3
create 2 blood 1 pressure 2 hypertension 4 tablet 2 capsule 2 hours 1 sometimes 2 daily 2 patient 2 breathing 2
carefully 3 emergency 4 immediately 5 antibiotic 5 ibuprofen 4 amoxicillin 5 doing 2 science 2 radio 3 take 1 times 1
twice 1 milligrams 3 stopped 1 doctor 2 allergic 3 penicillin 4 rash 1 swelling 2 breath 1 return 2 worse 1 better 2
infection 3 asthma 2 heart 1 disease 2 water 2 drink 1 clinic 2 please 1 walked 1 tired 1 cases 2 doses 2 boxes 2
washes 2 dizzy 2 headache 2 fever 2 medication 4 exercise 3 follow 2 weeks 1 appointment 3 smoking 2 quiet 2 fluid 2
kidney 2 examination 5 diabetes 4 every 2 pneumonia 3
"""
PAIRS = list(zip(SPOKEN.split()[::2], map(int, SPOKEN.split()[1::2]), strict=True))


def test_syllables_are_counted_as_they_are_spoken() -> None:
    """Of 78 words of leaflets at least 75 are right, and none is off by more than one."""
    wrong = {word: syllables(word) - spoken for word, spoken in PAIRS if syllables(word) != spoken}
    assert len(PAIRS) == 78
    assert len(wrong) <= 3, wrong
    assert set(wrong.values()) <= {-1, 1}


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        pytest.param(["The cat sat on the mat."], 0.39 * 6 + 11.8 * 1 - 15.59, id="one sentence"),
        pytest.param(["Take it twice.", "Come back."], 0.39 * 2.5 + 11.8 * 1 - 15.59, id="two sentences"),
        pytest.param(["Medication examination."], 0.39 * 2 + 11.8 * 4.5 - 15.59, id="long words"),
        pytest.param(["Take 500 mg."], 0.39 * 3 + 11.8 * 1 - 15.59, id="numbers and units count as one"),
        pytest.param([], 0.0, id="nothing"),
        pytest.param(["..."], 0.0, id="no word"),
    ],
)
def test_grade_is_the_formula(sentences: list[str], expected: float) -> None:
    """0.39 words a sentence + 11.8 syllables a word - 15.59."""
    assert grade(sentences).grade == pytest.approx(expected)


def test_plain_words_read_easier_than_the_chart() -> None:
    """What a patient is told in plain words has a lower grade than the sentence of the note."""
    chart = ["Patient instructed to discontinue antihypertensive medication and return for reevaluation immediately."]
    plain = ["Stop the blood pressure pills.", "Come back at once if you feel worse."]
    assert grade(plain).grade < 4
    assert grade(chart).grade > 12


def test_the_hardest_sentences_come_first() -> None:
    """Only those above the limit, at most three."""
    easy, hard, harder = (
        "Drink water.",
        "Continue the medication daily.",
        "Echocardiography demonstrated dilated cardiomyopathy.",
    )
    assert hardest([easy, hard, harder], above=6) == (harder, hard)
    assert hardest([easy], above=6) == ()
    assert hardest(["Penicillin.", "Allergy.", "Amoxicillin, azithromycin, erythromycin."], above=6) == ()
    assert len(hardest([f"Echocardiography number {n} demonstrated cardiomyopathy." for n in range(9)], above=6)) == 3
