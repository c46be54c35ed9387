"""Copying and printing a note in a real browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from clinic.domain import EncounterId
from clinic.records.encounters import Encounter
from tests.browser.conftest import NewPage
from tests.browser.pages_world import CLINICIAN, Site

pytestmark = pytest.mark.browser

A4 = (595.0, 842.0)
"""Points."""


def signed(site: Site, name: str) -> Encounter:
    """Return an encounter whose note is signed."""
    encounter = site.drafted(site.patient(name))
    actor = site.users[CLINICIAN].actor
    with site.records.write() as tx:
        stored = tx.notes.get(encounter.id)
        assert stored is not None
        statements = tuple(s for s in stored.note.statements if s.status.value != "flagged")
        clean = stored.note.model_copy(update={"statements": statements})
        tx.notes.save(encounter.id, clean, expected_version=1, actor=actor)
        tx.notes.sign(EncounterId(encounter.id), expected_version=2, attestation="Read.", actor=actor)
    return encounter


def copies(site: Site) -> int:
    """Return how often a note was taken out so far."""
    return site.events().count("note.copied")


def shown_on_paper(page: Page) -> str:
    """Return the words that are printed."""
    page.emulate_media(media="print")
    return page.locator("body").inner_text()


def test_note_is_copied_with_feedback(site: Site, new_page: NewPage) -> None:
    """The clipboard holds the text of the box, the page says so, the log has it once."""
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"/encounters/{signed(site, 'Copied Case').id}")
    before = copies(site)
    page.get_by_test_id("note-copy").click()
    expect(page.get_by_test_id("copied")).to_have_text("Copied.")
    text = page.evaluate("navigator.clipboard.readText()").replace("\r\n", "\n")
    assert text.startswith("Copied Case\nConsultation, ")
    assert "\n\nPLAN\n- Doxycycline 100 mg twice daily for 7 days.\n" in text
    assert "\n\nSigned by Dr Ada, " in text
    assert copies(site) == before + 1


def test_refused_clipboard_selects_the_text(site: Site, new_page: NewPage) -> None:
    """Where the browser refuses the clipboard, the same text is shown, selected, ready for the keyboard."""
    page = new_page()
    page.add_init_script("navigator.clipboard.write = () => Promise.reject(new DOMException('no', 'NotAllowedError'))")
    page.goto(f"/encounters/{site.drafted(site.patient('Refused Clipboard')).id}")
    page.get_by_test_id("note-copy").click()
    expect(page.get_by_test_id("copied")).to_contain_text("The text is selected")
    field = page.get_by_test_id("copy-text")
    expect(field).to_have_value(re.compile(r"^Refused Clipboard\n.*\n\nDRAFT, NOT SIGNED"))
    assert page.evaluate("String(getSelection())").startswith("Refused Clipboard")


def test_box_that_refuses_gives_nothing(site: Site, new_page: NewPage) -> None:
    """Without the box nothing is copied or printed, and the page says why."""
    page = new_page(refused=True)
    page.add_init_script("window.print = () => { window.printed = true; }")
    page.goto(f"/encounters/{signed(site, 'Out Of Reach Too').id}")
    page.context.set_offline(True)
    for button in ("note-copy", "note-print"):
        page.get_by_test_id(button).click()
        expect(page.get_by_test_id("error-box").first).to_contain_text("cannot be reached")
        expect(page.get_by_test_id("copied")).not_to_contain_text("Copied")
    assert page.evaluate("window.printed") is None


def test_print_is_recorded_once(site: Site, new_page: NewPage) -> None:
    """The button and the browser's own menu leave one entry each."""
    page = new_page()
    page.add_init_script(
        "window.print = () => { window.dispatchEvent(new Event('beforeprint')); console.info('printed'); }"
    )
    page.goto(f"/encounters/{signed(site, 'Printed Case').id}")
    before = copies(site)
    with page.expect_console_message(lambda message: message.text == "printed"):
        page.get_by_test_id("note-print").click()
    assert copies(site) == before + 1
    with page.expect_response(re.compile("/note/copy$")):
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert copies(site) == before + 2


@pytest.mark.parametrize("unsigned", [True, False], ids=["draft", "signed"])
def test_paper(site: Site, new_page: NewPage, *, unsigned: bool) -> None:
    """A4; patient, statements, signature; no buttons, no transcript; a draft has its watermark, a signed note none."""
    name = f"Paper {unsigned}"
    encounter = site.drafted(site.patient(name)) if unsigned else signed(site, name)
    page = new_page()
    page.goto(f"/encounters/{encounter.id}")
    box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", page.pdf(prefer_css_page_size=True))
    assert box is not None
    assert [float(side) for side in box.groups()] == pytest.approx(A4, abs=1)
    words = shown_on_paper(page)
    assert words.count(name) == 1
    assert "Doxycycline 100 mg twice daily for 7 days." in words
    assert "So the cough has been there" not in words
    assert ("DRAFT, NOT SIGNED" in words) is unsigned
    assert ("Signed by Dr Ada" in words) is not unsigned
    for shown in page.get_by_role("button").all():
        assert not shown.is_visible()
    mark = page.locator(".paper").evaluate("paper => getComputedStyle(paper, '::after').content")
    assert mark == ('"DRAFT"' if unsigned else "none")
