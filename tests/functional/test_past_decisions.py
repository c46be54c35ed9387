"""A past decision, made again from the facts that are sealed beside its entry."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clinic.audit.details import DecisionFacts
from clinic.audit.entry import Entry
from clinic.audit.events import GenerationDenied, from_canonical
from clinic.cli import main
from clinic.domain import OPERATOR, Role, ShredReason
from clinic.errors import PolicyDeniedError
from clinic.past_decisions import past_decision
from clinic.policy.recorded import FACTS_WORDS, FactsState, RecordedDecision
from clinic.records.patients import Patient
from tests.functional.test_audit_first import FakeGenerator
from tests.functional.test_glass import SHIPPED, TEXT, dictation, flow
from tests.functional.web_world import CANARY, World

SHORT = f"{CANARY} coughs."


def decided(world: World, patient: Patient, text: str = SHORT) -> Entry:
    """Have something decided, and return its entry: a denial for a text that is too short."""
    encounter = dictation(world, patient, text)
    with suppress(PolicyDeniedError):
        flow(world, FakeGenerator()).generate(encounter.id, actor=world.actor())
    return max(world.records.audit.named("generation.authorized", "generation.denied"), key=lambda entry: entry.seq)


def past(world: World, entry: Entry) -> RecordedDecision:
    """Explain an entry."""
    return past_decision(world.records, world.services.policy, entry.seq)


def activate(world: World, folder: Path, *changes: tuple[str, str, str]) -> None:
    """Let a changed set decide."""
    shutil.copytree(SHIPPED, folder)
    for name, old, new in changes:
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
    world.services.policy.activate(folder, "strict", actor=OPERATOR)


THREE_WORDS = (
    ("speech.cedar", "context.words < 5", "context.words < 2"),
    ("tests/speech.toml", "change.context.words = 4", "change.context.words = 1"),
    ("tests/speech.toml", "change.context.words = 5", "change.context.words = 2"),
)


def test_a_denial_is_made_again_with_what_would_change_it(world: World, patient: Patient) -> None:
    """The same outcome from the same facts, and the nearest change that would have been allowed."""
    found = past(world, decided(world, patient))
    assert found.facts is FactsState.KNOWN
    assert found.replay is not None
    assert found.replay.agrees is True
    assert found.replay.facts["words"] == 3
    assert found.replay.changes is not None
    (change,) = found.replay.changes.changes["dictation-too-short"][:1]
    assert (change.fact, change.now, change.then) == ("words", 3, 5)


def test_a_permission_is_made_again_too(world: World, patient: Patient) -> None:
    """Allowed, redacted, with the number of places that were taken out, and what would forbid it."""
    found = past(world, decided(world, patient, TEXT))
    assert found.explanation.outcome == "redact"
    assert found.redacted == ("identifiers",)
    assert found.replay is not None
    assert found.replay.agrees is True
    assert "identifiers_found" in found.replay.facts
    assert found.replay.changes is not None
    assert "consent-withdrawn" in found.replay.changes.changes


def test_the_facts_are_sealed_and_hold_no_word_of_the_text(world: World, patient: Patient) -> None:
    """Codes and numbers only, and none of them in the file in the clear."""
    entry = decided(world, patient)
    assert entry.sealed is not None
    with world.records.read() as tx:
        detail = tx.detail(entry, patient.id)
    assert isinstance(detail, DecisionFacts)
    said = detail.to_canonical().decode().casefold()
    assert not [word for word in SHORT.casefold().split() if word.strip(".") in said]
    assert b'"minute_of_day"' in detail.to_canonical()
    files = [path.read_bytes() for path in world.services.config.home.glob("clinic.db*")]
    assert files
    assert not [data for data in files if b"minute_of_day" in data]


def test_todays_set_is_asked_beside_the_one_of_that_time(world: World, patient: Patient, tmp_path: Path) -> None:
    """After a looser set is activated the past decision stays what it was, and today's would allow it."""
    entry = decided(world, patient)
    activate(world, tmp_path / "looser", *THREE_WORDS)
    found = past(world, entry)
    assert found.replay is not None
    assert found.replay.then is not None
    assert found.replay.now is not None
    assert (found.replay.then.outcome, found.replay.now.outcome) == ("deny", "redact")
    assert found.replay.then.policy_set != found.replay.now.policy_set
    assert found.replay.agrees is True
    page = world.browser(Role.ADMINISTRATOR)
    page.get("/policies")
    text = page.post("/policies/decision", seq=entry.seq).text
    assert "The same as recorded" in text
    assert "Decided by today" in text
    assert "<code>3</code></td><td><code>5</code>" in text
    assert CANARY not in text


