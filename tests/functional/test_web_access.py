"""Who may use which route: the matrix is made from the route table, so a new route is in it at once."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from werkzeug.routing import Rule

from clinic.app import create_app
from clinic.domain import Role, new_id
from clinic.web.access import declared
from tests.functional.web_world import World

PUBLIC = {
    "auth.login",
    "auth.sign_in",
    "auth.second_step",
    "auth.finish_sign_in",
    "passkeys.sign_in_options",
    "passkeys.sign_in",
    "welcome.code",
    "welcome.redeem",
    "welcome.setup",
    "welcome.set_up",
    "health.health",
    "health.authority",
    "health.authority_certificate",
    "metrics.show",  # to whoever has the token: test_metrics.py
    "static",
}
CLINICAL = {
    *("day", "patients", "encounters", "recordings", "notes", "checking", "speakers", "versions", "copies"),
    "documents",
    "questions",
}
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}


def rules(app: Flask) -> list[Rule]:
    """Return every route of the application."""
    return list(app.url_map.iter_rules())


def address(rule: Rule) -> str:
    """Return an address that the route matches, with ids that name nothing."""
    path = re.sub(r"<id:\w+>", lambda _: new_id(), rule.rule)
    path = re.sub(r"<int:\w+>", "0", path)
    return re.sub(r"<(?:part|path):\w+>", "n1", path)


def test_every_route_declares_who_may_use_it(world: World) -> None:
    """No route is without a declaration."""
    assert [rule.endpoint for rule in rules(world.app) if declared(world.app, rule.endpoint) is None] == []


def test_route_without_a_declaration_is_refused(world: World) -> None:
    """A view that somebody forgot to declare answers nobody, not even those who are signed in."""

    @world.app.get("/forgotten")
    def forgotten() -> str:
        return "secret"

    assert [r.endpoint for r in rules(world.app) if declared(world.app, r.endpoint) is None] == ["forgotten"]
    for role in (None, *Role):
        response = world.browser(role).get("/forgotten")
        assert response.status_code == 403
        assert "secret" not in response.text


def test_public_routes_are_the_known_ones(world: World) -> None:
    """Only sign-in, health, the certificate and static files are for everybody."""
    found = {r.endpoint for r in rules(world.app) if (access := declared(world.app, r.endpoint)) and access.public}
    assert found == PUBLIC


@pytest.mark.parametrize("role", [None, *Role], ids=lambda role: role.value if role else "signed-out")
def test_matrix(world: World, role: Role | None) -> None:
    """Whoever is not named by a route is refused before its view runs; whoever is named is let in."""
    checked = 0
    browser = world.browser(role)
    for rule in rules(world.app):
        access = declared(world.app, rule.endpoint)
        assert access is not None
        if access.public or rule.endpoint == "auth.sign_out":
            continue
        method = min((rule.methods or set()) - {"HEAD", "OPTIONS"})
        headers = {"Accept": "application/json", "X-CSRFToken": browser.token}
        response = browser.client.open(address(rule), method=method, headers=headers, base_url="https://clinic.test")
        code = (response.get_json(silent=True) or {}).get("error", {}).get("code")
        if role is None:
            assert (response.status_code, code) == (401, "signed_out"), rule
        elif role not in access.roles:
            assert (response.status_code, code) == (403, "not_allowed"), rule
        else:
            assert code not in {"not_allowed", "signed_out", "csrf_invalid", "internal"}, rule
        checked += 1
    assert checked >= 25


@pytest.mark.parametrize("role", [Role.AUDITOR, Role.ADMINISTRATOR])
def test_only_clinicians_come_near_patients(world: World, role: Role) -> None:
    """No route of a clinical blueprint names an auditor or an administrator."""
    for rule in rules(world.app):
        access = declared(world.app, rule.endpoint)
        if rule.endpoint.split(".")[0] in CLINICAL:
            assert access is not None
            assert role not in access.roles


def test_state_changes_are_never_get(world: World) -> None:
    """A route that changes something takes no GET: no link can trigger it."""
    for rule in rules(world.app):
        methods = rule.methods or set()
        assert not (methods & UNSAFE and "GET" in methods), rule


def test_two_applications_do_not_share_services(world: World) -> None:
    """Services belong to an application, not to the process."""
    other = create_app(world.services)
    assert other.extensions["clinic"] is world.services
    assert other.extensions["clinic.sessions"] is not world.app.extensions["clinic.sessions"]
