"""Questions about a record: whole sentences, found by what they mean, newest first; nothing found is said as that."""

from __future__ import annotations

import pytest

from clinic.documents.questions import MOST, Quoted, find

RECORD = tuple(
    Quoted(f"e{order}", order, f"n{number}", section, text)
    for order, sentences in enumerate(
        (
            (
                ("subjective", "Chest pain on exertion since May."),
                ("allergies", "Penicillin: rash."),
                ("medications", "Metformin 500 mg twice daily."),
                ("objective", "Blood pressure 150/95."),
                ("plan", "Chest X-ray ordered."),
                ("family_history", "Mother had a stroke at 60."),
            ),
            (
                ("subjective", "No chest pain."),
                ("objective", "Blood pressure 130/80."),
                ("medications", "Metformin 1000 mg twice daily, lisinopril 10 mg daily."),
                ("results", "HbA1c 7.1 percent."),
                ("subjective", "Stopped smoking in March."),
                ("plan", "Review in three months."),
                ("subjective", "Not discussed."),
            ),
        )
    )
    for number, (section, text) in enumerate(sentences, start=1)
)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        pytest.param("Is he allergic to anything?", ["e0 n2"], id="allergy, under its heading only"),
        pytest.param("What medicines does he take?", ["e1 n3", "e0 n3"], id="drugs in general, newest first"),
        pytest.param("Dose of glucophage?", ["e1 n3", "e0 n3"], id="a brand name"),
        pytest.param("Has he ever had chest pain?", ["e1 n1", "e0 n1"], id="denied and stated, both"),
        pytest.param("What was the last blood pressure?", ["e1 n2", "e0 n4"], id="a measurement"),
        pytest.param("Does he smoke?", ["e1 n5"], id="another form of the word"),
        pytest.param("Any stroke in the family?", ["e0 n6"], id="of a relative"),
        pytest.param("What was his HbA1c?", ["e1 n4"], id="a test"),
        pytest.param("Was a chest x-ray done?", ["e0 n5"], id="a test, not the pain"),
    ],
)
def test_the_sentences_that_answer_are_found(question: str, expected: list[str]) -> None:
    """Each question has its sentences at the top, and nothing is reworded."""
    found = find(question, RECORD)
    assert [f"{quote.encounter_id} {quote.id}" for quote in found.quotes][: len(expected)] == expected
    assert set(found.quotes) <= set(RECORD)


@pytest.mark.parametrize(
    "question", ["Is she pregnant?", "Does he take warfarin?", "Was there a colonoscopy?", "Any hearing loss?"]
)
def test_what_is_not_there_is_not_made_up(question: str) -> None:
    """No sentence is better than a wrong one: another drug, another organ is no answer."""
    found = find(question, RECORD)
    assert (found.quotes, found.total, found.understood) == ((), 0, True)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        pytest.param("Which antibiotic did we give?", ["n1", "n3", "n5"], id="antibiotic"),
        pytest.param("Any macrolides?", ["n1"], id="macrolides"),
        pytest.param("Does he take NSAIDs?", ["n2"], id="nsaid"),
        pytest.param("Does he take penicillin?", [], id="one drug is not its class"),
        pytest.param("Any quinolones?", ["n5"], id="quinolones"),
        pytest.param("Any cephalosporins?", [], id="another class"),
    ],
)
def test_a_class_of_drugs_finds_its_members(question: str, expected: list[str]) -> None:
    """The drugs of the class, under any name, and no other."""
    texts = (
        "Azithromycin 500 mg daily.",
        "Ibuprofen for pain.",
        "Amoxicillin before.",
        "Lisinopril 10 mg.",
        "Levofloxacin.",
    )
    record = [Quoted("e", 1, f"n{i}", "plan", text) for i, text in enumerate(texts, start=1)]
    assert [quote.id for quote in find(question, record).quotes] == expected


@pytest.mark.parametrize("question", ["What about it?", "???", "When was the last time?", "How much?"])
def test_a_question_that_names_nothing_is_not_understood(question: str) -> None:
    """There is no word to look for."""
    assert not find(question, RECORD).understood


def test_there_is_an_end_and_it_is_said() -> None:
    """At most twelve, the newest; how many there are in all is told."""
    record = [Quoted("e", order, "n1", "objective", f"Blood pressure 1{order:02}/80.") for order in range(40)]
    found = find("blood pressure", record)
    assert (len(found.quotes), found.total) == (MOST, 40)
    assert [quote.order for quote in found.quotes] == list(range(39, 27, -1))
    assert find("blood pressure", []).total == 0
