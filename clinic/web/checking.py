"""Live checking: what verification says of a sentence while it is typed.

Rules kept here:

* The answer is what saving these words would give (`verification.review`); nothing is stored, nothing generated.
* The words travel in the body of a request; neither they nor the reasons are logged.
* Reasons quote the transcript, so looking is recorded: the first check of an encounter in a session is an
  `encounter.viewed` of its own, committed before it is answered; a keystroke is not.
* Only who may edit the note may check a sentence against it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Final, TypeVar, cast

from flask import Blueprint, Flask, Response, current_app, jsonify

from clinic.domain import EncounterId, Note, Role, Statement, Transcript
from clinic.errors import AuthenticationError, RecordError
from clinic.records.records import Transaction
from clinic.verification import review
from clinic.web import sessions, wording
from clinic.web.access import allow
from clinic.web.encounters import EncounterPage, load, record_view
from clinic.web.forms import CheckForm
from clinic.web.ports import services

blueprint = Blueprint("checking", __name__, url_prefix="/encounters/<id:encounter_id>/note")

_Seen = TypeVar("_Seen")
_EXTENSION: Final = "clinic.checking"
_REMEMBERED: Final = 1000


class Looks:
    """Which session was recorded as looking at which encounter; the oldest are forgotten and recorded again."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, look: tuple[str, str]) -> bool:
        """Tell whether this look was recorded."""
        with self._lock:
            return look in self._known

    def add(self, look: tuple[str, str]) -> None:
        """Remember a look whose entry is committed."""
        with self._lock:
            self._known[look] = None
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def configure(app: Flask) -> None:
    """Give an application its memory of recorded looks."""
    app.extensions[_EXTENSION] = Looks()


@blueprint.post("/check")
@allow(Role.CLINICIAN)
def check(encounter_id: str) -> Response:
    """Say what saving these words would give: status, and reasons in words."""
    form = CheckForm.parse_json()
    identity = EncounterId(encounter_id)
    note, transcript = recorded(identity, lambda tx: _draft(load(tx, identity)))
    found = _verified(note, transcript, form)
    return jsonify(
        status=found.status.value,
        label=wording.CHECKED[found.status],
        reasons=[reason.message for reason in found.reasons],
        sourced=bool(found.evidence),
    )


def recorded(encounter_id: EncounterId, look_at: Callable[[Transaction], _Seen]) -> _Seen:
    """Look at something of an encounter; if this session was not recorded as looking yet, that is committed first."""
    looks = cast("Looks", current_app.extensions[_EXTENSION])
    look = (sessions.session_id(), encounter_id)
    if look in looks:
        with services().records.read() as tx:
            return look_at(tx)
    with services().records.write() as tx:
        seen = look_at(tx)
        record_view(tx, tx.encounters.get(encounter_id))
    looks.add(look)
    return seen


def _draft(page: EncounterPage) -> tuple[Note, Transcript]:
    if not page.own:
        raise AuthenticationError(
            "only the clinician who opened this encounter may edit its note",
            code="not_allowed",
            hint="ask them to; you can read it here",
        )
    if page.step != "review" or page.note is None or page.transcript is None:
        raise RecordError("there is no draft to check against", code="step_unavailable", hint="load the page again")
    return page.note.note, page.transcript


def _verified(note: Note, transcript: Transcript, form: CheckForm) -> Statement:
    """Return the statement that saving would make."""
    if form.statement is not None:
        changed = review.edit(note, form.statement, form.text, transcript)
        return next(s for s in changed.statements if s.id == form.statement)
    before = {s.id for s in note.statements}
    added = review.add(note, form.section or "", form.text, transcript)
    return next(s for s in added.statements if s.id not in before)
