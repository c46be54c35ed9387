"""A patient's page: what signed notes say of allergies and drugs, the timeline, earlier notes read in place."""

from __future__ import annotations

import re
from html import unescape

import pytest

from clinic.domain import Note, Role, Statement, StatementStatus
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from clinic.web import up_front
from tests.functional.web_world import CANARY, Browser, World


@pytest.fixture
def browser(world: World) -> Browser:
    """A clinician's browser."""
    return world.browser(Role.CLINICIAN)


def noted(world: World, patient: Patient, *texts: str, signed: bool = True, removed: str | None = None) -> Encounter:
    """Return an encounter with a note of these statements."""
    statements = [
        Statement(id=f"n{n}", section="plan", text=text, status=StatementStatus.SUPPORTED)
        for n, text in enumerate(texts, start=1)
    ]
    if removed is not None:
        statements.append(Statement(id="n99", section="plan", text=removed, status=StatementStatus.REMOVED))
    encounter = world.encounter(patient)
    with world.records.write() as tx:
        note = Note(template="soap", model="none", statements=tuple(statements))
        tx.notes.store_draft(encounter.id, note, generation_id=None, actor=world.actor())
        if signed:
            tx.notes.sign(encounter.id, expected_version=1, attestation="Read.", actor=world.actor())
    return encounter


def card(browser: Browser, patient: Patient) -> str:
    """Return the top of the page as its reader sees it."""
    page = browser.get(f"/patients/{patient.id}").text
    piece = page.split('data-testid="up-front"')[1].split("</section>")[0]
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", piece)))


def test_signed_notes_are_quoted_with_their_date_and_note(world: World, browser: Browser, patient: Patient) -> None:
    """Each sentence stands under what it speaks of, links to its encounter, and none is merged with another."""
    first = noted(world, patient, "Allergic to penicillin.", "Takes lisinopril 10 mg daily.", "Cough.")
    second = noted(world, patient, "Allergic to penicillin, rash.", "Stop lisinopril.")
    page = browser.get(f"/patients/{patient.id}").text
    quotes = re.findall(r'data-testid="quote"><q>(.*?)</q>.*?href="/encounters/([0-9a-f]{32})"', page, re.DOTALL)
    assert quotes == [
        ("Allergic to penicillin, rash.", second.id),
        ("Allergic to penicillin.", first.id),
        ("Stop lisinopril.", second.id),
        ("Takes lisinopril 10 mg daily.", first.id),
    ]
    assert "Not a reconciled list" in page


def test_unsigned_and_removed_statements_are_not_quoted(world: World, browser: Browser, patient: Patient) -> None:
    """A draft is nobody's word, and what was taken out of a note is not in it."""
    noted(world, patient, "Takes warfarin.", signed=False)
    assert "There is no signed note yet" in card(browser, patient)
    noted(world, patient, "Takes metformin.", removed="Takes digoxin.")
    shown = card(browser, patient)
    assert "metformin" in shown
    assert "warfarin" not in shown
    assert "digoxin" not in shown


def test_addendum_is_quoted_too(world: World, browser: Browser, patient: Patient) -> None:
    """A correction that came later stands with its own date, before the note that it corrects."""
    encounter = noted(world, patient, "No known drug allergies.")
    with world.records.write() as tx:
        tx.notes.add_addendum(encounter.id, "Her husband called. She is allergic to penicillin.", world.actor())
    shown = card(browser, patient)
    assert "She is allergic to penicillin. penicillin · addendum," in shown
    assert shown.index("She is allergic") < shown.index("No known drug allergies.")
    assert "Her husband called" not in shown


def test_silence_is_not_taken_for_none(world: World, browser: Browser, patient: Patient) -> None:
    """A note that speaks of neither leaves both lists empty, and says that this is not the same as none."""
    noted(world, patient, "Cough for two weeks.")
    shown = card(browser, patient)
    assert "No signed note speaks of any. That is not the same as none: ask." in shown
    assert "No signed note names one." in shown


def test_another_patients_notes_are_not_quoted(world: World, browser: Browser, patient: Patient) -> None:
    """Only this patient's notes are read."""
    with world.records.write() as tx:
        other = tx.patients.create(type(patient.data)("Somebody Else"), world.actor())
    noted(world, other, "Takes warfarin.")
    assert "warfarin" not in browser.get(f"/patients/{patient.id}").text


def test_limit_is_said(world: World, browser: Browser, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more notes than are read, the newest are, and the page says how many there are."""
    monkeypatch.setattr(up_front, "_MOST", 1)
    noted(world, patient, "Takes warfarin.")
    noted(world, patient, "Takes metformin.")
    shown = card(browser, patient)
    assert "the newest 1 of 2 signed notes" in shown
    assert "warfarin" not in shown


def test_timeline_names_what_when_and_who(world: World, browser: Browser, patient: Patient) -> None:
    """Newest first: kind, title of the note, clinician, state; a signed note can be read there, a draft cannot."""
    signed = noted(world, patient, "Cough for two weeks.")
    drafted = world.drafted(patient)
    page = browser.get(f"/patients/{patient.id}").text
    moments = page.split('data-testid="moment"')[1:]
    assert [bool(re.search(drafted.id, moments[0])), bool(re.search(signed.id, moments[1]))] == [True, True]
    for moment, state in ((moments[0], "Draft to review"), (moments[1], "Signed")):
        for words in ("Consultation · SOAP note", "Test clinician", state):
            assert words in moment
    assert ["read-note" in moment for moment in moments] == [False, True]


def test_reading_a_note_in_place_is_a_recorded_view(world: World, browser: Browser, patient: Patient) -> None:
    """The piece is the signed note; each look is in the log; a draft is not given, to whoever asks."""
    encounter = noted(world, patient, "Cough for two weeks.")
    browser.get(f"/patients/{patient.id}")
    assert "encounter.viewed" not in world.events()
    piece = browser.get(f"/encounters/{encounter.id}/note/signed")
    assert "Cough for two weeks." in piece.text
    assert CANARY in piece.text
    assert "<html" not in piece.text
    assert world.events().count("encounter.viewed") == 1
    draft = browser.get(f"/encounters/{world.drafted(patient).id}/note/signed", json=True)
    assert (draft.status_code, draft.get_json()["error"]["code"]) == (409, "note_unsigned")
