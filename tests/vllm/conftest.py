"""The clinics with a real vLLM: a start takes a minute, so each is shared by the tests that leave it unharmed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.generation.generation_world import chat_profile as any_chat_profile
from tests.vllm.model_folders import gemma3, require_environment, scripted_gemma4
from tests.vllm.script import script
from tests.vllm.vllm_world import VllmClinic, chat_profile, completion_profile, vllm_clinic


@pytest.fixture(scope="session")
def gemma3_folder() -> Path:
    """Gemma 3 270M and our adapter, as vLLM reads them."""
    require_environment()
    return gemma3()


@pytest.fixture(scope="session")
def scripted_folder() -> Path:
    """The small Gemma 4 that knows its script by heart."""
    require_environment()
    return scripted_gemma4(script(any_chat_profile()))


@pytest.fixture(scope="session")
def completion_clinic(gemma3_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmClinic]:
    """A clinic on Gemma 3 270M with our adapter."""
    folder = tmp_path_factory.mktemp("c")
    with vllm_clinic(folder, completion_profile(folder, gemma3_folder)) as clinic:
        yield clinic


@pytest.fixture(scope="session")
def chat_clinic(scripted_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmClinic]:
    """A clinic on the scripted Gemma 4, pictures and sounds let in."""
    folder = tmp_path_factory.mktemp("g")
    profile = chat_profile(folder, scripted_folder, more="images = 1\nsounds = 1")
    with vllm_clinic(folder, profile) as clinic:
        yield clinic
