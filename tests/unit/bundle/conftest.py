"""One small bundle, built once, as a folder and as a file; every test damages a copy."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from clinic.bundle.manifest import Manifest
from tests.unit.bundle.bundle_world import make_bundle


@dataclass(frozen=True)
class Built:
    """A bundle on its medium, and what was signed."""

    folder: Path
    tar: Path
    manifest: Manifest


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The bundle that nobody damages."""
    place = tmp_path_factory.mktemp("b")
    manifest = make_bundle(place / "one", place / "bundle")
    make_bundle(place / "two", place / "bundle.tar")
    return Built(place / "bundle", place / "bundle.tar", manifest)


@pytest.fixture
def built(pristine: Built, tmp_path: Path) -> Built:
    """A copy to damage."""
    shutil.copytree(pristine.folder, tmp_path / "bundle")
    shutil.copy(pristine.tar, tmp_path / "bundle.tar")
    return Built(tmp_path / "bundle", tmp_path / "bundle.tar", pristine.manifest)
