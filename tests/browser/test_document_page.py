"""A letter from a signed note in a real browser: checked while typed, decided by keyboard, issued, printed."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from clinic.documents.drafting import Drafting
from clinic.documents.template import load_document_template
from clinic.records.documents import StoredDocument
from clinic.services import PolicySource
from tests.browser.conftest import NewPage
from tests.browser.pages_world import CLINICIAN, Site
from tests.browser.test_take_out import shown_on_paper, signed

pytestmark = pytest.mark.browser


def drafted(site: Site, name: str, kind: str = "referral_letter") -> StoredDocument:
    """Return a document that was drafted from a signed note."""
    encounter = signed(site, name)
    drafting = Drafting(site.records, PolicySource(site.config, site.records))
    return drafting.draft(encounter.id, load_document_template(kind), actor=site.users[CLINICIAN].actor)


def issued(site: Site, name: str) -> StoredDocument:
    """Return a letter that was issued."""
    letter, actor = drafted(site, name), site.users[CLINICIAN].actor
    with site.records.write() as tx:
        digest = letter.document.source_sha256
        return tx.documents.sign(letter.id, expected_version=1, attestation="Read.", source_sha256=digest, actor=actor)


def write(page: Page, text: str) -> None:
    """Write a sentence under the section that is still empty."""
    page.get_by_test_id("statement-add-text").fill(text)
    page.get_by_test_id("statement-add-save").click()
    expect(page.get_by_test_id("statement").filter(has_text=text)).to_be_visible()


def test_a_letter_is_checked_completed_issued_and_printed(site: Site, new_page: NewPage) -> None:
    """From the note's page to paper: nothing of the draft's furniture is printed, and the log has it all."""
    encounter = signed(site, "Referred Person")
    page = new_page()
    page.goto(f"/encounters/{encounter.id}")
    page.get_by_test_id("document-kind").select_option("referral_letter")
    page.get_by_test_id("document-recipient").fill("Chest clinic")
    page.get_by_test_id("document-new").click()
    expect(page.get_by_test_id("sign-blocked")).to_contain_text("Write first: Reason for referral")

    line = page.get_by_test_id("statement").filter(has_text="Doxycycline 100 mg")
    line.get_by_role("button", name="Show where it stands in the note").click()
    expect(page.get_by_test_id("source-sentence").filter(has_text="Doxycycline 100 mg")).to_have_class("segment marked")
    line.get_by_test_id("statement-edit").click()
    line.get_by_test_id("statement-text").fill("Doxycycline 500 mg twice daily for 7 days.")
    expect(line.get_by_test_id("live-check")).to_contain_text("500 mg")
    line.get_by_test_id("statement-save").click()
    expect(page.get_by_test_id("open-flags")).to_have_text("1 to check")
    line = page.get_by_test_id("statement").filter(has_text="Doxycycline 500 mg")
    line.get_by_test_id("statement-edit").click()
    line.get_by_test_id("statement-text").fill("Doxycycline 100 mg twice daily for 7 days.")
    line.get_by_test_id("statement-save").click()
    expect(page.get_by_test_id("open-flags")).to_have_text("Nothing left to check")

    write(page, "Please exclude tuberculosis.")
    page.get_by_test_id("checklist-begin").click()
    page.keyboard.press("Enter")  # too soon to have read it: decides nothing
    page.wait_for_timeout(450)
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("open-flags")).to_have_text("Nothing left to check")
    page.get_by_test_id("attestation").check()
    page.get_by_test_id("sign-submit").click()
    expect(page.get_by_test_id("document-locked")).to_be_visible()

    words = shown_on_paper(page)
    for wanted in ("Referral letter", "To: Chest clinic", "Referred Person", "Please exclude tuberculosis.", "Dr Ada"):
        assert wanted in words
    for unwanted in ("Quoted", "Copy as text", "Supported", "DRAFT"):
        assert unwanted not in words
    assert site.events()[-1] == "encounter.viewed"
    assert {"document.drafted", "document.edited", "document.signed"} <= set(site.events())


def test_large_print_is_larger(site: Site, new_page: NewPage) -> None:
    """Instructions for who reads badly: 18 points on paper, at half the zoom still one column."""
    sheet = drafted(site, "Large Print", "patient_instructions")
    page = new_page()
    page.goto(f"/documents/{sheet.id}")
    write(page, "Fever above 39 degrees.")
    page.get_by_test_id("statement-confirm").click()
    page.get_by_test_id("attestation").check()
    page.get_by_test_id("sign-submit").click()
    expect(page.get_by_test_id("document-locked")).to_be_visible()
    size = "element => Number(getComputedStyle(element).fontSize.replace('px', ''))"
    usual = page.get_by_test_id("paper").evaluate(size)
    page.get_by_test_id("large-print").click()
    expect(page.get_by_test_id("normal-print")).to_be_visible()
    assert page.get_by_test_id("paper").evaluate(size) >= 1.4 * usual
    page.emulate_media(media="print")
    assert page.get_by_test_id("paper").evaluate(size) == 24  # 18 points


def test_the_signature_in_another_tab_loses_no_words(site: Site, new_page: NewPage) -> None:
    """Discarded elsewhere: what is typed here stays, and the page says why it was not saved."""
    letter = drafted(site, "Two Tabs Letter")
    page = new_page(refused=True)
    page.goto(f"/documents/{letter.id}")
    page.get_by_test_id("statement-add-text").fill("Typed before it was discarded.")
    with site.records.write() as tx:
        tx.documents.discard(letter.id, actor=site.users[CLINICIAN].actor)
    page.get_by_test_id("statement-add-save").click()
    expect(page.get_by_test_id("error-box")).to_contain_text("issued or discarded")
    expect(page.get_by_test_id("statement-add-text")).to_have_value("Typed before it was discarded.")
