"""Accounts in a real browser: made with a code, signed in elsewhere, ended, reset; each page held against axe."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from clinic.domain import OPERATOR
from tests.browser.conftest import NewPage
from tests.browser.pages_world import PASSWORD, Site
from tests.browser.test_accessibility import AXE
from tests.browser.test_second_factor import checked

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core (`make tools`, with npm)"),
]
NAME = "newcomer"
OWN = "a password of my own"


def sign_in_with(page: Page, password: str) -> None:
    """Sign the newcomer in."""
    page.goto("/login")
    page.get_by_test_id("login-username").fill(NAME)
    page.get_by_test_id("login-password").fill(password)
    page.get_by_test_id("login-submit").click()


def test_an_account_from_its_code_to_its_end(site: Site, new_page: NewPage) -> None:
    """Made by the administrator, its owner chooses a password, makes a token, sees two sessions, and is signed out."""
    axe = AXE.read_text(encoding="utf-8")
    admin = new_page("admin", refused=True)
    admin.goto("/users")
    checked(admin, axe)
    admin.get_by_test_id("new-username").fill(NAME)
    admin.get_by_test_id("new-display-name").fill("Dr New")
    admin.locator("form", has_text="Name that others see").get_by_test_id("proof").fill(PASSWORD)
    admin.get_by_test_id("new-account").click()
    code = admin.get_by_test_id("one-time-code").text_content() or ""
    checked(admin, axe)

    page = new_page(None, refused=True)
    page.goto("/login")
    page.get_by_role("link", name="choose your password").click()
    checked(page, axe)
    page.get_by_test_id("welcome-code").fill(code)
    page.get_by_test_id("welcome-username").fill(NAME)
    page.get_by_test_id("welcome-password").fill(OWN)
    page.get_by_test_id("welcome-submit").click()
    expect(page.get_by_role("status")).to_contain_text("Your password is set.")
    sign_in_with(page, OWN)
    page.get_by_role("link", name="Dr New").click()
    page.get_by_test_id("own-programs").click()
    page.get_by_test_id("token-name").fill("Ward system")
    page.get_by_label("read notes and transcripts").check()
    page.get_by_test_id("proof").fill(OWN)
    page.get_by_test_id("token-make").click()
    expect(page.get_by_test_id("token-secret")).to_contain_text("clinic_")
    checked(page, axe)

    other = new_page(None, refused=True)
    sign_in_with(other, OWN)
    expect(other.get_by_test_id("logout")).to_be_visible()
    page.goto("/sessions")
    checked(page, axe)
    page.get_by_test_id("session-end").click()
    other.goto("/patients")
    expect(other.get_by_test_id("login-username")).to_be_visible()

    admin.goto("/programs")
    checked(admin, axe)
    admin.get_by_role("button", name="End the token of Ward system").click()
    expect(admin.get_by_test_id("tokens")).to_contain_text("Revoked")
    admin.goto("/users")
    admin.get_by_role("link", name=NAME).click()
    checked(admin, axe)
    admin.get_by_test_id("session-end").click()
    expect(admin.get_by_text("Nowhere.")).to_be_visible()
    page.goto("/patients")
    expect(page.get_by_test_id("login-username")).to_be_visible()
    with site.records.write() as tx:
        tx.users.disable(NAME, OPERATOR)
