"""What protects every page: headers, CSRF, limits, and errors that say nothing they should not."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from flask import Flask, request

from clinic.app import create_app, create_sealed_app
from clinic.domain import Role
from clinic.errors import RecordError, StorageError
from clinic.records.patients import Patient
from clinic.web.access import allow, public
from clinic.web.request import CHUNK_LIMIT
from clinic.web.security import HEADERS, INSECURE_COOKIE
from tests.functional.web_world import CANARY, ORIGIN, World

WEB = Path(__file__).resolve().parents[2] / "clinic" / "web"
TEMPLATES = sorted((WEB / "templates").rglob("*.html"))
SCRIPTS = sorted((WEB / "static").rglob("*.js"))
INLINE = re.compile(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", re.IGNORECASE)
FOREIGN = re.compile(r"https?://(?!www\.w3\.org/2000/svg)")


@pytest.mark.parametrize("path", ["/login", "/health", "/nowhere", "/static/clinic.css", "/patients", "/ca.pem"])
def test_every_response_carries_the_headers(world: World, path: str) -> None:
    """Pages, files, redirects and errors carry the same headers; only static files may be kept."""
    response = world.browser().get(path)
    for name, value in HEADERS.items():
        assert response.headers[name] == value
    assert response.headers["Cache-Control"] == ("no-cache" if path.startswith("/static") else "no-store")
    response.close()


def test_policy_allows_no_inline_and_no_foreign_source() -> None:
    """The content security policy starts from nothing and names this origin only."""
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "microphone=(self)" in HEADERS["Permissions-Policy"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_nothing_inline_and_nothing_foreign(path: Path) -> None:
    """No template holds a script, a style, a handler, or an address outside this box."""
    text = path.read_text(encoding="utf-8")
    assert INLINE.findall(text) == []
    assert FOREIGN.findall(text) == []


def test_inline_check_finds_something() -> None:
    """The check above is able to fail."""
    for bad in ("<script>x</script>", '<p style="x">', '<a onclick="x">', '<a href="javascript:x">', "<style>"):
        assert INLINE.findall(bad)
    assert not INLINE.findall('<script type="module" src="/static/x.js">')


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_build_no_markup_from_text(path: Path) -> None:
    """No script evaluates text, writes markup, logs, or keeps anything in the browser but sealed chunks (`keeping`)."""
    text = path.read_text(encoding="utf-8")
    words = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage|sessionStorage|indexedDB|console\."
    )
    allowed = {"indexedDB"} if path.name == "keeping.js" else set()
    assert set(re.findall(words, text)) - allowed == set()
    assert FOREIGN.findall(text) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_titles_never_name_a_patient(path: Path) -> None:
    """A page's title lands in the browser's history, so it is fixed text."""
    for title in re.findall(r"block title %}(.*?){% endblock", path.read_text(encoding="utf-8")):
        assert "{" not in title


def test_state_change_without_token_is_refused(world: World) -> None:
    """A form without the CSRF token changes nothing; with it, it does."""
    browser = world.browser(Role.CLINICIAN)
    token, browser.token = browser.token, ""
    response = browser.post("/patients", name="A B")
    assert response.status_code == 400
    assert "csrf_invalid" in response.text
    browser.token = token
    assert browser.post("/patients", name="A B").status_code == 303


def test_script_without_token_is_refused(world: World) -> None:
    """A fetch without the header is refused with the JSON shape."""
    browser = world.browser(Role.CLINICIAN)
    browser.token = ""
    response = browser.put(f"/recordings/{'a' * 32}/chunks/0", b"x")
    assert response.status_code == 400
    assert response.get_json()["error"]["code"] == "csrf_invalid"


def test_without_csrf_protection_the_forged_form_would_pass(world: World) -> None:
    """The negative control: with the defence off, the same request changes something."""
    browser = world.browser(Role.CLINICIAN)
    browser.token = ""
    world.app.config["WTF_CSRF_ENABLED"] = False
    assert browser.post("/patients", name="A B").status_code == 303


@pytest.mark.parametrize(("site", "status"), [("cross-site", 400), ("same-site", 400), ("same-origin", 204)])
def test_state_change_from_another_site_is_refused(world: World, site: str, status: int) -> None:
    """Even with a good token, what the browser calls cross-site is refused."""
    browser = world.browser(Role.CLINICIAN)
    headers = {"X-CSRFToken": browser.token, "Sec-Fetch-Site": site, "Accept": "application/json"}
    response = browser.client.post("/session/touch", headers=headers, base_url=ORIGIN)
    assert response.status_code == status


def test_body_over_a_chunk_is_refused(world: World) -> None:
    """More than 1 MiB is refused with 413 and the JSON shape; exactly 1 MiB is read."""
    browser = world.browser(Role.CLINICIAN)
    path = f"/recordings/{'a' * 32}/chunks/0"
    response = browser.put(path, b"x" * (CHUNK_LIMIT + 1))
    assert (response.status_code, response.get_json()["error"]["code"]) == (413, "too_large")
    assert browser.put(path, b"x" * CHUNK_LIMIT).get_json()["error"]["code"] == "record_unknown"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "page_unknown"),
        ("GET", "/encounters/not-an-id", 404, "page_unknown"),
        ("DELETE", "/login", 405, "method_not_allowed"),
        ("GET", "/encounters/" + "c" * 32, 404, "record_unknown"),
    ],
)
def test_errors_have_one_shape(world: World, method: str, path: str, status: int, code: str) -> None:
    """Every error is the same page for people and the same JSON for scripts."""
    browser = world.browser(Role.CLINICIAN)
    as_json = browser.client.open(path, method=method, headers={"Accept": "application/json"}, base_url=ORIGIN)
    assert as_json.status_code == status
    error = as_json.get_json()["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["code"] == code
    page = browser.client.open(path, method=method, headers={"Accept": "text/html"}, base_url=ORIGIN)
    assert page.status_code == status
    assert 'data-testid="error-box"' in page.text
    assert code in page.text


def add_failing_route(app: Flask, error: Exception) -> None:
    """Add a route that fails, as a defect would, with the patient's words in its hands."""

    @app.get("/fails")
    @public
    def fails() -> str:
        words = request.args.get("words", "")
        raise error if not words else ValueError(words)


