"""The page of programs: tokens that a clinician makes, and that an administrator can end."""

from __future__ import annotations

import re

import pytest
from werkzeug.test import TestResponse

from clinic.domain import Role, Scope
from clinic.web import wording
from tests.functional.web_world import PASSWORD, Browser, World

SECRET = re.compile(r'data-testid="token-secret">(clinic_[0-9a-f]{32}_[A-Za-z0-9_-]{43})<')


def make(browser: Browser, **changed: object) -> TestResponse:
    """Make a token on the page."""
    browser.get("/programs")
    fields: dict[str, object] = {"name": "Ward system", "scopes": ["notes:read"], "days": "30", "proof": PASSWORD}
    return browser.post("/programs", **{**fields, **changed})


def test_a_clinician_makes_a_token_and_ends_it(world: World) -> None:
    """Shown once, it is the account's own; ended, it opens nothing."""
    browser = world.browser(Role.CLINICIAN)
    assert "No program has a token." in browser.get("/programs").text
    shown = SECRET.findall(make(browser).text)
    with world.records.read() as tx:
        found = tx.tokens.look_up(shown[0])
    assert found.token is not None
    assert (found.refusal, found.token.user_id, found.token.scopes) == (
        None,
        world.users[Role.CLINICIAN].id,
        frozenset({Scope.NOTES_READ}),
    )
    page = browser.get("/programs").text
    assert (SECRET.findall(page), "Ward system" in page, "never used" in page) == ([], True, True)
    assert browser.post(f"/programs/{found.token.id}/revoke").status_code == 303
    with world.records.read() as tx:
        assert tx.tokens.look_up(shown[0]).refusal == "token_revoked"
    assert world.events()[-1] == "token.revoked"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"proof": ""}, "rove that it is you"),
        ({"proof": "wrong horse battery"}, "his is not your password"),
        ({"scopes": []}, "Choose at least one thing"),
        ({"scopes": ["notes:sign"]}, "Choose at least one thing"),
        ({"days": "0"}, "1 to 366 days"),
        ({"days": "367"}, "1 to 366 days"),
        ({"name": ""}, "Say which program"),
        ({"name": "Ward\u200bsystem"}, "cannot be used"),
    ],
    ids=["no-proof", "wrong-proof", "no-scope", "unknown-scope", "no-days", "too-many-days", "no-name", "odd-name"],
)
def test_what_does_not_fit_makes_none(world: World, changed: dict[str, object], sentence: str) -> None:
    """It is said at its field, and no token is made."""
    answer = make(world.browser(Role.CLINICIAN), **changed)
    assert answer.status_code in {401, 422}
    assert sentence in answer.text
    assert "token.created" not in world.events()


def test_an_administrator_ends_tokens_and_makes_none(world: World) -> None:
    """Who sees no record makes no token that reads them; other clinicians neither see nor end it."""
    make(world.browser(Role.CLINICIAN))
    with world.records.read() as tx:
        (token,) = tx.tokens.list()
    colleague = world.colleague()
    assert "Ward system" not in colleague.get("/programs").text
    assert colleague.post(f"/programs/{token.id}/revoke").status_code == 404
    admin = world.browser(Role.ADMINISTRATOR)
    page = admin.get("/programs").text
    assert ("Ward system" in page, 'data-testid="token-make"' in page) == (True, False)
    assert make(admin).status_code == 403
    assert admin.post(f"/programs/{token.id}/revoke").status_code == 303
    assert "Revoked" in admin.get("/programs").text
    assert world.browser(Role.AUDITOR).get("/programs").status_code == 403


def test_every_scope_has_words() -> None:
    """What a program may do is said in words."""
    assert set(wording.SCOPES) == set(Scope)
