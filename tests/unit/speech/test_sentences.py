"""`clinic.speech.sentences` and `text`: every word stays, sentences end where they end."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.domain import Word
from clinic.errors import InputError
from clinic.speech.sentences import MAX_WORDS, split_text, split_words
from clinic.speech.text import MAX_CHARACTERS, text_to_transcript
from clinic.speech.transcriber import mean_confidence, speech_ms


@pytest.mark.parametrize(
    ("text", "count"),
    [
        pytest.param("He has a cough. No fever.", 2, id="two"),
        pytest.param("Dr. Smith gave 2.5 mg. of it b.i.d. for a week.", 1, id="abbreviations and decimals"),
        pytest.param("Take 5 mg. Come back in a week.", 2, id="abbreviation at an end"),
        pytest.param("Is it serious? No! Good.", 3, id="question and exclamation"),
        pytest.param('He said "it hurts." Then he left.', 2, id="quotation"),
        pytest.param("no punctuation at all", 1, id="none"),
    ],
)
def test_sentences_end_where_they_end(text: str, count: int) -> None:
    """Full stops inside abbreviations and numbers do not end a sentence."""
    assert len(list(split_text(text))) == count


@given(st.text(max_size=300))
def test_no_word_is_lost(text: str) -> None:
    """The sentences hold all words, in order."""
    assert " ".join(split_text(text)).split() == text.split()


def test_words_split_at_sentences_pauses_and_length() -> None:
    """Recognised words form segments by punctuation, a long pause, or a length that no sentence has."""
    words = [Word(text="Hello.", start=0, end=0.4, probability=1), Word(text="My", start=0.5, end=0.7, probability=1)]
    words += [Word(text="knee", start=4.0, end=4.3, probability=1)]
    words += [Word(text="and", start=4.3 + n, end=5.3 + n, probability=1) for n in range(MAX_WORDS + 5)]
    parts = list(split_words(words))
    assert [len(part) for part in parts] == [1, 1, MAX_WORDS, 6]
    assert [word for part in parts for word in part] == words


def test_text_becomes_segments_without_times() -> None:
    """Ids count from s1; there are no times, no confidence, no invented speaker."""
    transcript = text_to_transcript("Patient has a cough. No fever.\n\nTake paracetamol.")
    assert [s.id for s in transcript.segments] == ["s1", "s2", "s3"]
    assert transcript.segments[1].text == "No fever."
    assert all(s.start is None and s.speaker is None and s.confidence is None for s in transcript.segments)
    assert (speech_ms(transcript), mean_confidence(transcript)) == (0, None)


def test_named_speakers_are_taken_over() -> None:
    """Known labels at the start of a line name the speaker, also of the sentences that follow."""
    transcript = text_to_transcript("Doctor: Any fever? Any rash?\r\n[patient] No.\nPlan: rest.\n\nDrug: none.")
    assert [(s.speaker, s.text) for s in transcript.segments] == [
        ("Doctor", "Any fever?"),
        ("Doctor", "Any rash?"),
        ("Patient", "No."),
        ("Patient", "Plan: rest."),
        (None, "Drug: none."),
    ]


def test_control_characters_do_not_survive() -> None:
    """NUL, escape and bell become white space."""
    assert text_to_transcript("sore\x00throat \x1b[31m\x07bad").text == "sore throat [31m bad"


@given(st.text(max_size=200))
def test_any_text_is_taken_or_refused_plainly(text: str) -> None:
    """No text breaks it, and unlabelled words all arrive."""
    with suppress(InputError):
        spoken = text_to_transcript(text).segments
        assert spoken
        assert all(segment.text for segment in spoken)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param("  \n\t ", "text_empty", id="white space"),
        pytest.param("...!?", "text_empty", id="punctuation"),
        pytest.param("Doctor:\n[patient]", "text_empty", id="only speakers"),
        pytest.param("a" * (MAX_CHARACTERS + 1), "text_too_long", id="too long"),
    ],
)
def test_unusable_text_is_refused(text: str, code: str) -> None:
    """Nothing to work with, or too much: a code each."""
    with pytest.raises(InputError) as caught:
        text_to_transcript(text)
    assert caught.value.code == code
