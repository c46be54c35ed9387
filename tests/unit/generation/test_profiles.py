"""Profiles and command lines, as data."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from clinic.errors import ConfigError
from clinic.generation.commands import llama_command, server_command, server_environment, vllm_command
from clinic.generation.launcher import checked_weights
from clinic.generation.profiles import (
    Adapter,
    Engine,
    Profile,
    VllmSettings,
    folder_sha256,
    inference_threads,
    load_profile,
)
from clinic.weights import GEMMA_3_270M
from tests.unit.generation.generation_world import DIGEST, PROFILES, chat_profile, embedded

GOOD = (PROFILES / "embedded.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(p.stem for p in PROFILES.glob("*.toml")))
def test_every_shipped_profile_loads(name: str) -> None:
    """Each profile that ships is valid; only the families that the shipped policies know are Gemma's."""
    profile = load_profile(name, PROFILES)
    assert profile.engine is Engine.EXTERNAL or profile.id.startswith(("gemma-", "qwen3-"))


def test_no_shipped_profile_gives_up_confinement() -> None:
    """Every server that we start ourselves is started without network."""
    shipped = [load_profile(p.stem, PROFILES) for p in PROFILES.glob("*.toml")]
    assert all(p.network == "none" for p in shipped if p.engine is not Engine.EXTERNAL)


def test_the_embedded_profile_pins_what_ships() -> None:
    """Weights and adapter of the default are the files that ship, and the identity covers both."""
    profile = embedded()
    assert profile.weights.sha256 == GEMMA_3_270M.sha256
    assert profile.adapter is not None
    assert profile.adapter.file.is_file()
    without = profile.model_copy(update={"adapter": None})
    assert len({profile.sha256, without.sha256, profile.weights.sha256}) == 3
    assert profile.sha256[:16] in profile.served_name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('style = "completion"', 'style = "completion"\ntypo = 1', id="unknown key"),
        pytest.param('id = "gemma-3-270m"', 'id = "../x"', id="bad id"),
        pytest.param('engine = "llama.cpp"', 'engine = "external"', id="adapter of a foreign server"),
        pytest.param('engine = "llama.cpp"', 'engine = "llama.cpp"\nnetwork = "host"', id="network misspelt"),
        pytest.param("[weights]\n", '[weights]\npath = "/x"\n', id="two sources"),
        pytest.param("[weights]\n", "[vllm]\n[weights]\n", id="section of another engine"),
        pytest.param("context_tokens = 8192", "context_tokens = 3", id="number out of range"),
        pytest.param('style = "completion"', "style = ", id="not TOML"),
    ],
)
def test_a_profile_that_is_not_valid_is_refused(tmp_path: Path, old: str, new: str) -> None:
    """Unknown keys, contradictions and broken files are refused, never guessed at."""
    path = tmp_path / "p.toml"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_profile(str(path), PROFILES)
    assert caught.value.code == "profile_invalid"


def test_an_unknown_profile_names_the_known_ones() -> None:
    """Somebody who misspells a profile reads which there are."""
    with pytest.raises(ConfigError) as caught:
        load_profile("embeded", PROFILES)
    assert caught.value.code == "profile_unknown"
    assert "embedded" in caught.value.hint


def test_a_profile_without_a_digest_has_no_identity(tmp_path: Path) -> None:
    """Unpinned weights give an empty digest, which the policy denies, and are not started."""
    profile = load_profile("gemma-4-12b", PROFILES)
    assert profile.identity.sha256 == ""
    with pytest.raises(ConfigError) as caught:
        checked_weights(profile, tmp_path)
    assert caught.value.code == "model_unpinned"


def test_weights_that_are_not_the_pinned_ones_are_refused(tmp_path: Path) -> None:
    """A folder with another digest is refused; the right one is accepted."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    profile = chat_profile(Engine.VLLM)

    def pinned(sha256: str) -> Profile:
        weights = profile.weights.model_copy(update={"path": folder, "sha256": sha256})
        return profile.model_copy(update={"weights": weights})

    assert checked_weights(pinned(folder_sha256(folder)), tmp_path) == folder
    with pytest.raises(ConfigError) as caught:
        checked_weights(pinned(DIGEST), tmp_path)
    assert caught.value.code == "weights_damaged"


def test_an_adapter_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    """An adapter file that was changed is refused before anything is started."""
    profile = embedded()
    assert profile.adapter is not None
    other = tmp_path / "a.gguf"
    other.write_bytes(profile.adapter.file.read_bytes()[:-1] + b"\0")
    changed = profile.model_copy(update={"adapter": profile.adapter.model_copy(update={"file": other})})
    with pytest.raises(ConfigError) as caught:
        checked_weights(changed, tmp_path)
    assert caught.value.code == "weights_damaged"


def test_the_vllm_command_line() -> None:
    """The command is exactly the one that research and tests settled on."""
    command = vllm_command(load_profile("gemma-4-12b", PROFILES), weights=Path("/m/g"), socket=Path("/run/c/m.sock"))
    assert command == [
        "vllm",
        "serve",
        "/m/g",
        "--served-model-name",
        "gemma-4-12b-unpinned",
        "--uds",
        "/run/c/m.sock",
        "--disable-fastapi-docs",
        "--disable-uvicorn-access-log",
        "--disable-log-stats",
        "--reasoning-parser",
        "gemma4",
        "--tool-call-parser",
        "gemma4",
        "--enable-auto-tool-choice",
        "--default-chat-template-kwargs",
        '{"enable_thinking":false}',
        "--structured-outputs-config",
        '{"backend":"xgrammar","disable_any_whitespace":true}',
        "--limit-mm-per-prompt",
        '{"image":0,"audio":0,"video":0}',
        "--allowed-media-domains",
        "none.invalid",
        "--max-model-len",
        "32768",
        "--max-num-seqs",
        "8",
        "--gpu-memory-utilization",
        "0.70",
        "--dtype",
        "auto",
        "--kv-cache-dtype",
        "fp8",
    ]


def test_the_vllm_command_line_of_another_family_with_an_adapter() -> None:
    """A profile is all it takes: other parsers or none, and an adapter that answers under the profile's name."""
    adapter = Adapter(file=Path("/m/lora"), sha256=DIGEST, canary="Say it.")
    profile = chat_profile(Engine.VLLM).model_copy(update={"adapter": adapter})
    for dialect, parsers in (("qwen3", ["qwen3", "hermes"]), ("plain", [])):
        other = profile.model_copy(update={"vllm": VllmSettings(dialect=dialect)})
        command = vllm_command(other, weights=Path("/m/g"), socket=Path("/s.sock"))
        named = [command[command.index(f"--{kind}-parser") + 1] for kind in ("reasoning", "tool-call") if parsers]
        assert named == parsers
        assert parsers or not any("-parser" in word for word in command)
        assert command[command.index("--served-model-name") + 1] == profile.base_name != profile.served_name
        module = {"name": profile.served_name, "path": "/m/lora"}
        assert json.loads(command[command.index("--lora-modules") + 1]) == module


def test_the_llama_command_line_leaves_a_core_free() -> None:
    """The embedded server gets all cores but one: with all of them its speed collapses."""
    command = llama_command(embedded(), weights=Path("/m.gguf"), socket=Path("/s.sock"))
    cores = len(os.sched_getaffinity(0))
    assert command[command.index("--threads") + 1] == str(max(1, cores - 1))
    assert inference_threads(3) == 3


def test_the_environment_is_built_not_inherited() -> None:
    """No key or token of the parent reaches the server, and vLLM is told to stay offline."""
    inherited = {"PATH": "/bin", "CLINIC_KEY": "secret", "HF_TOKEN": "secret", "HTTPS_PROXY": "http://x"}
    environment = server_environment(chat_profile(Engine.VLLM), inherited=inherited, cache=Path("/c"))
    assert "secret" not in environment.values()
    assert "HTTPS_PROXY" not in environment
    assert environment["PATH"] == "/bin"
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
    assert environment["HOME"] == "/c"


def test_an_external_server_is_never_started() -> None:
    """Somebody else's server has no command line."""
    with pytest.raises(ConfigError):
        server_command(chat_profile(), weights=Path("/m"), socket=Path("/s"))
