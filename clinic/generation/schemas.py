"""The answer of a chat model: its JSON schema for the engine, and the same shape for checking what came back.

Rules kept here:

* Everything is bounded: statements, their length, the segments they cite.
* Only keywords that xgrammar and LLGuidance both enforce are used: with others LLGuidance answers unconstrained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_STATEMENTS = 60
MAX_STATEMENT_CHARACTERS = 400
MAX_CITED = 8
_LONGEST_ID_ENUM = 200


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AnsweredStatement(_Answer):
    """One statement as the model gave it."""

    section: str
    text: Annotated[str, Field(min_length=1, max_length=MAX_STATEMENT_CHARACTERS)]
    segments: Annotated[list[str], Field(max_length=MAX_CITED)]


class NoteAnswer(_Answer):
    """A whole note as the model gave it."""

    statements: Annotated[list[AnsweredStatement], Field(max_length=MAX_STATEMENTS)]


def note_schema(*, sections: Sequence[str], segments: Sequence[str]) -> dict[str, Any]:
    """Return the JSON schema for these sections and segment ids."""
    cited: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 32}
    if 0 < len(segments) <= _LONGEST_ID_ENUM:  # a longer list makes the grammar slow; the verifier checks ids anyway
        cited = {"type": "string", "enum": list(segments)}
    statement = {
        "type": "object",
        "properties": {
            "section": {"type": "string", "enum": list(sections)},
            "text": {"type": "string", "minLength": 1, "maxLength": MAX_STATEMENT_CHARACTERS},
            "segments": {"type": "array", "items": cited, "minItems": 1, "maxItems": MAX_CITED},
        },
        "required": ["section", "text", "segments"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"statements": {"type": "array", "items": statement, "maxItems": MAX_STATEMENTS}},
        "required": ["statements"],
        "additionalProperties": False,
    }


def read_note(text: str, schema: dict[str, Any]) -> NoteAnswer | None:
    """Return the answer if it is what `schema` (from `note_schema`) asks for, else None.

    None instead of an exception: pydantic's would carry the model's words.
    """
    try:
        answer = NoteAnswer.model_validate_json(text)
    except ValidationError:
        return None
    allowed = schema["properties"]["statements"]["items"]["properties"]["section"]["enum"]
    return answer if all(s.section in allowed and s.text.strip() for s in answer.statements) else None
