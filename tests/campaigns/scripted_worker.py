"""The real worker with a recogniser that hears what a file says, or fails with it: `HOME SCRIPT`.

What somebody says cannot be chosen freely with real speech; the whole way behind the recogniser is the real one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinic.config import Config
from clinic.crypto.process import harden_process
from clinic.domain import Segment, Transcript, Word
from clinic.home import open_records, unlock_home
from clinic.jobs.worker import run_worker
from clinic.services import build_consultation


class ScriptedTranscriber:
    """Hears the words of the script."""

    model = "scripted"
    model_sha256 = "ab" * 32

    def __init__(self, script: Path) -> None:
        self._script = script

    def transcribe(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Transcript:
        """Hear, or fail."""
        del audio, language, progress
        script = json.loads(self._script.read_text())
        if script["fail"]:
            raise RuntimeError("cannot make anything of: " + " ".join(script["words"]))
        segments = tuple(_segment(number, word) for number, word in enumerate(script["words"]))
        return Transcript(
            segments=segments, language="en", duration_s=60.0, model=self.model, model_sha256=self.model_sha256
        )


def _segment(number: int, word: str) -> Segment:
    spoken = ["The", "patient", "takes", word, "twice", "a", "day."]
    start = 5.0 * number
    words = tuple(
        Word(text=said, start=start + n / 2, end=start + n / 2 + 0.4, probability=0.95) for n, said in enumerate(spoken)
    )
    return Segment(id=f"s{number + 1}", text=" ".join(spoken), start=start, end=start + 4, confidence=0.95, words=words)


def main() -> None:
    """Run the worker."""
    harden_process()
    config = Config.load(Path(sys.argv[1]))
    records = open_records(config, unlock_home(config))
    flow = build_consultation(config, records)
    flow._transcriber = lambda: ScriptedTranscriber(Path(sys.argv[2]))
    run_worker(config, flow, records)


if __name__ == "__main__":
    main()
