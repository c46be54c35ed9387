"""Where an encounter stands, as it changes: server-sent events.

Rules kept here:

* A stream says what `GET /encounters/{encounter_id}` says, each time that it changes, and ends when nothing is under
  way any more.
* A stream holds one of the server's threads: there are few of them, each for a short time, and the program asks again.
* It ends when its token stops being good, or the audit log is latched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Final

from flask import Response, current_app

from clinic.api.calls import Call
from clinic.api.models import EncounterAnswered
from clinic.api.operations import Operation, Raw
from clinic.api.standing import answered, policy_words
from clinic.domain import EncounterId, EncounterState, Scope
from clinic.errors import ClinicError, JobError
from clinic.records.encounters import Encounter

EXTENSION: Final = "clinic.api.pace"
_STREAMS: Final = 3
"""Of the server's eight threads; the others stay for the form."""

_MOVING: Final = frozenset({EncounterState.OPEN, EncounterState.QUEUED, EncounterState.RUNNING})
_RETRY_MS: Final = 1000
_ALIVE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a stream lasts, how often it looks, in seconds; and how many there may be."""

    lasts_s: float = 30.0
    looks_s: float = 0.5
    free: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(_STREAMS))


def events(call: Call, encounter_id: str) -> Response:
    """Say where an encounter stands, each time that it changes."""
    pace: Pace = current_app.extensions[EXTENSION]
    with call.reading() as tx:
        tx.encounters.get(EncounterId(encounter_id))
    if not pace.free.acquire(blocking=False):
        raise JobError(
            "too many programs listen already",
            code="streams_busy",
            hint="ask for the state every few seconds instead, or try again",
        )
    response = Response(_stream(call, EncounterId(encounter_id), pace), content_type="text/event-stream")
    response.call_on_close(pace.free.release)
    return response


def _stream(call: Call, encounter_id: EncounterId, pace: Pace) -> Iterator[str]:
    yield f"retry: {_RETRY_MS}\n\n"
    written = time.monotonic()
    end = written + pace.lasts_s
    shown: Encounter | None = None
    while True:
        try:
            found = _look(call, encounter_id)
        except ClinicError:  # what stopped it is told to the next request
            return
        if found is None:
            return
        if found != shown:
            yield _event(answered(call, found, policy_words(call)))
            shown, written = found, time.monotonic()
        elif time.monotonic() - written >= _ALIVE_S:  # who has gone is noticed by writing to them
            yield ": still here\n\n"
            written = time.monotonic()
        if found.state not in _MOVING or time.monotonic() >= end:
            return
        time.sleep(pace.looks_s)


def _look(call: Call, encounter_id: EncounterId) -> Encounter | None:
    if call.services.records.guard.current() is not None:
        return None
    with call.reading() as tx:
        return tx.encounters.get(encounter_id) if tx.tokens.is_good(call.token.id) else None


def _event(state: EncounterAnswered) -> str:
    return f"event: encounter\ndata: {state.model_dump_json()}\n\n"


OPERATIONS: Final = (
    Operation(
        name="watch_encounter",
        method="GET",
        path="/encounters/{encounter_id}/events",
        scope=Scope.ENCOUNTERS_READ,
        view=events,
        summary="Where an encounter stands, as it changes (server-sent events)",
        status=200,
        answers=Raw("text/event-stream", {"description": "Events `encounter`; their data is an EncounterAnswered."}),
    ),
)
