"""What an operation is: one row of the table from which routes, checks and the OpenAPI document are made.

Rules kept here:

* A scope is named, or the operation is open to every token: there is none that needs no token.
* Ids in an address are ours and say nothing; words of a patient are never in one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from flask import Response
from pydantic import BaseModel
from werkzeug.routing import BaseConverter

from clinic.domain import Scope

PATH_TYPES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "number": ("number", {"type": "integer", "minimum": 0, "maximum": 65535}),
    "statement_id": ("part", {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$"}),
}
"""Parameter of a path -> converter and JSON schema; all others are ids of records."""

_ID: Final = ("id", {"type": "string", "pattern": "^[0-9a-f]{32}$"})
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers: a status and a document."""

    status: int
    body: BaseModel


@dataclass(frozen=True, slots=True)
class Raw:
    """A document that is not described by a model: its media type, and its JSON schema."""

    media_type: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        name: its id in the OpenAPI document, and in the audit log.
        method: the HTTP method.
        path: the address below `/api/v1`, parameters in braces.
        scope: what a token must be allowed; None: any token.
        view: what does it, given the call and the parameters of the path.
        summary: one line for people.
        status: the status of success.
        answers: what success answers.
        body: the model of the body, or the media type of raw bytes.
        query: the model of the query string.
        once: it takes an `Idempotency-Key`.
        problems: statuses it can answer beside those that all do, and those that follow from the rest.
    """

    name: str
    method: str
    path: str
    scope: Scope | None
    view: Callable[..., Answer | Response]
    summary: str
    status: int
    answers: type[BaseModel] | Raw
    body: type[BaseModel] | str | None = None
    query: type[BaseModel] | None = None
    once: bool = False
    problems: frozenset[int] = field(default_factory=frozenset)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the path, in order."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def rule(self) -> str:
        """The path as the router writes it."""
        return _PARAMETER.sub(lambda found: f"<{path_type(found[1])[0]}:{found[1]}>", self.path)

    @property
    def documented_problems(self) -> tuple[int, ...]:
        """All statuses of problems, in order."""
        found = {401, 403, 422, 429, 500, 503, 507} | self.problems
        if self.parameters:
            found |= {404}
        if self.body is not None:
            found |= {413, 415}
        if self.once:
            found |= {400, 409}
        return tuple(sorted(found))


def path_type(name: str) -> tuple[str, Mapping[str, Any]]:
    """Return converter and schema of a parameter of a path."""
    return PATH_TYPES.get(name, _ID)


class RecordId(BaseConverter):
    """The id of a record (`domain.new_id`)."""

    regex = "[0-9a-f]{32}"


class ChunkNumber(BaseConverter):
    """The number of a chunk: written in one way only."""

    regex = "0|[1-9][0-9]{0,4}"

    def to_python(self, value: str) -> int:
        """Return it as a number."""
        return int(value)


class PartId(BaseConverter):
    """The id of a part of a note."""

    regex = r"[A-Za-z0-9_.:-]{1,64}"


CONVERTERS: Final[Mapping[str, type[BaseConverter]]] = {"id": RecordId, "number": ChunkNumber, "part": PartId}
