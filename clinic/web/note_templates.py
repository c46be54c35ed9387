"""Note templates as the pages need them: ids, titles, sections.

Rules kept here:

* A statement is never hidden: a section that the template does not know (any more) is shown after those that it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from clinic.domain import Note
from clinic.errors import ConfigError, InputError
from clinic.generation.template import Template, load_template, template_ids


@dataclass(frozen=True, slots=True)
class SectionView:
    """A section's id and heading."""

    id: str
    title: str


@cache
def choices() -> tuple[Template, ...]:
    """Return the templates that a clinician can choose."""
    return tuple(load_template(template_id) for template_id in template_ids())


def require(template_id: str) -> None:
    """Refuse a template that is not there.

    Raises:
        InputError: `input_invalid`.
    """
    if template_id not in template_ids():
        raise InputError("there is no such note template", hint="choose one of the list")


def title(template_id: str) -> str:
    """Return a template's title; its id if the template is gone."""
    template = _find(template_id)
    return template.title if template else template_id


def sections(template_id: str, note: Note | None) -> tuple[SectionView, ...]:
    """Return the sections of a template, then any other in which the note has a statement."""
    template = _find(template_id)
    known = {section.id: section.title for section in template.sections} if template else {}
    for statement in note.statements if note else ():
        known.setdefault(statement.section, statement.section.replace("_", " ").capitalize())
    return tuple(SectionView(section_id, heading) for section_id, heading in known.items())


def _find(template_id: str) -> Template | None:
    try:
        return load_template(template_id)
    except ConfigError:
        return None