def test_unexpected_error_shows_and_logs_no_value(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A defect yields a reference; page and log hold type, file and line, and nothing that the exception says."""
    add_failing_route(world.app, ValueError(f"cannot parse {CANARY}"))
    with caplog.at_level(logging.DEBUG):
        response = world.browser().get("/fails")
    assert response.status_code == 500
    found = re.search(r"this reference: ([0-9a-f]{12})", response.text)
    assert found is not None
    assert f"reference={found.group(1)} builtins.ValueError at tests/functional/test_web_security.py:" in caplog.text
    assert CANARY not in response.text + caplog.text


def test_flask_itself_would_have_logged_the_value(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The negative control: without our handler the words are in the log."""
    add_failing_route(world.app, ValueError(f"cannot parse {CANARY}"))
    world.app.error_handler_spec[None][None].pop(Exception)
    with caplog.at_level(logging.DEBUG):
        world.browser().get("/fails")
    assert CANARY in caplog.text


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StorageError("the disk is full"), 507),
        (RecordError("moved on", code="record_conflict", hint="load again"), 409),
        (RecordError("locked", code="note_locked"), 409),
    ],
)
def test_expected_errors_keep_code_and_status(world: World, error: Exception, status: int) -> None:
    """An error of ours keeps its code, its words and its own HTTP status."""
    add_failing_route(world.app, error)
    response = world.browser().get("/fails", json=True)
    assert response.status_code == status
    assert response.get_json()["error"]["message"] == str(error)


