"""A passkey made and used in Chromium, with Chromium's own virtual authenticator, under the name of the box."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import CDPSession, Page, expect

from clinic.domain import OPERATOR, Role
from tests.browser.conftest import NewPage
from tests.browser.pages_world import PASSWORD, Site, sign_in
from tests.browser.test_accessibility import AXE
from tests.browser.test_second_factor import checked

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core (`make tools`, with npm)"),
]
NAME = "keyed"
DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


def device(page: Page) -> tuple[CDPSession, str]:
    """Give the page's browser a virtual authenticator; return how to reach it."""
    reach = page.context.new_cdp_session(page)
    reach.send("WebAuthn.enable")
    return reach, reach.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})["authenticatorId"]


def test_made_used_renamed_and_removed(site: Site, new_page: NewPage) -> None:
    """From the page of the second factor to signing in without a password, and back."""
    axe = AXE.read_text(encoding="utf-8")
    with site.records.write() as tx:
        user = tx.users.create(NAME, display_name="Dr Keyed", role=Role.AUDITOR, password=PASSWORD, actor=OPERATOR)
    address = f"https://clinic.lan:{site.config.web.port}"
    page = new_page(None, refused=True, base_url=address)
    reach, authenticator = device(page)
    sign_in(page, NAME)
    page.goto("/second-factor")
    checked(page, axe)
    page.get_by_test_id("passkey-new-name").fill("My tablet")
    making = page.locator("[data-passkey-make]")
    making.get_by_test_id("proof").fill("not the password")
    page.get_by_test_id("passkey-make").click()
    expect(page.get_by_test_id("error-box")).to_contain_text("not your password")
    making.get_by_test_id("proof").fill(PASSWORD)
    page.get_by_test_id("passkey-make").click()
    expect(page.get_by_test_id("recovery-codes")).to_be_visible()
    (kept,) = reach.send("WebAuthn.getCredentials", {"authenticatorId": authenticator})["credentials"]
    assert (kept["rpId"], kept["isResidentCredential"]) == ("clinic.lan", True)

    page.get_by_test_id("logout").click()
    page.get_by_test_id("passkey-sign-in").click()
    expect(page.get_by_role("heading", name="Audit log")).to_be_visible()

    page.goto("/second-factor")
    page.get_by_test_id("passkeys").get_by_text("Change").click()
    page.get_by_test_id("passkey-name").fill("The blue tablet")
    page.get_by_test_id("passkey-name").press("Enter")
    expect(page.get_by_test_id("passkeys")).to_contain_text("The blue tablet")
    page.get_by_test_id("passkeys").get_by_text("Change").click()
    checked(page, axe)

    page.get_by_test_id("logout").click()
    sign_in_refused(page, reach, authenticator)
    page.get_by_test_id("login-username").fill(NAME)
    page.get_by_test_id("login-password").fill(PASSWORD)
    page.get_by_test_id("login-submit").click()
    checked(page, axe)
    page.get_by_test_id("passkey-sign-in").click()
    expect(page.get_by_role("heading", name="Audit log")).to_be_visible()

    page.goto("/second-factor")
    page.get_by_test_id("passkeys").get_by_text("Change").click()
    page.get_by_test_id("passkeys").get_by_test_id("proof").fill(PASSWORD)
    page.get_by_test_id("passkey-remove").click()
    expect(page.get_by_test_id("passkeys")).to_have_count(0)
    page.get_by_test_id("logout").click()
    page.get_by_test_id("passkey-sign-in").click()
    expect(page.get_by_test_id("error-box")).to_contain_text("This passkey was not accepted")
    with site.records.write() as tx:
        assert not tx.standing(user).has_factor
        tx.users.disable(NAME, OPERATOR)


def sign_in_refused(page: Page, reach: CDPSession, authenticator: str) -> None:
    """Try with a device whose user is not the one it knows: the browser itself gives nothing."""
    verified: dict[str, Any] = {"authenticatorId": authenticator, "isUserVerified": False}
    reach.send("WebAuthn.setUserVerified", verified)
    page.get_by_test_id("passkey-sign-in").click()
    expect(page.get_by_test_id("error-box")).to_contain_text("No passkey was used", timeout=70_000)
    reach.send("WebAuthn.setUserVerified", {**verified, "isUserVerified": True})


def test_by_a_number_there_is_none(site: Site, new_page: NewPage) -> None:
    """Under an address that is a number no passkey is offered, and the page says under which it is."""
    page = new_page(None, base_url=f"https://127.0.0.1:{site.config.web.port}")
    page.goto("/login")
    expect(page.get_by_test_id("passkey-sign-in")).to_have_count(0)
    sign_in(page, "audit")
    page.goto("/second-factor")
    expect(page.get_by_test_id("passkey-needs-name")).to_contain_text(re.compile(r"https://clinic\.lan:\d+"))
