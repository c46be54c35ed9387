"""Who spoke, corrected by whoever reads: for one segment, for one voice throughout, or two exchanged.

Rules kept here:

* Pure: only speakers change; ids, words, times and the order stay.
* A speaker is one of a closed list, so that no name and no other text gets into a transcript this way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from clinic.domain import Segment, Transcript
from clinic.errors import RecordError
from clinic.speech.roles import CLINICIAN, PATIENT
from clinic.speech.speakers import MAX_VOICES

KNOWN: Final = (
    CLINICIAN,
    PATIENT,
    "relative",
    "interpreter",
    "nurse",
    *(f"speaker {number}" for number in range(1, MAX_VOICES + 1)),
)
"""Everybody whom a correction can name."""


def present(transcript: Transcript) -> tuple[str, ...]:
    """Return who is named in a transcript, in the order of `KNOWN`."""
    named = {segment.speaker for segment in transcript.segments}
    return tuple(name for name in KNOWN if name in named)


def next_speaker(segment: Segment, transcript: Transcript) -> str:
    """Return who is offered first for a segment: the next of those who speak, clinician and patient among them."""
    people = [name for name in KNOWN if name in (CLINICIAN, PATIENT) or name in present(transcript)]
    if segment.speaker not in people:
        return people[0]
    return people[(people.index(segment.speaker) + 1) % len(people)]


def set_one(transcript: Transcript, segment_id: str, speaker: str) -> Transcript:
    """Give one segment to somebody.

    Raises:
        RecordError: `record_unknown` if there is none of that id.
    """
    if all(segment.id != segment_id for segment in transcript.segments):
        raise RecordError("the transcript has no such segment", hint="load the page again")
    return _changed(transcript, lambda segment: speaker if segment.id == segment_id else segment.speaker)


def set_all(transcript: Transcript, before: str, speaker: str) -> Transcript:
    """Give everything that `before` said to somebody; if that one speaks as well, the two are one from now on."""
    return _changed(transcript, lambda segment: speaker if segment.speaker == before else segment.speaker)


def swap(transcript: Transcript) -> Transcript:
    """Exchange clinician and patient throughout."""
    other = {CLINICIAN: PATIENT, PATIENT: CLINICIAN}
    return _changed(transcript, lambda segment: other.get(segment.speaker or "", segment.speaker))


def restored(transcript: Transcript, first: Transcript) -> Transcript:
    """Give every segment to whom it had in the first version."""
    automatic = {segment.id: segment.speaker for segment in first.segments}
    return _changed(transcript, lambda segment: automatic.get(segment.id, segment.speaker))


def changed_segments(before: Transcript, after: Transcript) -> int:
    """Count the segments that are somebody else's."""
    return sum(a.speaker != b.speaker for a, b in zip(before.segments, after.segments, strict=True))


def _changed(transcript: Transcript, speaker: Callable[[Segment], str | None]) -> Transcript:
    segments = tuple(segment.model_copy(update={"speaker": speaker(segment)}) for segment in transcript.segments)
    return transcript.model_copy(update={"segments": segments})
