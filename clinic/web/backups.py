"""Backups, for the administrator: how it stands, and two buttons.

Rules kept here:

* The page shows times, sizes, counts and codes; a destination by the id that the audit log uses.
* A button puts a job into the queue; the worker does it, and the page says what it is doing.
"""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from clinic.backup.history import history
from clinic.backup.locate import at_hand
from clinic.backup.schedule import Task, health
from clinic.backup.site import state_of
from clinic.domain import Role, utc_now
from clinic.web import sessions
from clinic.web.access import allow
from clinic.web.ports import services

blueprint = Blueprint("backups", __name__, url_prefix="/backups")

_STARTED = {
    Task.CREATE: "A backup is on its way. This page says how far it is.",
    Task.DRILL: "A drill is on its way. This page says how far it is.",
}


@blueprint.get("")
@allow(Role.ADMINISTRATOR)
def index() -> ResponseReturnValue:
    """Show the last backup and drill, what is due, what failed, and what is outstanding."""
    config, jobs = services().config, services().jobs
    known = history(services().records.audit)
    return render_template(
        "backups/show.html",
        config=config.backup,
        known=known,
        kept=tuple(reversed(known.kept.values())),
        health=health(config, known, utc_now()),
        there={folder.name for place in at_hand(config) for folder in place.backups()},
        running=state_of(config),
        waiting=[task.value for task in Task if jobs.pending_upkeep(task.value)],
    )


@blueprint.post("/create")
@allow(Role.ADMINISTRATOR)
def create() -> ResponseReturnValue:
    """Make a backup now."""
    return _start(Task.CREATE)


@blueprint.post("/drill")
@allow(Role.ADMINISTRATOR)
def drill() -> ResponseReturnValue:
    """Try now whether the newest backup would serve."""
    return _start(Task.DRILL)


def _start(task: Task) -> ResponseReturnValue:
    services().jobs.enqueue_upkeep(task.value, actor=sessions.actor())
    flash(_STARTED[task])
    return redirect(url_for("backups.index"), 303)
