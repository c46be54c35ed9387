"""A web form over a real, sealed store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest

from clinic.app import create_app
from clinic.config import Config
from clinic.domain import OPERATOR, Role
from clinic.home import HomeOptions, create, unlock_home
from clinic.records.engine import open_engine
from clinic.records.patients import Patient, PatientData
from clinic.records.records import Records
from tests.functional.web_world import CANARY, HASHER, PASSWORD, Uptime, WebServices, World


@pytest.fixture(scope="session")
def home_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data folder with an account of each role; made once, copied for each test."""
    home = tmp_path_factory.mktemp("web") / "home"
    config = create(home, HomeOptions(insecure_key_file=True)).config
    engine = open_engine(config.database)
    records = Records(engine, keyring=unlock_home(config), hasher=HASHER)
    for role in Role:
        with records.write() as tx:
            tx.users.create(role.value, display_name=f"Test {role.value}", role=role, password=PASSWORD, actor=OPERATOR)
    engine.dispose()
    return home


@contextmanager
def world_over(home_template: Path, home: Path) -> Iterator[World]:
    """Yield one application over its own copy of the data folder."""
    shutil.copytree(home_template, home)
    config = Config.load(home)
    engine = open_engine(config.database)
    services = WebServices(config, Records(engine, keyring=unlock_home(config), hasher=HASHER))
    uptime = Uptime()
    with services.records.read() as tx:
        users = {user.role: user for user in tx.users.list()}
    yield World(create_app(services, clock=uptime), services, uptime, users)
    engine.dispose()


@pytest.fixture
def world(home_template: Path, tmp_path: Path) -> Iterator[World]:
    """One application over its own copy of the data folder."""
    with world_over(home_template, tmp_path / "home") as world:
        yield world


@pytest.fixture
def patient(world: World) -> Patient:
    """A patient whose name must not turn up where it does not belong."""
    data = PatientData(CANARY, date(1961, 3, 5), "female", "MRN-4711")
    with world.records.write() as tx:
        return tx.patients.create(data, world.actor())
