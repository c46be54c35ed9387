"""Documents from a signed note, as a clinician meets them: decided first, quoted, checked, issued, taken along."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

import pytest

from clinic.audit.events import DocumentCopied, GenerationAuthorized, GenerationDenied, from_canonical
from clinic.domain import EncounterId, EncounterState, Note, Role, Statement, StatementStatus
from clinic.errors import StorageError
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from clinic.records.records import Transaction
from tests.functional.web_world import CANARY, SIGNED, TRANSCRIPT, Browser, World


@dataclass(frozen=True)
class Desk:
    """A clinician at the page of a drafted document."""

    world: World
    browser: Browser
    encounter: Encounter
    path: str

    def page(self) -> str:
        """Load it."""
        return self.browser.get(self.path).text

    def stored_text(self) -> list[tuple[str, str]]:
        """Return what is stored: section and words of each kept sentence."""
        with self.world.records.read() as tx:
            document = tx.documents.get(self.path.rpartition("/")[2]).document
        return [(s.section, s.text) for s in document.kept]


def desk(world: World, patient: Patient, kind: str = "referral_letter", recipient: str = "") -> Desk:
    """Have a document drafted."""
    encounter, browser = world.signed(patient), world.browser(Role.CLINICIAN)
    answer = browser.post(f"/encounters/{encounter.id}/documents", template=kind, recipient=recipient)
    assert answer.status_code == 303, answer.text
    return Desk(world, browser, encounter, answer.location)


@pytest.fixture
def letter(world: World, patient: Patient) -> Desk:
    """A drafted referral letter."""
    return desk(world, patient, recipient="Dr Chest")


def issue(letter: Desk) -> None:
    """Write the reason, decide on it, and issue."""
    letter.browser.post(f"{letter.path}/statements", version=1, section="request", text="Please see this patient.")
    page = letter.page()
    version = 2
    if 'data-status="flagged"' in page:
        flagged = re.findall(r'data-statement="(\w+)" data-status="flagged"', page)
        for statement in flagged:
            letter.browser.post(f"{letter.path}/statements/{statement}/confirm", version=version)
            version += 1
    answer = letter.browser.post(f"{letter.path}/sign", version=version, attestation="yes")
    assert answer.status_code == 303, answer.text


def test_it_is_decided_and_recorded_before_anything_is_put_together(world: World, patient: Patient) -> None:
    """The permission stands in the log before the answer and the document, with no model in it."""
    desk(world, patient)
    names = world.events()
    order = [names.index(name) for name in ("generation.authorized", "generation.completed", "document.drafted")]
    assert order == sorted(order)
    entry = next(e for e in world.records.audit.entries() if e.event == "generation.authorized")
    event = from_canonical(entry.event, entry.body)
    assert isinstance(event, GenerationAuthorized)
    assert (event.action, event.model, event.template) == ("letter", "none", "referral_letter")
    assert "letter-for-treatment" in event.policies
    assert world.records.sweep() == ()


def test_every_sentence_is_shown_with_its_place_in_the_note(letter: Desk) -> None:
    """Quoted, counted as quoted, linked; the reason is asked for; it cannot be issued yet."""
    page = letter.page()
    assert page.count("Quoted from the note") == len(SIGNED)
    assert "5 sentences are quoted from the signed note, word for word; 0 are yours. No model wrote any of it." in page
    for number, (_, text) in enumerate(SIGNED, start=1):
        assert f'data-segment="n{number}"' in page
        assert page.count(text) >= 2
    assert 'data-testid="sign-blocked">Write first: Reason for referral.' in " ".join(page.split())
    assert "Dr Chest" in page
    assert letter.browser.post(f"{letter.path}/sign", version=1, attestation="yes").status_code == 409


def test_what_the_note_does_not_bear_is_flagged_and_blocks(letter: Desk) -> None:
    """Another dose is flagged; the flag is resolved by the clinician, and only then it is issued."""
    letter.browser.post(f"{letter.path}/statements", version=1, section="request", text="Please see this patient.")
    drug = re.search(r'data-statement="(\w+)"[^>]*>\s*<p class="statement-text">Doxycycline', letter.page())
    assert drug is not None
    edit = f"{letter.path}/statements/{drug[1]}/edit"
    answer = letter.browser.post(edit, version=2, text="Doxycycline 500 mg twice daily for 7 days.")
    assert answer.status_code == 303
    assert "Your words" in letter.page()
    blocked = letter.browser.post(f"{letter.path}/sign", version=3, attestation="yes")
    assert (blocked.status_code, "flagged sentences are not decided" in blocked.text) == (409, True)
    live = letter.browser.send(f"{letter.path}/check", {"statement": drug[1], "text": "Doxycycline 500 mg."})
    assert live.get_json()["status"] == "flagged"
    letter.browser.post(f"{letter.path}/statements", version=3, section="request", text="Bronchoscopy is wanted.")
    live = letter.browser.send(f"{letter.path}/check", {"section": "request", "text": "Bronchoscopy is wanted."})
    for shown in (letter.page(), live.get_json()["reasons"][0].capitalize()):
        assert "Nothing in the note supports this" in shown
        assert "othing said supports" not in shown
    live = letter.browser.send(
        f"{letter.path}/check", {"statement": drug[1], "text": "Doxycycline 100 mg twice daily."}
    )
    assert (live.get_json()["status"], live.get_json()["label"]) == ("edited", "Supported by the signed note")


def test_issued_it_is_locked_and_goes_out_recorded(letter: Desk) -> None:
    """Text and print are events; the text says whom it is about and who issued it; nothing can be changed."""
    issue(letter)
    page = letter.page()
    assert 'data-testid="document-locked"' in page
    assert "<form" not in page.partition('data-testid="document-locked"')[2].partition("</main>")[0]
    text = letter.browser.send(f"{letter.path}/copy", {"form": "text"}).get_json()["text"]
    assert text.startswith(f"REFERRAL LETTER\nTo: Dr Chest\n\n{CANARY}, born 5 Mar 1961, female. Visit of ")
    assert "MRN-4711" not in text  # the policy lets a letter hold no record number
    assert (
        "\n\nDear colleague,\n\nREASON FOR REFERRAL\n- Please see this patient.\n\nALLERGIES AND REACTIONS\n- " in text
    )
    assert re.search(r"\nIssued by Test clinician, .*\.\n$", text)
    assert letter.browser.send(f"{letter.path}/copy", {"form": "print"}).status_code == 204
    copied = [e for e in letter.world.records.audit.entries() if e.event == "document.copied"]
    forms = [from_canonical(e.event, e.body) for e in copied]
    assert [event.form for event in forms if isinstance(event, DocumentCopied)] == ["text", "print"]
    assert letter.browser.post(f"{letter.path}/statements/n1/remove", version=9).status_code == 409
    assert letter.world.records.sweep() == ()


def test_silence_about_allergies_is_not_taken_for_none(world: World, patient: Patient) -> None:
    """Where the note does not speak of any, the letter says that, on paper and as text."""
    encounter, browser = world.signed(patient, (("subjective", "Cough."),)), world.browser(Role.CLINICIAN)
    said = "The note does not speak of allergies. That is not the same as none."
    path = browser.post(f"/encounters/{encounter.id}/documents", template="referral_letter").location
    browser.get(path)
    browser.post(f"{path}/statements", version=1, section="request", text="Cough.")
    assert browser.post(f"{path}/sign", version=2, attestation="yes").status_code == 303
    assert said in browser.get(path).text
    text = browser.send(f"{path}/copy", {"form": "text"}).get_json()["text"]
    assert f"\n\nALLERGIES AND REACTIONS\n{said}\n\n" in text


def test_a_draft_is_not_taken_along(letter: Desk) -> None:
    """Copying and printing wait for the signature."""
    assert letter.browser.send(f"{letter.path}/copy", {"form": "text"}).status_code == 409
    assert "document.copied" not in letter.world.events()


def test_nothing_leaves_where_it_cannot_be_recorded(letter: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """No entry, no text."""
    issue(letter)
    append = Transaction.append

    def refuse(tx: Transaction, event: object, **rest: object) -> object:
        if isinstance(event, DocumentCopied):
            raise StorageError("the disk is full", code="disk_full")
        return append(tx, event, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Transaction, "append", refuse)
    answer = letter.browser.send(f"{letter.path}/copy", {"form": "text"})
    assert (answer.status_code, "Dear colleague" in answer.text) == (507, False)


@pytest.mark.parametrize(
    ("fault", "policy"),
    [
        pytest.param("note", "note-not-signed", id="unsigned note"),
        pytest.param("owner", "care-relationship", id="somebody else's encounter"),
    ],
)
def test_a_refusal_is_recorded_and_explained(world: World, patient: Patient, fault: str, policy: str) -> None:
    """The policy says no: nothing is put together, the log has it, the page says why."""
    encounter = world.drafted(patient) if fault == "note" else world.signed(patient)
    browser = world.browser(Role.CLINICIAN) if fault == "note" else world.colleague()
    answer = browser.post(f"/encounters/{encounter.id}/documents", template="referral_letter")
    assert answer.status_code == 403
    message = world.services.policy.current().messages[policy]
    assert message.split(".")[0] in answer.text
    denied = [e for e in world.records.audit.entries() if e.event == "generation.denied"]
    event = from_canonical(denied[-1].event, denied[-1].body)
    assert isinstance(event, GenerationDenied)
    assert (event.action, event.policies) == ("letter", (policy,))
    with world.records.read() as tx:
        assert tx.documents.for_encounter(encounter.id) == ()
    assert world.records.sweep() == ()


def test_instructions_state_their_reading_grade_and_do_not_name_the_patient(world: World, patient: Patient) -> None:
    """Grade and aim are on the page; large print is a link away; the paper holds no name."""
    sheet = desk(world, patient, "patient_instructions")
    page = sheet.page()
    assert re.search(r"Reading grade \d+\.\d \(Flesch-Kincaid: .*?\), aim: 6 or lower\.", page)
    paper = page.partition('data-testid="paper"')[2].partition("</article>")[0]
    assert CANARY not in paper
    assert "Return if breathing gets worse." in paper
    assert 'data-testid="omission"' in page  # `Cough for two weeks.` is offered, not taken
    answer = sheet.browser.post(f"{sheet.path}/take", version=1, sentence="n1", section="found")
    assert answer.status_code == 303
    assert ("found", "Cough for two weeks.") in sheet.stored_text()
    assert sheet.browser.post(f"{sheet.path}/sign", version=2, attestation="yes").status_code == 303
    assert 'class="note-text paper document large"' in sheet.browser.get(f"{sheet.path}?print=large").text
    assert 'class="note-text paper document"' in sheet.page()
    assert CANARY not in sheet.browser.send(f"{sheet.path}/copy", {"form": "text"}).get_json()["text"]


def test_an_addendum_is_read_before_the_letter_is_issued(letter: Desk) -> None:
    """What came in between is shown, and has to be looked at; afterwards a new one is told of on the issued letter."""
    letter.browser.post(f"{letter.path}/statements", version=1, section="request", text="Cough for two weeks.")
    letter.browser.post(f"/encounters/{letter.encounter.id}/note/addenda", text="She also takes warfarin.")
    page = letter.page()
    assert 'data-testid="document-stale"' in page
    assert "She also takes warfarin." in page.partition("In the note, not here")[2]
    refused = letter.browser.post(f"{letter.path}/sign", version=2, attestation="yes")
    assert (refused.status_code, "addendum" in refused.text) == (409, True)
    assert letter.browser.post(f"{letter.path}/recheck", version=2).status_code == 303
    assert letter.browser.post(f"{letter.path}/sign", version=3, attestation="yes").status_code == 303
    assert 'data-testid="document-stale"' not in letter.page()
    letter.browser.post(f"/encounters/{letter.encounter.id}/note/addenda", text="Stopped warfarin.")
    assert 'data-testid="document-stale"' in letter.page()


def test_two_tabs_overwrite_nothing(letter: Desk) -> None:
    """A version that has moved is a conflict, for every kind of change; what is there stays."""
    letter.browser.post(f"{letter.path}/statements/n1/remove", version=1)
    before = letter.stored_text()
    for path, fields in (
        ("statements/n2/edit", {"text": "Other words."}),
        ("statements/n1/restore", {}),
        ("statements/n2/remove", {}),
        ("statements", {"section": "plan", "text": "New."}),
        ("take", {"section": "plan", "sentence": "n1"}),
        ("recipient", {"recipient": "Somebody else"}),
    ):
        assert letter.browser.post(f"{letter.path}/{path}", version=1, **fields).status_code == 409, path
    assert letter.stored_text() == before


def test_a_colleague_reads_and_changes_nothing(letter: Desk) -> None:
    """The page is without forms for others, and the server refuses what they send."""
    other = letter.world.colleague()
    page = other.get(letter.path).text
    assert "may edit and issue this document" in page
    assert 'data-testid="statement-remove"' not in page
    for path in ("statements/n1/remove", "recheck", "recipient"):
        assert other.post(f"{letter.path}/{path}", version=1).status_code == 403, path
    assert other.post(f"{letter.path}/discard").status_code == 403
    assert other.send(f"{letter.path}/check", {"statement": "n1", "text": "Words."}).status_code == 403


def test_lists_show_what_there_is(letter: Desk) -> None:
    """On the encounter and on the patient's page; what was discarded is left out."""
    encounter, patient = f"/encounters/{letter.encounter.id}", f"/patients/{letter.encounter.patient_id}"
    assert 'data-testid="document-row"' in letter.browser.get(encounter).text
    assert 'data-testid="patient-document"' in letter.browser.get(patient).text
    assert letter.browser.post(f"{letter.path}/discard").status_code == 303
    assert 'data-testid="document-discarded"' in letter.page()
    assert 'data-testid="document-row"' not in letter.browser.get(encounter).text
    assert 'data-testid="patient-document"' not in letter.browser.get(patient).text
    assert letter.world.records.sweep() == ()


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        pytest.param("statements/n99/edit", {"text": "X."}, 409, id="no such sentence"),
        pytest.param("take", {"sentence": "n99", "section": "plan"}, 409, id="no such sentence of the note"),
        pytest.param("statements", {"section": "plan", "text": " "}, 422, id="no words"),
        pytest.param("recipient", {"recipient": "x" * 201}, 422, id="recipient too long"),
        pytest.param("sign", {}, 422, id="not attested"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(letter: Desk, path: str, fields: dict[str, str], status: int) -> None:
    """One clear answer, the document as it was."""
    before = letter.stored_text()
    assert letter.browser.post(f"{letter.path}/{path}", version=1, **fields).status_code == status
    assert letter.stored_text() == before


@pytest.mark.parametrize("kind", ["soap", "../etc", "nothing"])
def test_an_unknown_kind_is_refused(world: World, patient: Patient, kind: str) -> None:
    """Nothing is asked, nothing recorded."""
    encounter = world.signed(patient)
    answer = world.browser(Role.CLINICIAN).post(f"/encounters/{encounter.id}/documents", template=kind)
    assert answer.status_code == 422
    assert "generation.authorized" not in world.events()


def test_a_permission_without_an_end_is_closed_by_the_next(
    world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between permission and document leaves a dangling generation; the next attempt says so in the log."""
    encounter, browser = world.signed(patient), world.browser(Role.CLINICIAN)

    def crash(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as broken:
        broken.setattr("clinic.documents.drafting.assemble", crash)
        with pytest.raises(SystemExit):
            browser.post(f"/encounters/{encounter.id}/documents", template="referral_letter")
    # Within a minute it may be somebody's that is still at work: left alone, whoever asks.
    assert browser.post(f"/encounters/{encounter.id}/documents", template="referral_letter").status_code == 303
    assert "generation.interrupted" not in world.events()
    monkeypatch.setattr("clinic.documents.ending._IN_USE", timedelta(0))
    assert browser.post(f"/encounters/{encounter.id}/documents", template="referral_letter").status_code == 303
    names = [name for name in world.events() if name.startswith(("generation.", "document."))]
    assert names == [
        *("generation.authorized", "generation.authorized", "generation.completed", "document.drafted"),
        "generation.interrupted",
        *("generation.authorized", "generation.completed", "document.drafted"),
    ]
    assert world.records.sweep() == ()


def test_a_note_without_a_sentence_for_it_makes_no_document(world: World, patient: Patient) -> None:
    """Everything under headings that instructions do not use: said plainly, and recorded as failed."""
    encounter = world.encounter(patient)
    statement = Statement(id="n1", section="subjective", text="Cough.", status=StatementStatus.SUPPORTED)
    with world.records.write() as tx:
        tx.transcripts.store(encounter.id, TRANSCRIPT)
        note = Note(template="soap", model="gemma", statements=(statement,))
        tx.notes.store_draft(encounter.id, note, generation_id=None, actor=world.actor())
        tx.encounters.mark(encounter.id, state=EncounterState.DRAFTED)
        tx.notes.sign(EncounterId(encounter.id), expected_version=1, attestation="Read.", actor=world.actor())
    browser = world.browser(Role.CLINICIAN)
    answer = browser.post(f"/encounters/{encounter.id}/documents", template="patient_instructions")
    assert "no sentence for this document" in answer.text
    assert world.events()[-1] == "generation.failed"
    assert world.records.sweep() == ()


@pytest.mark.parametrize("section", ["Plan B", "UPPER", "a-b", "nothing"])
def test_a_section_that_the_document_has_not_is_refused(world: World, patient: Patient, section: str) -> None:
    """Nothing is stored under a heading that no page could show."""
    letter = desk(world, patient)
    before = letter.stored_text()
    answer = letter.browser.post(f"{letter.path}/statements", section=section, text="Please see her.", version="1")
    assert answer.status_code == 422
    assert letter.stored_text() == before


@pytest.mark.parametrize("recipient", ["Dr A\u202e", "Dr A\u200b", "Dr A\x00"])
def test_a_recipient_is_one_printable_line(world: World, patient: Patient, recipient: str) -> None:
    """What stands at the head of a letter has no line of its own, and nothing that nobody sees."""
    encounter, browser = world.signed(patient), world.browser(Role.CLINICIAN)
    path = f"/encounters/{encounter.id}/documents"
    assert browser.post(path, template="referral_letter", recipient=recipient).status_code == 422
    assert browser.post(path, template="referral_letter", recipient="Dr A\n\nRefuse her").status_code == 303
    with world.records.read() as tx:
        (listed,) = tx.documents.for_encounter(encounter.id)
        assert tx.documents.get(listed.id).document.recipient == "Dr A Refuse her"
