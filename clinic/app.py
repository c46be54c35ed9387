"""The web application: wiring only.

Rules kept here:

* `create_app` puts the parts together; every rule is in the part that it belongs to.
* The order of the hooks matters: body limit, session and access, origin and CSRF, then the view.
* `create_sealed_app` knows nothing but how to say that the box is sealed.

Example::

    app = create_app(build_services(config, keyring))
"""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, jsonify, make_response, render_template
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from clinic.api.app import create_api, create_refusing_api, mount
from clinic.api.app import sealed as sealed_error
from clinic.config import Config
from clinic.errors import ClinicError
from clinic.home import guard_of
from clinic.web import (
    access,
    accounting,
    admin,
    audit,
    auth,
    backups,
    checking,
    copies,
    day,
    devices,
    display,
    documents,
    encounters,
    errors,
    factor,
    glass,
    health,
    metrics,
    moments,
    notes,
    own,
    passkeys,
    patients,
    policies,
    ports,
    programs,
    questions,
    recordings,
    security,
    sessions,
    shredding,
    speakers,
    stepup,
    stopped,
    versions,
    vitals,
    welcome,
)
from clinic.web.converters import PartId, RecordId
from clinic.web.ports import Services
from clinic.web.request import ClinicRequest, limit_body

_SEALED = 503
_BLUEPRINTS = (
    auth.blueprint,
    day.blueprint,
    patients.blueprint,
    encounters.blueprint,
    recordings.blueprint,
    speakers.blueprint,
    notes.blueprint,
    moments.blueprint,
    checking.blueprint,
    versions.blueprint,
    copies.blueprint,
    documents.blueprint,
    questions.blueprint,
    audit.blueprint,
    accounting.blueprint,
    admin.blueprint,
    backups.blueprint,
    policies.blueprint,
    glass.blueprint,
    factor.blueprint,
    passkeys.blueprint,
    own.blueprint,
    programs.blueprint,
    welcome.blueprint,
    vitals.blueprint,
    shredding.blueprint,
    health.blueprint,
    metrics.blueprint,
)


class ClinicFlask(Flask):
    """Flask with the request class that never spools in the clear."""

    request_class = ClinicRequest


def create_app(services: Services, *, insecure_http: bool = False, clock: sessions.Uptime = sessions.uptime) -> Flask:
    """Build the web form over wired services.

    Args:
        services: the wired system, unlocked.
        insecure_http: leave `Secure` off the cookie, for tests and screenshots over plain HTTP on this machine.
        clock: seconds since boot; tests set it.
    """
    app = _flask()
    ports.attach(app.extensions, services)
    app.config["SPOOL_DIR"] = services.config.run_dir
    app.config["MAX_UPLOAD_BYTES"] = services.config.web.max_upload_mb * 1024 * 1024
    app.url_map.converters.update(id=RecordId, part=PartId)
    app.before_request(stopped.refuse)
    app.before_request(limit_body)
    sessions.configure(app, clock=clock)
    passkeys.configure(app, clock=clock)
    app.before_request(access.enforce)
    security.configure(app, secret_key=services.session_key, insecure_http=insecure_http)
    devices.configure(app)
    checking.configure(app)
    metrics.configure(app)
    display.register(app)
    app.jinja_env.globals["step_up"] = stepup.asked
    errors.register(app)
    for blueprint in _BLUEPRINTS:
        app.register_blueprint(blueprint)
    access.public(app.view_functions["static"])
    app.context_processor(_page_context)
    return mount(app, create_api(services))


def create_sealed_app(config: Config) -> Flask:
    """Build what answers while the clinic key is not loaded."""
    del config  # nothing of the data folder is shown, not even that it exists
    app = _flask()
    app.after_request(security.set_headers)

    @app.get("/health", provide_automatic_options=False)
    def health_while_sealed() -> ResponseReturnValue:
        return jsonify(status="sealed"), _SEALED

    @app.errorhandler(HTTPException)
    def sealed(_error: HTTPException) -> Response:
        return _sealed_page()

    return mount(app, create_refusing_api(sealed_error))


def create_stopped_app(config: Config) -> Flask:
    """Build what answers while the audit log is latched and no process with the key may run."""
    app = _flask()
    app.after_request(security.set_headers)
    guard = guard_of(config)

    @app.get("/health", provide_automatic_options=False)
    def health_while_stopped() -> ResponseReturnValue:
        return jsonify(status="stopped")

    @app.errorhandler(HTTPException)
    def refuse(_error: HTTPException) -> Response:
        latch = guard.current()
        return stopped.page(latch, as_json=stopped.wants_json()) if latch is not None else _sealed_page()

    def reason() -> ClinicError:
        latch = guard.current()
        return sealed_error() if latch is None else latch.refusal()

    return mount(app, create_refusing_api(reason))


def _sealed_page() -> Response:
    response = make_response(render_template("sealed.html"), _SEALED)
    response.headers["Retry-After"] = "30"
    return response


def _flask() -> Flask:
    return ClinicFlask("clinic.web", static_folder="static", template_folder="templates")


def _page_context() -> dict[str, Any]:
    return {"user": sessions.current(), "idle_seconds": ports.services().config.web.idle_minutes * 60}
