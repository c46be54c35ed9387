"""What every speech recogniser looks like to the rest of the system, and what is measured on its transcripts.

* A transcriber gets decoded sound only (16 kHz mono) and returns a whole `Transcript` or raises `TranscriptionError`.
* Progress goes from 0 to 1, never backwards, and ends with 1.
* `model` and `model_sha256` name exactly the weights that were heard with: they stand on every transcript.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clinic.domain import Segment, Transcript

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Overheard:
    """What was heard of some seconds of a recording that still runs, times from their beginning, and the language."""

    segments: tuple[Segment, ...]
    language: str | None


class Transcriber(Protocol):
    """Turns sound into words."""

    @property
    def model(self) -> str:
        """Name of the model, for people."""

    @property
    def model_sha256(self) -> str:
        """Digest of the model's files, for the audit log."""

    def transcribe(
        self, audio: NDArray[np.float32], *, language: str | None = None, progress: Progress | None = None
    ) -> Transcript:
        """Return what was said.

        Args:
            audio: mono samples at 16 kHz in [-1, 1].
            language: ISO 639-1 code; None lets the recogniser find out.
            progress: called with the part that is done (0 to 1).

        Raises:
            TranscriptionError: `no_speech`, or `transcription_failed`.
            InputError: `language_unknown`.
        """


class Overhearing(Transcriber, Protocol):
    """A transcriber that can also hear some seconds in passing."""

    def overhear(
        self, audio: NDArray[np.float32], *, language: str | None = None, unless: Callable[[], bool] = ...
    ) -> Overheard | None:
        """Hear some seconds once; None, as soon as `unless` says yes.

        Raises:
            TranscriptionError: `transcription_failed`.
        """


def speech_ms(transcript: Transcript) -> int:
    """Return how long speech lasts, in milliseconds; 0 for text that was never spoken into the system."""
    return sum(
        round(1000 * (s.end - s.start)) for s in transcript.segments if s.start is not None and s.end is not None
    )


def mean_confidence(transcript: Transcript) -> float | None:
    """Return the segments' confidence, weighted by their words; None where no segment has one."""
    known = [(s.confidence, max(1, len(s.words))) for s in transcript.segments if s.confidence is not None]
    if not known:
        return None
    return sum(confidence * words for confidence, words in known) / sum(words for _, words in known)