def test_where_the_set_is_not_kept_it_says_so(world: World, patient: Patient, tmp_path: Path) -> None:
    """Without its files only today's set is asked; nothing pretends to be the other one."""
    entry = decided(world, patient)
    store = world.services.policy
    first = store.active()
    assert first is not None
    activate(world, tmp_path / "looser", *THREE_WORDS)
    shutil.rmtree(store.folder_of(first))
    found = past(world, entry)
    assert not found.set_known
    assert found.replay is not None
    assert (found.replay.then, found.replay.agrees) == (None, None)
    assert found.replay.now is not None
    page = world.browser(Role.ADMINISTRATOR)
    page.get("/policies")
    assert "of that time is not kept here" in page.post("/policies/decision", seq=entry.seq).text


def test_after_a_shred_the_facts_are_gone_and_the_header_stays(world: World, patient: Patient) -> None:
    """Plainly said, on the page and at the console; the log still verifies."""
    entry = decided(world, patient)
    world.records.shred(patient.id, reason=ShredReason.PATIENT_REQUEST, actor=OPERATOR)
    found = past(world, entry)
    assert (found.facts, found.replay) == (FactsState.DESTROYED, None)
    assert [fired.id for fired in found.explanation.policies] == ["dictation-too-short"]
    page = world.browser(Role.ADMINISTRATOR)
    page.get("/policies")
    text = page.post("/policies/decision", seq=entry.seq).text
    assert "facts with it: what is shown is all there is" in text
    assert "dictation-too-short" in text
    told = explain(world, entry, as_json=False)
    assert FACTS_WORDS[FactsState.DESTROYED] in " ".join(told.split())
    assert world.records.audit.verify().ok


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        pytest.param(None, FactsState.NOT_RECORDED, id="a link only"),
        pytest.param({"words": 3}, FactsState.OUTDATED, id="other facts"),
    ],
)
def test_an_entry_of_another_version_says_so(
    world: World, patient: Patient, facts: dict[str, Any] | None, state: FactsState
) -> None:
    """Without facts, or with those of another program, nothing is decided again."""
    event = denial(decided(world, patient))
    detail = None if facts is None else DecisionFacts.of(facts)
    with world.records.write() as tx:
        entry = tx.append(event, actor=world.actor(), patient_id=patient.id, detail=detail)
    found = past(world, entry)
    assert (found.facts, found.replay) == (state, None)


def test_facts_that_do_not_fit_the_decision_are_noticed(world: World, patient: Patient) -> None:
    """Negative control: a denial beside facts that would have been allowed does not agree."""
    entry = decided(world, patient)
    with world.records.write() as tx:
        detail = tx.detail(entry, patient.id)
        assert isinstance(detail, DecisionFacts)
        other = DecisionFacts.of(detail.as_dict() | {"words": 300})
        forged = tx.append(denial(entry), actor=world.actor(), patient_id=patient.id, detail=other)
    found = past(world, forged)
    assert found.replay is not None
    assert found.replay.agrees is False
    page = world.browser(Role.ADMINISTRATOR)
    page.get("/policies")
    assert "Not what was recorded" in page.post("/policies/decision", seq=forged.seq).text


def denial(entry: Entry) -> GenerationDenied:
    """Return the event of an entry."""
    event = from_canonical(entry.event, entry.body)
    assert isinstance(event, GenerationDenied)
    return event


def explain(world: World, entry: Entry, *, as_json: bool) -> str:
    """Run `clinic policy explain SEQ`."""
    home = ("--home", str(world.services.config.home))
    arguments = ["policy", "explain", str(entry.seq), *(("--json",) if as_json else ()), *home]
    return CliRunner().invoke(main, arguments).stdout


def test_the_command_makes_it_again(world: World, patient: Patient) -> None:
    """Facts, both sets, and the counterfactual, for people and for programs."""
    entry = decided(world, patient)
    document = json.loads(explain(world, entry, as_json=True))
    assert document["facts_state"] == "known"
    again = document["replay"]
    assert again["agrees"] is True
    assert again["facts"]["words"] == 3
    assert (again["then"]["outcome"], again["now"]["outcome"]) == ("deny", "deny")
    changes = again["counterfactual"]["changes"]["dictation-too-short"]
    assert {"fact": "words", "now": 3, "then": 5} in changes
    told = explain(world, entry, as_json=False)
    assert "words = 3" in told
    assert "the same as recorded" in told
    assert "words 3 -> 5" in told
