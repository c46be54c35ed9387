"""Red flags reach the clinician: above everything on the page, on the terminal, and when there is no note at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clinic.config import Config
from clinic.domain import Consent, EncounterState, Role, Segment, Transcript
from clinic.policy.detectors.red_flags import KINDS
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from clinic.web.red_flags import LABELS
from tests.functional.test_commands import clinic
from tests.functional.web_world import TRANSCRIPT, Browser, World

SAID = "Honestly I want to kill myself <b>tonight</b>."


@pytest.fixture
def browser(world: World) -> Browser:
    """A clinician's browser."""
    return world.browser(Role.CLINICIAN)


def heard(world: World, patient: Patient, *segments: Segment) -> Encounter:
    """Return an encounter with this transcript and nothing else."""
    encounter = world.encounter(patient)
    with world.records.write() as tx:
        tx.transcripts.store(encounter.id, TRANSCRIPT.model_copy(update={"segments": segments}))
    return encounter


def test_every_kind_has_words_for_the_clinician() -> None:
    """What the detector can find, the page can name."""
    assert set(LABELS) == set(KINDS)


def test_the_page_shows_them_above_the_note(world: World, browser: Browser, patient: Patient) -> None:
    """The words are quoted, as text, with a link to their segment, before the draft."""
    encounter = world.drafted(patient)
    said = (*TRANSCRIPT.segments, Segment(id="s6", text=SAID, start=30.0, end=33.0))
    with world.records.write() as tx:
        tx.transcripts.store(encounter.id, TRANSCRIPT.model_copy(update={"segments": said}))
    page = browser.get(f"/encounters/{encounter.id}").text
    assert "Self-harm or suicide" in page
    assert "<q>kill myself</q>" in page
    assert 'href="#segment-s6"' in page
    assert "<b>tonight" not in page
    assert page.index('data-testid="red-flags"') < page.index('data-testid="statement"')


@pytest.mark.parametrize("state", [EncounterState.DENIED, EncounterState.FAILED, EncounterState.RUNNING])
def test_the_page_shows_them_without_a_note(
    world: World, browser: Browser, patient: Patient, state: EncounterState
) -> None:
    """Neither a denial nor a failure takes them away."""
    encounter = heard(world, patient, Segment(id="s1", text=SAID))
    with world.records.write() as tx:
        tx.encounters.mark(encounter.id, state=state, error_code="denied:too-few-words")
    assert 'data-testid="red-flag"' in browser.get(f"/encounters/{encounter.id}").text


def test_no_panel_where_there_is_nothing(world: World, browser: Browser, patient: Patient) -> None:
    """Negative control: an ordinary consultation has no panel."""
    assert "red-flags" not in browser.get(f"/encounters/{world.drafted(patient).id}").text


def test_withdrawn_consent_hides_what_was_said(world: World, browser: Browser, patient: Patient) -> None:
    """Where the transcript may no longer be seen, its words are not quoted either."""
    encounter = heard(world, patient, Segment(id="s1", text=SAID))
    browser.get(f"/encounters/{encounter.id}")
    with world.records.write() as tx:
        tx.encounters.record_consent(encounter.id, Consent.WITHDRAWN, world.actor())
    assert "kill myself" not in browser.get(f"/encounters/{encounter.id}").text


@pytest.mark.models
def test_the_terminal_tells_them_when_the_policy_denies(config: Config, tmp_path: Path) -> None:
    """A denied draft (exit 4) still tells where to look; stderr, which may be kept, gets no word of the patient."""
    for text, told in ((SAID, True), ("I have a cough.", False)):
        file = tmp_path / "transcript.json"
        segment = Segment(id="s1", text=text, speaker="Patient")
        file.write_text(Transcript(segments=(segment,)).model_dump_json(), encoding="utf-8")
        run = clinic("note", "draft", "--transcript", str(file), "--json", config=config)
        assert run.exit_code == 4
        assert json.loads(run.stdout)["error"]["code"] == "denied"
        assert ("s1 self harm (stated)" in run.stderr) is told
        assert "kill myself" not in run.stderr
