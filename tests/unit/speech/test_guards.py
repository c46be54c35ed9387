"""`clinic.speech.guards`: what the recogniser invented is dropped, what people say stays."""

from __future__ import annotations

import pytest

from clinic.domain import Word
from clinic.speech.guards import Guard, Span, check, compression, is_phantom, judge, spoken_part

SPEECH = (Span(0.0, 60.0),)


def said(text: str, *, start: float = 1.0, per_word: float = 0.3) -> tuple[Word, ...]:
    """Return words at an even pace."""
    return tuple(
        Word(text=word, start=start + n * per_word, end=start + (n + 1) * per_word, probability=0.9)
        for n, word in enumerate(text.split())
    )


@pytest.mark.parametrize(
    "text",
    [
        "Yes.",
        "Thank you.",
        "I am allergic to penicillin.",
        "No, no, no.",
        "120 over 80.",
        "Your pulse is 80, 80 exactly.",
    ],
)
def test_speech_stays(text: str) -> None:
    """What is said where the detector heard somebody is kept, short and polite phrases too."""
    assert judge(said(text), SPEECH, 0.8) is None


@pytest.mark.parametrize(
    ("words", "speech", "confidence", "guard"),
    [
        pytest.param(said("Thanks for watching!"), (), 0.9, Guard.PHANTOM, id="phantom in silence"),
        pytest.param(said("Thank you."), (Span(20, 30),), 0.9, Guard.PHANTOM, id="polite phantom in silence"),
        pytest.param(said("He has diabetes."), (Span(20, 30),), 0.9, Guard.OUTSIDE_SPEECH, id="sentence in silence"),
        pytest.param(said("Take two tablets now.", per_word=0.01), SPEECH, 0.9, Guard.TOO_FAST, id="too fast"),
        pytest.param(said("and then " * 40), SPEECH, 0.9, Guard.REPETITIVE, id="repeats itself"),
        pytest.param(said("Murmur of something."), SPEECH, 0.05, Guard.UNBELIEVED, id="not believed"),
        pytest.param(said("... ♪"), SPEECH, 0.9, Guard.NO_WORDS, id="no words"),
    ],
)
def test_invention_is_dropped(
    words: tuple[Word, ...], speech: tuple[Span, ...], confidence: float, guard: Guard
) -> None:
    """Each kind of invention is refused by its guard."""
    assert judge(words, speech, confidence) is guard


def test_loop_is_cut_to_three_and_counted() -> None:
    """The same sentence again and again is a loop of the recogniser; three times in a row people do say things."""
    sentences = [said("I do not know.", start=2.0 * n) for n in range(8)]
    checked = check(sentences, SPEECH, confidence=[0.9] * 8)
    assert len(checked.kept) == 3
    assert checked.dropped == {Guard.LOOP: 5}


def test_other_sentences_between_end_a_loop() -> None:
    """Repetition counts only without anything in between."""
    sentences = [said("Okay."), said("Breathe in.", start=3), said("Okay.", start=5), said("Breathe out.", start=7)] * 3
    assert len(check(sentences, SPEECH, confidence=[0.9] * 12).kept) == 12


def test_spoken_part_counts_the_overlap() -> None:
    """Half inside is half."""
    assert spoken_part(0, 4, (Span(2, 10),)) == 0.5
    assert spoken_part(0, 4, ()) == 0
    assert spoken_part(3, 3, (Span(2, 10),)) == 1


def test_phantoms_are_whole_phrases() -> None:
    """A phrase is a phantom only if it is all that was said."""
    assert is_phantom("Thank you very much.")
    assert is_phantom("Please subscribe to my channel!")
    assert not is_phantom("Thank you, the pain is better.")


def test_short_text_has_no_compression() -> None:
    """Nothing follows from how short texts compress."""
    assert compression("no no no no") == 0
    assert compression("no " * 60) > 2.4
