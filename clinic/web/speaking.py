"""Who speaks, as the page offers to correct it.

Rules kept here:

* Only of what was heard, only for the clinician who opened the encounter, not while its job runs, not once signed.
"""

from __future__ import annotations

from dataclasses import dataclass

from clinic.domain import EncounterState, Segment, Transcript
from clinic.records.encounters import Encounter
from clinic.records.records import Transaction
from clinic.speech import correction
from clinic.speech.roles import CLINICIAN, PATIENT
from clinic.web import processing


@dataclass(frozen=True, slots=True)
class SpeakersView:
    """What the page needs for correcting: the version it shows, who speaks, and whether anything was corrected."""

    sha256: str
    present: tuple[str, ...]
    corrected: bool
    transcript: Transcript

    @property
    def can_swap(self) -> bool:
        """Whether there is a clinician or a patient to exchange."""
        return CLINICIAN in self.present or PATIENT in self.present

    @property
    def unnamed(self) -> tuple[str, ...]:
        """Voices of which nobody has said whose they are."""
        return tuple(name for name in self.present if name.startswith("speaker "))

    def offered(self, segment: Segment) -> str:
        """Return whom one click gives a segment to."""
        return correction.next_speaker(segment, self.transcript)


def view(tx: Transaction, encounter: Encounter, transcript: Transcript | None, *, own: bool) -> SpeakersView | None:
    """Return what the page needs, None where nothing can be corrected."""
    if transcript is None or not is_correctable(encounter, transcript, own=own):
        return None
    first = tx.transcripts.first(encounter.id)
    return SpeakersView(
        sha256=tx.transcripts.current_sha256(encounter.id),
        present=correction.present(transcript),
        corrected=first is not None and correction.restored(transcript, first) != transcript,
        transcript=transcript,
    )


def is_correctable(encounter: Encounter, transcript: Transcript, *, own: bool) -> bool:
    """Tell whether the one who looks at it may correct who spoke."""
    heard = any(segment.start is not None for segment in transcript.segments)
    return heard and own and not processing.is_working(encounter) and encounter.state is not EncounterState.SIGNED
