"""Measuring recognition: ours and the plain recogniser on the same recordings, in the same run.

Rules kept here:

* Systems take turns, recording by recording, each first as often as the other, so that a busy machine slows them alike.
* What is heard where nobody speaks is invented, whatever it is; the time is that of recordings in which somebody does.
* Only counts and times leave here, and the names of drugs that were missed.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinic.evaluation import nonspeech
from clinic.evaluation.recordings import Recording
from clinic.evaluation.wording import WordErrors, compare, rate, words
from clinic.speech.decode_child import RATE

Samples = NDArray[np.float32]
System = Callable[[Samples], str]
"""Gives the words in a recording (16 kHz mono), empty where it hears none."""
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Clip:
    """One sound and what was said in it: empty if nobody speaks, None if that is not known."""

    id: str
    domain: str
    reference: str | None
    samples: Callable[[], Samples]


@dataclass
class Heard:
    """What one system did."""

    errors: WordErrors = field(default_factory=WordErrors)
    domains: dict[str, WordErrors] = field(default_factory=lambda: defaultdict(WordErrors))
    clips: int = 0
    audio_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    silent_clips: int = 0
    silent_s: float = 0.0
    invented: int = 0
    invented_in: int = 0

    def result(self) -> dict[str, Any]:
        """Return everything, in the shape of `clinic eval speech --json`."""
        return {
            **self.errors.result(),
            "domains": {name: errors.result() for name, errors in sorted(self.domains.items())},
            "clips": self.clips,
            "audio_s": round(self.audio_s, 2),
            "real_time_factor": rate(self.wall_s, self.audio_s),
            "cpu_s_per_audio_s": rate(self.cpu_s, self.audio_s),
            "without_speech": {
                "clips": self.silent_clips,
                "seconds": round(self.silent_s, 2),
                "invented_words": self.invented,
                "clips_with_invented_words": self.invented_in,
                "invented_words_per_hour": rate(self.invented, self.silent_s / _HOUR_S),
            },
        }


def recorded(recording: Recording, decode: Callable[[bytes], Samples]) -> Clip:
    """Return a row of a manifest as a clip; its sound is decoded when it is asked for."""
    return Clip(recording.id, recording.domain, recording.reference, lambda: decode(recording.file.read_bytes()))


def generated(count: int) -> list[Clip]:
    """Return `count` sounds in which nobody speaks."""
    return [Clip(f"generated-{n}", nonspeech.kind(n), "", lambda n=n: nonspeech.clip(n)) for n in range(count)]  # type: ignore[misc]


def measure(
    clips: Iterable[Clip], systems: Mapping[str, System], *, done: Callable[[int], None] = lambda _: None
) -> dict[str, Heard]:
    """Let every system hear every clip; `done` is told how many clips are through.

    Raises:
        AudioError: a file cannot be decoded.
        TranscriptionError: a system failed.
    """
    found = {name: Heard() for name in systems}
    for number, clip in enumerate(clips, start=1):
        samples = clip.samples()
        order = list(systems.items())
        for name, system in order if number % 2 else reversed(order):
            _hear(found[name], clip, samples, system)
        done(number)
    return found


def _hear(heard: Heard, clip: Clip, samples: Samples, system: System) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    text = system(samples)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    seconds = len(samples) / RATE
    if clip.reference is not None and not words(clip.reference):
        invented = len(words(text))
        heard.silent_clips += 1
        heard.silent_s += seconds
        heard.invented += invented
        heard.invented_in += bool(invented)
        return
    heard.clips += 1
    heard.audio_s += seconds
    heard.wall_s += wall
    heard.cpu_s += cpu
    if clip.reference is None:
        return
    errors = compare(clip.reference, text)
    heard.errors.add(errors)
    heard.domains[clip.domain].add(errors)
