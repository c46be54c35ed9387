"""Document templates: data in `templates/*.toml`, read into frozen values and named by their digest.

Rules kept here:

* A section says which sentences of the note it quotes, or that the clinician writes it; never what to invent.
* Unknown keys are refused, section ids are unique.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from clinic.domain import Action, Document, canonical_sha256
from clinic.errors import InputError
from clinic.generation.template import read_shipped, shipped_ids
from clinic.verification.carried import Kind

_Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
_Cue = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9' -]*\*?$")]
_Line = Annotated[str, Field(min_length=1, max_length=200)]
_Title = Annotated[str, Field(min_length=1, max_length=60)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Section(_Part):
    """One section of a document.  A sentence must meet all of `carried`, `cues` and `sections` that are given.

    Attributes:
        id: its name.
        title: its heading.
        hint: what the clinician reads beside it.
        absent: what the reader of the document finds where nothing else stands: silence could be taken for "none".
        carried: sentences that speak of a drug, or of an allergy (`verification.carried`).
        cues: sentences in which one of these words stands (`word`, or `word*` for its beginnings).
        sections: sentences of these sections of the note.
        undated: not those that say when to come back (`in one week`), unless they say that it may have to be sooner.
        rest: every sentence that no other section takes.
        required: it must not be empty when the document is issued.
    """

    id: _Id
    title: _Title
    hint: Annotated[str, Field(max_length=200)] = ""
    absent: Annotated[str, Field(max_length=200)] = ""
    carried: Kind | None = None
    cues: tuple[_Cue, ...] = ()
    sections: tuple[_Id, ...] = ()
    undated: bool = False
    rest: bool = False
    required: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.rest and (self.carried or self.cues or self.sections):
            raise ValueError("`rest` takes what is left, and nothing else beside it")
        return self

    @property
    def quotes(self) -> bool:
        """Whether it takes sentences of the note; else the clinician writes it."""
        return bool(self.rest or self.carried or self.cues or self.sections)


class DocumentTemplate(_Part):
    """A kind of document.

    Attributes:
        id: its name.
        title: what it is called.
        version: raised with every change.
        action: what the policy is asked for.
        for_patient: it is read by the patient: plain words, a reading grade, large print.
        reading_grade: the grade that it should not exceed (`readability`); None: not measured.
        recipient: it has somebody whom it is addressed to.
        opening: the line before the first section.
        closing: the line after the last.
        sections: its sections, in order.
    """

    id: _Id
    title: _Title
    version: Annotated[int, Field(ge=1)]
    action: Literal[Action.LETTER, Action.PATIENT_INSTRUCTIONS]
    for_patient: bool = False
    reading_grade: Annotated[int | None, Field(ge=1, le=18)] = None
    recipient: bool = False
    opening: _Line | None = None
    closing: _Line | None = None
    sections: Annotated[tuple[Section, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [section.id for section in self.sections]
        if len(set(ids)) != len(ids):
            raise ValueError("section ids must be unique")
        if sum(section.rest for section in self.sections) > 1:
            raise ValueError("only one section can take the rest")
        return self

    @property
    def section_ids(self) -> tuple[str, ...]:
        """Ids of the sections, in order."""
        return tuple(section.id for section in self.sections)

    @property
    def required(self) -> tuple[str, ...]:
        """Ids of the sections that must not be empty."""
        return tuple(section.id for section in self.sections if section.required)

    @cached_property
    def sha256(self) -> str:
        """Digest of everything the template says."""
        return canonical_sha256(self.model_dump(mode="json"))


def document_ids() -> tuple[str, ...]:
    """Return the ids of the document templates that ship with the project."""
    return shipped_ids("clinic.documents")


def require_document(template_id: str) -> DocumentTemplate:
    """Return a template that somebody chose.

    Raises:
        InputError: `input_invalid` if there is none of that name.
    """
    if template_id not in document_ids():
        raise InputError("there is no such kind of document", hint="choose one of the list")
    return load_document_template(template_id)


def title_of(template_id: str) -> str:
    """Return a template's title; its id if the template is gone."""
    return load_document_template(template_id).title if template_id in document_ids() else template_id


def template_of(document: Document) -> DocumentTemplate | None:
    """Return the template of a document; None if it is gone, or no longer what it was."""
    if document.template not in document_ids():
        return None
    template = load_document_template(document.template)
    return template if template.sha256 == document.template_sha256 else None


@cache
def load_document_template(template_id: str) -> DocumentTemplate:
    """Read one template.

    Raises:
        ConfigError: `template_unknown`, `template_invalid`.
    """
    return read_shipped(DocumentTemplate, "clinic.documents", template_id)
