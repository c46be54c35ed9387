"""From turns to names: which words of a transcript were whose.

Rules kept here:

* Words, their order, their times and their text stay as they were heard; only where a sentence ends may change: one in
  which the voice changes becomes two.
* Nobody is named where the voices are alike at that place, or where there is only one voice: unknown stays unknown.
* Whatever keeps the voices from being told apart costs the names, never the transcript; `speakers_error` says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from clinic.domain import Segment, Transcript, Word
from clinic.errors import ClinicError
from clinic.speech.roles import guess
from clinic.speech.speakers import Turn, tell_apart
from clinic.speech.voice import Floats, VoiceEncoder

MIN_MARGIN: Final = 0.04
"""A sentence whose voice fits better than the next one by less than this (cosine, mean) is nobody's."""
FAILED: Final = "speakers_failed"

_LONGEST_WORD_S: Final = 1.5  # a word that seems to last longer hides a pause
_NEAR_S: Final = 0.5
_SHORTEST_PART: Final = 2  # words
_CLOSING: Final = ".,;:?!"


@dataclass(frozen=True, slots=True)
class _Part:
    """Words of one sentence by one voice (None: nobody's)."""

    words: tuple[Word, ...]
    voice: int | None


def name_speakers(transcript: Transcript, audio: Floats, encoder: Callable[[], VoiceEncoder]) -> Transcript:
    """Return the transcript with its speakers, or as it is with `speakers_error` where they cannot be told.

    Args:
        transcript: as recognised, with word times.
        audio: the sound that was recognised, mono at 16 kHz.
        encoder: gives the loaded network.
    """
    try:
        turns = tell_apart(audio, encoder())
    except ClinicError as error:
        return transcript.model_copy(update={"speakers_error": error.code})
    except (ArithmeticError, ValueError, LookupError, RuntimeError, MemoryError, OSError):
        # A recording is not lost over who said what.
        return transcript.model_copy(update={"speakers_error": FAILED})
    return attribute(transcript, turns)


def attribute(transcript: Transcript, turns: Sequence[Turn]) -> Transcript:
    """Return the transcript with each sentence given to the voice of its turn, and the voices named."""
    if len({turn.voice for turn in turns}) < 2:  # noqa: PLR2004 - one voice alone is nobody's
        return transcript
    parts = [part for segment in transcript.segments for part in _parts(segment, turns)]
    names = _names(parts, transcript.language)
    segments = (
        _segment(number, part, names.get(part.voice) if part.voice is not None else None)
        for number, part in enumerate(parts, start=1)
    )
    return transcript.model_copy(update={"segments": tuple(segments)})


def _names(parts: Sequence[_Part], language: str | None) -> dict[int, str]:
    """Return a name for each voice: its role where that can be guessed, else its number."""
    said: dict[int, str] = {}
    for part in parts:
        if part.voice is not None:
            said[part.voice] = said.get(part.voice, "") + " " + " ".join(word.text for word in part.words)
    roles = guess(said, language=language)
    return {voice: roles.get(voice, f"speaker {voice + 1}") for voice in said}


def _parts(segment: Segment, turns: Sequence[Turn]) -> Iterator[_Part]:
    """Split a sentence where the voice changes."""
    voices = _steady([_voice(word, turns) for word in segment.words], segment.words)
    at = 0
    for voice, run in groupby(voices):
        count = len(list(run))
        words = segment.words[at : at + count]
        at += count
        yield _Part(words, voice if voice is not None and _margin(words, voice, turns) >= MIN_MARGIN else None)


def _voice(word: Word, turns: Sequence[Turn]) -> int | None:
    """Return whose turn holds most of a word; the nearest one's if none does."""
    start, end = word.start, _end(word)
    shares: dict[int, float] = {}
    for turn in _around(turns, start, end):
        shares[turn.voice] = shares.get(turn.voice, 0.0) + _overlap(turn, start, end)
    if shares and max(shares.values()) > 0:
        return max(shares, key=lambda voice: (shares[voice], -voice))
    near = _around(turns, start - _NEAR_S, end + _NEAR_S)
    return min(near, key=lambda turn: max(turn.start - end, start - turn.end)).voice if near else None


def _steady(voices: list[int | None], words: Sequence[Word]) -> list[int | None]:
    """Take back changes that are no longer than a word, and move the others to where a speaker would stop.

    The border between two turns is known to some tenths of a second: a comma or a pause beside it is the better guess.
    """
    runs = [(voice, len(list(run))) for voice, run in groupby(voices)]
    while len(runs) > 1:
        short = min(range(len(runs)), key=lambda n: runs[n][1])
        if runs[short][1] >= _SHORTEST_PART:
            break
        beside = [n for n in (short - 1, short + 1) if 0 <= n < len(runs)]
        into = max(beside, key=lambda n: runs[n][1])
        runs[short] = (runs[into][0], runs[short][1])
        runs = [(voice, sum(length for _, length in group)) for voice, group in _by_voice(runs)]
    cuts: list[int] = []
    at = 0
    for _, length in runs[:-1]:
        at += length
        cuts.append(_settled(at, words, lowest=cuts[-1] + 1 if cuts else 1))
    edges = [0, *cuts, len(words)]
    return [runs[n][0] for n in range(len(runs)) for _ in range(edges[n + 1] - edges[n])]


def _by_voice(runs: list[tuple[int | None, int]]) -> list[tuple[int | None, list[tuple[int | None, int]]]]:
    return [(voice, list(group)) for voice, group in groupby(runs, key=lambda run: run[0])]


def _settled(cut: int, words: Sequence[Word], *, lowest: int) -> int:
    """Return the best place for a change near word `cut`: after a mark or a long pause, at most two words away."""
    places = [place for place in range(cut - 2, cut + 3) if lowest <= place < len(words)]
    if not places:
        return cut

    def worth(place: int) -> float:
        pause = max(0.0, words[place].start - _end(words[place - 1]))
        mark = 0.5 if words[place - 1].text[-1:] in _CLOSING else 0.0
        return mark + min(pause, 0.5) - 0.15 * abs(place - cut)

    return max(places, key=worth)


def _margin(words: Sequence[Word], voice: int, turns: Sequence[Turn]) -> float:
    """Return how clearly these words are of this voice: the mean over their time, other voices' counting against it."""
    total = weight = 0.0
    for turn in _around(turns, words[0].start, _end(words[-1])):
        shared = sum(_overlap(turn, word.start, _end(word)) for word in words)
        total += shared * (turn.margin if turn.voice == voice else -turn.margin)
        weight += shared
    return total / weight if weight > 0 else 0.0


def _around(turns: Sequence[Turn], start: float, end: float) -> list[Turn]:
    return [turn for turn in turns if turn.start <= end and turn.end >= start]


def _overlap(turn: Turn, start: float, end: float) -> float:
    return max(0.0, min(turn.end, end) - max(turn.start, start))


def _end(word: Word) -> float:
    return min(word.end, word.start + _LONGEST_WORD_S)


def _segment(number: int, part: _Part, speaker: str | None) -> Segment:
    confidence = math.exp(sum(math.log(max(word.probability, 1e-6)) for word in part.words) / len(part.words))
    return Segment(
        id=f"s{number}",
        text=" ".join(word.text for word in part.words),
        speaker=speaker,
        start=part.words[0].start,
        end=part.words[-1].end,
        confidence=round(confidence, 4),
        words=part.words,
    )
