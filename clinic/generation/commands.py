"""The exact command lines of the model servers, and the environment that they get.  Pure: data in, data out.

Rules kept here:

* No secret and no patient data in any argument or variable: both can be read by other processes of the account.
* The environment is built, not inherited: only what is named here gets through.
* vLLM is told in every way it knows to stay offline, to log nothing of a request, and to fetch nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from clinic.errors import ConfigError
from clinic.generation import confinement
from clinic.generation.profiles import Engine, Profile, inference_threads

_PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
)
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONNOUSERSITE": "1",
}


_DIALECTS = {  # what understands the model's thoughts, and its calls of tools
    "gemma4": ("gemma4", "gemma4"),
    "qwen3": ("qwen3", "hermes"),
}


def keeper_command(profile: Profile, command: list[str]) -> list[str]:
    """Put the keeper before `command`: no network, and never longer than its owner."""
    return [sys.executable, "-I", str(Path(confinement.__file__)), profile.network, "--", *command]


def server_command(profile: Profile, *, weights: Path, socket: Path) -> list[str]:
    """Return the server's own command line.

    Raises:
        ConfigError: the profile's server is somebody else's.
    """
    match profile.engine:
        case Engine.LLAMA_CPP:
            return llama_command(profile, weights=weights, socket=socket)
        case Engine.VLLM:
            return vllm_command(profile, weights=weights, socket=socket)
        case Engine.EXTERNAL:
            raise ConfigError("an external model server is not started here", hint="start it yourself, on the socket")
        case _ as never:
            assert_never(never)


def llama_command(profile: Profile, *, weights: Path, socket: Path) -> list[str]:
    """Return the command line of our llama.cpp child."""
    command = [sys.executable, "-I", "-m", "clinic.generation.llama_child"]
    command += ["--model", str(weights), "--socket", str(socket), "--name", profile.served_name]
    command += ["--context", str(profile.context_tokens), "--threads", str(inference_threads(profile.llama.threads))]
    if profile.adapter is not None:
        command += ["--adapter", str(profile.adapter.file), "--canary", profile.adapter.canary]
    return command


def vllm_command(profile: Profile, *, weights: Path, socket: Path) -> list[str]:
    """Return `vllm serve` with our flags; thinking is off, because text before JSON escapes the grammar.

    With an adapter the profile's name is the adapter's, and the weights alone answer under `base_name`.
    """
    settings = profile.vllm
    name = profile.served_name if profile.adapter is None else profile.base_name
    command = [settings.program, "serve", str(weights), "--served-model-name", name, "--uds", str(socket)]
    command += ["--disable-fastapi-docs", "--disable-uvicorn-access-log", "--disable-log-stats"]
    if settings.dialect in _DIALECTS:
        thoughts, calls = _DIALECTS[settings.dialect]
        command += ["--reasoning-parser", thoughts, "--tool-call-parser", calls, "--enable-auto-tool-choice"]
    if settings.chat_template is not None:
        command += ["--chat-template", str(settings.chat_template)]
    command += ["--default-chat-template-kwargs", _json({"enable_thinking": False})]
    command += ["--structured-outputs-config", _json({"backend": "xgrammar", "disable_any_whitespace": True})]
    command += ["--limit-mm-per-prompt", _json({"image": settings.images, "audio": settings.sounds, "video": 0})]
    command += ["--allowed-media-domains", "none.invalid"]  # with none at all it would fetch from anywhere
    command += ["--max-model-len", str(profile.context_tokens), "--max-num-seqs", str(settings.max_num_seqs)]
    command += ["--gpu-memory-utilization", f"{settings.gpu_memory_utilization:.2f}"]
    command += ["--dtype", settings.dtype, "--kv-cache-dtype", settings.kv_cache_dtype]
    if settings.quantization is not None:
        command += ["--quantization", settings.quantization]
    if settings.enforce_eager:
        command.append("--enforce-eager")
    if profile.adapter is not None:
        module = {"name": profile.served_name, "path": str(profile.adapter.file)}
        command += ["--enable-lora", "--max-lora-rank", str(settings.max_lora_rank), "--lora-modules", _json(module)]
    for flag, size in (("data", settings.data_parallel_size), ("tensor", settings.tensor_parallel_size)):
        if size > 1:
            command += [f"--{flag}-parallel-size", str(size)]
    return command


def server_environment(profile: Profile, *, inherited: Mapping[str, str], cache: Path) -> dict[str, str]:
    """Return the whole environment; `cache` is a private folder for what engines compile and keep."""
    environment = {name: inherited[name] for name in _PASSED_ON if name in inherited}
    environment |= {"HOME": str(cache), "XDG_CACHE_HOME": str(cache), "TMPDIR": str(cache)}
    if profile.engine is Engine.VLLM:
        environment |= _OFFLINE | {
            "VLLM_CACHE_ROOT": str(cache / "vllm"),
            "VLLM_CONFIG_ROOT": str(cache / "vllm-config"),
        }
        if profile.vllm.cpu_kv_cache_gib is not None:
            environment["VLLM_CPU_KVCACHE_SPACE"] = str(profile.vllm.cpu_kv_cache_gib)
    return environment


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
