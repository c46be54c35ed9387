"""The API as an application of its own, mounted beside the form.

Rules kept here:

* It has no session, no secret key, no form and no file: a cookie is neither read nor set, and nothing of a body is
  spooled to the disk.
* Order: latch, token, scope, rate, then the view.
* While the clinic is sealed or stopped, every address answers 503 with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

from flask import Flask, Request, Response, jsonify
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from clinic.api import encounters, notes, patients, problems, progress, recordings, service
from clinic.api.calls import Call, Rates, UnderWay, admit, respond
from clinic.api.openapi import PREFIX, document
from clinic.api.operations import CONVERTERS, Operation, Raw
from clinic.api.ports import Services
from clinic.errors import ClinicError, SealedError

BODY_LIMIT: Final = 3 * 1024 * 1024
"""The longest text, each character written as two escapes of JSON; chunks have a limit of their own."""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def describe(_call: Call) -> Response:
    """Give the OpenAPI document."""
    return jsonify(document(OPERATIONS))


OPERATIONS: Final[tuple[Operation, ...]] = (
    *service.OPERATIONS,
    Operation(
        name="openapi",
        method="GET",
        path="/openapi.json",
        scope=None,
        view=describe,
        summary="This document",
        status=200,
        answers=Raw("application/json", {"type": "object"}),
    ),
    *patients.OPERATIONS,
    *encounters.OPERATIONS,
    *progress.OPERATIONS,
    *recordings.OPERATIONS,
    *notes.OPERATIONS,
)
"""Everything that there is."""


class ApiRequest(Request):
    """A request whose body is bytes: no form is parsed, so no file part is ever written anywhere."""

    def _load_form_data(self) -> NoReturn:
        raise RuntimeError("the API takes no forms")


class ApiFlask(Flask):
    """Flask with that request class."""

    request_class = ApiRequest


def create_api(services: Services, *, pace: progress.Pace | None = None) -> Flask:
    """Build the API over wired services.

    Args:
        services: the wired system, unlocked.
        pace: how long a stream of events lasts; tests set it.
    """
    app = _flask()
    app.extensions[progress.EXTENSION] = pace or progress.Pace()
    app.before_request(lambda: _refuse_latched(services))
    problems.register(app, lambda: services.records.guard)
    rates, under_way = Rates(), UnderWay()
    for operation in OPERATIONS:
        view = _view(services, operation, rates, under_way)
        app.add_url_rule(
            operation.rule,
            operation.name,
            view,
            methods=[operation.method],
            provide_automatic_options=False,
        )
    return app


def create_refusing_api(why: Callable[[], ClinicError]) -> Flask:
    """Build what answers while nothing can be done: every address gets the same error."""
    app = _flask()
    app.register_error_handler(HTTPException, lambda _error: problems.problem(why()))
    return app


def sealed() -> SealedError:
    """Return the error that everybody gets while the clinic key is not loaded."""
    return SealedError("the clinic is sealed", hint="somebody unlocks it on the box: `clinic keys unlock`")


def mount(app: Flask, api: Flask) -> Flask:
    """Let `api` answer below `/api/v1`, and `app` everything else."""
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {PREFIX: api.wsgi_app})  # type: ignore[method-assign]
    return app


def _flask() -> Flask:
    app = ApiFlask("clinic.api", static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask's own provider has it
    app.url_map.converters.update(CONVERTERS)
    app.after_request(_set_headers)
    return app


def _view(services: Services, operation: Operation, rates: Rates, under_way: UnderWay) -> Callable[..., Response]:
    def view(**parameters: Any) -> Response:
        return respond(operation.view(admit(services, operation, rates, under_way), **parameters))

    return view


def _refuse_latched(services: Services) -> None:
    latch = services.records.guard.current()
    if latch is not None:
        raise latch.refusal()


def _set_headers(response: Response) -> Response:
    response.headers.update(_HEADERS)
    return response
