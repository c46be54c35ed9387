"""A draft reviewed and signed without a mouse."""

from __future__ import annotations

from itertools import pairwise

import pytest
from playwright.sync_api import Locator, Page, expect

from clinic.domain import Omission
from tests.browser.conftest import NewPage
from tests.browser.pages_world import Site
from tests.functional.web_world import NOTE

READ_MS = 450
SEEN = """() => {
  const { left, top, width } = document.activeElement.getBoundingClientRect();
  const there = document.elementFromPoint(left + width / 2, top + 4);
  return there !== null && (document.activeElement.contains(there) || there.contains(document.activeElement));
}"""
"""Whether the upper edge of what has the focus is not covered by anything else."""

pytestmark = pytest.mark.browser


def decide(page: Page) -> None:
    """Confirm what has the focus, after the time that it takes to see it."""
    page.wait_for_timeout(READ_MS)
    page.keyboard.press("Enter")


def draft(site: Site, page: Page, name: str) -> None:
    """Open a draft with two flags and one omission."""
    first, flagged, last = NOTE.statements
    again = flagged.model_copy(update={"id": "n4", "text": "Reports fever again."})
    omission = Omission(segment="s4", kind="allergy", text="Allergic to penicillin (rash).")
    note = NOTE.model_copy(update={"statements": (first, flagged, again, last), "omissions": (omission,)})
    page.goto(f"/encounters/{site.drafted(site.patient(name), note=note).id}")


def focused(page: Page) -> Locator:
    """Return what has the focus."""
    return page.locator(":focus")


def test_flags_and_omissions_by_keyboard(site: Site, new_page: NewPage) -> None:
    """Begin, move, edit, confirm, add, sign: each key does what the line of help says, and the focus goes on."""
    page = new_page()
    draft(site, page, "Keyboard Only")
    expect(page.get_by_test_id("checklist")).to_contain_text("Go through 2 to check and 1 not in the note")
    page.get_by_test_id("checklist-begin").focus()
    page.keyboard.press("Enter")
    expect(focused(page)).to_contain_text("Reports fever and night sweats.")
    expect(page.locator('[data-segment="s3"]')).to_have_class("segment marked")
    for key, words in (
        ("j", "Reports fever again."),
        ("ArrowDown", "penicillin"),
        ("k", "again."),
        ("ArrowUp", "sweats"),
    ):
        page.keyboard.press(key)
        expect(focused(page)).to_contain_text(words)
    page.keyboard.press("e")
    expect(focused(page)).to_have_js_property("tagName", "TEXTAREA")
    page.keyboard.press("Escape")
    expect(focused(page)).to_contain_text("sweats")
    page.keyboard.press("e")
    page.keyboard.press("Control+A")
    page.keyboard.type("No fever or night sweats.")  # letters of the checklist, typed: they are only letters
    page.keyboard.press("Control+Enter")
    expect(page.locator("#statement-n2 .statement-text").first).to_have_text("No fever or night sweats.")
    expect(focused(page)).to_contain_text("Reports fever again.")
    decide(page)
    expect(focused(page)).to_contain_text("penicillin")
    decide(page)
    expect(page.get_by_test_id("checklist")).to_have_count(0)
    expect(focused(page)).to_have_attribute("name", "attestation")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("note-locked")).to_be_visible()


@pytest.mark.parametrize("how", ["held", "twice"])
def test_nothing_is_decided_unread(site: Site, new_page: NewPage, how: str) -> None:
    """A key that is held down, or pressed again at once, confirms one flag, not the next one too."""
    page = new_page()
    draft(site, page, f"Unread {how}")
    page.get_by_test_id("checklist-begin").press("Enter")
    page.wait_for_timeout(READ_MS)
    page.keyboard.down("Enter")
    if how == "twice":
        page.keyboard.up("Enter")
    expect(focused(page)).to_contain_text("Reports fever again.")
    if how == "held":
        page.wait_for_timeout(READ_MS)
    page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    page.wait_for_timeout(READ_MS)
    expect(page.get_by_test_id("open-flags")).to_have_text("1 to check")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("open-flags")).to_have_text("1 not in the note")


def test_letters_do_nothing_elsewhere(site: Site, new_page: NewPage) -> None:
    """Outside an item, and with a modifier, no key decides anything."""
    page = new_page()
    draft(site, page, "Letters Elsewhere")
    page.locator("#main").focus()
    for key in ("j", "e", "Enter", "p"):
        page.keyboard.press(key)
    page.get_by_test_id("checklist-begin").press("Enter")
    page.keyboard.press("Alt+e")
    assert page.get_by_test_id("statement-text").first.is_hidden()
    expect(page.get_by_test_id("open-flags")).to_have_text("2 to check")


def test_focus_goes_in_the_order_of_the_page(site: Site, new_page: NewPage) -> None:
    """From the first tab to the signature, the focus never goes back up within a pane, is shown, and is not covered."""
    page = new_page(viewport={"width": 390, "height": 844})
    draft(site, page, "Focus Order")
    page.locator("#main").focus()
    places = []
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('footer') !== null"):
            break
        if page.evaluate("document.activeElement.closest('#note') !== null"):
            places.append(page.evaluate("document.activeElement.getBoundingClientRect().top + scrollY"))
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            assert page.evaluate(SEEN)
    assert len(places) > 10
    assert all(later >= earlier - 60 for earlier, later in pairwise(places))  # a row's own height
