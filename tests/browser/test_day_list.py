"""The day list in a real browser: it keeps itself up to date, and nothing moves under the finger."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, Page, expect

from clinic.domain import EncounterId, EncounterState, Stage
from tests.browser.conftest import NewPage
from tests.browser.pages_world import Site

pytestmark = pytest.mark.browser

ASKED_MS = 4000
SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


def mark(site: Site, encounter_id: EncounterId, state: EncounterState, stage: Stage | None = None) -> None:
    """Move an encounter on, as the worker does."""
    with site.records.write() as tx:
        tx.encounters.mark(encounter_id, state=state, stage=stage)


def row(page: Page, encounter_id: str) -> Locator:
    """Return the row of an encounter."""
    return page.locator(f'[data-encounter="{encounter_id}"]')


@pytest.mark.parametrize("width", [390, 1440])
def test_list_keeps_itself_up_to_date(site: Site, new_page: NewPage, width: int) -> None:
    """States change in their rows without a shift of the layout; what is new is offered, then shown, then recorded."""
    encounter = site.encounter(site.patient(f"Day List {width}"))
    mark(site, encounter.id, EncounterState.QUEUED)
    page = new_page(viewport={"width": width, "height": 900})
    page.clock.install()
    page.add_init_script(SHIFTS)
    page.goto("/day")
    shown = row(page, encounter.id)
    expect(shown).to_contain_text("About to begin")  # marked, and no job in the queue yet
    looks = site.events().count("patients.listed")
    mark(site, encounter.id, EncounterState.RUNNING, Stage.TRANSCRIBE)
    another = site.encounter(site.patient(f"Came Later {width}"))
    page.clock.fast_forward(ASKED_MS)
    expect(shown).to_contain_text("Transcribe")
    expect(shown).to_contain_text("In progress")
    expect(page.get_by_test_id("day-fresh")).to_have_text("The list has changed.")
    assert row(page, another.id).count() == 0
    assert page.evaluate("window.shifts") == 0
    assert site.events().count("patients.listed") == looks
    page.get_by_test_id("day-show").click()
    expect(row(page, another.id)).to_contain_text(f"Came Later {width}")
    expect(page.get_by_test_id("day-show")).not_to_be_visible()
    assert site.events().count("patients.listed") == looks + 1


def test_list_that_cannot_be_kept_up_to_date_says_so(site: Site, new_page: NewPage) -> None:
    """Without the box the page says that it is not up to date; the rows stay; and it recovers by itself."""
    encounter = site.encounter(site.patient("Stays There"))
    page = new_page(refused=True)
    page.clock.install()
    page.goto("/day")
    page.context.set_offline(True)
    page.clock.fast_forward(ASKED_MS)
    expect(page.get_by_test_id("day-fresh")).to_contain_text("Not up to date")
    expect(row(page, encounter.id)).to_be_visible()
    page.context.set_offline(False)
    page.clock.fast_forward(ASKED_MS)
    expect(page.get_by_test_id("day-fresh")).to_have_text("Up to date.")
