"""The OpenAPI document and the API agree: 2,000 cases a route (`CLINIC_SCHEMA_CASES` for another number)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from clinic.api.app import OPERATIONS
from clinic.domain import OPERATOR, Role
from clinic.home import HomeOptions, create, open_records, unlock_home
from tests.functional.conftest import world_over
from tests.functional.schema_runs import records_in_every_state, run
from tests.functional.web_world import PASSWORD, World

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(3600)]

CASES = int(os.environ.get("CLINIC_SCHEMA_CASES", "2000"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for all routes."""
    folder = tmp_path_factory.mktemp("schema")
    config = create(folder / "made", HomeOptions(insecure_key_file=True)).config
    records = open_records(config, unlock_home(config))
    for role in Role:
        with records.write() as tx:
            tx.users.create(role.value, display_name=f"Test {role.value}", role=role, password=PASSWORD, actor=OPERATOR)
    records.close()
    with world_over(folder / "made", folder / "home") as world:
        yield world


@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS])
def test_the_document_says_what_is_answered(shared: World, name: str) -> None:
    """No server error and no violation of the document; prints how often each status came."""
    statuses: Counter[int] = run(shared, records_in_every_state(shared), name, CASES)
    print(f"\n{name}: {sum(statuses.values())} cases, {dict(sorted(statuses.items()))}")  # noqa: T201 - the report
    assert not [status for status in statuses if status >= 500]
