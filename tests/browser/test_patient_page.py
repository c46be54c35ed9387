"""A patient's page in a real browser: an earlier note is read in place, and only then."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewPage
from tests.browser.pages_world import Site
from tests.browser.test_take_out import signed

pytestmark = pytest.mark.browser


def test_earlier_note_is_read_in_place(site: Site, new_page: NewPage) -> None:
    """Opened, the note comes once; until then nothing of it is fetched or recorded."""
    encounter = signed(site, "Earlier Note")
    page = new_page()
    page.goto(f"/patients/{encounter.patient_id}")
    expect(page.get_by_test_id("drugs")).to_contain_text("Doxycycline 100 mg twice daily for 7 days.")
    before = site.events().count("encounter.viewed")
    summary = page.get_by_test_id("read-note")
    for _ in range(3):
        summary.click()
    expect(page.get_by_test_id("paper")).to_contain_text("Signed by Dr Ada")
    assert site.events().count("encounter.viewed") == before + 1
