"""Setting up a second factor and signing in with it, in a real browser; axe over each of its pages."""

from __future__ import annotations

import re
import time

import pyotp
import pytest
from playwright.sync_api import Browser, Page, expect

from clinic.domain import OPERATOR, Role
from tests.browser.conftest import NewPage
from tests.browser.pages_world import PASSWORD, Site
from tests.browser.test_accessibility import AXE, DARK, too_wide, violations

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core (`make tools`, with npm)"),
]
NAME = "factored"


def begin(page: Page) -> None:
    """Sign in with the password."""
    page.goto("/login")
    page.get_by_test_id("login-username").fill(NAME)
    page.get_by_test_id("login-password").fill(PASSWORD)
    page.get_by_test_id("login-submit").click()


def checked(page: Page, axe: str) -> None:
    """Hold what is on the page against axe, light and dark, and enlarged."""
    assert violations(page, axe) == []
    page.emulate_media(color_scheme="dark")
    assert violations(page, axe, DARK) == []
    page.emulate_media(color_scheme="light")
    assert too_wide(page) == []


def test_from_the_password_to_the_phone_and_back(site: Site, chromium: Browser, new_page: NewPage) -> None:
    """Owed, set up, recovery codes, signed in with the phone by keyboard alone, with paper, and reset by an account."""
    axe = AXE.read_text(encoding="utf-8")
    with site.records.write() as tx:
        tx.users.create(NAME, display_name="Dr Factored", role=Role.AUDITOR, password=PASSWORD, actor=OPERATOR)
        tx.require_factor_for([Role.AUDITOR], OPERATOR)
    try:
        page = new_page(None, refused=True)
        begin(page)
        expect(page.get_by_test_id("factor-owed")).to_be_visible()
        checked(page, axe)
        page.goto("/audit")
        expect(page).to_have_url(re.compile("/second-factor$"))
        page.get_by_test_id("factor-password").fill(PASSWORD)
        page.get_by_test_id("factor-begin").click()
        expect(page.get_by_test_id("factor-qr")).to_be_visible()
        checked(page, axe)
        phone = pyotp.TOTP(page.get_by_test_id("factor-secret").text_content() or "")
        step = int(time.time()) // 30
        page.get_by_test_id("factor-code").fill(phone.at((step - 1) * 30))
        page.get_by_test_id("factor-confirm").click()
        codes = page.get_by_test_id("recovery-codes").locator("code").all_text_contents()
        assert len(codes) == 10
        checked(page, axe)
        page.get_by_test_id("recovery-done").click()
        expect(page.get_by_role("heading", name="Audit log")).to_be_visible()

        again = new_page(None, refused=True)
        begin(again)
        expect(again.get_by_test_id("login-code")).to_be_focused()
        checked(again, axe)
        again.keyboard.type("000000" if phone.at(step * 30) != "000000" else "000001")
        again.keyboard.press("Enter")
        expect(again.get_by_test_id("error-box")).to_contain_text("not right")
        again.keyboard.type(phone.at(step * 30))
        again.keyboard.press("Enter")
        expect(again.get_by_role("heading", name="Audit log")).to_be_visible()
        again.goto("/second-factor")
        expect(again.get_by_test_id("recovery-left")).to_contain_text("10 are good")
        again.get_by_text("New phone, or no app").click()
        checked(again, axe)
        again.locator("form", has_text="Remove the app").get_by_test_id("proof").fill(codes[0])
        again.get_by_test_id("factor-remove").click()
        expect(again.get_by_test_id("factor-owed")).to_be_visible()
    finally:
        with site.records.write() as tx:
            tx.require_factor_for([], OPERATOR)
            tx.users.disable(NAME, OPERATOR)
    assert chromium.is_connected()


@pytest.mark.parametrize(
    ("username", "path"),
    [
        ("admin", "/box"),
        ("admin", "/backups"),
        ("admin", "/policies"),
        ("admin", "/glass"),
        ("audit", "/audit"),
        ("audit", "/audit/activity"),
        ("audit", "/audit/entries/1"),
        ("audit", "/audit/witness"),
    ],
)
def test_pages_of_administrator_and_auditor(new_page: NewPage, username: str, path: str) -> None:
    """No violation, light and dark; nothing too wide when enlarged."""
    page = new_page(username)
    page.goto(path)
    checked(page, AXE.read_text(encoding="utf-8"))
