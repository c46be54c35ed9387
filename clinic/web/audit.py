"""The audit log, for the auditor, who sees no patient data.

Rules kept here:

* A page of the list begins at the number of an entry, so it stays what it is while the log grows.
* What is shown, verified and exported comes from the log alone; only the names of accounts are added to the list.
* An export leaves encrypted for the auditor's own key; the file that is handed out is removed from the box.
* Of what was typed as its recipients only whole public keys are shown again: the rest may be a secret key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import segno
from flask import Blueprint, Response, render_template, request
from flask.typing import ResponseReturnValue

from clinic.audit.activity import EVENTS, Kind, per_day, since
from clinic.audit.consistency import growth
from clinic.audit.events import REGISTRY, AuditVerified
from clinic.audit.export import export as export_log
from clinic.audit.export_out import recipients_in
from clinic.audit.log import Entry
from clinic.audit.verify import VerifyReport
from clinic.audit.witness import verify_witnessed, witnessed
from clinic.domain import OPERATOR, Role, new_id
from clinic.errors import AuditError, AuthenticationError, ClinicError, InputError, http_status
from clinic.web import sessions, stepup
from clinic.web.access import allow
from clinic.web.charts import DAYS, chart
from clinic.web.display import zone_of_the_box
from clinic.web.forms import EntriesForm, ExportForm, FormError, WitnessForm
from clinic.web.ports import services

blueprint = Blueprint("audit", __name__, url_prefix="/audit")
_PER_PAGE = 50
_BLOCK = 64 * 1024
_SHORT = 16
_EVENTS_BY_KIND = {
    kind: tuple(names) for kind, names in groupby(sorted(REGISTRY), key=lambda name: name.partition(".")[0] + ".")
}
"""The names of all events, by the beginning that they share."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as a line of the list."""

    seq: int
    at: str
    actor: str
    name: str
    role: str
    event: str
    details: tuple[tuple[str, str], ...]
    patient: str | None


@blueprint.get("")
@allow(Role.AUDITOR)
def index() -> ResponseReturnValue:
    """List entries: the newest, or those that are looked for."""
    try:
        return _page(form=EntriesForm.from_query())
    except FormError as error:
        return _page(problem=error, status=422)


@blueprint.get("/activity")
@allow(Role.AUDITOR)
def activity() -> ResponseReturnValue:
    """Show how much was looked at, drafted, denied and refused on each of the last days."""
    today = datetime.now().astimezone().date()
    minutes = services().records.audit.minutely(since(today, DAYS), events=tuple(EVENTS))
    days = per_day(minutes, today=today, days=DAYS)
    return render_template("audit/activity.html", charts=[chart(days, kind) for kind in Kind], days=days, kinds=Kind)


@blueprint.get("/entries/<int:seq>")
@allow(Role.AUDITOR)
def entry(seq: int) -> ResponseReturnValue:
    """Show one entry whole."""
    log = services().records.audit
    found = log.entry(seq)
    with services().records.read() as tx:
        names: dict[str, str] = {user.id: user.username for user in tx.users.list()}
    return render_template(
        "audit/entry.html",
        row=_row(found, names, short=False),
        digest=found.hash.hex(),
        before=found.prev_hash.hex(),
        size=log.size(),
        vkey=log.vkey,
        is_sealed=found.sealed is not None,
    )


@blueprint.post("/entries/<int:seq>/proof")
@allow(Role.AUDITOR)
def prove(seq: int) -> Response:
    """Hand out the proof that one entry is in the log; it tells nothing of any other."""
    log = services().records.audit
    log.entry(seq)
    return _download(Response(log.prove(seq), mimetype="text/plain"), f"clinic-proof-{seq}.txt")


@blueprint.post("/verify")
@allow(Role.AUDITOR)
def verify() -> ResponseReturnValue:
    """Derive the whole log again and say what was found."""
    log = services().records.audit
    report = verify_witnessed(services().config.home, log)
    if report.ok:
        log.append(AuditVerified(entries=report.entries), actor=sessions.actor())
    return _page(report=report)


