"""Passkeys: made, named, taken away, signed in with; and everything that an answer can be that is not taken."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import webauthn
from werkzeug.test import TestResponse

from clinic.crypto.local_ca import server_names
from clinic.domain import Role
from clinic.records import passkeys as stored
from clinic.web import origin, passkeys
from tests.functional.authenticator import PRESENT, Authenticator, to_bytes, to_text
from tests.functional.test_web_factor import CODE
from tests.functional.web_world import PASSWORD, Browser, World


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate names the box as the tests call it."""
    monkeypatch.setattr(origin, "names_of_the_box", lambda: ("localhost", "clinic.test"))


def options_of(browser: Browser, path: str, **fields: object) -> dict[str, Any]:
    """Ask for options as our script does."""
    headers = {"Accept": "application/json", "X-CSRFToken": browser.token}
    answer = browser.client.post(path, data=fields, base_url="https://clinic.test", headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def make(browser: Browser, key: Authenticator, name: str = "My tablet") -> TestResponse:
    """Make a passkey for who is signed in."""
    browser.get("/second-factor")
    options = options_of(browser, "/passkeys/options", proof=PASSWORD)
    return browser.send("/passkeys", {"name": name, "answer": key.make(options)})


def sign_in(browser: Browser, key: Authenticator, **fields: object) -> TestResponse:
    """Sign in with a passkey, in a browser that is signed out."""
    browser.get("/login")
    options = options_of(browser, "/login/passkey/options")
    return browser.send("/login/passkey", {"answer": key.sign(options), **fields})


def code_of(answer: TestResponse) -> tuple[int, str]:
    """Return status and code of a refusal."""
    return answer.status_code, answer.get_json()["error"]["code"]


@pytest.fixture
def key(world: World) -> Authenticator:
    """The clinician's passkey."""
    made = Authenticator()
    assert make(world.browser(Role.CLINICIAN), made).status_code == 201
    return made


def test_a_passkey_signs_in_without_a_password(world: World, key: Authenticator) -> None:
    """Made after a proof, it signs in alone, to the page that was wanted; the log says which was used, and by whom."""
    browser = world.browser()
    answer = sign_in(browser, key, next="/patients")
    assert (answer.status_code, answer.get_json()) == (200, {"next": "/patients"})
    assert browser.get("/day").status_code == 200
    assert world.events()[-3:-1] == ["passkey.used", "login.succeeded"]
    assert world.records.sweep() == ()


def test_it_is_a_second_factor(world: World, key: Authenticator) -> None:
    """From then on the password alone opens nothing; a recovery code, or the passkey, goes on."""
    owner = world.browser()
    sign_in(owner, key)
    owner.get("/second-factor")
    (paper, *_) = CODE.findall(owner.post("/second-factor/recovery", proof=PASSWORD).text)
    browser = world.browser()
    assert browser.sign_in("clinician").location == "/login/code"
    page = browser.get("/login/code").text
    assert 'data-testid="passkey-sign-in"' in page
    assert "One of your recovery codes" in page
    assert browser.post("/login/code", code="123456").status_code == 409
    assert browser.post("/login/code", code=paper).status_code == 302


def test_it_answers_for_a_role_that_has_to_have_one(world: World) -> None:
    """Who owes a second factor may make a passkey, and then go on."""
    with world.records.write() as tx:
        tx.require_factor_for([Role.AUDITOR], world.actor(Role.ADMINISTRATOR))
    browser = world.browser(Role.AUDITOR)
    assert browser.get("/audit").location == "/second-factor"
    made = make(browser, Authenticator())
    assert (made.status_code, made.get_json()) == (201, {"recovery_codes": False})
    assert len(CODE.findall(browser.post("/second-factor/recovery").text)) == 10, "just proved: not asked again"
    assert browser.get("/audit").status_code == 200


def test_names_are_its_owners(world: World, key: Authenticator) -> None:
    """Shown, changed, sealed; nobody else can name or remove it."""
    owner = world.browser()
    sign_in(owner, key)
    with world.records.read() as tx:
        (known,) = tx.passkeys.of(world.users[Role.CLINICIAN].id)
    assert "My tablet" in owner.get("/second-factor").text
    assert owner.post(f"/passkeys/{known.id}/name", name="The blue one").status_code == 303
    assert "The blue one" in owner.get("/second-factor").text
    assert owner.post(f"/passkeys/{known.id}/name", name="\u200b").status_code == 422
    other = world.browser(Role.AUDITOR)
    other.get("/second-factor")
    assert other.post(f"/passkeys/{known.id}/name", name="mine").status_code == 404
    assert other.post(f"/passkeys/{known.id}/remove", proof=PASSWORD).status_code == 404
    content = world.services.config.database.read_bytes()
    assert b"blue one" not in content
    assert key.handle not in content


def test_removing_wants_a_proof_and_ends_it(world: World, key: Authenticator) -> None:
    """Then it opens nothing, and its recovery codes neither."""
    owner = world.browser()
    sign_in(owner, key)
    with world.records.write() as tx:
        (known,) = tx.passkeys.of(world.users[Role.CLINICIAN].id)
        tx.recovery.make(known.user_id, world.actor())
    owner.get("/second-factor")
    assert owner.post(f"/passkeys/{known.id}/remove").status_code == 422
    assert owner.post(f"/passkeys/{known.id}/remove", proof=PASSWORD).status_code == 303
    assert code_of(sign_in(world.browser(), key)) == (401, "passkey_refused")
    assert world.browser().sign_in("clinician").location == "/day"
    with world.records.read() as tx:
        assert tx.standing(world.users[Role.CLINICIAN]).recovery_left == 0
    assert world.records.sweep() == ()


def test_the_administrator_resets_passkeys_too(world: World, key: Authenticator) -> None:
    """A lost device opens nothing any more."""
    admin = world.browser(Role.ADMINISTRATOR)
    assert "Passkey" in admin.get("/users").text
    assert admin.post(f"/users/{world.users[Role.CLINICIAN].id}/factor", proof=PASSWORD).status_code == 303
    assert code_of(sign_in(world.browser(), key)) == (401, "passkey_refused")


def copied(key: Authenticator) -> None:
    """Let the device forget its last two answers, as a copy of it would."""
    key.count -= 2


LIES: dict[str, tuple[Callable[[Authenticator], None], str]] = {
    "another-origin": (lambda key: setattr(key, "origin", "https://clinic.evil"), "passkey_invalid"),
    "another-port": (lambda key: setattr(key, "origin", "https://clinic.test:444"), "passkey_invalid"),
    "plain-http": (lambda key: setattr(key, "origin", "http://clinic.test"), "passkey_invalid"),
    "another-name": (lambda key: setattr(key, "rp_id", "evil.test"), "passkey_invalid"),
    "nobody-verified": (lambda key: setattr(key, "flags", PRESENT), "passkey_invalid"),
    "nobody-there": (lambda key: setattr(key, "flags", 0), "passkey_invalid"),
    "another-key": (lambda key: setattr(key, "key", Authenticator().key), "passkey_invalid"),
    "unknown": (lambda key: setattr(key, "handle", b"x" * 32), "passkey_unknown"),
    "a-copy": (copied, "passkey_copied"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_its_answer_is_refused(world: World, key: Authenticator, lie: str) -> None:
    """Each says the same to who tries; the log says what it was; nobody is in; the honest answer still works."""
    honest = Authenticator(handle=key.handle, key=key.key, user=key.user, count=10)
    assert sign_in(world.browser(), honest).status_code == 200
    key.count = honest.count
    change, reason = LIES[lie]
    change(key)
    browser = world.browser()
    assert code_of(sign_in(browser, key)) == (401, "passkey_refused")
    assert browser.get("/day").status_code == 302
    (entry,) = world.records.audit.named("passkey.refused")
    assert f'"reason":"{reason}"'.encode() in entry.body
    assert (b'"unknown"' in entry.body) == (reason == "passkey_unknown")
    honest.count += 5
    assert sign_in(world.browser(), honest).status_code == 200


def test_an_answer_is_good_once(world: World, key: Authenticator) -> None:
    """Sent again by the same browser, or by another, it opens nothing: its challenge is used up."""
    first, second = world.browser(), world.browser()
    first.get("/login")
    options = options_of(first, "/login/passkey/options")
    cookie = first.client.get_cookie("__Host-clinic", domain="clinic.test")
    assert cookie is not None
    answer = key.sign(options)
    assert first.send("/login/passkey", {"answer": answer}).status_code == 200
    second.get("/login")
    assert code_of(second.send("/login/passkey", {"answer": answer})) == (401, "passkey_refused")
    thief = Browser(world.app.test_client())
    thief.client.set_cookie("__Host-clinic", cookie.value, domain="clinic.test", secure=True)
    thief.token = first.token
    thief.get("/login")
    thief.client.set_cookie("__Host-clinic", cookie.value, domain="clinic.test", secure=True)
    assert thief.send("/login/passkey", {"answer": answer}).status_code in {400, 401}
    assert thief.get("/day").status_code == 302


def test_without_the_used_up_challenge_it_would_be_good_twice(
    world: World, key: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a challenge that stays, and a device that does not count, let the same answer in again."""
    with world.records.read() as tx:
        assert tx.standing(world.users[Role.CLINICIAN]).passkeys == 1
    monkeypatch.setattr(Authenticator, "_data", uncounted)
    browser = world.browser()
    browser.get("/login")
    options = options_of(browser, "/login/passkey/options")
    asked = to_bytes(options["challenge"])
    monkeypatch.setattr(passkeys.Challenges, "take", lambda *_: asked)
    answer = key.sign(options)
    for _ in range(2):
        again = world.browser()
        again.get("/login")
        assert again.send("/login/passkey", {"answer": answer}).status_code == 200


def uncounted(key: Authenticator, flags: int) -> bytes:
    """Return the data of a device that has no counter, as telephones do."""
    return hashlib.sha256(key.rp_id.encode()).digest() + bytes([flags]) + bytes(4)


@pytest.mark.parametrize("seconds", [passkeys.CHALLENGE_SECONDS, passkeys.CHALLENGE_SECONDS + 3600])
def test_a_challenge_runs_out(world: World, key: Authenticator, seconds: int) -> None:
    """After five minutes it has to be asked for again."""
    browser = world.browser()
    browser.get("/login")
    options = options_of(browser, "/login/passkey/options")
    world.uptime.now += seconds
    assert code_of(browser.send("/login/passkey", {"answer": key.sign(options)})) == (401, "passkey_refused")


def test_a_challenge_for_one_thing_is_not_one_for_another(world: World) -> None:
    """What was asked for to sign in makes no passkey, nor does somebody else's."""
    browser = world.browser(Role.CLINICIAN)
    browser.get("/second-factor")
    options = options_of(browser, "/passkeys/options", proof=PASSWORD)
    options_of(browser, "/login/passkey/options")
    answer = browser.send("/passkeys", {"name": "x", "answer": Authenticator().make(options)})
    assert code_of(answer) == (401, "passkey_refused")


def test_the_number_of_challenges_that_wait_is_bounded() -> None:
    """A thousand; the oldest go, and those that have run out."""
    now = 0.0
    challenges = passkeys.Challenges(lambda: now)
    names = [challenges.make("x")[0] for _ in range(1001)]
    assert challenges.take(names[0], "x") is None
    assert challenges.take(names[1], "x") is not None
    assert challenges.take(names[1], "x") is None
    assert challenges.take(names[2], "y") is None


def test_a_passkey_is_made_after_a_proof_only(world: World) -> None:
    """An unattended session makes none; nor is one taken without options, or twice."""
    browser = world.browser(Role.CLINICIAN)
    browser.get("/second-factor")
    headers = {"Accept": "application/json", "X-CSRFToken": browser.token}
    answer = browser.client.post("/passkeys/options", data={}, base_url="https://clinic.test", headers=headers)
    assert code_of(answer) == (422, "proof_missing")
    key = Authenticator()
    assert make(browser, key).status_code == 201
    assert code_of(make(browser, key)) == (409, "record_conflict")
    fake = {"challenge": to_text(b"0" * 32), "user": {"id": to_text(b"x")}}
    assert code_of(browser.send("/passkeys", {"name": "x", "answer": Authenticator().make(fake)}))[0] == 401


@pytest.mark.parametrize("lie", ["another-origin", "another-name", "nobody-verified"])
def test_a_false_answer_makes_no_passkey(world: World, lie: str) -> None:
    """The same checks hold while one is made."""
    key = Authenticator()
    LIES[lie][0](key)
    assert code_of(make(world.browser(Role.CLINICIAN), key)) == (401, "passkey_refused")
    assert "passkey.added" not in world.events()


def test_without_the_check_of_the_origin_it_would_be_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a site that believes any origin keeps the passkey of another page."""
    real = webauthn.verify_registration_response

    def careless(**given: Any) -> Any:
        return real(**{**given, "expected_origin": "https://clinic.evil"})

    monkeypatch.setattr(webauthn, "verify_registration_response", careless)
    assert make(world.browser(Role.CLINICIAN), Authenticator(origin="https://clinic.evil")).status_code == 201


@pytest.mark.parametrize(
    "rubbish", [{}, {"rawId": 5}, {"rawId": "AA"}, {"id": "x", "rawId": "\u00e9", "response": None}]
)
def test_rubbish_is_refused(world: World, key: Authenticator, rubbish: dict[str, object]) -> None:
    """Whatever is sent is refused in the same words; that of a known key, cut up, too."""
    browser = world.browser()
    browser.get("/login")
    options_of(browser, "/login/passkey/options")
    assert code_of(browser.send("/login/passkey", {"answer": rubbish})) == (401, "passkey_refused")
    options_of(browser, "/login/passkey/options")
    cut = {**Authenticator(handle=key.handle).sign({"challenge": "AA"}), "response": {"clientDataJSON": "e30"}}
    assert code_of(browser.send("/login/passkey", {"answer": cut})) == (401, "passkey_refused")


@pytest.mark.parametrize("host", ["192.168.1.7:8443", "[fe80::1]:8443", "clinic.evil", "evil.clinic.test"])
def test_an_address_that_is_no_name_of_the_box_has_none(world: World, host: str) -> None:
    """A number, or a name that the certificate does not have: no options, and the page says where it works."""
    browser = world.browser()
    headers = {"Accept": "application/json"}
    world.app.config["WTF_CSRF_ENABLED"] = False
    answer = browser.client.post("/login/passkey/options", base_url=f"https://{host}", headers=headers)
    assert code_of(answer) == (409, "passkey_needs_name")
    assert "https://clinic.test:" in answer.get_json()["error"]["hint"]
    assert b"passkey-sign-in" not in browser.client.get("/login", base_url=f"https://{host}").data


def test_the_names_are_those_of_the_certificate(world: World) -> None:
    """The real ones, in the real file; without a certificate there are none."""
    names = server_names(world.services.config.tls_dir)
    assert names[0] == "localhost"
    assert server_names(world.services.config.home / "nowhere") == ()


def test_a_disabled_account_has_none(world: World, key: Authenticator) -> None:
    """Its passkey opens nothing while it is disabled; the log says why."""
    with world.records.write() as tx:
        tx.users.disable("clinician", world.actor(Role.ADMINISTRATOR))
    assert code_of(sign_in(world.browser(), key)) == (401, "passkey_refused")
    (entry,) = world.records.audit.named("passkey.refused")
    assert b"user_disabled" in entry.body


def test_there_are_ten_at_most(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next is refused before the browser makes it."""
    monkeypatch.setattr(stored, "MOST", 1)
    browser = world.browser(Role.CLINICIAN)
    assert make(browser, Authenticator()).status_code == 201
    headers = {"Accept": "application/json", "X-CSRFToken": browser.token}
    answer = browser.client.post("/passkeys/options", base_url="https://clinic.test", headers=headers)
    assert code_of(answer) == (409, "passkeys_full")


def test_a_passkey_moved_by_hand_opens_nothing(world: World, key: Authenticator) -> None:
    """Given to another account past the program it signs in nobody, and the sweep names it."""
    with closing(sqlite3.connect(world.services.config.database)) as db, db:
        db.execute("UPDATE passkeys SET user_id = ?", (world.users[Role.ADMINISTRATOR].id,))
    assert {(found.problem, found.kind) for found in world.records.sweep()} == {
        ("missing", "passkey"),
        ("unrecorded", "passkey"),
    }
    assert code_of(sign_in(world.browser(), key)) == (401, "passkey_refused")
