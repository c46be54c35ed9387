"""Which seconds of a recording that still runs are heard next: whole sentences where possible, never for ever.

Rules kept here:

* Pure but for the voice activity detector; sound in, samples out.
* Where nobody speaks the recogniser is not asked at all.
* A cut lies in a pause; only somebody who speaks for a quarter of a minute without one is cut off.
* The stretch fits into what the recogniser looks at in one go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clinic.speech.decode import Samples
from clinic.speech.decode_child import RATE
from clinic.speech.whisper import voice_activity

SHORTEST_S: Final = 6.0
"""Less is not worth asking for: the recogniser takes as long for one second as for many."""
LONGEST_S: Final = 25.0
_WITHOUT_PAUSE_S: Final = 15.0
_PAUSE_S: Final = 0.6
_EDGE_S: Final = 0.4


@dataclass(frozen=True, slots=True)
class Stretch:
    """So many samples from the beginning are done with; `spoken`: they are worth hearing."""

    samples: int
    spoken: bool


def next_stretch(audio: Samples) -> Stretch | None:
    """Return what may be heard now of sound that was not heard yet; None: wait for more.

    Args:
        audio: mono samples at 16 kHz, from where nobody has listened yet.
    """
    seen = audio[: int(LONGEST_S * RATE)]
    length = len(seen) / RATE
    if length < SHORTEST_S:
        return None
    speech = voice_activity(seen, pause_ms=int(_PAUSE_S * 1000), pad_ms=int(_EDGE_S * 500))
    if not speech:
        return _stretch(length - _EDGE_S, spoken=False)
    last = speech[-1]
    if last.end + _PAUSE_S <= length:
        return _stretch(min(length, last.end + _EDGE_S), spoken=True)
    if len(speech) > 1 and (cut := (speech[-2].end + last.start) / 2) >= SHORTEST_S / 2:
        return _stretch(cut, spoken=True)
    if length - speech[0].start >= _WITHOUT_PAUSE_S or length >= LONGEST_S:
        return _stretch(length, spoken=True)
    return None


def _stretch(seconds: float, *, spoken: bool) -> Stretch:
    return Stretch(int(seconds * RATE), spoken)
