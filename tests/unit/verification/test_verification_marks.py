"""Words to check in a transcript, and drugs that only a second hearing named."""

from __future__ import annotations

from clinic.domain import Segment, Transcript, Word
from clinic.verification import checks
from clinic.verification.checks import CHECKS
from clinic.verification.marks import marks
from tests.unit.verification.verification_cases import codes, one, timed, transcript


def test_drugs_and_numbers_are_marked() -> None:
    """Each word of a dose and each drug; nothing else."""
    (segment,) = timed("Take ibuprofen 400 mg three times a day for your back, please.").segments
    marked = {
        word.text.strip(): mark for word, mark in zip(segment.words, marks(segment), strict=True) if mark is not None
    }
    assert marked.pop("ibuprofen") == "drug"
    assert {"400", "mg"} <= marked.keys()
    assert set(marked.values()) == {"number"}
    assert not {"Take", "back,", "please."} & marked.keys()


def test_a_segment_that_is_not_made_of_its_words_is_not_marked() -> None:
    """Typed text has no words with times; an edited text may no longer hold them."""
    (typed,) = transcript("Take ibuprofen.").segments
    assert marks(typed) == ()
    (heard,) = timed("Take ibuprofen.").segments
    assert marks(heard.model_copy(update={"text": "Take it."})) == (None, None)


def put(first: str | None, *more: Segment) -> Transcript:
    """Return a transcript in which a drug stands where `first` was heard."""
    words = tuple(
        Word(text=text, start=n / 2, end=(n + 1) / 2, probability=0.9, heard_first=first if n == 2 else None)
        for n, text in enumerate(("We", "start", "candesartan,", "once", "a", "day."))
    )
    segment = Segment(id="s1", text=" ".join(w.text for w in words), start=0, end=3, words=words)
    return Transcript(segments=(segment, *more))


def test_a_name_from_the_second_hearing_alone_is_flagged() -> None:
    """The note may not rest on it until somebody has listened; the reason shows what was heard first."""
    statement = one(put("Candice Arton"), "Start candesartan once a day.")
    assert codes(statement) == ["drug_uncertain"]
    assert statement.reasons[0].message == '"candesartan" was first heard as "Candice Arton": listen to it'
    brand = one(put("Candice Arton"), "Start Atacand once a day.")
    assert "drug_uncertain" in codes(brand)


def test_a_name_that_was_heard_outright_is_not() -> None:
    """Heard at once, or once more elsewhere; negative control: without the check nothing is flagged."""
    assert codes(one(put(None), "Start candesartan once a day.")) == []
    again = Segment(id="s2", text="Candesartan is for the pressure.", start=4, end=6)
    assert codes(one(put("Candice Arton", again), "Start candesartan once a day.")) == []
    others = [check for check in CHECKS if check is not checks.uncertain_drug]
    assert codes(one(put("Candice Arton"), "Start candesartan once a day.", checks=others)) == []


def misheard(probability: float, text: str = "Take per se and mall for pain and fever.") -> Transcript:
    """Return a segment in which the words of a drug's name were heard with `probability`, all others with 0.9."""
    doubted = {"per", "se", "and", "mall"}
    (segment,) = timed(text).segments
    words = tuple(
        w.model_copy(update={"probability": probability if w.text.strip() in doubted and n < 5 else 0.9})
        for n, w in enumerate(segment.words)
    )
    return Transcript(segments=(segment.model_copy(update={"words": words}),))


MISHEARD = "Per se and mall for pain and fever."


def test_a_statement_that_rests_on_words_heard_with_low_certainty_is_flagged() -> None:
    """Negative controls: heard with certainty, typed, or without the check, it is supported."""
    statement = one(misheard(0.4), MISHEARD)
    assert codes(statement) == ["heard_uncertain"]
    assert statement.reasons[0].message == 'heard with low certainty: "se", "mall": listen to it'
    dosed = "Take per se and mall 500 mg twice a day for pain and fever."
    assert codes(one(misheard(0.4, dosed), dosed)) == ["heard_uncertain"]
    assert codes(one(misheard(0.9), MISHEARD)) == []
    assert codes(one(transcript("Take per se and mall for pain and fever."), MISHEARD)) == []
    others = [check for check in CHECKS if check is not checks.uncertain_words]
    assert codes(one(misheard(0.4), MISHEARD, checks=others)) == []


def test_one_doubted_word_among_many_is_not_flagged() -> None:
    """Half or less, and alone; by itself it is."""
    (segment,) = timed("Cough and fever and headache since Monday.").segments
    words = tuple(w.model_copy(update={"probability": 0.3 if "fever" in w.text else 0.9}) for w in segment.words)
    said = Transcript(segments=(segment.model_copy(update={"words": words}),))
    assert codes(one(said, "Cough, fever and headache since Monday.")) == []
    assert codes(one(said, "Fever and headache.")) == []
    assert codes(one(said, "Fever.")) == ["heard_uncertain"]
