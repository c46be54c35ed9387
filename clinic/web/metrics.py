"""`/metrics`: how the box does, for a monitoring system that has the token.

Rules kept here:

* Without a token file in the data folder there is no such page; a file that others can read counts as none.
* Without the token nothing is said, and what was sent is compared in constant time.
* It answers while the audit log is latched, too: that is when somebody should be told.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from typing import Final, cast

from flask import Blueprint, Flask, Response, abort, current_app, request

from clinic.errors import ClinicError
from clinic.metrics import Watch, exposition, gauges, token_of
from clinic.web.access import public
from clinic.web.ports import services
from clinic.web.security import limiter

blueprint = Blueprint("metrics", __name__)

_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_EXTENSION: Final = "clinic.metrics"


def configure(app: Flask) -> None:
    """Begin to count with this application."""
    app.extensions[_EXTENSION] = {}


@blueprint.get("/metrics")
@public
@limiter.limit("60 per minute")
def show() -> Response:
    """Return counts and gauges in Prometheus' text format."""
    token = token_of(services().config)
    if token is None:
        abort(404)
    if not hmac.compare_digest(f"Bearer {token}".encode(), request.headers.get("Authorization", "").encode()):
        return Response("a token is needed\n", 401, {"WWW-Authenticate": "Bearer"}, content_type=_CONTENT_TYPE)
    found = gauges(services().config, services().records, lambda: len(services().jobs.positions()))
    with suppress(ClinicError):  # the log cannot be read: `clinic_audit_latched` says so
        found += _watch().families()
    return Response(exposition(found), content_type=_CONTENT_TYPE)


def _watch() -> Watch:
    kept = cast("dict[str, Watch]", current_app.extensions[_EXTENSION])
    if "watch" not in kept:
        kept.setdefault("watch", Watch(services().records.audit))
    return kept["watch"]