def test_no_patient_text_in_addresses_or_logs(world: World, patient: Patient, caplog: pytest.LogCaptureFixture) -> None:
    """Creating, searching and opening a patient puts the name into bodies only."""
    browser = world.browser(Role.CLINICIAN)
    with caplog.at_level(logging.DEBUG):
        created = browser.post("/patients", name="Somebody Else", record_number="X-9")
        found = browser.post("/patients/search", text=CANARY)
        empty = browser.post("/patients/search", text="Nobody Of That Name")
        browser.post("/patients", name="", record_number=CANARY)
    assert re.fullmatch(r"/patients/[0-9a-f]{32}", created.location)
    assert CANARY in found.text
    assert str(patient.id) in found.text
    assert "Nobody fits" in empty.text
    for word in ("Quintessa", "Somebody", "Nobody Of"):
        assert word not in caplog.text


def test_health_says_one_word(world: World) -> None:
    """`/health` needs no account and says nothing else."""
    response = world.browser().get("/health")
    assert response.get_json() == {"status": "ok"}
    assert "Set-Cookie" not in response.headers


def test_certificate_is_handed_out(world: World) -> None:
    """The local authority's certificate, and never its key, can be had without an account."""
    browser = world.browser()
    assert "/ca.pem" in browser.get("/ca").text
    pem = browser.get("/ca.pem").data
    assert pem.startswith(b"-----BEGIN CERTIFICATE-----")
    assert b"PRIVATE" not in pem


def test_sealed_box_answers_nothing_else(world: World) -> None:
    """A sealed box says that it is sealed, whatever is asked, and how to unlock it."""
    client = create_sealed_app(world.services.config).test_client()
    health = client.get("/health")
    assert (health.status_code, health.get_json()) == (503, {"status": "sealed"})
    for path in ("/", "/login", "/patients", "/encounters/" + "a" * 32):
        response = client.get(path)
        assert response.status_code == 503
        assert "clinic keys unlock" in response.text
        assert "CLINIC_HOME" in response.text
        assert str(world.services.config.home) not in response.text
        assert response.headers["Cache-Control"] == "no-store"
    assert client.post("/login", data={"username": "a", "password": "b"}).status_code == 503


def test_plain_http_has_to_be_asked_for(world: World) -> None:
    """Only the setting for tests gives a cookie that travels over plain HTTP, and its name says so."""
    app = create_app(world.services, insecure_http=True)
    header = app.test_client().get("/login").headers["Set-Cookie"]
    assert header.startswith(f"{INSECURE_COOKIE}=")
    assert "Secure" not in header
    assert "HttpOnly" in header


def test_declaration_without_roles_is_a_mistake() -> None:
    """`allow` with nobody named is refused when the program starts."""
    with pytest.raises(RuntimeError):
        allow()


def test_a_sealed_box_answers_health_and_static_files_only(world: World) -> None:
    """Every route of the whole application, by every method it takes: the sealed page or `/health`, nothing else."""
    app = create_app(world.services)
    sealed = create_sealed_app(world.services.config)
    assert {rule.endpoint for rule in sealed.url_map.iter_rules()} == {"static", "health_while_sealed"}
    client = sealed.test_client()
    asked = 0
    for rule in app.url_map.iter_rules():
        if rule.endpoint == "static":
            continue
        url = re.sub(r"<[^>]+>", "0" * 32, rule.rule)
        for method in sorted(rule.methods or ()):
            answer = client.open(url, method=method)
            asked += 1
            assert answer.status_code == 503, (method, url)
            if method != "HEAD" and not (url == "/health" and method == "GET"):
                assert b'data-testid="sealed"' in answer.data, (method, url)
    assert asked > 60


def test_an_unsealed_box_would_be_noticed(world: World) -> None:
    """Negative control: the same question to the whole application is answered otherwise."""
    answer = create_app(world.services).test_client().get("/login")
    assert answer.status_code == 200
    assert b'data-testid="sealed"' not in answer.data


def test_deep_brackets_are_bad_input_and_no_defect(world: World, patient: Patient) -> None:
    """JSON too deep for the parser is refused like any other that does not fit."""
    encounter, browser = world.drafted(patient), world.browser(Role.CLINICIAN)
    answer = browser.client.post(
        f"/encounters/{encounter.id}/note/check",
        data="[" * 100_000,
        content_type="application/json",
        headers={"X-CSRFToken": browser.token, "Accept": "application/json"},
        base_url=ORIGIN,
    )
    assert answer.status_code == 422
