"""The clinician's first page: today's encounters and everything unfinished, with state and place in the queue.

Rules kept here:

* Names are shown, so each look at the list is recorded as a list of patients (`patients.listed`).
* What the page asks for by itself, every few seconds, holds ids and states and no name; it is not the user's activity.
* A queue that cannot be read is said; the list is shown all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from flask import Blueprint, Response, jsonify, render_template, request
from flask.typing import ResponseReturnValue

from clinic.domain import EncounterId, EncounterState, PatientId, Role
from clinic.errors import JobError
from clinic.generation.template import title
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from clinic.records.records import Transaction
from clinic.web import sessions, wording
from clinic.web.access import allow
from clinic.web.forms import DayForm
from clinic.web.ports import services

blueprint = Blueprint("day", __name__, url_prefix="/day")

MOST: Final = 200
"""Encounters that are shown, the newest."""

Group = Literal["yours", "box", "done"]
_GROUPS: Final[dict[EncounterState, Group]] = {
    EncounterState.OPEN: "yours",
    EncounterState.DRAFTED: "yours",
    EncounterState.DENIED: "yours",
    EncounterState.FAILED: "yours",
    EncounterState.QUEUED: "box",
    EncounterState.RUNNING: "box",
    EncounterState.SIGNED: "done",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One encounter of the list: in whose hands it is, whose it is, and what is said of its place."""

    encounter: Encounter
    group: Group
    title: str
    patient: Patient | None
    place: str


@blueprint.get("")
@allow(Role.CLINICIAN)
def show() -> ResponseReturnValue:
    """Show the list; asked by a script, only the list."""
    form = DayForm.from_query()
    positions = _positions()
    with services().records.write() as tx:
        newest, total = _of_the_day(tx, form)
        patients = tx.patients.named([e.patient_id for e in newest], sessions.actor())
        names = tx.users.names()
    return render_template(
        "day/_list.html" if "X-Fragment" in request.headers else "day/show.html",
        rows=[_row(encounter, patients, positions) for encounter in newest],
        groups=wording.DAY_GROUPS,
        names=names,
        show=form.show,
        total=total,
        most=MOST,
        queue_unread=positions is None,
    )


@blueprint.get("/state")
@allow(Role.CLINICIAN, passive=True)
def state() -> Response:
    """Say where each encounter of the list stands (asked by the page every few seconds)."""
    positions = _positions()
    with services().records.read() as tx:
        newest, _ = _of_the_day(tx, DayForm.from_query())
    return jsonify(
        encounters=[
            {
                "id": encounter.id,
                "state": encounter.state.value,
                "label": wording.STATES[encounter.state],
                "place": place(encounter, positions),
            }
            for encounter in newest
        ]
    )


def place(encounter: Encounter, positions: Mapping[EncounterId, int] | None) -> str:
    """Say in words which in turn an encounter is, or what is done for it."""
    if encounter.state is EncounterState.RUNNING:
        return wording.STAGES[encounter.stage][0] if encounter.stage else "Beginning"
    if encounter.state is not EncounterState.QUEUED:
        return ""
    if positions is None:
        return "Place in the queue unknown"
    turn = positions.get(encounter.id)
    return "About to begin" if turn is None else "Next in the queue" if turn == 1 else f"Number {turn} in the queue"


def _of_the_day(tx: Transaction, form: DayForm) -> tuple[tuple[Encounter, ...], int]:
    midnight = services().records.clock().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    mine = sessions.signed_in().id if form.show == "mine" else None
    return tx.encounters.of_the_day(midnight, clinician_id=mine, limit=MOST)


def _positions() -> Mapping[EncounterId, int] | None:
    try:
        return services().jobs.positions()
    except JobError:
        return None


def _row(
    encounter: Encounter, patients: Mapping[PatientId, Patient], positions: Mapping[EncounterId, int] | None
) -> Row:
    return Row(
        encounter,
        _GROUPS[encounter.state],
        title(encounter.template),
        patients.get(encounter.patient_id),
        place(encounter, positions),
    )
