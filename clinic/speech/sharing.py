"""One recogniser for two uses: what is heard again in full, and what is heard in passing while a recording runs.

Rules kept here:

* One transcription at a time, whoever asks.
* The full transcription goes first: what is heard in passing never waits for its turn, is given up between two segments
  when somebody else wants one, and so delays nobody by more than the one stretch of sound that is being heard.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from clinic.domain import Transcript
from clinic.speech.transcriber import Overheard, Overhearing, Progress


class SharedTranscriber:
    """A recogniser that is loaded at first use and used by one at a time.

    Args:
        load: gives the recogniser; takes seconds.
    """

    def __init__(self, load: Callable[[], Overhearing]) -> None:
        self._load = load
        self._loaded: Overhearing | None = None
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0

    def __call__(self) -> SharedTranscriber:
        """Return itself: what gives a transcriber to the flow."""
        return self

    @property
    def model(self) -> str:
        """Name of the model, for people."""
        with self._first():
            return self._get().model

    @property
    def model_sha256(self) -> str:
        """Digest of the model's files."""
        with self._first():
            return self._get().model_sha256

    def transcribe(
        self, audio: NDArray[np.float32], *, language: str | None = None, progress: Progress | None = None
    ) -> Transcript:
        """Return what was said; see `clinic.speech.transcriber.Transcriber`."""
        with self._first():
            return self._get().transcribe(audio, language=language, progress=progress)

    def overhear(
        self, audio: NDArray[np.float32], *, language: str | None = None, unless: Callable[[], bool] = lambda: False
    ) -> Overheard | None:
        """Hear some seconds in passing; None where it is not the time for that."""
        if self._wanted() or not self._turn.acquire(blocking=False):
            return None
        try:
            return self._get().overhear(audio, language=language, unless=lambda: self._wanted() or unless())
        finally:
            self._turn.release()

    @contextmanager
    def _first(self) -> Iterator[None]:
        with self._counting:
            self._waiting += 1
        try:
            with self._turn:
                yield
        finally:
            with self._counting:
                self._waiting -= 1

    def _wanted(self) -> bool:
        with self._counting:
            return self._waiting > 0

    def _get(self) -> Overhearing:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded
