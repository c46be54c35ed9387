"""Two tabs, one note: what was typed is never lost, both versions are shown, one is chosen."""

from __future__ import annotations

import pytest
from playwright.sync_api import Dialog, Page, expect

from clinic.domain import EncounterId, Note, Transcript
from clinic.records.encounters import Encounter
from clinic.verification import review
from tests.browser.conftest import NewPage
from tests.browser.pages_world import CLINICIAN, Site

pytestmark = pytest.mark.browser

MINE = "Cough for two weeks, dry."


def elsewhere(site: Site, encounter: Encounter, statement: str, text: str | None) -> None:
    """Change a statement as another tab does; None takes it out."""

    def changed(note: Note, said: Transcript) -> Note:
        return review.remove(note, statement) if text is None else review.edit(note, statement, text, said)

    with site.records.write() as tx:
        stored, said = tx.notes.get(encounter.id), tx.transcripts.current(encounter.id)
        assert stored is not None
        assert said is not None
        new = changed(stored.note, said)
        tx.notes.save(encounter.id, new, expected_version=stored.version, actor=site.users[CLINICIAN].actor)


def texts(site: Site, encounter_id: EncounterId) -> list[str]:
    """Return what the note says."""
    with site.records.read() as tx:
        stored = tx.notes.get(encounter_id)
    assert stored is not None
    return [s.text for s in stored.note.statements if s.status.value != "removed"]


@pytest.fixture
def encounter(site: Site) -> Encounter:
    """A draft of three statements."""
    return site.drafted(site.patient("Two Tabs"))


def edit(page: Page, encounter: Encounter, words: str = MINE) -> None:
    """Open the draft and type into its first statement."""
    page.goto(f"/encounters/{encounter.id}")
    page.get_by_test_id("statement-edit").first.click()
    page.get_by_test_id("statement-text").first.fill(words)


def test_another_decision_keeps_what_is_typed(site: Site, new_page: NewPage, encounter: Encounter) -> None:
    """A decision on one statement draws the note anew; the words that are typed in others stay, and are checked."""
    page = new_page()
    edit(page, encounter)
    page.get_by_test_id("statement-add").click()
    page.get_by_test_id("statement-add-text").fill("Come back in a week.")
    page.get_by_test_id("statement-confirm").first.click()
    expect(page.get_by_test_id("open-flags")).to_have_text("1 not in the note")
    expect(page.get_by_test_id("statement-text").first).to_have_value(MINE)
    expect(page.get_by_test_id("statement-add-text")).to_have_value("Come back in a week.")
    expect(page.get_by_test_id("live-check").first).not_to_contain_text("Checked against")
    assert page.get_by_test_id("conflict").count() == 0
    page.get_by_test_id("statement-save").first.click()
    expect(page.locator("#statement-n1 .statement-text").first).to_have_text(MINE)
    expect(page.get_by_test_id("statement-add-text")).to_have_value("Come back in a week.")
    assert texts(site, encounter.id)[0] == MINE


@pytest.mark.parametrize("choice", ["mine", "theirs"])
def test_both_versions_are_shown_and_one_is_chosen(
    site: Site, new_page: NewPage, encounter: Encounter, choice: str
) -> None:
    """Saved over a sentence that was changed meanwhile: nothing is overwritten until one of the two is chosen."""
    page = new_page(refused=True)
    edit(page, encounter)
    elsewhere(site, encounter, "n1", "Cough, two weeks.")
    page.get_by_test_id("statement-save").first.click()
    expect(page.get_by_test_id("conflict")).to_contain_text("Cough, two weeks.")
    expect(page.get_by_test_id("error-box")).to_contain_text("changed meanwhile")
    expect(page.get_by_test_id("statement-text").first).to_have_value(MINE)
    assert texts(site, encounter.id)[0] == "Cough, two weeks."
    if choice == "mine":
        page.get_by_test_id("statement-save").first.click()
        expect(page.locator("#statement-n1 .statement-text").first).to_have_text(MINE)
        assert texts(site, encounter.id)[0] == MINE
    else:
        page.get_by_test_id("take-theirs").click()
        expect(page.locator("#edit-n1")).to_be_hidden()
        expect(page.locator("#statement-n1 .statement-text").first).to_have_text("Cough, two weeks.")
    assert page.get_by_test_id("conflict").count() == 0


def test_change_elsewhere_in_the_note_is_no_choice(site: Site, new_page: NewPage, encounter: Encounter) -> None:
    """Where another sentence was changed, the note is shown as it is, the words stay, and saving again works."""
    page = new_page(refused=True)
    edit(page, encounter)
    elsewhere(site, encounter, "n3", "Doxycycline 100 mg twice a day.")
    page.get_by_test_id("statement-save").first.click()
    expect(page.locator("#statement-n3 .statement-text").first).to_have_text("Doxycycline 100 mg twice a day.")
    expect(page.get_by_test_id("statement-text").first).to_have_value(MINE)
    assert page.get_by_test_id("conflict").count() == 0
    page.get_by_test_id("statement-save").first.click()
    expect(page.locator("#statement-n1 .statement-text").first).to_have_text(MINE)
    assert "Doxycycline 100 mg twice a day." in texts(site, encounter.id)


def test_words_of_a_removed_sentence_are_kept(site: Site, new_page: NewPage, encounter: Encounter) -> None:
    """Where the sentence is gone, what was typed waits to be added."""
    page = new_page(refused=True)
    edit(page, encounter)
    elsewhere(site, encounter, "n1", None)
    page.get_by_test_id("statement-save").first.click()
    expect(page.get_by_test_id("conflict")).to_contain_text("removed meanwhile")
    expect(page.get_by_test_id("statement-add-text")).to_have_value(MINE)
    page.get_by_test_id("statement-add-save").click()
    expect(page.locator(".statement-text", has_text=MINE)).to_be_visible()
    assert MINE in texts(site, encounter.id)


def test_nothing_is_signed_beside_unsaved_words(new_page: NewPage, encounter: Encounter) -> None:
    """Words that are typed and not saved hold the signature back, and leaving the page is asked about."""
    page = new_page(refused=True)
    page.goto(f"/encounters/{encounter.id}")
    page.get_by_test_id("statement-confirm").first.click()
    expect(page.get_by_test_id("open-flags")).to_have_text("1 not in the note")
    page.get_by_test_id("statement-edit").first.click()
    page.get_by_test_id("statement-text").first.press_sequentially(" And more.")
    page.get_by_test_id("attestation").check()
    page.get_by_test_id("sign-submit").click()
    expect(page.get_by_test_id("error-box")).to_contain_text("typed and not saved")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.evaluate("window.location.assign('/day')")
    page.wait_for_timeout(300)
    assert asked == ["beforeunload"]
    assert page.url.endswith(encounter.id)
    expect(page.get_by_test_id("statement-text").first).to_have_value("Cough for two weeks. And more.")
