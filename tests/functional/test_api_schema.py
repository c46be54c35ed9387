"""The OpenAPI document and the API agree: schemathesis, in short (`make campaign` runs 2,000 cases a route)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clinic.api.app import OPERATIONS
from clinic.api.models import EncounterAnswered
from clinic.api.standing import answered
from tests.functional.conftest import world_over
from tests.functional.schema_runs import records_in_every_state, run
from tests.functional.web_world import World

CASES = 6


@pytest.fixture(scope="module")
def shared(home_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for all routes."""
    with world_over(home_template, tmp_path_factory.mktemp("schema") / "home") as world:
        yield world


@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS])
def test_the_document_says_what_is_answered(shared: World, name: str) -> None:
    """No server error, no status, header or document that is not described, nothing taken that breaks it."""
    statuses = run(shared, records_in_every_state(shared), name, CASES)
    assert sum(statuses.values()) >= CASES / 2
    assert not [status for status in statuses if status >= 500]


def test_an_answer_that_is_not_described_is_found(shared: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a field too many in one answer."""

    class Talkative(EncounterAnswered):
        more: str = "than said"

    def talkative(*args: object) -> EncounterAnswered:
        found = answered(*args)  # type: ignore[arg-type]
        return Talkative(**found.model_dump())

    monkeypatch.setattr("clinic.api.encounters.answered", talkative)
    with pytest.raises(BaseExceptionGroup, match="schema"):
        run(shared, records_in_every_state(shared), "show_encounter", 40)


def test_a_request_that_is_taken_in_any_form_is_found(shared: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a query that is not looked at."""
    query = next(operation.query for operation in OPERATIONS if operation.name == "list_encounters")
    assert query is not None
    monkeypatch.setattr("clinic.api.calls.Call.query", lambda *_: query())
    with pytest.raises(BaseExceptionGroup, match=r"(?i)schema|rejected|negative"):
        run(shared, records_in_every_state(shared), "list_encounters", 40)
