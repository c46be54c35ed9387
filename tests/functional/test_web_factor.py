"""The second factor at the web form: signing in, setting up, recovery, what is proved again, and who is let in."""

from __future__ import annotations

import itertools
import json
import re
import time

import pyotp
import pyrage
import pytest
from click.testing import CliRunner

from clinic.cli import main
from clinic.domain import Role
from clinic.records import login
from clinic.records.patients import PatientData
from clinic.web import devices, sessions, stepup
from tests.functional.web_world import ORIGIN, PASSWORD, Browser, World

CODE = re.compile(r"<code>([2-9a-z]{5}-[2-9a-z]{5})</code>")


class Phone:
    """An app on a phone; each code it gives was not given before."""

    def __init__(self, secret: str) -> None:
        self._totp = pyotp.TOTP(secret)
        self._step = int(time.time()) // 30 - 2

    def code(self) -> str:
        """Return a code of the window: at most three in half a minute."""
        self._step = max(self._step + 1, int(time.time()) // 30 - 1)
        return self._totp.at(self._step * 30)

    def wrong(self) -> str:
        """Return six digits that are no code of these minutes."""
        near = {self._totp.at(int(time.time()) + 30 * step) for step in range(-6, 7)}
        return next(code for code in map("{:06}".format, itertools.count()) if code not in near)


def enrol(browser: Browser) -> tuple[Phone, list[str]]:
    """Set up the second factor of who is signed in; return the phone and the recovery codes."""
    browser.get("/second-factor")
    page = browser.post("/second-factor", password=PASSWORD).text
    found = re.search(r'data-testid="factor-secret">([A-Z2-7]{32})<', page)
    assert found is not None
    phone = Phone(found[1])
    done = browser.post("/second-factor/confirm", code=phone.code())
    assert done.status_code == 200
    return phone, CODE.findall(done.text)


def is_in(browser: Browser) -> bool:
    """Tell whether the session is alive."""
    return browser.get("/password", json=True).status_code == 200


@pytest.fixture
def phone(world: World) -> Phone:
    """The clinician's phone, set up in a browser that is gone."""
    return enrol(world.browser(Role.CLINICIAN))[0]


def test_the_password_alone_opens_nothing(world: World, phone: Phone) -> None:
    """After it the code is asked for; until it is given no page opens; with it, the page that was wanted."""
    browser = world.browser()
    browser.get("/login")
    asked = browser.post("/login", username="clinician", password=PASSWORD, next="/patients")
    assert (asked.status_code, asked.location) == (302, "/login/code?next=/patients")
    assert not is_in(browser)
    page = browser.get("/login/code?next=/patients")
    assert 'data-testid="login-code"' in page.text
    assert "Test clinician" not in page.text
    assert "login.succeeded" not in world.events()[-3:]
    answer = browser.post("/login/code", code=phone.code(), next="/patients")
    assert (answer.status_code, answer.location) == (302, "/patients")
    assert is_in(browser)
    assert [name for name in world.events() if name.startswith("login.")][-2:] == [
        "login.challenged",
        "login.succeeded",
    ]


def test_a_wrong_code_asks_again_and_then_waits(world: World, phone: Phone) -> None:
    """Each says what is wrong; after five the right one has to wait, and nobody is in."""
    browser = world.browser()
    browser.sign_in("clinician")
    answers = [browser.post("/login/code", code=phone.wrong()) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {422}
    assert "The code is not right." in answers[0].text
    assert browser.post("/login/code", code="12").status_code == 422
    late = browser.post("/login/code", code=phone.code())
    assert (late.status_code, "Too many wrong codes." in late.text) == (429, True)
    assert not is_in(browser)


def test_a_code_is_not_good_twice(world: World, phone: Phone) -> None:
    """Seen over a shoulder, it opens nothing."""
    first, second = world.browser(), world.browser()
    code = phone.code()
    for browser in (first, second):
        browser.sign_in("clinician")
        browser.post("/login/code", code=code)
    assert (is_in(first), is_in(second)) == (True, False)
    assert world.events()[-1] == "factor.refused"


def test_without_a_password_there_is_nothing_to_finish(world: World, phone: Phone) -> None:
    """The second step alone leads back to the first, with a code as without."""
    browser = world.browser()
    assert browser.get("/login/code").location == "/login"
    browser.get("/login")
    answer = browser.post("/login/code", code=phone.code())
    assert (answer.status_code, "That took too long." in answer.text) == (401, True)
    assert not is_in(browser)


@pytest.mark.parametrize("seconds", [sessions.HALF_WAY_SECONDS, -1])
def test_the_second_step_waits_five_minutes(world: World, phone: Phone, seconds: int) -> None:
    """A tablet left between the steps is not one somebody else finishes later; nor after a restart."""
    browser = world.browser()
    browser.sign_in("clinician")
    world.uptime.now += seconds
    assert browser.post("/login/code", code=phone.code()).status_code == 401
    assert not is_in(browser)


def test_a_new_password_ends_what_was_half_done(world: World, phone: Phone) -> None:
    """Whose password was right before it changed has to begin again."""
    browser = world.browser()
    browser.sign_in("clinician")
    with world.records.write() as tx:
        tx.users.reset_password("clinician", "another good password", actor=world.actor(Role.ADMINISTRATOR))
    assert browser.post("/login/code", code=phone.code()).status_code == 401
    assert not is_in(browser)


@pytest.mark.usefixtures("phone")
def test_signing_in_never_tells_who_has_a_factor(world: World) -> None:
    """With a wrong password the answers for an account with, without, and for no account are the same, byte by byte."""
    pages = []
    for name in ("clinician", "auditor", "nobody"):
        browser = world.browser()
        browser.get("/login")
        answer = browser.post("/login", username=name, password="wrong horse battery")
        text = re.sub(r'(csrf-token" content|name="csrf_token" value)="[^"]+"', "", answer.text)
        pages.append((answer.status_code, text.replace(f'value="{name}"', 'value="NAME"')))
    assert pages[0] == pages[1] == pages[2]
    assert 'value="NAME"' in pages[0][1], "the name stays in the form"


def test_a_recovery_code_stands_in_for_the_phone(world: World) -> None:
    """Once; the page says how many are left, and new ones make the old worthless."""
    phone, paper = enrol(world.browser(Role.CLINICIAN))
    assert len(set(paper)) == 10
    browser = world.browser()
    browser.sign_in("clinician")
    assert browser.post("/login/code", code=paper[0].upper().replace("-", " ")).status_code == 302
    assert "9 are left" in browser.get("/day").text
    assert "9 are good" in browser.get("/second-factor").text
    again = world.browser()
    again.sign_in("clinician")
    assert again.post("/login/code", code=paper[0]).status_code == 422
    fresh = CODE.findall(browser.post("/second-factor/recovery", proof=phone.code()).text)
    assert len(fresh) == 10
    assert again.post("/login/code", code=paper[1]).status_code == 422
    assert again.post("/login/code", code=fresh[1]).status_code == 302


def test_new_codes_and_another_phone_want_a_code(world: World) -> None:
    """An unattended session neither reads new codes nor takes the app away; its owner does."""
    browser = world.browser(Role.AUDITOR)
    phone, paper = enrol(browser)
    for path in ("/second-factor/recovery", "/second-factor/remove"):
        answer = browser.post(path)
        assert (answer.status_code, "Prove that it is you." in answer.text) == (422, True)
        assert browser.post(path, proof=PASSWORD).status_code == 422, "the password is not the code"
        assert browser.post(path, proof=phone.wrong()).status_code == 422
    assert browser.post("/second-factor/remove", proof=paper[4]).status_code == 303
    assert 'data-testid="factor-begin"' in browser.get("/second-factor").text
    enrol(browser)


def test_who_owes_a_factor_sets_it_up_first(world: World) -> None:
    """From the moment the role has to have one every page leads there, in sessions that run too; then all is open."""
    clinician, admin = world.browser(Role.CLINICIAN), world.browser(Role.ADMINISTRATOR)
    admin.get("/users")
    assert admin.post("/users/factor-roles", roles=["clinician"], proof=PASSWORD).status_code == 303
    assert "No second factor yet" in admin.get("/users").text
    for path in ("/day", "/patients", "/"):
        assert clinician.get(path).location == "/second-factor"
        assert clinician.get(path, json=True).get_json()["error"]["code"] == "factor_required"
    assert clinician.post("/patients", name="A B").status_code == 403
    page = clinician.get("/second-factor").text
    assert 'data-testid="factor-owed"' in page
    assert 'data-testid="logout"' in page
    enrol(clinician)
    assert clinician.get("/day").status_code == 200
    assert world.browser(Role.AUDITOR).get("/audit").status_code == 200, "other roles are not asked"


def test_without_the_rule_nobody_is_sent_there(world: World) -> None:
    """Negative control: the rule taken back, the same session works on."""
    clinician, admin = world.browser(Role.CLINICIAN), world.browser(Role.ADMINISTRATOR)
    admin.get("/users")
    admin.post("/users/factor-roles", roles=["clinician"], proof=PASSWORD)
    assert clinician.get("/day").status_code == 302
    admin.post("/users/factor-roles")
    assert clinician.get("/day").status_code == 200


def test_the_administrator_resets_a_lost_phone(world: World, phone: Phone) -> None:
    """After proving who asks: the factor and its codes are gone, the sessions ended, the password signs in."""
    person = world.browser()
    person.sign_in("clinician")
    person.post("/login/code", code=phone.code())
    assert is_in(person)
    admin, account = world.browser(Role.ADMINISTRATOR), world.users[Role.CLINICIAN]
    admin.get("/users")
    refused = admin.post(f"/users/{account.id}/factor")
    assert (refused.status_code, "prove that it is you" in refused.text.lower()) == (422, True)
    assert is_in(person)
    assert admin.post(f"/users/{account.id}/factor", proof=PASSWORD).status_code == 303
    assert not is_in(person)
    assert world.browser().sign_in("clinician").location == "/day"
    assert world.records.sweep() == ()


@pytest.mark.parametrize(
    ("role", "path", "fields"),
    [
        (Role.AUDITOR, "/audit/export", {"recipient": "age1" + "q" * 58}),
        (Role.ADMINISTRATOR, "/users/factor-roles", {"roles": "auditor"}),
        (
            Role.ADMINISTRATOR,
            "/users",
            {"username": "joy", "display_name": "Joy", "role": "clinician"},
        ),
    ],
    ids=["export", "factor-roles", "new-account"],
)
def test_what_matters_is_proved_again(world: World, role: Role, path: str, fields: dict[str, str]) -> None:
    """Without a proof, or with a wrong one, nothing happens; after a right one, none is asked for five minutes."""
    browser = world.browser(role)
    start = "/audit" if role is Role.AUDITOR else "/users"
    assert 'data-testid="proof"' in browser.get(start).text
    before = world.events()
    missing = browser.post(path, **fields)
    assert (missing.status_code, "rove that it is you" in missing.text) == (422, True)
    wrong = browser.post(path, proof="wrong horse battery", **fields)
    assert (wrong.status_code, "his is not your password" in wrong.text) == (401, True)
    assert set(world.events()[len(before) :]) == {"login.failed"}
    answer = browser.post("/users/factor-roles" if role is Role.ADMINISTRATOR else path, proof=PASSWORD, **fields)
    assert answer.status_code != 401
    assert "login.confirmed" in world.events()
    assert 'data-testid="proof"' not in browser.get(start).text
    world.uptime.now += stepup.GOOD_FOR_S
    assert 'data-testid="proof"' in browser.get(start).text


def test_without_the_proof_the_export_would_go(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the same request, the defence off, hands the log out."""
    browser = world.browser(Role.AUDITOR)
    monkeypatch.setattr(stepup, "asked", lambda: None)
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    assert browser.post("/audit/export", recipient=recipient).status_code == 200


def test_shredding_is_proved_again(world: World) -> None:
    """With the name typed and no password, nothing is destroyed."""
    with world.records.write() as tx:
        patient = tx.patients.create(PatientData("Some Body"), world.actor())
    browser = world.browser(Role.CLINICIAN)
    browser.get(f"/patients/{patient.id}/shred")
    fields = {"reason": "legal_order", "name": "some body"}
    assert browser.post(f"/patients/{patient.id}/shred", **fields).status_code == 422
    assert browser.post(f"/patients/{patient.id}/shred", proof="wrong horse battery", **fields).status_code == 401
    assert "patient.shredded" not in world.events()
    assert browser.post(f"/patients/{patient.id}/shred", proof=PASSWORD, **fields).status_code == 303


def test_failures_elsewhere_do_not_lock_a_known_tablet(world: World) -> None:
    """Who fails on purpose under somebody's name stops strangers, not the tablet on which that account signed in."""
    tablet = world.browser(Role.CLINICIAN)
    tablet.post("/logout")
    for _ in range(login.FREE_FAILURES):
        world.browser().sign_in("clinician", "wrong horse battery")
    assert world.browser().sign_in("clinician").status_code == 429
    assert tablet.sign_in("clinician").status_code == 302


def test_a_tablet_is_no_longer_known_after_a_new_password(world: World) -> None:
    """Its cookie is bound to the account's epoch; a cookie that was made up is nothing."""
    tablet = world.browser(Role.CLINICIAN)
    tablet.post("/logout")
    with world.records.write() as tx:
        tx.users.end_sessions(world.users[Role.CLINICIAN].id, world.actor(Role.ADMINISTRATOR))
    for _ in range(login.FREE_FAILURES):
        world.browser().sign_in("clinician", "wrong horse battery")
    assert tablet.sign_in("clinician").status_code == 429
    tablet.client.set_cookie(devices.COOKIE, "made.up", domain="clinic.test", secure=True)
    assert tablet.sign_in("clinician").status_code == 429


def test_the_cookie_of_a_device_is_out_of_reach(world: World) -> None:
    """`__Host-`, Secure, HttpOnly, SameSite=Strict, half a year; eight accounts at most."""
    browser = world.browser()
    browser.get("/login")
    answer = browser.post("/login", username="clinician", password=PASSWORD)
    header = next(value for value in answer.headers.getlist("Set-Cookie") if value.startswith(devices.COOKIE))
    for part in ("Secure", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=15552000"):
        assert part in header
    assert browser.client.get_cookie(devices.COOKIE, domain="clinic.test") is not None
    assert ORIGIN.startswith("https")


def clinic(world: World, *args: str) -> str:
    """Run a command over the world's data folder."""
    done = CliRunner().invoke(main, [*args, "--home", str(world.services.config.home)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_console_says_who_has_to_have_one(world: World) -> None:
    """Set, shown with who owes one, and taken back."""
    assert "no role" in clinic(world, "user", "require-factor")
    assert "auditor" in clinic(world, "user", "require-factor", "--role", "auditor")
    assert json.loads(clinic(world, "user", "require-factor", "--json")) == {
        "required": ["auditor"],
        "without": ["auditor"],
    }
    assert world.browser(Role.AUDITOR).get("/audit").location == "/second-factor"
    assert "no role" in clinic(world, "user", "require-factor", "--none")
    assert world.browser(Role.AUDITOR).get("/audit").status_code == 200
