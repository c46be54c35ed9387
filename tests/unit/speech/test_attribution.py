"""`clinic.speech.attribution`: every word stays, each sentence gets its speaker, and a doubt names nobody."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.domain import Segment, Transcript, Word, canonical_sha256
from clinic.errors import ConfigError
from clinic.evaluation.hearing import Samples
from clinic.speech import attribution
from clinic.speech.attribution import MIN_MARGIN, attribute, name_speakers
from clinic.speech.speakers import Turn
from clinic.speech.voice import VoiceEncoder

CLEAR = MIN_MARGIN * 3
SOUND: Samples = np.zeros(16_000, np.float32)


def heard(*sentences: str) -> Transcript:
    """Return sentences, two words a second without a pause."""
    segments, at = [], 0.0
    for number, text in enumerate(sentences, start=1):
        words = []
        for word in text.split():
            words.append(Word(text=word, start=at, end=at + 0.5, probability=0.9))
            at += 0.5
        segments.append(
            Segment(id=f"s{number}", text=text, start=words[0].start, end=at, confidence=0.9, words=tuple(words))
        )
    return Transcript(segments=tuple(segments), language="en", model="whisper-base", model_sha256="0" * 64)


def turns(*spans: tuple[float, float, int], margin: float = CLEAR) -> list[Turn]:
    """Return turns of the same margin."""
    return [Turn(start, end, voice, margin) for start, end, voice in spans]


def said(transcript: Transcript) -> list[tuple[str | None, str]]:
    """Return who said what."""
    return [(segment.speaker, segment.text) for segment in transcript.segments]


VISIT = heard(
    "Good morning, how can I help you today?",
    "I have had a cough for two weeks now, doctor.",
    "Do you have any fever or pain when you breathe?",
    "No, but I feel tired and my throat hurts.",
)


def test_sentences_get_their_speakers() -> None:
    """Two voices, one of which asks: it is the clinician's."""
    found = attribute(VISIT, turns((0, 4, 0), (4, 9, 1), (9, 14, 0), (14, 18.5, 1)))
    assert [who for who, _ in said(found)] == ["clinician", "patient", "clinician", "patient"]
    assert [text for _, text in said(found)] == [segment.text for segment in VISIT.segments]


def test_the_one_who_asks_may_speak_second() -> None:
    """The order in which voices are heard decides nothing."""
    swapped = Transcript(segments=VISIT.segments[1:], language="en")
    found = attribute(swapped, turns((4, 9, 0), (9, 14, 1), (14, 18.5, 0)))
    assert [who for who, _ in said(found)] == ["patient", "clinician", "patient"]


def test_a_sentence_of_two_is_split() -> None:
    """Where the voice changes a new segment begins; ids go on counting, times and words stay."""
    both = heard("how is your breathing today it is better thank you")
    found = attribute(both, turns((0, 2.4, 0), (2.4, 5, 1)))
    assert said(found) == [("speaker 1", "how is your breathing today"), ("speaker 2", "it is better thank you")]
    assert [segment.id for segment in found.segments] == ["s1", "s2"]
    assert [word for segment in found.segments for word in segment.words] == list(both.segments[0].words)
    assert [(s.start, s.end) for s in found.segments] == [(0.0, 2.5), (2.5, 5.0)]


def test_a_change_is_moved_to_the_mark_beside_it() -> None:
    """The border between voices is known to some tenths of a second only: a comma near it is the better place."""
    found = attribute(heard("any chest pain today, no there is none"), turns((0, 2.6, 0), (2.6, 4, 1)))
    assert [text for _, text in said(found)] == ["any chest pain today,", "no there is none"]


def test_one_odd_word_does_not_split() -> None:
    """A change that lasts for a single word is a mistake of the border."""
    found = attribute(heard("I take it every single day now"), turns((0, 1.5, 0), (1.5, 2, 1), (2, 3.5, 0)))
    assert [text for _, text in said(found)] == ["I take it every single day now"]


