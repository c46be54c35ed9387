"""Note templates as the pages need them: ids, titles, sections.

Rules kept here:

* A statement is never hidden: a section that the template does not know (any more) is shown after those that it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from clinic.domain import Note
from clinic.generation.template import Template, headings, load_template, template_ids


@dataclass(frozen=True, slots=True)
class SectionView:
    """A section's id and heading."""

    id: str
    title: str


@cache
def choices() -> tuple[Template, ...]:
    """Return the templates that a clinician can choose."""
    return tuple(load_template(template_id) for template_id in template_ids())


def sections(template_id: str, note: Note | None) -> tuple[SectionView, ...]:
    """Return the sections of a template, then any other in which the note has a statement."""
    return tuple(SectionView(section_id, heading) for section_id, heading in headings(template_id, note).items())
