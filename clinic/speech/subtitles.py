"""Transcripts as subtitles: SubRip (`.srt`) and WebVTT (`.vtt`).

Rules kept here:

* Pure; every word of the transcript appears exactly once, in order.
* A cue is at most two lines; long segments are cut at word times.
* Text can never be taken for markup or for a cue's timing line.

Raises `InputError` with the code `transcript_untimed` for text that was never spoken into the system.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from clinic.domain import Segment, Transcript, Word
from clinic.errors import InputError

LINE_CHARACTERS = 42
CUE_CHARACTERS = 2 * LINE_CHARACTERS - 8  # leaves room for wrapping at words
_MIN_CUE_S = 0.05


@dataclass(frozen=True, slots=True)
class Cue:
    """What is shown from `start` to `end` (seconds)."""

    start: float
    end: float
    speaker: str | None
    text: str


def to_srt(transcript: Transcript) -> str:
    """Return the transcript as SubRip."""
    parts = []
    for number, cue in enumerate(cues(transcript), start=1):
        text = f"{_shown(cue.speaker)}: {cue.text}" if cue.speaker else cue.text
        times = f"{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}"
        parts.append(f"{number}\n{times}\n{_wrapped(_plain(text))}\n")
    return "\n".join(parts)


def to_vtt(transcript: Transcript) -> str:
    """Return the transcript as WebVTT; a known speaker becomes a voice tag."""
    parts = ["WEBVTT\n"]
    for cue in cues(transcript):
        voice = f"<v {_escaped(_shown(cue.speaker))}>" if cue.speaker else ""
        times = f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}"
        parts.append(f"{times}\n{voice}{_escaped(_wrapped(_plain(cue.text)))}\n")
    return "\n".join(parts)


def cues(transcript: Transcript) -> Iterator[Cue]:
    """Yield the cues of all segments, in order.

    Raises:
        InputError: `transcript_untimed` if a segment has no times.
    """
    for segment in transcript.segments:
        if segment.start is None or segment.end is None:
            raise InputError(
                "this transcript has no times",
                code="transcript_untimed",
                hint="subtitles need a recording; export the text instead",
            )
        if len(segment.text) <= CUE_CHARACTERS or not segment.words:
            yield _cue(segment, segment.start, segment.end, segment.text)
        else:
            for words in _parts(segment.words):
                yield _cue(segment, words[0].start, words[-1].end, " ".join(word.text for word in words))


def _cue(segment: Segment, start: float, end: float, text: str) -> Cue:
    return Cue(start=start, end=max(end, start + _MIN_CUE_S), speaker=segment.speaker, text=text)


def _parts(words: tuple[Word, ...]) -> Iterator[list[Word]]:
    part: list[Word] = []
    for word in words:
        if part and len(" ".join(w.text for w in [*part, word])) > CUE_CHARACTERS:
            yield part
            part = []
        part.append(word)
    if part:
        yield part


def _shown(speaker: str) -> str:
    return speaker[:1].upper() + speaker[1:]


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("-->", "->")


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, LINE_CHARACTERS, break_long_words=False, break_on_hyphens=False))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
