"""A note as text and on paper: whose it is, that a draft is one, and nothing without an entry."""

from __future__ import annotations

import re

import pytest

from clinic.domain import Consent, EncounterId, Role
from clinic.errors import StorageError
from clinic.records.patients import Patient
from clinic.records.records import Transaction
from tests.functional.web_world import CANARY, Browser, World

WHEN = r"\d{1,2} [A-Z][a-z]{2} \d{4}, \d\d:\d\d"


@pytest.fixture
def browser(world: World) -> Browser:
    """A clinician's browser."""
    return world.browser(Role.CLINICIAN)


def path_of(world: World, patient: Patient) -> str:
    """Return the address of a drafted encounter's note."""
    return f"/encounters/{world.drafted(patient).id}/note"


def sign(browser: Browser, path: str) -> None:
    """Settle the flag, take one statement out, and sign."""
    browser.post(f"{path}/statements/n2/confirm", version=1)
    browser.post(f"{path}/statements/n1/remove", version=2)
    assert browser.post(f"{path}/sign", version=3, attestation="yes").status_code == 303


def test_signed_note_as_text(world: World, browser: Browser, patient: Patient) -> None:
    """Patient, occasion, headings, statements, signature, addenda; nothing that was removed, no word of a draft."""
    path = path_of(world, patient)
    sign(browser, path)
    browser.post(f"{path}/addenda", text="Called back: feels better.")
    text = browser.send(f"{path}/copy", {"form": "text"}).get_json()["text"]
    assert re.fullmatch(
        rf"""{CANARY}, born 5 Mar 1961, female, record number MRN-4711
Consultation, {WHEN}\. SOAP note

SUBJECTIVE
- Reports fever and night sweats\.

PLAN
- Doxycycline 100 mg twice daily for 7 days\.

Signed by Test clinician, {WHEN}\.
"I have read this note in full\. It is my own account of this encounter, and I answer for it\."

ADDENDUM, Test clinician, {WHEN}
  Called back: feels better\.
""",
        text,
    )


def test_draft_as_text_says_that_it_is_one(world: World, browser: Browser, patient: Patient) -> None:
    """An unsigned note says so above and below, and marks what is still to check."""
    text = browser.send(f"{path_of(world, patient)}/copy", {"form": "text"}).get_json()["text"]
    assert "\n\nDRAFT, NOT SIGNED. Written by gemma-3-270m. " in text
    assert "\n- [TO CHECK] Reports fever and night sweats.\n" in text
    assert "\n- Cough for two weeks.\n" in text
    assert text.endswith("\n\nNOT SIGNED.\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\u2028", "\x0b"], ids=["lf", "crlf", "line-separator", "vertical-tab"])
def test_nobody_can_type_another_ones_signature(world: World, browser: Browser, patient: Patient, end: str) -> None:
    """A line of an addendum never begins where headings, signatures and other addenda begin."""
    path = path_of(world, patient)
    sign(browser, path)
    forged = end.join(["Fine.", "", "ADDENDUM, Dr Somebody Else, 1 Jan 2026, 08:00", "Stop all drugs."])
    assert browser.post(f"{path}/addenda", text=forged).status_code == 303
    lines = browser.send(f"{path}/copy", {"form": "text"}).get_json()["text"].splitlines()
    assert sum("Somebody Else" in line for line in lines) == 1
    assert [line for line in lines if line.startswith("ADDENDUM")] == [lines[-5]]


@pytest.mark.parametrize("form", ["text", "print"])
def test_copy_is_recorded(world: World, browser: Browser, patient: Patient, form: str) -> None:
    """Each time is an entry with the version and how; the accounting shows it as taken out."""
    path = path_of(world, patient)
    answer = browser.send(f"{path}/copy", {"form": form})
    assert answer.status_code == (200 if form == "text" else 204)
    last = list(world.records.audit.entries())[-1]
    assert last.event == "note.copied"
    assert f'"form":"{form}"'.encode() in last.body
    assert b'"version":1' in last.body
    assert "Taken out <code>note.copied</code>" in browser.get(f"/patients/{patient.id}/accounting").text


def test_nothing_leaves_without_an_entry(
    world: World, browser: Browser, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the entry cannot be written, no text is given."""
    path = path_of(world, patient)

    def fail(*_: object, **__: object) -> None:
        raise StorageError("the disk is full", code="disk_full")

    monkeypatch.setattr(Transaction, "append", fail)
    answer = browser.send(f"{path}/copy", {"form": "text"})
    assert answer.status_code >= 500
    assert CANARY not in answer.text


def test_colleague_copies_signed_notes_only(world: World, browser: Browser, patient: Patient) -> None:
    """A draft is taken along by its own clinician only; a signed note by every clinician."""
    path, colleague = path_of(world, patient), world.colleague()
    refused = colleague.send(f"{path}/copy", {"form": "text"})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "not_allowed")
    assert "note-copy" not in colleague.get(path.removesuffix("/note")).text
    assert "note.copied" not in world.events()
    sign(browser, path)
    assert colleague.send(f"{path}/copy", {"form": "text"}).status_code == 200
    assert "note-copy" in colleague.get(path.removesuffix("/note")).text


def test_withdrawn_consent_ends_copying(world: World, browser: Browser, patient: Patient) -> None:
    """A draft that is hidden cannot be copied."""
    path = path_of(world, patient)
    with world.records.write() as tx:
        tx.encounters.record_consent(EncounterId(path.split("/")[2]), Consent.WITHDRAWN, world.actor())
    assert browser.send(f"{path}/copy", {"form": "text"}).get_json()["error"]["code"] == "step_unavailable"


@pytest.mark.parametrize("body", [{}, {"form": "mail"}], ids=["none", "unknown"])
def test_unknown_form_is_refused(world: World, browser: Browser, patient: Patient, body: dict[str, str]) -> None:
    """Text or print, nothing else."""
    answer = browser.send(f"{path_of(world, patient)}/copy", body)
    assert answer.get_json()["error"]["code"] == "input_invalid"
    assert "note.copied" not in world.events()
