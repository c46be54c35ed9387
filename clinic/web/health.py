"""What anybody on the LAN may ask: is it alive, and which certificate authority to trust.

Rules kept here:

* `/health` says one word and always answers: `ok`, `stopped` (the audit log is latched), or `copy_behind` (the optional
  second copy of the log is not up to date).  No version, no name, no state that would help an attacker.
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, render_template
from flask.typing import ResponseReturnValue

from clinic.errors import RecordError
from clinic.web.access import public
from clinic.web.ports import services

blueprint = Blueprint("health", __name__)


@blueprint.get("/health")
@public
def health() -> Response:
    """Say that the web form answers, and whether records do."""
    records = services().records
    if records.guard.current() is not None:
        return jsonify(status="stopped")
    return jsonify(status="copy_behind" if records.audit.is_copy_behind else "ok")


@blueprint.get("/ca")
@public
def authority() -> ResponseReturnValue:
    """Explain how to make a device trust this box."""
    return render_template("ca.html", available=(services().config.tls_dir / "ca.crt").is_file())


@blueprint.get("/ca.pem")
@public
def authority_certificate() -> Response:
    """Hand out the local certificate authority's certificate (public by nature)."""
    try:
        pem = (services().config.tls_dir / "ca.crt").read_bytes()
    except OSError:
        raise RecordError("this box has no local certificate authority", hint="`clinic init` makes one") from None
    headers = {"Content-Disposition": "attachment; filename=clinic-ca.pem"}
    return Response(pem, mimetype="application/x-pem-file", headers=headers)
