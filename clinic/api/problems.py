"""Every error as a problem document (RFC 9457).

Rules kept here:

* `code`, message (`title`) and `hint` are those of the rest of the program; `docs/errors.md` lists them.
* What was sent is never repeated: a field is named only if it is one of ours.
* While the audit log is latched that is the answer to everything, for whatever failed comes of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from flask import Flask, Response
from pydantic import BaseModel, ConfigDict
from werkzeug.exceptions import HTTPException

from clinic.audit.guard import Guard
from clinic.defects import where
from clinic.domain import new_id
from clinic.errors import ClinicError, InputError, http_status

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = "30"
_UNAVAILABLE: Final = 503

logger = logging.getLogger("clinic.api")


class FieldProblem(BaseModel):
    """What is wrong with one field: where it is (`a.b`), and what kind of error it is."""

    model_config = ConfigDict(frozen=True)

    field: str
    problem: str


class Problem(BaseModel):
    """What happened, and what to do next."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    code: str
    hint: str
    errors: tuple[FieldProblem, ...] = ()


class BodyError(InputError):
    """Raised when a body or query is not as the OpenAPI document says; `fields` names what to mend."""

    def __init__(self, fields: tuple[FieldProblem, ...]) -> None:
        super().__init__("the request is not as it must be", hint="compare it with the OpenAPI document")
        self.fields = fields


class RateError(ClinicError):
    """Raised when a program asks too often."""

    default_code = "too_many_requests"
    http_status = 429


class HeaderError(ClinicError):
    """Raised when a header is missing or cannot be read."""

    default_code = "header_invalid"
    http_status = 400


_HTTP: Final = {
    400: ("request_invalid", "the request could not be understood", "send what the OpenAPI document says"),
    404: ("route_unknown", "there is nothing at this address", "`clinic api openapi` lists all addresses"),
    405: ("method_not_allowed", "this address does not take that method", "the header Allow names those that it takes"),
    413: ("too_large", "what was sent is larger than allowed", "a chunk has at most 1 MiB, a document 3 MiB"),
    415: ("media_type", "the body is of a kind that is not taken here", "application/json, and for a chunk its bytes"),
}


def register(app: Flask, guard: Callable[[], Guard]) -> None:
    """Let this module answer for everything that views raise."""

    def on_clinic_error(error: ClinicError) -> Response:
        latch = guard().current()
        return problem(error if latch is None else latch.refusal())

    app.register_error_handler(ClinicError, on_clinic_error)
    app.register_error_handler(HTTPException, on_http_error)
    app.register_error_handler(Exception, on_unexpected)


def problem(error: ClinicError) -> Response:
    """Return the answer for an error of ours."""
    status = http_status(error)
    logger.info("refused code=%s status=%d", error.code, status)
    fields = error.fields if isinstance(error, BodyError) else ()
    headers = {}
    if status == _UNAVAILABLE or isinstance(error, RateError):
        headers["Retry-After"] = RETRY_AFTER_S
    if status == 401:  # noqa: PLR2004 - HTTP asks for this header
        headers["WWW-Authenticate"] = 'Bearer realm="clinic"'
    return _answer(status, error.code, str(error), hint=error.hint, fields=fields, headers=headers)


def on_http_error(error: HTTPException) -> Response:
    """Answer an error of the protocol; the library's own text may quote the request and is not shown."""
    status = error.code or 500
    code, title, hint = _HTTP.get(status, ("http_error", f"the request failed with status {status}", "try again"))
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return _answer(status, code, title, hint=hint, headers=headers)


def on_unexpected(error: Exception) -> Response:
    """Answer a defect: a reference for the reader, where it happened for the log, and no value in either."""
    reference = new_id()[:12]
    logger.error("unexpected error reference=%s %s", reference, where(error))
    return _answer(
        500,
        "internal",
        "something went wrong that should not have",
        hint=f"nothing was lost that had been acknowledged; tell the administrator this reference: {reference}",
    )


def _answer(
    status: int,
    code: str,
    title: str,
    *,
    hint: str,
    fields: tuple[FieldProblem, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    document = Problem(
        type=f"urn:clinic:problem:{code}", title=title, status=status, code=code, hint=hint, errors=fields
    )
    return Response(document.model_dump_json(), status, headers, content_type=MEDIA_TYPE)
