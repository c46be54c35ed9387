"""How long a sentence waits for its verdict while it is typed, and a whole note for its own.

Run with `make bench`; each line is printed with its baseline from the same run.  Nothing here passes or fails by time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from clinic.domain import DraftStatement, EncounterState, Role
from clinic.evaluation.material import Visit, read_visits
from clinic.records.patients import Patient
from clinic.verification import verify
from tests.benchmarks.test_flow import machine, say
from tests.functional.conftest import home_template, patient, world  # noqa: F401 - fixtures
from tests.functional.web_world import Browser, World

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(600)]

ROUNDS = 50


@pytest.fixture(scope="module")
def longest(test_data: Path) -> Visit:
    """The consultation of PriMock57 in which most was said."""
    visits = read_visits(test_data / "primock57" / "dev" / "day1-3.jsonl")
    return max(visits, key=lambda visit: visit.transcript.word_count)


def milliseconds(act: Callable[[], object]) -> str:
    """Return median and slowest of the rounds, and the median of the processor time."""
    took, worked = [], []
    for _ in range(ROUNDS):
        began, began_work = time.perf_counter(), time.process_time()
        act()
        took.append(1000 * (time.perf_counter() - began))
        worked.append(1000 * (time.process_time() - began_work))
    whole, work = statistics.median(took), statistics.median(worked)
    return f"p50 {whole:.0f} ms, slowest of {ROUNDS} {max(took):.0f} ms, processor time p50 {work:.0f} ms"


def test_live_check_speed(world: World, patient: Patient, longest: Visit) -> None:  # noqa: F811 - fixtures
    """Through the whole web application, session and unsealing included, against the page of the encounter."""
    drafts = [DraftStatement(section="plan", text=statement.text) for statement in longest.statements]
    encounter = world.encounter(patient)
    with world.records.write() as tx:
        tx.transcripts.store(encounter.id, longest.transcript)
        note = verify(drafts, longest.transcript, template="soap", model="none")
        tx.notes.store_draft(encounter.id, note, generation_id=None, actor=world.actor())
        tx.encounters.mark(encounter.id, state=EncounterState.DRAFTED)
    browser: Browser = world.browser(Role.CLINICIAN)
    path = f"/encounters/{encounter.id}"
    asked = {"statement": "n1", "text": drafts[0].text}
    assert browser.send(f"{path}/note/check", asked).status_code == 200

    say(f"{machine()}; {longest.transcript.word_count} words, {len(drafts)} statements")
    say(f"one sentence checked: {milliseconds(lambda: browser.send(f'{path}/note/check', asked))}")
    say(f"whole note verified:  {milliseconds(lambda: verify(drafts, longest.transcript, template='soap', model='m'))}")
    say(f"baseline, a request without a transcript: {milliseconds(lambda: browser.get('/session', json=True))}")
    say(f"baseline, the page:   {milliseconds(lambda: browser.get(path))}")
