"""Every error as one page or one JSON shape.

Rules kept here:

* The shape is `{"error": {"code", "message", "hint"}}`; the page says the same three things.
* A caller that asks for JSON, or for a piece of a page, gets JSON; everybody else gets the page.
* An unexpected exception shows a reference and is logged by type, file and line only: its message and its values may
  hold patient text.
"""

from __future__ import annotations

import logging

from flask import Flask, Response, jsonify, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from clinic.defects import where
from clinic.domain import new_id
from clinic.errors import ClinicError, PolicyDeniedError, http_status
from clinic.web import stopped, wording
from clinic.web.ports import services
from clinic.web.stopped import wants_json

logger = logging.getLogger("clinic.web")


def register(app: Flask) -> None:
    """Let this module answer for everything that views raise."""
    app.register_error_handler(ClinicError, on_clinic_error)
    app.register_error_handler(HTTPException, on_http_error)
    app.register_error_handler(Exception, on_unexpected)


def answer(code: str, message: str, *, hint: str, status: int) -> Response:
    """Render an error for whoever asked."""
    if wants_json():
        response = jsonify(error={"code": code, "message": message, "hint": hint})
    else:
        response = make_response(render_template("error.html", code=code, message=message, hint=hint, status=status))
    response.status_code = status
    return response


def on_clinic_error(error: ClinicError) -> ResponseReturnValue:
    """Answer an expected error in its own words."""
    latch = services().records.guard.current()
    if latch is not None:  # whatever it is, it comes of that; and the database may be what failed
        logger.info("refused code=audit_latched reason=%s", latch.reason.value)
        return stopped.page(latch, as_json=wants_json())
    status = http_status(error)
    if error.code == "signed_out" and request.method == "GET" and not wants_json():
        return redirect(url_for("auth.login", next=request.path))
    if error.code == "factor_required" and request.method == "GET" and not wants_json():
        return redirect(url_for("factor.show"))
    if isinstance(error, PolicyDeniedError):
        logger.info("refused code=%s status=%d policies=%d", error.code, status, len(error.policies))
    else:
        logger.info("refused code=%s status=%d", error.code, status)
    return answer(error.code, str(error), hint=error.hint, status=status)


def on_http_error(error: HTTPException) -> ResponseReturnValue:
    """Answer an error of the protocol; the library's own text may quote the request and is not shown."""
    status = error.code or 500
    problem = wording.http_problem(error, status)
    response = answer(problem.code, problem.message, hint=problem.hint, status=status)
    for name, value in error.get_headers():
        if name in {"Allow", "Retry-After"}:
            response.headers[name] = value
    return response


def on_unexpected(error: Exception) -> ResponseReturnValue:
    """Answer a defect: a reference for the reader, where it happened for the log, and no value in either."""
    reference = new_id()[:12]
    logger.error("unexpected error reference=%s %s", reference, where(error))
    return answer(
        "internal",
        "something went wrong that should not have",
        hint=f"nothing was lost that had been acknowledged; tell the administrator this reference: {reference}",
        status=500,
    )
