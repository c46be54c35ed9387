"""How the box is, for the administrator: what is looked at, how it is, and what to do where it is not well.

Rules kept here:

* What is looked at takes no time: no log is verified and no record opened.  `clinic doctor` does that.
* Every check that is not well says what to do next; so does one that is right only as long as no patient is here.
* Nothing of a patient is shown: times, sizes, counts.
"""

from __future__ import annotations

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from clinic.doctor import Finding, glance, guarded
from clinic.domain import Role, utc_now
from clinic.jobs.alive import worker_runs
from clinic.web.access import allow
from clinic.web.ports import services

blueprint = Blueprint("vitals", __name__, url_prefix="/box")
MANY = 20
"""Encounters that wait; at half a minute each on two cores the last waits ten minutes (README, Numbers)."""


@blueprint.get("")
@allow(Role.ADMINISTRATOR)
def show() -> ResponseReturnValue:
    """Show every check, those that are not well first, then those to think about."""
    config, records = services().config, services().records
    found = [
        guarded("worker", _worker),
        guarded("queue", _queue),
        *glance(config, records),
    ]
    return render_template("box.html", found=sorted(found, key=lambda each: (each.ok, not each.mind)), at=utc_now())


def _worker() -> Finding:
    runs = worker_runs(services().config.run_dir)
    if runs is None:
        return Finding("worker", ok=True, detail="cannot be seen from here")
    if not runs:
        hint = "nothing is transcribed or drafted: `systemctl status clinic-worker`, or start `clinic serve` again"
        return Finding("worker", ok=False, detail="does not run", hint=hint)
    return Finding("worker", ok=True, detail="runs")


def _queue() -> Finding:
    waiting = len(services().jobs.positions())
    detail = f"{waiting} {'encounter waits' if waiting == 1 else 'encounters wait'}"
    if waiting > MANY:
        hint = "the box does not keep up: see whether the model server answers; nothing is lost meanwhile"
        return Finding("queue", ok=False, detail=detail, hint=hint)
    return Finding("queue", ok=True, detail=detail if waiting else "nobody waits")
