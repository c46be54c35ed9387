"""The web form while the audit log is latched: 503 everywhere, in words or in JSON, until the log was verified."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from clinic.app import create_stopped_app
from clinic.audit.guard import Guard
from clinic.audit.latch import Reason
from clinic.cli import main
from clinic.domain import OPERATOR, Role
from clinic.records.patients import Patient
from clinic.web.stopped import OPEN
from tests.functional.web_world import ORIGIN, World

ARGUMENTS = {"patient_id": "a" * 32, "encounter_id": "a" * 32, "recording_id": "a" * 32, "user_id": "a" * 32}


def requests(world: World) -> list[tuple[str, str, str]]:
    """Return endpoint, method and path of every route, from the route table."""
    found = []
    adapter = world.app.url_map.bind("clinic.test")
    for rule in world.app.url_map.iter_rules():
        known = {name: "1" if f"<int:{name}>" in rule.rule else "n1" for name in rule.arguments}
        arguments = known | {name: value for name, value in ARGUMENTS.items() if name in known}
        path = adapter.build(rule.endpoint, arguments | {"filename": "clinic.css"} if arguments else {})
        found += [(rule.endpoint, method, path) for method in rule.methods or () if method in {"GET", "POST", "PUT"}]
    return found


def test_every_route_is_refused(world: World, patient: Patient) -> None:
    """From the route table: each route that is not on the short list answers 503 and says why, signed in or not."""
    browser = world.browser(Role.CLINICIAN)
    shown = f"/patients/{patient.id}"
    assert browser.get(shown).status_code == 200
    world.records.guard.latch(Reason.DISK_FULL)
    size = world.records.audit.head().size
    table = requests(world)
    assert len(table) > 40
    for endpoint, method, path in table:
        for accept in ("text/html", "application/json"):
            for client in (browser.client, world.app.test_client()):
                response = client.open(path, method=method, headers={"Accept": accept}, base_url=ORIGIN)
                response.close()
                if endpoint in OPEN and method == "GET":
                    assert response.status_code in {200, 302, 404}, endpoint
                    continue
                assert response.status_code == 503, (endpoint, method, response.status_code)
                assert response.headers["Retry-After"] == "30"
                if accept == "text/html":
                    assert "audit verify --clear" in response.text
                else:
                    assert response.json is not None
                    assert response.json["error"]["code"] == "audit_latched"
    assert browser.get(shown).status_code == 503
    assert world.records.audit.head().size == size


def test_without_the_latch_the_same_routes_answer(world: World, patient: Patient) -> None:
    """Negative control: no route says 503 by itself."""
    del patient
    client: FlaskClient = world.browser(Role.CLINICIAN).client
    for _, method, path in requests(world):
        response = client.open(path, method=method, headers={"Accept": "text/html"}, base_url=ORIGIN)
        response.close()
        assert response.status_code != 503, path


def test_polling_and_chunks_get_json(world: World, patient: Patient) -> None:
    """The page that polls or records is told in JSON, with a status that makes it keep its chunks and ask again."""
    encounter = world.encounter(patient)
    browser = world.browser(Role.CLINICIAN)
    started = browser.send(f"/encounters/{encounter.id}/recording", {"mime": "audio/webm"})
    assert started.json is not None
    recording = started.json["id"]
    assert browser.put(f"/recordings/{recording}/chunks/0", b"first").status_code == 200
    world.records.guard.latch(Reason.RESERVE_REACHED)
    for response in (
        browser.get(f"/encounters/{encounter.id}/status", json=True),
        browser.put(f"/recordings/{recording}/chunks/1", b"second"),
    ):
        assert response.status_code == 503
        assert response.json is not None
        assert response.json["error"]["code"] == "audit_latched"
    assert world.records.audit.clear(actor=OPERATOR).ok
    assert browser.put(f"/recordings/{recording}/chunks/1", b"second").status_code == 200
    with world.records.read() as tx:
        assert b"".join(tx.recordings.chunks(recording)) == b"firstsecond"


def test_a_failure_during_a_request_is_answered_with_503(world: World, patient: Patient) -> None:
    """The request that meets the failure gets the page, too, although the database file is gone."""
    browser = world.browser(Role.CLINICIAN)
    path = world.services.config.database
    path.rename(path.with_name("elsewhere.db"))
    response = browser.get(f"/patients/{patient.id}")
    assert response.status_code == 503
    assert "removed or replaced" in response.text
    path.with_name("elsewhere.db").rename(path)
    assert browser.get("/patients").status_code == 503  # put back, but not verified
    assert world.records.audit.clear(actor=OPERATOR).ok
    assert browser.get("/patients").status_code == 200


def test_the_command_line_clears_it_for_the_running_web_form(
    world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`audit verify` leaves it stopped, `--clear` records both and lets the other process go on."""
    browser = world.browser(Role.CLINICIAN)
    world.records.guard.latch(Reason.WRITE_FAILED)
    home = ["--home", str(world.services.config.home)]
    plain = CliRunner().invoke(main, ["audit", "verify", *home])
    assert plain.exit_code == 0
    assert "everything is stopped since" in plain.stdout
    assert browser.get(f"/patients/{patient.id}").status_code == 503
    listing = CliRunner().invoke(main, ["patient", "list", *home, "--json"])
    assert listing.exit_code == 5
    assert '"audit_latched"' in listing.stdout
    cleared = CliRunner().invoke(main, ["audit", "verify", "--clear", "--json", *home])
    assert cleared.exit_code == 0
    assert '"cleared": "write_failed"' in cleared.stdout
    monkeypatch.setattr("clinic.audit.guard._AGAIN_S", 0.0)
    assert browser.get(f"/patients/{patient.id}").status_code == 200
    assert world.events()[-3:] == ["audit.latched", "audit.cleared", "patient.viewed"]


def test_a_damaged_log_stays_stopped(world: World) -> None:
    """`--clear` does not help a log that does not verify: exit 1, still refused."""
    import sqlite3
    from contextlib import closing

    world.records.guard.latch(Reason.WRITE_FAILED)
    with closing(sqlite3.connect(world.services.config.database)) as thief, thief:
        thief.execute("DROP TRIGGER audit_entries_no_update")
        thief.execute("UPDATE audit_entries SET actor = 'somebody' WHERE seq = 2")
    home = ["--home", str(world.services.config.home)]
    assert CliRunner().invoke(main, ["audit", "verify", "--clear", *home]).exit_code == 1
    assert world.app.test_client().get("/patients", base_url=ORIGIN).status_code == 503


def test_the_page_without_a_key(world: World) -> None:
    """While nothing verifies, `clinic serve` shows what happened without giving the key to any process."""
    config = world.services.config
    assert world.app.test_client().get("/health", base_url=ORIGIN).json == {"status": "ok"}
    client = create_stopped_app(config).test_client()
    assert "sealed" in client.get("/patients", base_url=ORIGIN).text  # cleared meanwhile, and soon replaced
    Guard(config.home).latch(Reason.SEQUENCE_GAP)
    for asked in (client, world.app.test_client()):
        health = asked.get("/health", base_url=ORIGIN)
        assert (health.status_code, health.json) == (200, {"status": "stopped"})
    page = client.get("/patients", base_url=ORIGIN)
    assert page.status_code == 503
    assert "entries that were there are gone" in page.text
