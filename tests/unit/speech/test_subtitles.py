"""`clinic.speech.subtitles`: SubRip and WebVTT that players accept, with every word once."""

from __future__ import annotations

import itertools
import re

import pytest

from clinic.domain import Segment, Transcript, Word
from clinic.errors import InputError
from clinic.speech.subtitles import CUE_CHARACTERS, LINE_CHARACTERS, cues, to_srt, to_vtt
from clinic.speech.text import text_to_transcript


def transcript(text: str, *, speaker: str | None = None, start: float = 3599.5) -> Transcript:
    """Return one spoken segment, half a second a word."""
    words = tuple(
        Word(text=word, start=start + n / 2, end=start + n / 2 + 0.4, probability=0.9)
        for n, word in enumerate(text.split())
    )
    segment = Segment(id="s1", text=text, speaker=speaker, start=start, end=words[-1].end, words=words)
    return Transcript(segments=(segment,))


def test_short_segment_as_srt() -> None:
    """Number, times with a comma, text."""
    assert to_srt(transcript("No fever.", speaker="Patient")) == (
        "1\n00:59:59,500 --> 01:00:00,400\nPatient: No fever.\n"
    )


def test_short_segment_as_vtt() -> None:
    """Header, times with a point, the speaker as a voice tag."""
    assert to_vtt(transcript("No fever.", speaker="Patient")) == (
        "WEBVTT\n\n00:59:59.500 --> 01:00:00.400\n<v Patient>No fever.\n"
    )


def test_a_guessed_role_begins_with_a_capital() -> None:
    """`patient`, as the transcript has it, is shown as a word at the beginning of a line."""
    assert "Patient: No fever." in to_srt(transcript("No fever.", speaker="patient"))
    assert "<v Speaker 2>No fever." in to_vtt(transcript("No fever.", speaker="speaker 2"))


def test_long_segment_is_cut_at_word_times() -> None:
    """No cue is longer than two lines, no word is lost, times rise."""
    text = " ".join(f"word{n}" for n in range(60))
    found = list(cues(transcript(text)))
    assert all(len(cue.text) <= CUE_CHARACTERS for cue in found)
    assert " ".join(cue.text for cue in found) == text
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    for block in to_srt(transcript(text)).strip().split("\n\n"):
        lines = block.splitlines()[2:]
        assert len(lines) <= 2
        assert all(len(line) <= LINE_CHARACTERS for line in lines)


def test_text_is_never_markup_or_timing() -> None:
    """Angle brackets, ampersands and arrows in speech stay text."""
    spoken = transcript("a <b> & c --> d")
    assert "a &lt;b&gt; &amp; c -&gt; d" in to_vtt(spoken)
    assert len(re.findall("-->", to_srt(spoken))) == 1


def test_typed_text_has_no_subtitles() -> None:
    """Text without times is refused with its own code."""
    with pytest.raises(InputError) as caught:
        to_srt(text_to_transcript("No fever."))
    assert caught.value.code == "transcript_untimed"
