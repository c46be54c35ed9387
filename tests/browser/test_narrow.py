"""What somebody sees on a telephone: nothing cut off, who is signed in, the field that is wrong."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewPage
from tests.browser.pages_world import Site

pytestmark = pytest.mark.browser

TELEPHONE = {"width": 390, "height": 844}


@pytest.mark.parametrize(
    ("username", "paths"),
    [
        (
            "admin",
            (
                "/users",
                "/box",
                "/sessions",
                "/programs",
                "/second-factor",
                "/backups",
                "/policies",
                "/glass",
                "/password",
            ),
        ),
        ("audit", ("/audit", "/audit/witness")),
    ],
    ids=["administrator", "auditor"],
)
def test_no_page_scrolls_sideways(new_page: NewPage, username: str, paths: tuple[str, ...]) -> None:
    """Wide tables scroll in a frame of their own, whatever is hidden in them."""
    page = new_page(username, viewport=TELEPHONE)
    wide = {}
    for path in paths:
        answer = page.goto(path)
        assert answer is not None
        assert answer.ok, path
        wide[path] = page.evaluate("document.documentElement.scrollWidth")
    assert wide == dict.fromkeys(paths, TELEPHONE["width"])


def test_values_stand_below_one_another(site: Site, new_page: NewPage) -> None:
    """No cell of the accounting is cut off at the right; a value of Health has a line of its own."""
    someone = site.patient("Narrow Accounting")
    encounter = site.drafted(someone)
    page = new_page(viewport=TELEPHONE)
    page.goto(f"/encounters/{encounter.id}")
    page.goto(f"/patients/{someone.id}/accounting")
    right = "cells => Math.max(...cells.map(cell => cell.getBoundingClientRect().right))"
    for width in (TELEPHONE["width"], 820):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.locator("[data-testid=accounting-lines] td").evaluate_all(right) <= width
    page = new_page("admin", viewport=TELEPHONE)
    page.goto("/box")
    shown = page.locator(".light strong").evaluate_all("found => found.map(each => getComputedStyle(each).display)")
    assert set(shown) == {"block"}


def test_who_is_signed_in_is_seen(new_page: NewPage) -> None:
    """The name is there, and leads to the password and the second factor."""
    page = new_page(viewport=TELEPHONE)
    page.goto("/day")
    page.get_by_role("link", name="Dr Ada").click()
    expect(page.get_by_role("heading", name="Change your password")).to_be_visible()


def test_the_field_that_is_wrong_has_the_focus(site: Site, new_page: NewPage) -> None:
    """Not the first one of the form."""
    site.patient("Number Taken", record_number="N-390")
    page = new_page(viewport=TELEPHONE, refused=True)
    page.goto("/patients/new")
    expect(page.get_by_test_id("patient-name")).to_be_focused()
    page.get_by_test_id("patient-name").fill("Somebody Else")
    page.get_by_test_id("patient-number").fill("N-390")
    page.get_by_test_id("patient-save").click()
    expect(page.get_by_test_id("patient-number")).to_be_focused()
