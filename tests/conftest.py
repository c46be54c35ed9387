"""Fixtures that every kind of test shares: data folders, assembled models, test material."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from clinic.config import Config
from clinic.errors import ConfigError
from clinic.home import HomeOptions, create, open_records, unlock_home
from clinic.records.records import Records
from clinic.weights import GEMMA_3_270M, VOICE_ENCODER, WHISPER_BASE, assemble

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / ".cache" / "models"
SAMPLE = ROOT / "clinic" / "demo" / "sample.flac"


def pytest_configure(config: pytest.Config) -> None:
    """Put the packaged models together before anything is collected: tests must not skip on a fresh clone."""
    del config
    for weights in (GEMMA_3_270M, WHISPER_BASE):
        if not (MODELS / weights.name).is_dir():
            assemble(weights, MODELS)
    with suppress(ConfigError):  # an environment from before this package: the tests that need it say so
        assemble(VOICE_ENCODER, MODELS)


@pytest.fixture(autouse=True)
def _core_limit_can_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the hard limit of core files: a command run inside the tests would take it from all tests that follow.

    Without it every process that a later test starts could leave no core file, whatever the program does about that.
    """
    real = resource.setrlimit

    def setrlimit(which: int, limits: tuple[int, int]) -> None:
        kept = (limits[0], resource.getrlimit(which)[1]) if which == resource.RLIMIT_CORE else limits
        real(which, kept)

    monkeypatch.setattr(resource, "setrlimit", setrlimit)


@pytest.fixture(autouse=True)
def _nobody_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave `clinic doctor` nobody on the internet to try: the tests open no socket but local ones."""
    monkeypatch.setattr("clinic.box.OUTSIDE", ())


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with speech, transcripts and notes that nobody here wrote; skips where it is absent."""
    folder = Path(os.environ.get("CLINIC_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"test material is not at {folder} (set CLINIC_TEST_DATA)")
    return folder


@pytest.fixture
def make_home(tmp_path: Path) -> Callable[..., Config]:
    """Create a development data folder under the test's own folder; `port` may be given."""

    def make(name: str = "home", *, port: int = 8443) -> Config:
        options = HomeOptions(insecure_key_file=True, models=MODELS, port=port)
        return create(tmp_path / name, options).config

    return make


@pytest.fixture
def config(make_home: Callable[..., Config]) -> Config:
    """One development data folder."""
    return make_home()


@pytest.fixture
def records(config: Config) -> Records:
    """The unlocked records of that data folder."""
    return open_records(config, unlock_home(config))
