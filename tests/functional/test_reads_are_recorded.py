"""Looking is an event: no route shows a patient's data unless an entry about it is committed before the answer leaves.

The walk goes over the route table, every method of each route, with real ids and the forms that the pages send; what
an answer shows is found by looking for what was put in.  A new route is in the walk at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import pytest
from flask import Response, request
from werkzeug.routing import Rule

from clinic.audit.events import REGISTRY
from clinic.domain import Role
from clinic.records.patients import Patient
from clinic.web.access import allow
from clinic.web.ports import services
from tests.conftest import SAMPLE
from tests.functional.web_world import CANARY, NOTE, ORIGIN, SIGNED, TRANSCRIPT, Browser, World

SHOWN: Final = (
    CANARY,
    "MRN-4711",
    "1961-03-05",
    *(segment.text for segment in TRANSCRIPT.segments),
    *(statement.text for statement in NOTE.statements),
    *(text for _, text in SIGNED),
)
"""What is a patient's: it must not leave without an entry."""

AUDIO: Final = b"RIFF"
PIECE: Final = 512 * 1024
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
READS: Final = frozenset(
    {
        "patient.viewed",
        "patient.accounted",
        "patients.listed",
        "encounter.viewed",
        "audio.played",
        "note.edited",
        "note.exported",
        "note.copied",
        "document.edited",
        "document.copied",
    }
)
"""Events that say who saw what.  `note.edited`: the answer to an edit is the draft, which the entry names."""


@dataclass(frozen=True)
class Shown:
    """An answer that showed a patient's data, and the entries that were committed when it left."""

    endpoint: str
    method: str
    events: tuple[str, ...]


class Watch:
    """Looks at each answer as it leaves, and at the log through another connection: what is there then is committed."""

    def __init__(self, world: World) -> None:
        self.found: list[Shown] = []
        self._path = world.services.config.database
        self._before = 0
        world.app.before_request(self._remember)
        funcs = world.app.after_request_funcs.setdefault(None, [])
        funcs.insert(0, self._look)  # runs last: nothing comes between it and the network

    def _entries(self) -> list[str]:
        with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as db:
            found = db.execute("SELECT event FROM audit_entries WHERE seq > ? ORDER BY seq", (self._before,))
            return [str(name) for (name,) in found]

    def _remember(self) -> None:
        self._before = 0
        self._before = len(self._entries())

    def _look(self, response: Response) -> Response:
        response.direct_passthrough = False
        body = response.get_data()
        text = body.decode("utf-8", "replace")
        if any(word in text for word in SHOWN) or body.startswith(AUDIO):
            self.found.append(Shown(str(request.endpoint), request.method, tuple(self._entries())))
        return response


def values_of(rule: Rule, ids: dict[str, str]) -> dict[str, Any]:
    """Return real ids for a route's arguments."""
    return {name: ids.get(name, 0 if f"<int:{name}>" in rule.rule else "n1") for name in rule.arguments}


def forms() -> Iterator[dict[str, str]]:
    """Yield what a page may send: the words that a route needs to answer with what it shows."""
    yield {"text": CANARY.split()[0], "version": "1", "section": "plan"}
    yield {"text": " ", "version": "1"}
    yield {"name": ""}


def walk(world: World, patient: Patient) -> list[Shown]:
    """Ask for everything, by every role, as a page and as a script does."""
    drafted, spoken = world.drafted(patient), world.encounter(patient)
    document = world.document(world.signed(patient))
    with world.records.write() as tx:
        recording = tx.recordings.start(spoken.id, mime="audio/flac", actor=world.actor())
        audio = SAMPLE.read_bytes()
        pieces = [audio[at : at + PIECE] for at in range(0, len(audio), PIECE)]
        for number, piece in enumerate(pieces):
            tx.recordings.append(recording.id, number, piece)
        tx.recordings.complete(recording.id, chunks=len(pieces), actor=world.actor())
    encounters = {"notes": drafted.id, "encounters": drafted.id, "recordings": spoken.id}
    watch = Watch(world)
    rules = sorted(world.app.url_map.iter_rules(), key=lambda rule: rule.endpoint == "auth.sign_out")
    adapter = world.app.url_map.bind("clinic.test")
    for role in Role:
        browser = world.browser(role)
        for rule in rules:
            for method in METHODS:
                ids = {
                    "patient_id": patient.id,
                    "pseudonym": world.records.audit.pseudonym(patient.id),
                    "encounter_id": encounters.get(rule.endpoint.split(".")[0], drafted.id),
                    "recording_id": recording.id,
                    "document_id": document.id,
                }
                if method in (rule.methods or ()) and rule.endpoint not in {"static", "auth.sign_out"}:
                    ask(browser, method, adapter.build(rule.endpoint, values_of(rule, ids), method=method))
    return watch.found


def ask(browser: Browser, method: str, path: str) -> None:
    """Send a request as each of our pages may."""
    address = f"{path}?start=0&end=1" if path.endswith("/audio") else path
    for form in forms() if method != "GET" else ({},):
        for fragment in ({}, {"X-Fragment": "1"}):
            headers = {"X-CSRFToken": browser.token, "Accept": "text/html", **fragment}
            data = {"csrf_token": browser.token, **form} if method == "POST" else None
            browser.client.open(address, method=method, base_url=ORIGIN, headers=headers, data=data).close()


def unrecorded(found: list[Shown]) -> set[str]:
    """Return the routes that showed something without an entry that says so."""
    return {each.endpoint for each in found if not READS & set(each.events)}


def test_every_route_that_shows_a_patient_has_recorded_it(world: World, patient: Patient) -> None:
    """Whatever answer held a patient's data, an entry about it was committed when it left."""
    assert set(REGISTRY) >= READS
    found = walk(world, patient)
    shown = {each.endpoint for each in found}
    assert {"patients.index", "patients.show", "patients.edit", "patients.search"} <= shown
    assert {"encounters.show", "notes.draft", "recordings.clip", "documents.show", "documents.piece"} <= shown
    assert unrecorded(found) == set()


@pytest.mark.parametrize("late", [False, True], ids=["never", "afterwards"])
def test_a_route_that_forgets_is_caught(world: World, patient: Patient, *, late: bool) -> None:
    """Negative control: a page that records nothing, or only after its answer was made, is named by the walk."""

    @world.app.get("/forgetful/<id:patient_id>", endpoint="forgetful")
    @allow(Role.CLINICIAN)
    def forgetful(patient_id: str) -> Response:
        with services().records.read() as tx:
            response = Response(tx.patients.data(patient_id).name)
        if late:
            response.call_on_close(lambda: record(world, patient_id))
        return response

    assert unrecorded(walk(world, patient)) == {"forgetful"}


def record(world: World, patient_id: str) -> None:
    """Record the look, too late."""
    with world.records.write() as tx:
        tx.patients.get(patient_id, world.actor())
