"""A real, sealed database per test: migrated once, then copied."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine

from clinic.crypto.keys import Keyring
from clinic.domain import OPERATOR
from clinic.records.encounters import Encounter
from clinic.records.engine import open_engine
from clinic.records.migrate import upgrade
from clinic.records.patients import Patient, PatientData
from clinic.records.records import Records
from tests.unit.records.records_world import HASHER, FrozenClock, open_encounter

MIGRATIONS = Path(__file__).resolve().parents[3] / "migrations"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One empty database with the current schema."""
    path = tmp_path_factory.mktemp("template") / "clinic.db"
    engine = open_engine(path)
    upgrade(engine, MIGRATIONS)
    engine.dispose()
    return path


@pytest.fixture
def database(migrated: Path, tmp_path: Path) -> Path:
    """The path of this test's database."""
    path = tmp_path / "clinic.db"
    shutil.copy(migrated, path)
    return path


@pytest.fixture
def engine(database: Path) -> Iterator[Engine]:
    """The engine of this test's database."""
    engine = open_engine(database)
    yield engine
    engine.dispose()


@pytest.fixture
def clock() -> FrozenClock:
    """The clock of this test."""
    return FrozenClock()


@pytest.fixture
def keyring() -> Keyring:
    """The clinic's keys."""
    return Keyring.generate()


@pytest.fixture
def records(engine: Engine, keyring: Keyring, clock: FrozenClock) -> Records:
    """The records under test."""
    return Records(engine, keyring=keyring, clock=clock, hasher=HASHER)


@pytest.fixture
def patient(records: Records) -> Patient:
    """A patient."""
    data = PatientData("Canary Wharfington", date(1961, 2, 3), "female", "MRN-4711")
    with records.write() as tx:
        return tx.patients.create(data, OPERATOR)


@pytest.fixture
def encounter(records: Records, patient: Patient) -> Encounter:
    """An encounter of that patient."""
    with records.write() as tx:
        return open_encounter(tx, patient)
