"""Note templates: data in `templates/*.toml`, read into frozen values and named by their digest.

Rules kept here:

* Unknown keys are refused, section ids are unique, and every section can be asked of both kinds of model.
* No template holds an example patient: what stands in a prompt can leak into a note.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from functools import cached_property
from importlib.resources import files
from typing import Annotated, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from clinic.domain import Note, canonical_sha256
from clinic.errors import ConfigError, InputError

_Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
_Cue = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9' -]*\*?$")]


class _Named(Protocol):
    @property
    def id(self) -> str: ...


_T = TypeVar("_T", bound=_Named)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ask(_Part):
    """One question to a completion model: the header its adapter knows, and what it is put about (`passages`).

    Attributes:
        header: one of the headers of MTS-Dialog.
        max_tokens: the longest answer.
        cues: asked only where one of them was said; without cues, of everything.
        cue_alone: show the segments with a cue, without their neighbours.
        opening_only: asked of the opening of the consultation.
    """

    header: Annotated[str, Field(pattern=r"^[A-Z_/]{2,20}$")]
    max_tokens: Annotated[int, Field(ge=8, le=512)]
    cues: tuple[_Cue, ...] = ()
    cue_alone: bool = False
    opening_only: bool = False


class Section(_Part):
    """One section of the note."""

    id: _Id
    title: Annotated[str, Field(min_length=1, max_length=60)]
    guidance: Annotated[str, Field(min_length=1, max_length=400)]
    asks: Annotated[tuple[Ask, ...], Field(min_length=1)]


class Template(_Part):
    """A kind of note."""

    id: _Id
    title: Annotated[str, Field(min_length=1, max_length=60)]
    version: Annotated[int, Field(ge=1)]
    instruction: Annotated[str, Field(min_length=1, max_length=4000)]
    sections: Annotated[tuple[Section, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique_sections(self) -> Self:
        if len(set(self.section_ids)) != len(self.sections):
            raise ValueError("section ids must be unique")
        return self

    @property
    def section_ids(self) -> tuple[str, ...]:
        """Ids of the sections, in the order of the note."""
        return tuple(section.id for section in self.sections)

    @cached_property
    def sha256(self) -> str:
        """Digest of everything the template says."""
        return canonical_sha256(self.model_dump(mode="json"))


def template_ids() -> tuple[str, ...]:
    """Return the ids of the templates that ship with the project."""
    return shipped_ids("clinic.generation")


def title(template_id: str) -> str:
    """Return a template's title; its id if the template is gone."""
    template = _find(template_id)
    return template.title if template else template_id


def headings(template_id: str, note: Note | None) -> dict[str, str]:
    """Return section ids with their titles: a template's, then any other in which the note has a statement."""
    template = _find(template_id)
    known = {section.id: section.title for section in template.sections} if template else {}
    for statement in note.statements if note else ():
        known.setdefault(statement.section, statement.section.replace("_", " ").capitalize())
    return known


def require_template(template_id: str) -> None:
    """Refuse a kind of note that is not there.

    Raises:
        InputError: `input_invalid`.
    """
    if template_id not in template_ids():
        raise InputError("there is no such note template", hint="choose one of the list")


def load_template(template_id: str) -> Template:
    """Read one template.

    Raises:
        ConfigError: `template_unknown`, `template_invalid`.
    """
    return read_shipped(Template, "clinic.generation", template_id)


def shipped_ids(package: str) -> tuple[str, ...]:
    """Return the ids of the templates in a package's folder `templates`."""
    folder = files(package) / "templates"
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def read_shipped(kind: Callable[..., _T], package: str, template_id: str) -> _T:
    """Read one template out of a package's folder `templates`.

    Raises:
        ConfigError: `template_unknown`, `template_invalid`.
    """
    known = shipped_ids(package)
    if template_id not in known:
        raise ConfigError(
            "there is no such template", code="template_unknown", hint=f"choose one of: {', '.join(known)}"
        )
    text = (files(package) / "templates" / f"{template_id}.toml").read_text(encoding="utf-8")
    try:
        template = kind(**tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError, TypeError) as exc:
        raise ConfigError(
            f"template `{template_id}` is not valid", code="template_invalid", hint="install the program again"
        ) from exc
    if template.id != template_id:
        raise ConfigError(f"template `{template_id}` names itself `{template.id}`", code="template_invalid")
    return template


def _find(template_id: str) -> Template | None:
    try:
        return load_template(template_id)
    except ConfigError:
        return None
