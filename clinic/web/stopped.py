"""While the audit log is latched: what is refused, and how that is said.

Rules kept here:

* Nothing is shown, taken or changed: a look at a patient could not be recorded, an acknowledged chunk not be kept.
  What remains is what shows no record: health, the certificate, the files of the page, the sign-in form's text.
* The page needs no session and no database, for either may be what failed; scripts get the same in JSON, and keep
  what they hold: a chunk that was not acknowledged is sent again.
"""

from __future__ import annotations

from typing import Final

from flask import Response, jsonify, make_response, render_template, request

from clinic.audit.latch import WORDS, Latch
from clinic.web.ports import services

STATUS: Final = 503
RETRY_AFTER_S: Final = "30"
OPEN: Final = frozenset({"health.health", "health.authority_certificate", "metrics.show", "auth.login", "static"})
"""The routes that answer all the same."""


def refuse() -> Response | None:
    """Answer for a request while the log is latched; runs before anything else."""
    latch = services().records.guard.current()
    if latch is None or (request.endpoint in OPEN and request.method in {"GET", "HEAD"}):
        return None
    return page(latch, as_json=wants_json())


def wants_json() -> bool:
    """Tell whether the caller is one of our scripts."""
    accepted = request.accept_mimetypes
    return "X-Fragment" in request.headers or accepted["application/json"] > accepted["text/html"]


def page(latch: Latch, *, as_json: bool) -> Response:
    """Return what happened, what it means and what to do, as a page or as JSON."""
    refusal = latch.refusal()
    if as_json:
        response = jsonify(error={"code": refusal.code, "message": str(refusal), "hint": refusal.hint})
    else:
        what, then = WORDS[latch.reason]
        response = make_response(render_template("stopped.html", what=what, then=then, latch=latch))
    response.status_code = STATUS
    response.headers["Retry-After"] = RETRY_AFTER_S
    return response
