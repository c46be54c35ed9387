"""Signing in, staying signed in, and all the ways in which a session ends."""

from __future__ import annotations

import base64
import json
import re
import zlib

import pytest

from clinic.app import create_app
from clinic.domain import Role
from clinic.records.patients import Patient
from clinic.web.security import COOKIE
from clinic.web.sessions import ABSOLUTE_SECONDS, device_words
from tests.functional.web_world import CANARY, ORIGIN, PASSWORD, Browser, World


def cookie_of(browser: Browser) -> str:
    """Return the session cookie's value."""
    cookie = browser.client.get_cookie(COOKIE, domain="clinic.test")
    assert cookie is not None
    return cookie.value


def copy_of(world: World, cookie: str) -> Browser:
    """Return another browser that has stolen a cookie."""
    thief = Browser(world.app.test_client())
    thief.client.set_cookie(COOKIE, cookie, domain="clinic.test", secure=True)
    return thief


def is_in(browser: Browser) -> bool:
    """Tell whether the session is alive."""
    return browser.get("/password", json=True).status_code == 200


@pytest.mark.parametrize(
    ("role", "start"),
    [(Role.CLINICIAN, "/day"), (Role.ADMINISTRATOR, "/users"), (Role.AUDITOR, "/audit")],
)
def test_sign_in_leads_to_the_own_work(world: World, role: Role, start: str) -> None:
    """Each role lands on the page where its work begins."""
    browser = Browser(world.app.test_client())
    assert browser.sign_in(role.value).location == start
    assert browser.get(start).status_code == 200
    assert "login.succeeded" in world.events()


@pytest.mark.parametrize("name", ["clinician", "nobody"])
def test_wrong_sign_in_says_the_same(world: World, name: str) -> None:
    """A wrong password and an unknown name cannot be told apart."""
    browser = world.browser()
    response = browser.sign_in(name, "wrong password")
    assert response.status_code == 401
    assert "User name or password is wrong." in response.text
    assert not is_in(browser)


def test_account_is_locked_after_failures(world: World) -> None:
    """After too many failures even the right password has to wait."""
    browser = world.browser()
    for _ in range(6):
        browser.sign_in("clinician", "wrong password")
    response = browser.sign_in("clinician", PASSWORD)
    assert response.status_code == 429
    assert "Too many failed attempts." in response.text


def test_sign_in_is_limited_per_device(world: World) -> None:
    """A device that tries many names is slowed down."""
    browser = world.browser()
    answers = [browser.sign_in(f"name{n}", "x").status_code for n in range(21)]
    assert answers[:20] == [401] * 20
    assert answers[20] == 429


