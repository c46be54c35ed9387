"""Red flags as the page shows them: self-harm, harm by others, emergencies, above everything else.

Rules kept here:

* Never suppressed: shown at every step at which the transcript may be seen, whatever the policy decided and whatever
  the note says.
* The words are quoted from the transcript, as text; nothing is advised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clinic.domain import Transcript
from clinic.policy.detectors.red_flags import transcript_red_flags

LABELS: Final[dict[str, str]] = {
    "self_harm": "Self-harm or suicide",
    "harm_to_others": "Harm to others",
    "abuse": "Violence or abuse",
    "chest_pain": "Chest pain",
    "breathing": "Cannot breathe",
    "stroke": "Signs of stroke",
    "anaphylaxis": "Swelling, anaphylaxis",
    "meningitis": "Signs of meningitis",
    "headache": "Sudden or worst headache",
    "bleeding": "Bleeding",
    "consciousness": "Loss of consciousness, seizure",
    "cauda_equina": "Numbness or loss of control below",
    "sepsis": "Signs of sepsis",
    "pregnancy": "Emergency in pregnancy",
    "sight": "Loss of sight",
}
"""What a clinician reads for each kind."""

STANDINGS: Final = {"stated": "said", "asked": "asked about", "denied": "asked about or denied"}


@dataclass(frozen=True, slots=True)
class RedFlagView:
    """One red flag: its heading, how it was spoken of, the words, and where they stand."""

    label: str
    standing: str
    words: str
    segment: str
    start: float | None


def views(transcript: Transcript | None) -> tuple[RedFlagView, ...]:
    """Return what is shown, in the order in which it was said; of the same words in one segment only the first."""
    if transcript is None:
        return ()
    segments = {segment.id: segment for segment in transcript.segments}
    found: dict[tuple[str, str], RedFlagView] = {}
    for flag in transcript_red_flags(transcript):
        if flag.shown:
            segment = segments[flag.segment]
            view = RedFlagView(
                LABELS[flag.kind],
                STANDINGS[flag.standing],
                segment.text[flag.start : flag.end],
                flag.segment,
                segment.start,
            )
            found.setdefault((flag.kind, flag.segment), view)
    return tuple(found.values())