def test_a_doubt_names_nobody() -> None:
    """Where two voices fit alike, the speaker stays unknown; a clear margin (control) is a name."""
    spans = ((0.0, 4.0, 0), (4.0, 9.0, 1), (9.0, 14.0, 0), (14.0, 18.5, 1))
    assert {who for who, _ in said(attribute(VISIT, turns(*spans, margin=MIN_MARGIN / 2)))} == {None}
    assert None not in {who for who, _ in said(attribute(VISIT, turns(*spans)))}


@pytest.mark.parametrize("spans", [[], [(0.0, 18.5, 0)]], ids=["no turns", "one voice"])
def test_one_voice_is_nobodys(spans: list[tuple[float, float, int]]) -> None:
    """Without a second voice the transcript is what it was."""
    assert attribute(VISIT, turns(*spans)) == VISIT


def test_words_that_tell_nothing_give_numbers() -> None:
    """Two voices of which no role can be told are numbered, in any language but English as well."""
    spans = turns((0, 4, 0), (4, 9, 1), (9, 14, 0), (14, 18.5, 1))
    other = VISIT.model_copy(update={"language": "fr"})
    assert {who for who, _ in said(attribute(other, spans))} == {"speaker 1", "speaker 2"}


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=8),
    st.lists(st.tuples(st.floats(0.1, 6), st.integers(0, 3), st.floats(0, 0.3)), min_size=1, max_size=12),
)
def test_no_word_is_lost_moved_or_changed(lengths: list[int], pieces: list[tuple[float, int, float]]) -> None:
    """Whatever the turns: the same words, in the same order, with the same times, and ids from s1."""
    transcript = heard(*(" ".join(f"w{n}" for n in range(length)) for length in lengths))
    found_turns, at = [], 0.0
    for length, voice, margin in pieces:
        found_turns.append(Turn(at, at + length, voice, margin))
        at += length
    found = attribute(transcript, found_turns)
    assert [w for s in found.segments for w in s.words] == [w for s in transcript.segments for w in s.words]
    assert all(s.words and s.text == " ".join(w.text for w in s.words) for s in found.segments)
    assert [s.id for s in found.segments] == [f"s{n}" for n in range(1, len(found.segments) + 1)]


def _missing() -> VoiceEncoder:
    raise ConfigError("no weights", code="weights_missing")


def _broken(error: Exception) -> Callable[..., tuple[Turn, ...]]:
    def fail(*_: object) -> tuple[Turn, ...]:
        raise error

    return fail


def test_missing_weights_cost_the_names_only() -> None:
    """Without the package every word is there, and the transcript says what is missing."""
    found = name_speakers(VISIT, SOUND, _missing)
    assert (found.segments, found.speakers_error) == (VISIT.segments, "weights_missing")


@pytest.mark.parametrize("error", [ValueError("nan"), MemoryError(), IndexError(), FloatingPointError()], ids=repr)
def test_a_failure_costs_the_names_only(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A fault while voices are told apart does not lose the recording, and is not silent."""
    monkeypatch.setattr(attribution, "tell_apart", _broken(error))
    found = name_speakers(VISIT, SOUND, lambda: None)  # type: ignore[arg-type, return-value]
    assert (found.segments, found.speakers_error) == (VISIT.segments, "speakers_failed")


def test_a_programming_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: what is no failure of the data, is not swallowed."""
    monkeypatch.setattr(attribution, "tell_apart", _broken(AttributeError("typo")))
    with pytest.raises(AttributeError):
        name_speakers(VISIT, SOUND, lambda: None)  # type: ignore[arg-type, return-value]


def test_a_transcript_of_before_keeps_its_digest() -> None:
    """The field for what failed is not in the JSON unless something did: stored digests stay right."""
    assert "speakers_error" not in VISIT.model_dump(mode="json")
    failed = VISIT.model_copy(update={"speakers_error": "speakers_failed"})
    assert failed.model_dump(mode="json")["speakers_error"] == "speakers_failed"
    assert canonical_sha256(failed.model_dump(mode="json")) != canonical_sha256(VISIT.model_dump(mode="json"))
    assert Transcript.model_validate(failed.model_dump(mode="json")) == failed
