"""Where one is signed in, and ending it.

Rules kept here:

* Everybody sees and ends their own sessions only; a session is named by a handle that opens nothing.
* What a browser says of itself is shown as what it is: a hint.
"""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from clinic.audit.events import SessionEnded
from clinic.domain import Role
from clinic.web import sessions
from clinic.web.access import allow
from clinic.web.ports import services

blueprint = Blueprint("own", __name__, url_prefix="/sessions")


@blueprint.get("")
@allow(*Role, unfinished=True)
def index() -> ResponseReturnValue:
    """List the own sessions, the one used last first."""
    found, here = sessions.own()
    return render_template("sessions.html", found=found, here=here)


@blueprint.post("/<id:handle>/end")
@allow(*Role, unfinished=True)
def end(handle: str) -> ResponseReturnValue:
    """End one of the own sessions."""
    user = sessions.signed_in()
    if sessions.end_one(user, handle):
        _record(1)
        flash("That session is ended.")
    return redirect(url_for("own.index"), 303)


@blueprint.post("/end-others")
@allow(*Role, unfinished=True)
def end_others() -> ResponseReturnValue:
    """End every own session but this one."""
    ended = sessions.end_my_others()
    _record(ended)
    flash("No other session is left." if ended else "There was no other session.")
    return redirect(url_for("own.index"), 303)


def _record(ended: int) -> None:
    with services().records.write() as tx:
        for _ in range(ended):
            tx.append(SessionEnded(user_id=sessions.signed_in().id), actor=sessions.actor())
