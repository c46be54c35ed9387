"""Checks that drop what a recogniser invented: silence must never become a visit.

Rules kept here:

* Pure and deterministic; a guard only removes, it never changes a word.
* Whether somebody spoke is decided by the voice activity detector on the sound, not by the recogniser's own words.
* A phrase that recognisers are known to invent ("thanks for watching") is dropped only where the detector heard nobody:
  people do say "thank you".
* What a guard removed is counted by its kind (`Dropped`), so that it can be measured; the words are not kept.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from clinic.domain import Word

# Faster than any speaker: the recogniser squeezed text into a moment of noise.
MAX_WORDS_PER_S = 9.0
# The reference implementation's own threshold: text that compresses better than this repeats itself.
MAX_COMPRESSION = 2.4
MIN_COMPRESSION_CHARACTERS = 60
# The same sentence said more often than this in a row is a loop.
MAX_SAME_SENTENCES = 3
# Less of a sentence than this lies in detected speech: nobody said it there.
MIN_SPEECH_PART = 0.35
# Recognisers answer noise with words that they themselves do not believe.
MIN_CONFIDENCE = 0.12

_PHANTOMS = (
    r"thank(s| you)( you)?( so| very)?( much)?( for (watching|listening|viewing))?",
    r"(please )?(like and )?subscribe.*",
    r"(see|catch) you( guys)?( in the)? next (time|video|one).*",
    r"(subtitles|captions|transcription|translation|transcribed)( are)? (by|from|provided).*",
    r"amara\.? ?org.*",
    r"(bye|you|okay|oh|so|hmm?|mm+|uh|beep|the end|music|applause|silence|blank audio)[ .]*",
)
_PHANTOM = re.compile("|".join(f"(?:{p})" for p in _PHANTOMS))
_NOT_WORD = re.compile(r"[^\w\s.']+")


class Guard(StrEnum):
    """Why a sentence was dropped."""

    OUTSIDE_SPEECH = "outside_speech"
    PHANTOM = "phantom"
    TOO_FAST = "too_fast"
    REPETITIVE = "repetitive"
    LOOP = "loop"
    UNBELIEVED = "unbelieved"
    NO_WORDS = "no_words"


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds in which the voice activity detector heard somebody."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Checked:
    """The sentences that stay, and how many were dropped by which guard."""

    kept: tuple[tuple[Word, ...], ...]
    dropped: Counter[Guard] = field(default_factory=Counter)


def check(sentences: Sequence[tuple[Word, ...]], speech: Sequence[Span], *, confidence: Sequence[float]) -> Checked:
    """Drop invented sentences; `confidence` has one value a sentence."""
    kept: list[tuple[Word, ...]] = []
    dropped: Counter[Guard] = Counter()
    repeats, last = 0, ""
    for words, belief in zip(sentences, confidence, strict=True):
        plain = _plain(words)
        repeats, last = (repeats + 1 if plain == last else 1), plain
        guard = Guard.LOOP if repeats > MAX_SAME_SENTENCES else judge(words, speech, belief)
        if guard is None:
            kept.append(words)
        else:
            dropped[guard] += 1
    return Checked(kept=tuple(kept), dropped=dropped)


def judge(words: Sequence[Word], speech: Sequence[Span], confidence: float) -> Guard | None:
    """Return the guard that refuses these words, None if they stay."""
    text = " ".join(word.text for word in words)
    part = spoken_part(words[0].start, words[-1].end, speech)
    if not any(c.isalnum() for c in text):
        return Guard.NO_WORDS
    if part < MIN_SPEECH_PART:
        return Guard.PHANTOM if is_phantom(text) else Guard.OUTSIDE_SPEECH
    if confidence < MIN_CONFIDENCE:
        return Guard.UNBELIEVED
    if compression(text) > MAX_COMPRESSION:
        return Guard.REPETITIVE
    duration = words[-1].end - words[0].start
    if len(words) >= 4 and len(words) > MAX_WORDS_PER_S * max(duration, 0.01):  # noqa: PLR2004 - "a" and "of" are short
        return Guard.TOO_FAST
    return None


def is_phantom(text: str) -> bool:
    """Tell whether the whole text is a phrase that recognisers are known to invent."""
    return bool(_PHANTOM.fullmatch(_NOT_WORD.sub(" ", text.lower()).strip(" .")))


def spoken_part(start: float, end: float, speech: Sequence[Span]) -> float:
    """Return which part of the time from `start` to `end` lies inside `speech` (0 to 1)."""
    if end <= start:
        return float(any(span.start <= start <= span.end for span in speech))
    return sum(max(0.0, min(end, span.end) - max(start, span.start)) for span in speech) / (end - start)


def compression(text: str) -> float:
    """Return how many times smaller the text becomes by compression; short texts tell nothing (0)."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if len(data) >= MIN_COMPRESSION_CHARACTERS else 0.0


def _plain(words: Sequence[Word]) -> str:
    return " ".join(_NOT_WORD.sub("", word.text.lower()).strip(".") for word in words)
