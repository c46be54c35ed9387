"""What was said and is not in the note, as the page lists it.

Rules kept here:

* The order is that of the conversation; `number` is the omission's place in the note, by which it is added.
* The section that is offered first depends on the kind and on what the template has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from clinic.domain import Omission, Transcript
from clinic.records.notes import StoredNote
from clinic.web import note_templates

_SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "drug": ("plan",),
    "safety_net": ("plan",),
    "follow_up": ("plan",),
    "allergy": ("allergies", "subjective", "history"),
    "measurement": ("objective", "findings"),
    "finding": ("objective", "findings"),
}
_OTHER: Final = ("subjective", "history")
"""Sections in the order of preference, for the templates that we ship."""


@dataclass(frozen=True, slots=True)
class OmissionView:
    """One omission: its number in the note, when it was said, and the section that is offered."""

    number: int
    omission: Omission
    start: float | None
    section: str | None


def views(template_id: str, stored: StoredNote | None, transcript: Transcript | None) -> tuple[OmissionView, ...]:
    """Return a note's omissions in the order in which they were said."""
    if stored is None:
        return ()
    segments = transcript.segments if transcript else ()
    places = {segment.id: place for place, segment in enumerate(segments)}
    starts = {segment.id: segment.start for segment in segments}
    known = [section.id for section in note_templates.sections(template_id, stored.note)]
    listed = [
        OmissionView(number, found, starts.get(found.segment), _section(found.kind, known))
        for number, found in enumerate(stored.note.omissions)
    ]
    return tuple(sorted(listed, key=lambda view: places.get(view.omission.segment, len(places))))


def _section(kind: str, known: list[str]) -> str | None:
    return next((section for section in _SECTIONS.get(kind, _OTHER) if section in known), None)