@blueprint.post("/checkpoint")
@allow(Role.AUDITOR)
def checkpoint() -> Response:
    """Hand out a signed checkpoint."""
    log = services().records.audit
    name = f"clinic-checkpoint-{log.head().size}.txt"
    return _download(Response(log.checkpoint(), mimetype="text/plain"), name)


@blueprint.get("/witness")
@allow(Role.AUDITOR)
def witness() -> ResponseReturnValue:
    """Show the signed checkpoint as a QR code; for a witness that saw the log before, with the proof of growth."""
    log, seen = services().records.audit, WitnessForm.from_query().seen
    problem: ClinicError | None = None
    try:
        text = log.checkpoint() if seen is None else growth(log, seen)
    except AuditError as error:
        if error.code != "audit_rolled_back":
            raise
        text, problem = log.checkpoint(), error
    content = render_template(
        "audit/witness.html",
        text=text,
        code=segno.make(text, error="l", micro=False).svg_data_uri(scale=4),
        vkey=log.vkey,
        seen=seen or "",
        kept=witnessed(services().config.home, vkey=log.vkey),
        problem=problem,
    )
    return content, 200 if problem is None else 409


@blueprint.post("/export")
@allow(Role.AUDITOR)
def export() -> ResponseReturnValue:
    """Hand out the whole log, encrypted for the auditor."""
    try:
        form = ExportForm.parse()
        stepup.require()
        path = services().config.run_dir / f"export-{new_id()}.age"
        as_fhir, log, actor = form.layout == "fhir", services().records.audit, sessions.actor()
        exported = export_log(log, form.recipients, path, actor=actor, as_fhir=as_fhir)
    except (InputError, AuthenticationError) as error:
        return _page(problem=error, status=http_status(error))
    manifest = exported.manifest
    body = Response(_once(path), mimetype="application/octet-stream")
    body.content_length = path.stat().st_size
    return _download(body, f"clinic-audit-{manifest.first}-{manifest.last}{'.fhir.ndjson' if as_fhir else ''}.age")


def _page(
    *,
    form: EntriesForm | None = None,
    report: VerifyReport | None = None,
    problem: ClinicError | None = None,
    status: int = 200,
) -> ResponseReturnValue:
    form = form or EntriesForm()
    log = services().records.audit
    found = log.search(form.search(), before=form.before, after=form.after, limit=_PER_PAGE)
    with services().records.read() as tx:
        names: dict[str, str] = {user.id: user.username for user in tx.users.list()}
    content = render_template(
        "audit/list.html",
        size=log.size(),
        rows=[_row(entry, names) for entry in found.entries],
        found=found,
        form=form,
        kinds=_EVENTS_BY_KIND,
        actors=sorted({OPERATOR.user_id: OPERATOR.user_id, **names}.items(), key=lambda item: item[1].casefold()),
        zone=zone_of_the_box(),
        report=report,
        problem=problem,
        recipient="\n".join(recipients_in(request.form.get("recipient", ""))),
    )
    return content, status


def _row(entry: Entry, names: dict[str, str], *, short: bool = True) -> Row:
    try:
        body: dict[str, Any] = dict(json.loads(entry.body))
    except (ValueError, TypeError):  # somebody changed it: verification names it, and the others must be seen
        body = {"body": "cannot be read"}
    patient = body.pop("patient", None)
    details = tuple((name.replace("_", " "), _value(value, short=short)) for name, value in body.items())
    name = names.get(entry.actor, entry.actor)
    return Row(entry.seq, entry.at, entry.actor, name, entry.role, entry.event, details, patient)


def _value(value: object, *, short: bool) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value) or "none"
    text = str(value)
    is_digest = len(text) >= 2 * _SHORT and all(character in "0123456789abcdef" for character in text)
    return f"{text[:_SHORT]}…" if short and is_digest else text


def _once(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes; the file has lost its name before the first of them."""
    with path.open("rb") as file:
        path.unlink()
        while block := file.read(_BLOCK):
            yield block


def _download(response: Response, name: str) -> Response:
    response.headers["Content-Disposition"] = f"attachment; filename={name}"
    return response
