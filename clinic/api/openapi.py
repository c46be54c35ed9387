"""The OpenAPI 3.1 document, made from the table of operations and the models.

Pydantic writes JSON Schema 2020-12, which is what OpenAPI 3.1 takes as it is; the rest is the table.  The libraries
that make such a document for Flask route by decorators, answer errors in their own form and bring pages with scripts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from clinic import __version__
from clinic.api.operations import Operation, Raw, path_type
from clinic.api.problems import MEDIA_TYPE as PROBLEM
from clinic.api.problems import Problem
from clinic.api.recordings import DIGEST

PREFIX: Final = "/api/v1"
_SCHEMAS: Final = "#/components/schemas/{model}"
_UUID: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_TITLES: Final = {
    400: "A header is missing or cannot be read",
    401: "No good token",
    403: "The token or the account may not do this",
    404: "There is no such thing",
    409: "It stands otherwise than the request supposes",
    410: "The patient's record was destroyed",
    413: "Too large",
    415: "Of a kind that is not taken here",
    422: "Not as it must be; nothing was changed",
    429: "Too many requests",
    500: "A defect, or damaged data",
    503: "The clinic is sealed, stopped, or a part of it does not answer",
    507: "The disk refuses",
}

Json = dict[str, Any]
Mode = Literal["validation", "serialization"]


def document(operations: Sequence[Operation]) -> Json:
    """Return the OpenAPI document of a table of operations."""
    references, schemas = _schemas(operations)
    paths: Json = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Clinic",
            "version": __version__,
            "description": "What another program on the clinic's LAN may do.  See docs/api.md.",
        },
        "servers": [{"url": PREFIX}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "clinic token"}},
        },
    }


def _schemas(operations: Sequence[Operation]) -> tuple[dict[type[BaseModel], Json], Json]:
    wanted: dict[type[BaseModel], Mode] = {Problem: "serialization"}
    for operation in operations:
        if not isinstance(operation.answers, Raw):
            wanted[operation.answers] = "serialization"
        if isinstance(operation.body, type):
            wanted[operation.body] = "validation"
    found, definitions = models_json_schema(list(wanted.items()), ref_template=_SCHEMAS)
    return {model: dict(found[model, mode]) for model, mode in wanted.items()}, definitions["$defs"]


def _operation(operation: Operation, references: dict[type[BaseModel], Json]) -> Json:
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "security": [{"token": [] if operation.scope is None else [operation.scope.value]}],
        "parameters": [*_path(operation), *_headers(operation), *_query(operation)],
        "responses": {
            str(operation.status): _success(operation, references),
            **{str(status): _problem(status, references) for status in operation.documented_problems},
        },
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _body(operation.body, references)}
    return described


def _body(body: type[BaseModel] | str, references: dict[type[BaseModel], Json]) -> Json:
    if isinstance(body, str):
        return {body: {"schema": {"type": "string", "format": "binary", "minLength": 1, "maxLength": 2**20}}}
    return {"application/json": {"schema": references[body]}}


def _success(operation: Operation, references: dict[type[BaseModel], Json]) -> Json:
    answers = operation.answers
    if isinstance(answers, Raw):
        return {"description": operation.summary, "content": {answers.media_type: {"schema": dict(answers.schema)}}}
    content = {"application/json": {"schema": references[answers]}}
    return {"description": operation.summary, "content": content}


def _problem(status: int, references: dict[type[BaseModel], Json]) -> Json:
    return {"description": _TITLES[status], "content": {PROBLEM: {"schema": references[Problem]}}}


def _path(operation: Operation) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": dict(path_type(name)[1])}
        for name in operation.parameters
    ]


def _headers(operation: Operation) -> list[Json]:
    headers: list[Json] = []
    if operation.once:
        headers.append(_header("Idempotency-Key", _UUID, "A new UUID for each new request."))
    if isinstance(operation.body, str):
        headers.append(_header(DIGEST, "^sha-256=:[A-Za-z0-9+/]{43}=:$", "SHA-256 of the chunk (RFC 9530)."))
    return headers


def _header(name: str, pattern: str, description: str) -> Json:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "header", "required": True, "description": description, "schema": schema}


def _query(operation: Operation) -> list[Json]:
    if operation.query is None:
        return []
    schema = operation.query.model_json_schema(ref_template="{model}")
    definitions = schema.get("$defs", {})
    return [
        {"name": name, "in": "query", "required": False, "schema": _inlined(field, definitions)}
        for name, field in schema["properties"].items()
    ]


def _inlined(field: Json, definitions: Json) -> Json:
    """Write a field of a query without its null (a query string has none) and without references."""
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    chosen = dict(options[0])
    chosen = dict(definitions[chosen["$ref"]]) if "$ref" in chosen else chosen
    default = field.get("default")
    return chosen if default is None else chosen | {"default": default}
