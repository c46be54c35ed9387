"""Live checking in a real browser: the verdict beside the field changes while one types."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Request, expect

from tests.browser.conftest import NewPage
from tests.browser.pages_world import Site

pytestmark = pytest.mark.browser

FLAGGED = re.compile("To check")


def open_editor(page: Page, encounter_id: str) -> None:
    """Open a draft, and the first statement for editing."""
    page.goto(f"/encounters/{encounter_id}")
    page.get_by_test_id("statement-edit").first.click()


def test_verdict_follows_the_words(site: Site, new_page: NewPage) -> None:
    """A number that was not said is told beside the field while typing, and taken back when it is mended."""
    encounter = site.drafted(site.patient("Live Check"))
    page = new_page()
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request) if request.url.endswith("/check") else None)
    open_editor(page, encounter.id)
    field, said = page.get_by_test_id("statement-text").first, page.get_by_test_id("live-check").first
    expect(said).to_have_text("Checked against what was said while you type.")
    field.fill("")
    field.press_sequentially("Cough for nine weeks.", delay=15)
    expect(said).to_contain_text(FLAGGED)
    expect(said.get_by_role("listitem").first).to_contain_text("nine")
    assert len(asked) < len("Cough for nine weeks.")
    assert all("nine" not in request.url for request in asked)
    field.fill("Cough for two weeks.")
    expect(said).to_have_text("Supported by what was said")
    field.fill("")
    expect(said).to_have_text("Checked against what was said while you type.")
    with site.records.read() as tx:
        stored = tx.notes.get(encounter.id)
    assert stored is not None
    assert stored.version == 1


def test_new_sentence_is_checked_too(site: Site, new_page: NewPage) -> None:
    """A sentence that is added is checked before it is in the note, against the allergies that were stated."""
    page = new_page()
    page.goto(f"/encounters/{site.drafted(site.patient('New Sentence')).id}")
    page.get_by_test_id("statement-add").click()
    page.get_by_test_id("statement-add-text").fill("Start amoxicillin 500 mg.")
    expect(page.get_by_test_id("live-check").last).to_contain_text("penicillin")


def test_box_that_cannot_be_reached_is_said(site: Site, new_page: NewPage) -> None:
    """Without an answer the field says that it was not checked, and the words stay."""
    encounter = site.drafted(site.patient("Out Of Reach"))
    page = new_page(refused=True)
    open_editor(page, encounter.id)
    page.context.set_offline(True)
    page.get_by_test_id("statement-text").first.fill("Cough for nine weeks.")
    expect(page.get_by_test_id("live-check").first).to_contain_text("Not checked")
    expect(page.get_by_test_id("statement-text").first).to_have_value("Cough for nine weeks.")
