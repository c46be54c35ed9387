"""Who may do what by the JSON API: the matrix is made from the table of operations, so a new one is in it at once."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from limits import parse
from werkzeug.test import Client

from clinic.api import calls
from clinic.api.app import OPERATIONS, create_api
from clinic.api.openapi import PREFIX
from clinic.api.operations import Operation
from clinic.api.progress import Pace
from clinic.app import create_sealed_app, create_stopped_app
from clinic.audit.accounting import Use
from clinic.audit.latch import Reason
from clinic.domain import OPERATOR, EncounterKind, Role, Scope, ShredReason, new_id
from clinic.errors import ClinicError, DecryptionError, RecordError
from clinic.home import guard_of
from clinic.records.disclosures import disclosures
from clinic.records.patients import Patient
from clinic.records.tokens import ApiToken, Tokens
from deploy.clinic_client import Refused
from tests.functional.api_world import BODIES, CHUNK, Program, code, later, make_token, operation, program
from tests.functional.test_glass import refused
from tests.functional.web_world import CANARY, NOTE, ORIGIN, PASSWORD, TRANSCRIPT, World

SECRETS = ("CANARY", CANARY)


# --- the matrix -----------------------------------------------------------------------------------------


def none(world: World) -> Program:
    """Somebody without a token."""
    return Program(world, "")


def garbage(world: World) -> Program:
    """Somebody with something else."""
    return Program(world, "clinic_of_mine")


def wrong_secret(world: World) -> Program:
    """Somebody who knows a token's id, and guesses."""
    secret = make_token(world)[1]
    return Program(world, secret[:-1] + ("A" if secret[-1] != "A" else "B"))


def revoked(world: World) -> Program:
    """A program whose token was revoked."""
    token, secret = make_token(world)
    with world.records.write() as tx:
        tx.tokens.revoke(token.id, OPERATOR)
    return Program(world, secret)


def expired(world: World) -> Program:
    """A program whose token has expired."""
    secret = make_token(world)[1]
    later(world, days=31)
    return Program(world, secret)


def disabled(world: World) -> Program:
    """A program whose account is disabled."""
    secret = make_token(world)[1]
    with world.records.write() as tx:
        tx.users.disable("clinician", OPERATOR)
    return Program(world, secret)


REFUSED: dict[str, tuple[Callable[[World], Program], str]] = {
    "garbage": (garbage, "token_invalid"),
    "wrong-secret": (wrong_secret, "token_invalid"),
    "revoked": (revoked, "token_revoked"),
    "expired": (expired, "token_expired"),
    "disabled": (disabled, "account_disabled"),
}


def let_in(someone: Program) -> list[tuple[str, int, str]]:
    """Ask for everything; return what was not refused as 401, and with which code the rest was."""
    found = []
    for item in OPERATIONS:
        response = someone.ask(item)
        if response.status_code != 401:
            found.append((item.name, response.status_code, response.text))
        else:
            assert response.headers["WWW-Authenticate"] == 'Bearer realm="clinic"'
    return found


def test_the_table_is_all_there_is(world: World) -> None:
    """Every route of the API is an operation of the table, with a scope of its own or open to every token."""
    api = create_api(world.services)
    routes = {(rule.endpoint, *sorted((rule.methods or set()) - {"HEAD"})) for rule in api.url_map.iter_rules()}
    assert routes == {(item.name, item.method) for item in OPERATIONS}
    assert len(OPERATIONS) == 24
    assert [item.name for item in OPERATIONS if item.scope is None] == ["token", "service", "openapi"]
    assert {item.scope for item in OPERATIONS} == {None, *Scope}
    assert {item.name for item in OPERATIONS if item.method == "POST" and not item.once} == {"search_patients"}
    assert {item.name for item in OPERATIONS if item.body and not isinstance(item.body, str)} == set(BODIES)


def test_nothing_answers_without_a_token(world: World) -> None:
    """No header, no answer; and that alone writes nothing into the log."""
    before = len(world.events())
    for item in OPERATIONS:
        response = none(world).call(item.method, item.path, headers={"Authorization": ""})
        assert response.status_code in (401, 404), item
    web = Client(world.app)
    for item in OPERATIONS:
        path = re.sub(r"\{(\w+)\}", lambda found: "0" if found[1] == "number" else new_id(), item.path)
        response = web.open(PREFIX + path, method=item.method, base_url=ORIGIN)
        assert (response.status_code, code(response)) == (401, "token_missing"), item
    assert len([name for name in world.events()[before:] if name != "token.refused"]) == 0


