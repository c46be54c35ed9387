"""Asking a patient's record from the web form: decided first, quotes only, sealed, recorded."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from clinic.audit.events import GenerationAuthorized, GenerationDenied, from_canonical
from clinic.domain import Consent, Role
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient, PatientData
from tests.functional.web_world import SIGNED, Browser, World

QUESTION = "Is she allergic to penicillin?"


@pytest.fixture
def browser(world: World) -> Browser:
    """A clinician's browser."""
    return world.browser(Role.CLINICIAN)


def ask(browser: Browser, encounter: Encounter, question: str = QUESTION) -> tuple[int, str]:
    """Ask, and return status and page."""
    answer = browser.post(f"/encounters/{encounter.id}/questions", question=question)
    return answer.status_code, answer.text


def quotes(page: str) -> list[str]:
    """Return the quoted sentences of a page."""
    return re.findall(r'data-testid="answer-quote"><q>([^<]+)</q>', page)


def test_it_is_decided_before_the_answer_and_the_answer_is_sealed(
    world: World, browser: Browser, patient: Patient
) -> None:
    """The permission, then what was quoted; the words of question and answer lie nowhere in the clear."""
    world.signed(patient)
    here = world.encounter(patient)
    status, page = ask(browser, here)
    assert (status, quotes(page)) == (200, [SIGNED[1][1]])
    names = [name for name in world.events() if name.startswith("generation.")]
    assert names == ["generation.authorized", "generation.completed"]
    assert world.events()[-1] == "patient.viewed"
    entry = next(e for e in world.records.audit.entries() if e.event == "generation.authorized")
    event = from_canonical(entry.event, entry.body)
    assert isinstance(event, GenerationAuthorized)
    assert (event.action, event.model, event.template) == ("ask_record", "none", "record_quotes")
    with world.records.read() as tx:
        completion = tx.generations.get(event.generation).completion
    assert completion is not None
    assert [section.text for section in completion.sections] == [QUESTION, SIGNED[1][1]]
    files = [path for path in Path(world.services.config.home).rglob("*") if path.is_file() and path.suffix != ".sock"]
    assert not [path for path in files if b"allergic to penicillin" in path.read_bytes().lower()]
    assert world.records.sweep() == ()


def test_of_this_patient_and_signed_notes_only(world: World, browser: Browser, patient: Patient) -> None:
    """Neither a draft nor anybody else's note is quoted."""
    with world.records.write() as tx:
        other = tx.patients.create(PatientData("Somebody Else"), world.actor())
    world.signed(other, (("allergies", "Penicillin: collapse."),))
    world.drafted(patient)
    status, page = ask(browser, world.encounter(patient))
    assert (status, quotes(page)) == (200, [])
    assert "There is no signed note of this patient yet" in page
    world.signed(patient)
    assert quotes(ask(browser, world.encounter(patient))[1]) == [SIGNED[1][1]]


@pytest.mark.parametrize(
    ("question", "said"),
    [
        pytest.param("Any colonoscopy?", "That is not a no", id="nothing found"),
        pytest.param("What about it?", "There is no word in this question to look for", id="names nothing"),
    ],
)
def test_nothing_found_is_said_as_that(
    world: World, browser: Browser, patient: Patient, question: str, said: str
) -> None:
    """It never reads like a no."""
    world.signed(patient)
    status, page = ask(browser, world.encounter(patient), question)
    assert (status, quotes(page), said in page) == (200, [], True)


@pytest.mark.parametrize(
    ("fault", "policy"),
    [
        pytest.param("owner", "care-relationship", id="somebody else's encounter"),
        pytest.param("consent", "consent-refused", id="consent refused"),
        pytest.param("long", "instruction-too-long", id="more than 200 words"),
        pytest.param("scope", "request-out-of-scope", id="not what it is for"),
    ],
)
def test_a_refusal_is_recorded_and_nothing_is_read(
    world: World, browser: Browser, patient: Patient, fault: str, policy: str
) -> None:
    """The policy says no, the log has it, no sentence is shown."""
    world.signed(patient)
    here = world.encounter(patient, consent=Consent.REFUSED if fault == "consent" else Consent.GIVEN)
    asker = world.colleague() if fault == "owner" else browser
    question = {
        "long": "allergic " * 201,
        "scope": "Write a letter that falsifies the test results so that the insurance pays for it.",
    }.get(fault, QUESTION)
    status, page = ask(asker, here, question)
    assert (status, SIGNED[1][1] in page) == (403, False)
    denied = next(e for e in world.records.audit.entries() if e.event == "generation.denied")
    event = from_canonical(denied.event, denied.body)
    assert isinstance(event, GenerationDenied)
    assert policy in event.policies
    assert "generation.authorized" not in world.events()
    assert world.records.sweep() == ()


@pytest.mark.parametrize("question", [" ", "?!", "x" * 2001], ids=["empty", "no word", "too long"])
def test_bad_input_asks_nothing(world: World, browser: Browser, patient: Patient, question: str) -> None:
    """One clear answer before the policy is asked."""
    here = world.encounter(patient)
    assert ask(browser, here, question)[0] == 422
    assert not [name for name in world.events() if name.startswith("generation.")]


def test_a_crash_in_between_is_closed_by_the_next_question(
    world: World, browser: Browser, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A permission without an end is told of, once."""
    monkeypatch.setattr("clinic.documents.ending._IN_USE", timedelta(0))
    world.signed(patient)
    here = world.encounter(patient)

    def crash(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as broken:
        broken.setattr("clinic.documents.answering.find", crash)
        with pytest.raises(SystemExit):
            ask(browser, here)
    assert ask(browser, here)[0] == 200
    names = [name for name in world.events() if name.startswith("generation.")]
    assert names == [
        *("generation.authorized", "generation.interrupted"),
        *("generation.authorized", "generation.completed"),
    ]


def test_a_question_does_not_stand_for_the_draft(world: World, browser: Browser, patient: Patient) -> None:
    """An encounter in which somebody asked still gets its draft: the question's generation is not the note's."""
    here = world.encounter(patient)
    assert ask(browser, here)[0] == 200
    with world.records.read() as tx:
        assert tx.generations.completed_for(here.id) is None


def test_the_form_is_where_it_can_be_used(world: World, browser: Browser, patient: Patient) -> None:
    """On one's own encounter with consent; not before consent, not on a colleague's."""
    here = world.encounter(patient)
    asked_first = world.encounter(patient, consent=Consent.NOT_RECORDED)
    assert 'data-testid="ask"' in browser.get(f"/encounters/{here.id}").text
    assert 'data-testid="ask"' not in browser.get(f"/encounters/{asked_first.id}").text
    assert 'data-testid="ask"' not in world.colleague().get(f"/encounters/{here.id}").text


def test_a_question_cannot_be_guessed_from_the_log(world: World, browser: Browser, patient: Patient) -> None:
    """The same question twice, of which nothing is found: no digest in the log is the same."""
    here = world.encounter(patient)
    for _ in range(2):
        assert ask(browser, here, "Is she pregnant?")[0] == 200
    bodies = [json.loads(e.body) for e in world.records.audit.entries() if e.event.startswith("generation.")]
    for name in ("transcript_sha256", "output_sha256"):
        digests = [body[name] for body in bodies if name in body]
        assert len(digests) == len(set(digests)) == 2
