"""Which of several voices is the clinician's, by what they say: a heuristic, English only, that a reader may correct.

Rules kept here:

* Pure: words in, a guess or none out.  A guess needs enough words and a clear difference; otherwise nobody is named.
* The clinician is the voice that asks, greets, explains and prescribes; the patient, of the others, the one that speaks
  of itself most.  Anybody else stays a numbered voice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

CLINICIAN: Final = "clinician"
PATIENT: Final = "patient"

MIN_WORDS: Final = 25
"""Fewer words than this of all voices together say nothing."""
MIN_LEAD: Final = 1.0
"""By so much the clinician's score (from -2 to 2) must lead over the lowest."""

_CLINICIAN: Final = re.compile(
    r"how (?:can|may) (?:i|we) help|what (?:brings|brought) you|how are you (?:feeling|doing)|"
    r"(?:any|have you|do you|are you|did you|does it|is it|is there|when did|how long|how often|how much|where is|"
    r"can you)\b|"
    r"\b(?:let's|let me|i'll|we'll|i'm going to|we're going to|i'd like|i would like|we can|i can see|i want you)\b|"
    r"\b(?:prescribe|prescription for|examine|blood test|follow[- ]up|take (?:one|two|it)|"
    r"milligrams? (?:once|twice|a day)|come back|sorry to hear|"
    r"your (?:\w+ )?(?:pain|symptoms?|blood|medications?|chest|heart|temperature|results?))\b",
    re.IGNORECASE,
)
_PATIENT: Final = re.compile(
    r"\b(?:i've (?:been|had|got)|i (?:feel|felt|think|had|have|took|take|was|can't|couldn't|don't|didn't|just|noticed)|"
    r"i'm (?:worried|feeling|taking|allergic|not)|it (?:hurts|started|feels|comes)|my|doctor|yeah|thank you)\b",
    re.IGNORECASE,
)
_QUESTION: Final = 1.5
_RARE: Final = 2.0  # added to both sides, so that one chance word decides nothing


def guess(said: Mapping[int, str], *, language: str | None) -> dict[int, str]:
    """Return the roles of voices by what each said: `clinician` and `patient`, or none at all.

    Args:
        said: everything that each voice said.
        language: ISO 639-1 code of the words; for any but English nobody is named.
    """
    words = {voice: len(text.split()) for voice, text in said.items()}
    if len(said) < 2 or language not in (None, "en") or sum(words.values()) < MIN_WORDS:  # noqa: PLR2004 - one voice alone has no role
        return {}
    scores = {voice: _score(text) for voice, text in said.items()}
    clinician = max(scores, key=lambda voice: (scores[voice], -voice))
    if scores[clinician] - min(scores.values()) < MIN_LEAD:
        return {}

    def tells(voice: int) -> float:
        """How much this voice says that does not sound like the clinician."""
        return words[voice] * (scores[clinician] - scores[voice])

    patient = max((voice for voice in scores if voice != clinician), key=lambda voice: (tells(voice), -voice))
    return {clinician: CLINICIAN, patient: PATIENT}


def _score(text: str) -> float:
    """Return how much a voice sounds like the clinician: positive for asking and advising, negative for telling."""
    asks = _QUESTION * text.count("?") + len(_CLINICIAN.findall(text))
    tells = len(_PATIENT.findall(text))
    return (asks - tells) / (asks + tells + _RARE) * 2