@pytest.mark.parametrize("standing", REFUSED)
def test_a_token_that_is_not_good_opens_nothing(world: World, standing: str) -> None:
    """Route by route: refused with its reason, and recorded."""
    make, reason = REFUSED[standing]
    someone = make(world)
    before = len(world.events())
    assert let_in(someone) == []
    assert code(someone.ask(OPERATIONS[0])) == reason
    entries = [entry for entry in world.records.audit.entries() if entry.event == "token.refused"]
    assert len(entries) == len(OPERATIONS) + 1
    bodies = [json.loads(entry.body) for entry in entries]
    assert {body["reason"] for body in bodies} == {reason}
    assert {body["operation"] for body in bodies} == {item.name for item in OPERATIONS}
    assert ({body["token"] for body in bodies} == {"unknown"}) is (reason == "token_invalid")
    assert set(world.events()[before:]) == {"token.refused"}


@pytest.mark.parametrize("standing", ["revoked", "expired", "disabled"])
def test_without_the_check_it_would_open(world: World, standing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with the token's standing not looked at, every route is open."""
    monkeypatch.setattr(Tokens, "_refusal", lambda *_: None)
    assert len(let_in(REFUSED[standing][0](world))) == len(OPERATIONS)


def beyond(world: World, scope: Scope) -> list[str]:
    """Return what a token with one scope is let into beyond it."""
    someone = program(world, scopes=[scope])
    found = []
    for item in OPERATIONS:
        response = someone.ask(item)
        allowed = item.scope in (None, scope)
        if not allowed and (response.status_code != 403 or code(response) != "scope_missing"):
            found.append(item.name)
        if allowed:
            assert response.status_code not in (401, 403), (item, response.text)
    return found


@pytest.mark.parametrize("scope", list(Scope))
def test_a_scope_opens_its_own_operations(world: World, scope: Scope) -> None:
    """Each scope with each operation: its own are let in, all others are refused."""
    assert beyond(world, scope) == []


def test_without_the_scopes_everything_would_be_open(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a token that is read as one with all scopes is let in everywhere."""
    real = Tokens._token

    def generous(self: Tokens, row: object, grant: object) -> ApiToken:
        token = real(self, row, grant)  # type: ignore[arg-type]
        return ApiToken(**{name: getattr(token, name) for name in token.__slots__} | {"scopes": frozenset(Scope)})

    monkeypatch.setattr(Tokens, "_token", generous)
    assert len(beyond(world, Scope.NOTES_READ)) > 10


def test_a_refusal_does_not_tell_what_exists(world: World, patient: Patient) -> None:
    """Without the scope the answer is the same for what is there and for what is not."""
    there, other = world.drafted(patient), new_id()
    someone = program(world, scopes=[Scope.PATIENTS_READ])
    for item in OPERATIONS:
        if item.scope not in (None, Scope.PATIENTS_READ) and "encounter_id" in item.parameters:
            ids = ({"encounter_id": found, "statement_id": "n1"} for found in (there.id, other))
            answers = [someone.ask(item, each) for each in ids]
            assert answers[0].data == answers[1].data, item
    emr = program(world)
    for item in OPERATIONS:
        if item.parameters:
            response = emr.ask(item)
            assert (response.status_code, code(response)) == (404, "record_unknown"), (item, response.text)


def test_a_colleagues_draft_is_not_taken_and_not_changed(world: World, patient: Patient) -> None:
    """As in the form: a draft is taken along and edited for the one who opened the encounter only."""
    world.colleague()
    encounter = world.drafted(patient)
    theirs = program(world, username="colleague")
    assert theirs.call("GET", f"/encounters/{encounter.id}").get_json()["own"] is False
    for name in ("show_note", "add_statement", "edit_statement"):
        answer = theirs.ask(operation(name), {"encounter_id": encounter.id, "statement_id": "n1"})
        assert (answer.status_code, code(answer)) == (403, "not_allowed"), name
    assert theirs.call("GET", "/encounters").get_json()["encounters"] == []
    mine = program(world)
    assert mine.ask(operation("show_note"), {"encounter_id": encounter.id}).status_code == 200
    assert (
        mine.ask(operation("edit_statement"), {"encounter_id": encounter.id, "statement_id": "n1"}).status_code == 200
    )


def on_a_colleagues_records(world: World, patient: Patient) -> dict[str, int]:
    """Ask for everything about a colleague's encounters; return the status of each operation."""
    mount_short(world)
    world.colleague()
    opened, drafted = world.encounter(patient), world.drafted(patient)
    with world.records.write() as tx:
        recording = tx.recordings.start(opened.id, mime="audio/webm", actor=world.actor())
    theirs = program(world, username="colleague")
    found = {}
    for item in OPERATIONS:
        which = drafted if "note" in item.path or item.name == "show_transcript" else opened
        ids = {"patient_id": patient.id, "encounter_id": which.id, "recording_id": recording.id, "statement_id": "n1"}
        found[item.name] = theirs.ask(item, ids).status_code
    return found


def test_others_records_are_open_as_in_the_form(world: World, patient: Patient) -> None:
    """Operation by operation: a colleague may look; a draft is not theirs, and nothing that is said comes from them."""
    found = on_a_colleagues_records(world, patient)
    assert [name for name, status in found.items() if status == 403] == [
        *("submit_text", "start_recording", "put_chunk", "complete_recording"),
        *("show_note", "add_statement", "edit_statement"),
    ]
    assert {found[name] for name in ("show_transcript", "show_encounter", "record_consent")} == {200}


def test_what_a_colleagues_program_asks_for_is_not_drafted(world: World, patient: Patient) -> None:
    """It hands nothing in; and the policies judge it as its clinician: no care relationship, no draft."""
    world.colleague()
    with world.records.read() as tx:
        colleague = tx.users.by_username("colleague")
    assert colleague is not None
    encounter = world.encounter(patient, kind=EncounterKind.DICTATION)
    theirs = program(world, username="colleague")
    text = "Cough for three days. No fever. Allergic to penicillin. Paracetamol as needed. Rest at home."
    with pytest.raises(Refused, match="not_allowed"):
        theirs.client.submit_text(encounter.id, text)
    assert program(world).client.submit_text(encounter.id, text)["state"] == "queued"
    assert refused(world, encounter, colleague.actor) == "denied:care-relationship"


def test_a_destroyed_record_takes_nothing_more(world: World, patient: Patient) -> None:
    """Nothing of it is shown, and nothing is recorded about it: no answer about consent either, as in the form."""
    drafted, open_one = world.drafted(patient), world.encounter(patient)
    world.records.shred(patient.id, reason=ShredReason.PATIENT_REQUEST, actor=world.actor())
    emr, codes = program(world), {}
    for item in OPERATIONS:
        if "encounter_id" in item.parameters or "patient_id" in item.parameters:
            which = open_one if item.name in ("submit_text", "start_recording") else drafted
            ids = {"patient_id": patient.id, "encounter_id": which.id, "statement_id": "n1"}
            codes[item.name] = emr.ask(item, ids).status_code
    where_it_stands = {"show_encounter": 200, "watch_encounter": 200, "retry": 409}
    assert codes == dict.fromkeys(codes, 410) | where_it_stands
    before = len(world.events())
    browser = world.browser(Role.CLINICIAN)
    assert browser.post(f"/encounters/{open_one.id}/consent", consent="withdrawn").status_code == 410
    assert "consent.recorded" not in world.events()[before:]


# --- cookies, headers, errors ------------------------------------------------------------------------------


def test_a_browsers_cookie_opens_nothing(world: World) -> None:
    """Who is signed in to the form is nobody here; and the API sets no cookie."""
    browser = world.browser(Role.CLINICIAN)
    answer = browser.client.get(f"{PREFIX}/encounters", base_url=ORIGIN)
    assert (answer.status_code, code(answer)) == (401, "token_missing")
    emr = program(world)
    for item in OPERATIONS:
        response = emr.ask(item)
        assert "Set-Cookie" not in response.headers
        assert not [name for name in response.headers if str(name).startswith("Access-Control")]
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_form_needs_its_own_session(world: World) -> None:
    """A token opens no page."""
    emr = program(world)
    headers = {"Authorization": f"Bearer {emr.secret}", "Accept": "application/json"}
    assert world.app.test_client().get("/patients", headers=headers, base_url=ORIGIN).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status", "expected"),
    [
        ("GET", "/nothing", 404, "route_unknown"),
        ("GET", "/encounters/../../patients", 404, "route_unknown"),
        ("GET", "/encounters/1%27%20OR%201", 404, "route_unknown"),
        ("DELETE", "/patients", 405, "method_not_allowed"),
        ("OPTIONS", "/patients", 405, "method_not_allowed"),
    ],
)
def test_errors_of_the_protocol(world: World, method: str, path: str, status: int, expected: str) -> None:
    """They are problem documents like any other."""
    answer = program(world).call(method, path)
    assert (answer.status_code, code(answer)) == (status, expected)


def test_a_defect_says_a_reference_and_nothing_else(
    world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What an exception holds is neither shown nor logged."""
    emr = program(world)
    monkeypatch.setattr("clinic.records.patients._in_order", lambda found: 1 / len(found[0].data.name[:0]))
    answer = emr.call("POST", "/patients/search", {"text": CANARY})
    assert (answer.status_code, code(answer)) == (500, "internal")
    reference = re.search(r"reference: ([0-9a-f]{12})", answer.text)
    assert reference
    assert reference[1] in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert CANARY not in caplog.text + answer.text
    assert patient.id


def test_too_many_requests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token has its rate; another one is not slowed down by it."""
    monkeypatch.setattr(calls, "REQUESTS", parse("3/minute"))
    emr, other = program(world), program(world)
    statuses = [emr.call("GET", "/token").status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    answer = emr.call("GET", "/token")
    assert (code(answer), answer.headers["Retry-After"]) == ("too_many_requests", "30")
    assert other.call("GET", "/token").status_code == 200


def refusals(world: World, tries: int) -> int:
    """Try a token that is none so often; return how many entries that wrote."""
    someone = garbage(world)
    before = world.events().count("token.refused")
    for _ in range(tries):
        assert someone.call("GET", "/token").status_code in (401, 429)
    return world.events().count("token.refused") - before


def test_refusals_do_not_fill_the_log(world: World) -> None:
    """Beyond thirty a minute nothing is written; a good token from the same address still opens."""
    emr = program(world)
    assert refusals(world, 50) == 30
    assert emr.call("GET", "/token").status_code == 200


def test_without_the_limit_every_one_would_be_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control."""
    monkeypatch.setattr(calls.Rates, "allows", lambda *_: True)
    assert refusals(world, 50) == 50


# --- sealed and stopped --------------------------------------------------------------------------------------


def test_a_stopped_clinic_says_so_everywhere(world: World) -> None:
    """While the log is latched every operation answers 503, whoever asks."""
    emr = program(world)
    world.records.guard.latch(Reason.WRITE_FAILED)
    for item in OPERATIONS:
        answer = emr.ask(item)
        assert (answer.status_code, code(answer)) == (503, "audit_latched"), item
        assert answer.headers["Retry-After"] == "30"


@pytest.mark.parametrize("stopped", [False, True], ids=["sealed", "stopped"])
def test_without_the_key_every_address_says_why(world: World, *, stopped: bool) -> None:
    """The process that has no key knows no token, and tells nothing but its state."""
    config = world.services.config
    app = create_stopped_app(config) if stopped else create_sealed_app(config)
    if stopped:
        guard_of(config).latch(Reason.WRITE_FAILED)
    for path in ("/token", "/patients/search", "/nothing"):
        answer = Client(app).get(PREFIX + path, headers={"Authorization": "Bearer x"}, base_url=ORIGIN)
        assert (answer.status_code, code(answer)) == (503, "audit_latched" if stopped else "sealed")
        assert answer.headers["Retry-After"] == "30"
    assert Client(app).get("/health", base_url=ORIGIN).content_type == "application/json"


# --- tokens in the database ------------------------------------------------------------------------------------


def test_a_token_is_shown_once(world: World) -> None:
    """Neither the secret, nor its hash, nor the program's name is in the file in the clear."""
    token, secret = make_token(world)
    world.records.truncate_journal()
    raw = world.services.config.database.read_bytes()
    for hidden in (secret, secret.rpartition("_")[2], "EMR"):
        assert hidden.encode() not in raw
    assert token.id.encode() in raw
    assert secret not in repr(token)


def test_a_token_is_for_clinicians_and_limited(world: World) -> None:
    """No other role, no disabled account, no scope, no name, no time without end."""
    with world.records.read() as tx:
        users = {user.role: user for user in tx.users.list()}
    clinician = users[Role.CLINICIAN]
    wrong: list[tuple[object, dict[str, object], str]] = [
        (users[Role.ADMINISTRATOR], {}, "token_account"),
        (users[Role.AUDITOR], {}, "token_account"),
        (clinician, {"scopes": []}, "token_invalid_request"),
        (clinician, {"name": " "}, "token_invalid_request"),
        (clinician, {"name": "a\nb"}, "token_invalid_request"),
        (clinician, {"days": 0}, "token_invalid_request"),
        (clinician, {"days": 367}, "token_invalid_request"),
    ]
    for user, changed, expected in wrong:
        good: dict[str, object] = {"name": "EMR", "scopes": [Scope.NOTES_READ], "days": 1, "actor": OPERATOR}
        with pytest.raises(ClinicError) as caught, world.records.write() as tx:
            tx.tokens.create(user, **good | changed)  # type: ignore[arg-type]
        assert caught.value.code == expected
    with pytest.raises(RecordError), world.records.write() as tx:
        tx.tokens.revoke(new_id(), OPERATOR)


def test_the_database_alone_cannot_widen_a_token(world: World) -> None:
    """Whoever writes to the file without the key: another account, another token's grant, a revival: none works."""
    world.colleague()
    wide, narrow = make_token(world), make_token(world, scopes=[Scope.NOTES_READ], username="colleague")
    path = world.services.config.database

    def tamper(query: str, *values: str) -> None:
        with closing(sqlite3.connect(path)) as db:
            db.execute(query, values)
            db.commit()

    someone = Program(world, narrow[1])
    tamper("UPDATE api_tokens SET user_id = ? WHERE id = ?", wide[0].user_id, narrow[0].id)
    assert someone.call("GET", "/token").status_code == 500
    tamper("UPDATE api_tokens SET user_id = ? WHERE id = ?", narrow[0].user_id, narrow[0].id)
    assert someone.call("GET", "/token").status_code == 200
    tamper(
        "UPDATE api_tokens SET grant_data = (SELECT grant_data FROM api_tokens WHERE id = ?) WHERE id = ?",
        wide[0].id,
        narrow[0].id,
    )
    assert someone.call("GET", "/token").status_code == 500
    with pytest.raises(DecryptionError), world.records.read() as tx:
        tx.tokens.list()
    assert ("unreadable", "token", narrow[0].id) in {(f.problem, f.kind, f.id) for f in world.records.sweep()}


def test_a_revoked_token_that_lives_again_is_found(world: World) -> None:
    """The log says that it was revoked; the sweep of `clinic doctor` holds the file against it."""
    token, secret = make_token(world)
    assert world.records.sweep() == ()
    with world.records.write() as tx:
        tx.tokens.revoke(token.id, OPERATOR)
    assert world.records.sweep() == ()
    with closing(sqlite3.connect(world.services.config.database)) as db:
        db.execute("UPDATE api_tokens SET revoked_at = NULL")
        db.commit()
    assert [(f.problem, f.kind, f.id) for f in world.records.sweep()] == [("unrecorded", "token", token.id)]
    assert secret


def test_the_last_use_is_kept(world: World) -> None:
    """To the minute, and not written again with each request."""
    token, secret = make_token(world)
    emr = Program(world, secret)
    with world.records.read() as tx:
        assert tx.tokens.get(token.id).last_used_at is None
    emr.call("GET", "/token")
    with world.records.read() as tx:
        first = tx.tokens.get(token.id).last_used_at
    emr.call("GET", "/token")
    with world.records.read() as tx:
        assert tx.tokens.get(token.id).last_used_at == first
    later(world, minutes=2)
    emr.call("GET", "/token")
    with world.records.read() as tx:
        last = tx.tokens.get(token.id).last_used_at
    assert first is not None
    assert last is not None
    assert last > first


@pytest.mark.parametrize("item", [o for o in OPERATIONS if o.query is None], ids=lambda item: item.name)
def test_an_address_with_a_parameter_that_is_not_ours_is_refused(world: World, item: Operation) -> None:
    """Nothing is done for it: patient text in an address would be in somebody's log, and must not seem to work."""
    emr, before = program(world), len(world.events())
    path = re.sub(r"\{(\w+)\}", lambda found: "0" if found[1] == "number" else new_id(), item.path)
    answer = emr.call(item.method, f"{path}?name=Ada+Example", BODIES.get(item.name))
    assert (answer.status_code, code(answer)) == (422, "input_invalid")
    assert "Ada" not in answer.text
    assert [name for name in world.events()[before:] if name != "token.created"] == []


# --- what is recorded --------------------------------------------------------------------------------------------

SHOWN = (
    *(CANARY, "MRN-4711", "1961-03-05"),
    *(segment.text for segment in TRANSCRIPT.segments),
    *(statement.text for statement in NOTE.statements),
)
READS = {"patient.viewed", "patients.listed", "encounter.viewed", "note.exported", "patient.updated"}


def walk(world: World, patient: Patient) -> tuple[dict[str, list[str]], list[str]]:
    """Ask for everything about real records.

    Returns:
        The operations that showed a patient's data, with the entries that they wrote; those whose kept answers did.
    """
    mount_short(world)
    emr = program(world)
    encounter, signed = world.drafted(patient), world.drafted(patient)
    open_one = world.encounter(patient)
    with world.records.write() as tx:
        recording = tx.recordings.start(open_one.id, mime="audio/webm", actor=world.actor())
        tx.recordings.append(recording.id, 0, CHUNK)
        note = tx.notes.get(signed.id)
        assert note is not None
        quiet = note.note.model_copy(update={"statements": (NOTE.statements[0],)})
        tx.notes.save(signed.id, quiet, expected_version=1, actor=world.actor())
        tx.notes.sign(signed.id, expected_version=2, attestation="read", actor=world.actor())
    shown: dict[str, list[str]] = {}
    kept = []
    for item in OPERATIONS:
        which = {"take_document": signed, "submit_text": open_one, "start_recording": open_one}.get(
            item.name, encounter
        )
        ids = {"patient_id": patient.id, "encounter_id": which.id, "recording_id": recording.id, "statement_id": "n1"}
        before = len(world.events())
        response = emr.ask(item, ids)
        assert response.status_code < 500, (item, response.text)
        text = json.dumps(response.get_json(force=True), ensure_ascii=False) if response.is_json else response.text
        if any(words in text for words in SHOWN):
            shown[item.name] = world.events()[before:]
            if item.once:
                kept.append(item.name)
    return shown, kept


def mount_short(world: World) -> None:
    """Let streams end at once."""
    from clinic.api.app import mount

    mount(world.app, create_api(world.services, pace=Pace(lasts_s=0.0)))


def test_looking_is_recorded(world: World, patient: Patient) -> None:
    """What shows a patient's data has an entry that says so, and one that says which program it was."""
    shown, kept = walk(world, patient)
    assert set(shown) == {
        *("search_patients", "show_patient", "show_transcript", "show_note", "take_document"),
    }
    for name, events in shown.items():
        assert READS & set(events), name
        assert events[-1] == "token.used", name
    assert kept == []


def test_without_the_entry_it_would_be_seen(world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a view that records nothing is found by the walk."""
    monkeypatch.setattr("clinic.capture.record_view", lambda *_args, **_kwargs: None)
    shown, _ = walk(world, patient)
    assert [name for name, events in shown.items() if not READS & set(events)] == ["show_transcript", "show_note"]


def test_what_a_program_reads_is_accounted_as_taken_out(world: World, patient: Patient) -> None:
    """It left the box: the accounting of disclosures says so, with the operation, and not only that it was read."""
    shown, _ = walk(world, patient)
    found = disclosures(world.records, patient.id, actor=OPERATOR)
    taken = {line.purpose for line in found.lines if line.event == "token.used" and line.use is Use.DISCLOSED}
    assert taken == set(shown) - {"search_patients"}  # a list names no patient


def test_an_entry_says_which_program_did_what(world: World) -> None:
    """`token.used` names token, operation and how many entries before it are meant, and is linked to the patient."""
    token, secret = make_token(world)
    created = Program(world, secret).call("POST", "/patients", {"name": "Ada"}).get_json()["id"]
    entries = list(world.records.audit.entries())[-2:]
    assert [entry.event for entry in entries] == ["patient.created", "token.used"]
    assert json.loads(entries[1].body) == {"entries": 1, "operation": "create_patient", "token": token.id}
    assert {entry.actor for entry in entries} == {token.user_id}
    with world.records.read() as tx:
        assert [entry.event for entry, _ in tx.about(created, entries)] == ["patient.created", "token.used"]
    with world.records.write() as tx:
        tx.tokens.revoke(token.id, OPERATOR)
    log = [(e.event, json.loads(e.body)) for e in world.records.audit.entries() if e.event.startswith("token.")]
    assert [name for name, _ in log] == ["token.created", "token.used", "token.revoked"]
    assert log[0][1] == {
        "token": token.id,
        "user_id": token.user_id,
        "days": 30,
        "scopes": sorted(scope.value for scope in Scope),
    }
    assert world.records.audit.verify().ok
    assert PASSWORD