def test_cookie_is_bound_to_host_and_out_of_reach(world: World) -> None:
    """The cookie has the `__Host-` prefix and is Secure, HttpOnly and SameSite=Strict."""
    browser = world.browser()
    browser.get("/login")
    headers = browser.post("/login", username="clinician", password=PASSWORD).headers.getlist("Set-Cookie")
    (header,) = (header for header in headers if header.startswith(f"{COOKIE}="))
    assert header.startswith("__Host-clinic=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(header.split("; "))
    assert "Domain=" not in header


def test_cookie_holds_nothing_about_patients(world: World, patient: Patient) -> None:
    """What the (readable) cookie says is about the session only, also after working with a patient."""
    browser = world.browser(Role.CLINICIAN)
    browser.post("/patients/search", text=CANARY)
    browser.get(f"/patients/{patient.id}")
    payload = cookie_of(browser)
    packed = payload.startswith(".")
    data = base64.urlsafe_b64decode(payload.lstrip(".").split(".")[0] + "==")
    content = json.loads(zlib.decompress(data) if packed else data)
    assert set(content) <= {
        "_fresh",
        "_id",
        "_user_id",
        "began",
        "csrf_token",
        "epoch",
        "run",
        "seen",
        "sid",
        "_flashes",
    }
    assert CANARY not in json.dumps(content)


def test_idle_session_ends(world: World) -> None:
    """After the idle time the session is over; with activity it goes on."""
    browser = world.browser(Role.CLINICIAN)
    for _ in range(3):
        world.uptime.now += 14 * 60
        assert is_in(browser)
    world.uptime.now += 15 * 60
    assert not is_in(browser)


def test_polling_is_no_activity(world: World) -> None:
    """What the page asks by itself does not keep an unattended session open."""
    browser = world.browser(Role.CLINICIAN)
    for _ in range(2):
        world.uptime.now += 10 * 60
        browser.get("/session", json=True)
    assert not is_in(browser)


def test_typing_is_activity(world: World) -> None:
    """The page reports that somebody types."""
    browser = world.browser(Role.CLINICIAN)
    for _ in range(2):
        world.uptime.now += 10 * 60
        assert browser.send("/session/touch").status_code == 204
    assert is_in(browser)


def test_session_has_an_end(world: World) -> None:
    """However busy, a session ends after twelve hours."""
    browser = world.browser(Role.CLINICIAN)
    for _ in range(ABSOLUTE_SECONDS // 600 - 1):
        world.uptime.now += 600
        assert is_in(browser)
    world.uptime.now += 600
    assert not is_in(browser)


def test_clock_that_starts_again_ends_sessions(world: World) -> None:
    """After a restart of the machine (its uptime is smaller) an old cookie opens nothing."""
    browser = world.browser(Role.CLINICIAN)
    world.uptime.now = 10
    assert not is_in(browser)


def test_signing_out_ends_copies_too(world: World) -> None:
    """A cookie that was copied before signing out is worth nothing after it."""
    browser = world.browser(Role.CLINICIAN)
    thief = copy_of(world, cookie_of(browser))
    assert is_in(thief)
    assert browser.post("/logout").status_code == 302
    assert not is_in(browser)
    assert not is_in(thief)
    assert "login.ended" in world.events()


@pytest.mark.parametrize("signed_out", [True, False])
def test_restart_of_the_web_process_ends_all_sessions(world: World, *, signed_out: bool) -> None:
    """No cookie outlives the process, which alone knows what was signed out; the sign-in page says what happened."""
    browser = world.browser(Role.CLINICIAN)
    cookie = cookie_of(browser)
    if signed_out:
        browser.post("/logout")
    assert is_in(copy_of(world, cookie)) is not signed_out
    world.app = create_app(world.services, clock=world.uptime)  # a new process over the same data, key and boot
    thief = copy_of(world, cookie)
    assert not is_in(thief)
    assert thief.get("/patients").status_code == 302
    assert "The box was restarted" in thief.get("/login").text
    thief.sign_in("clinician")
    assert is_in(thief)
    assert "The box was restarted" not in world.browser().get("/login").text


def test_signing_in_starts_afresh(world: World) -> None:
    """A session planted before signing in is not the one that is signed in (fixation)."""
    browser = world.browser()
    browser.get("/login")
    planted, token = cookie_of(browser), browser.token
    browser.sign_in("clinician")
    assert not is_in(copy_of(world, planted))
    browser.token = token
    assert browser.send("/session/touch").status_code == 400


def test_disabled_account_is_out_at_once(world: World) -> None:
    """Disabling an account ends its sessions."""
    browser = world.browser(Role.CLINICIAN)
    with world.records.write() as tx:
        tx.users.disable("clinician", world.actor(Role.ADMINISTRATOR))
    assert not is_in(browser)


def test_new_password_ends_other_sessions(world: World) -> None:
    """Changing the password keeps this session and ends all others."""
    here, there = world.browser(Role.CLINICIAN), world.browser(Role.CLINICIAN)
    here.get("/password")
    response = here.post("/password", current=PASSWORD, password="another long password")
    assert response.status_code == 302
    assert is_in(here)
    assert not is_in(there)


def test_password_change_needs_the_old_one(world: World) -> None:
    """Without the present password nothing changes."""
    browser = world.browser(Role.CLINICIAN)
    response = browser.post("/password", current="wrong password", password="another long password")
    assert response.status_code == 401
    assert world.browser().sign_in("clinician").status_code == 302


def test_forged_cookie_opens_nothing(world: World) -> None:
    """A cookie signed under another key is ignored."""
    world.app.secret_key = b"another key, another key, another"
    forged = cookie_of(world.browser(Role.CLINICIAN))
    world.app.secret_key = world.services.session_key
    assert not is_in(copy_of(world, forged))


@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [
        ("/encounters/" + "a" * 32, True),
        ("//evil.test/", False),
        ("https://evil.test/", False),
        ("/encounters/../users", False),
        ("/logout", False),
    ],
)
def test_return_path_is_one_of_ours(world: World, wanted: str, *, allowed: bool) -> None:
    """After signing in one returns to a page of ours, never elsewhere."""
    browser = world.browser()
    browser.get("/login")
    response = browser.post("/login", username="clinician", password=PASSWORD, next=wanted)
    assert response.location == (wanted if allowed else "/day")


def test_page_sends_to_sign_in_and_script_gets_json(world: World) -> None:
    """Without a session a page leads to the sign-in form, a script is told so."""
    browser = world.browser()
    encounter = "/encounters/" + "b" * 32
    assert browser.get(encounter).location == f"/login?next={encounter}"
    assert browser.get(encounter, json=True).get_json()["error"]["code"] == "signed_out"
    assert browser.client.get(encounter, base_url=ORIGIN).status_code == 302


AGENT = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Mobile Safari/537.36"


def handles(page: str) -> list[str]:
    """Return the addresses by which the sessions on a page are ended."""
    return re.findall(r'action="(/[a-z0-9/]*sessions?/[0-9a-f]{32}[a-z/]*)"', page)


def test_one_sees_and_ends_ones_own_sessions(world: World) -> None:
    """Each with what its browser says; ended, its cookie opens nothing, and the log says so; this one stays."""
    here, other, third = (world.browser(Role.CLINICIAN) for _ in range(3))
    page = here.get("/sessions").text
    assert (page.count('data-testid="session-end"'), page.count("This one")) == (2, 1)
    (first, second) = handles(page)
    assert here.post(first).status_code == 303
    assert sorted([is_in(other), is_in(third)]) == [False, True]
    assert here.post(second).status_code == 303
    assert (is_in(here), is_in(other), is_in(third)) == (True, False, False)
    assert world.events().count("session.ended") == 2
    assert handles(here.get("/sessions").text) == []


def test_all_others_end_at_once(world: World) -> None:
    """One button, an entry for each."""
    here, other, third = (world.browser(Role.CLINICIAN) for _ in range(3))
    here.get("/sessions")
    assert here.post("/sessions/end-others").status_code == 303
    assert (is_in(here), is_in(other), is_in(third)) == (True, False, False)
    assert world.events().count("session.ended") == 2


def test_sessions_of_others_are_neither_seen_nor_ended(world: World) -> None:
    """Not even by their handle."""
    clinician, auditor = world.browser(Role.CLINICIAN), world.browser(Role.AUDITOR)
    second = world.browser(Role.CLINICIAN)
    (address,) = handles(clinician.get("/sessions").text)
    assert handles(auditor.get("/sessions").text) == []
    auditor.post(address)
    assert is_in(second)
    assert "session.ended" not in world.events()


def test_an_administrator_ends_sessions_of_others(world: World) -> None:
    """One, or all; the account's own cookie is worth nothing then."""
    account = world.users[Role.CLINICIAN]
    admin, first, second = (
        world.browser(Role.ADMINISTRATOR),
        world.browser(Role.CLINICIAN),
        world.browser(Role.CLINICIAN),
    )
    (address, _) = handles(admin.get(f"/users/{account.id}").text)
    assert admin.post(address).status_code == 303
    assert [is_in(first), is_in(second)].count(True) == 1
    assert admin.post(f"/users/{account.id}/sessions").status_code == 303
    assert (is_in(first), is_in(second)) == (False, False)
    assert world.events().count("session.ended") == 1
    assert "sessions.ended" in world.events()
    assert "Nowhere." in admin.get(f"/users/{account.id}").text
    assert world.records.sweep() == ()


def test_a_session_that_ran_out_is_not_listed(world: World) -> None:
    """Neither after its twelve hours nor once its account's epoch has moved."""
    admin, account = world.browser(Role.ADMINISTRATOR), world.users[Role.CLINICIAN]
    world.browser(Role.CLINICIAN)
    assert len(handles(admin.get(f"/users/{account.id}").text)) == 1
    with world.records.write() as tx:
        tx.users.end_sessions(account.id, world.actor(Role.ADMINISTRATOR))
    assert handles(admin.get(f"/users/{account.id}").text) == []
    world.uptime.now += ABSOLUTE_SECONDS
    again = world.browser(Role.ADMINISTRATOR)
    assert handles(again.get("/sessions").text) == []


def test_what_a_browser_says_of_itself_is_only_words(world: World) -> None:
    """A few known words; whatever else it says is not shown."""
    browser = world.browser()
    browser.client.environ_base["HTTP_USER_AGENT"] = AGENT
    browser.sign_in("clinician")
    assert "Chrome on Android" in browser.get("/sessions").text
    assert device_words('<script>"') == "A browser"
    assert device_words("") == "A browser"


def test_signing_in_as_somebody_else_ends_the_session_before(world: World) -> None:
    """A copy of the first account's cookie opens nothing once the browser is somebody else's."""
    browser = world.browser(Role.ADMINISTRATOR)
    copied = cookie_of(browser)
    assert browser.sign_in("clinician").status_code == 302
    assert copy_of(world, copied).get("/users").status_code in {302, 401}
