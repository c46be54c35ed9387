"""The draft beside the final text: counts, words, who and when; a recorded view; not without consent."""

from __future__ import annotations

import re

import pytest

from clinic.domain import Consent, Role
from clinic.records.patients import Patient
from tests.functional.web_world import CANARY, Browser, World


@pytest.fixture
def browser(world: World) -> Browser:
    """A clinician's browser."""
    return world.browser(Role.CLINICIAN)


def reviewed(world: World, browser: Browser, patient: Patient) -> str:
    """Return the address of a note of which one statement was edited, one confirmed, one removed, one added."""
    path = f"/encounters/{world.drafted(patient).id}/note"
    browser.post(f"{path}/statements/n1/edit", version=1, text="Cough for two weeks now.")
    browser.post(f"{path}/statements/n2/confirm", version=2)
    browser.post(f"{path}/statements/n3/remove", version=3)
    browser.post(f"{path}/statements", version=4, section="plan", text="Start doxycycline 100 mg.")
    return path


def count(page: str, what: str) -> int:
    """Return a count of the page."""
    found = re.search(rf'data-testid="{what}">(\d+)', page)
    assert found is not None
    return int(found.group(1))


@pytest.mark.parametrize("signed", [False, True], ids=["draft", "signed"])
def test_draft_is_shown_beside_the_final_text(
    world: World, browser: Browser, patient: Patient, *, signed: bool
) -> None:
    """Counts by kind, the edit distance, words put in and taken out, who decided, of a draft and of a signed note."""
    path = reviewed(world, browser, patient)
    if signed:
        assert browser.post(f"{path}/sign", version=5, attestation="yes").status_code == 303
    page = browser.get(f"{path}/versions").text
    counts = [count(page, f"count-{kind}") for kind in ("kept", "confirmed", "edited", "removed", "added")]
    assert counts == [0, 1, 1, 1, 1]
    # "weeks." became "weeks now." (2), eight words were removed, four added
    assert count(page, "edit-distance") == 14
    assert re.search(r"<del>weeks\.</del>\s*<ins>weeks now\.</ins>", page)
    assert "Test clinician" in page
    assert ("These counts were sealed with the signature" in page) is signed
    assert ("Signed and locked" in page) is signed


def test_look_is_recorded(world: World, browser: Browser, patient: Patient) -> None:
    """The page is a view of the encounter in the log."""
    path = reviewed(world, browser, patient)
    before = world.events().count("encounter.viewed")
    page = browser.get(f"{path}/versions")
    assert page.status_code == 200
    assert CANARY in page.text
    title = re.search(r"<title>(.*)</title>", page.text)
    assert title is not None
    assert CANARY not in title.group(1)
    assert world.events().count("encounter.viewed") == before + 1


def test_without_consent_nothing_is_compared(world: World, browser: Browser, patient: Patient) -> None:
    """A withdrawn consent hides the versions too."""
    path = reviewed(world, browser, patient)
    browser.post(path.replace("/note", "/consent"), consent=Consent.WITHDRAWN.value)
    refused = browser.get(f"{path}/versions")
    assert refused.status_code == 409
    assert "doxycycline" not in refused.text


def test_encounter_without_a_note_has_no_versions(world: World, browser: Browser, patient: Patient) -> None:
    """Before there is a draft, the page says so."""
    assert browser.get(f"/encounters/{world.encounter(patient).id}/note/versions").status_code == 409
