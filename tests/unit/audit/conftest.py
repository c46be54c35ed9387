"""Fixtures: an empty audit store, and one with ten entries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.audit.audit_store import Store, fill, make_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty log in a file."""
    made = make_store(tmp_path / "clinic.db")
    yield made
    made.engine.dispose()


@pytest.fixture
def filled(store: Store) -> Store:
    """A log of ten entries."""
    fill(store.log(), 10)
    return store
