"""Model profiles: which weights, which engine, asked in which way.  One TOML file each, in `deploy/profiles/`.

Rules kept here:

* Unknown keys, wrong types and settings that contradict each other are refused.
* Weights and adapter are named by SHA-256.  A profile without one can be read, but has an empty identity: the policy
  denies it and the launcher does not start it.
* The network is off unless the profile says `network = "host-unsafe"` in so many words.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from clinic.domain import ModelIdentity, PromptStyle, canonical_sha256
from clinic.errors import ConfigError
from clinic.weights import file_sha256

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class Engine(StrEnum):
    """What serves the model; all of them speak the OpenAI-compatible API."""

    LLAMA_CPP = "llama.cpp"
    VLLM = "vllm"
    EXTERNAL = "external"  # somebody else's server on a local socket: never started or stopped here


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Weights(_Section):
    """The weights: a packaged set by name (`clinic.weights`), or a file or folder by absolute path."""

    package: str | None = None
    path: Path | None = None
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.package is None) == (self.path is None):
            raise ValueError("exactly one of `package` and `path` must be given")
        if self.path is not None and not self.path.is_absolute():
            raise ValueError("`path` must be absolute")
        return self


class Adapter(_Section):
    """A LoRA: a GGUF file for llama.cpp, a PEFT folder for vLLM; `file` is relative to the profile's folder.

    On the text `canary` it must change the answer.
    """

    file: Path
    sha256: Sha256
    canary: Annotated[str, Field(min_length=1, max_length=2000)]


class LlamaSettings(_Section):
    """Settings of the llama.cpp child.  `threads` 0: cores minus one (all of them would collapse its speed)."""

    threads: Annotated[int, Field(ge=0, le=256)] = 0


class VllmSettings(_Section):
    """Settings of `vllm serve`; the flags that keep it private and offline are not settable.

    Attributes:
        program: where `vllm` is.
        dialect: how the model writes thoughts and calls of tools; `plain` for one that knows neither.
        cpu_kv_cache_gib: memory for the cache of a server without a GPU.
        max_lora_rank: the highest rank of an adapter; read only if there is one.
        images, sounds: how many of them one request may carry; our client sends none yet.
    """

    program: str = "vllm"
    dialect: Literal["gemma4", "qwen3", "plain"] = "gemma4"
    chat_template: Path | None = None
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.70
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    dtype: Literal["auto", "bfloat16"] = "auto"
    quantization: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")] | None = None
    cpu_kv_cache_gib: Annotated[int, Field(ge=1, le=1024)] | None = None
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256] = 64
    images: Annotated[int, Field(ge=0, le=16)] = 0
    sounds: Annotated[int, Field(ge=0, le=16)] = 0
    max_num_seqs: Annotated[int, Field(ge=1, le=1024)] = 8
    enforce_eager: bool = False
    data_parallel_size: Annotated[int, Field(ge=1, le=64)] = 1
    tensor_parallel_size: Annotated[int, Field(ge=1, le=64)] = 1


class Profile(_Section):
    """One way to serve one model."""

    id: _Name
    label: Annotated[str, Field(min_length=1, max_length=120)]
    licence: Annotated[str, Field(min_length=1, max_length=120)]
    engine: Engine
    style: PromptStyle
    context_tokens: Annotated[int, Field(ge=512, le=1 << 20)]
    network: Literal["none", "host-unsafe"] = "none"
    ready_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 300
    weights: Weights
    adapter: Adapter | None = None
    llama: LlamaSettings = LlamaSettings()
    vllm: VllmSettings = VllmSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.adapter is not None and self.engine is Engine.EXTERNAL:
            raise ValueError("an adapter of somebody else's server is not ours to prove")
        if self.engine is not Engine.LLAMA_CPP and "llama" in self.model_fields_set:
            raise ValueError("section `llama` belongs to engine `llama.cpp`")
        if self.engine is not Engine.VLLM and "vllm" in self.model_fields_set:
            raise ValueError("section `vllm` belongs to engine `vllm`")
        return self

    @property
    def sha256(self) -> str:
        """One digest over weights and adapter; empty if the weights are not pinned."""
        if self.weights.sha256 is None:
            return ""
        adapter = None if self.adapter is None else self.adapter.sha256
        return canonical_sha256({"weights": self.weights.sha256, "adapter": adapter})

    @property
    def served_name(self) -> str:
        """The name under which the server must answer: it carries the digest, so a wrong model cannot go unnoticed."""
        return f"{self.id}-{self.sha256[:16] or 'unpinned'}"

    @property
    def base_name(self) -> str:
        """The name of the model without its adapter, where vLLM serves both; nothing but the canary asks for it."""
        return f"{self.served_name}-base"

    @property
    def identity(self) -> ModelIdentity:
        """The model as audit log, policy and notes name it."""
        return ModelIdentity(
            id=self.served_name,
            sha256=self.sha256,
            profile=self.id,
            style=self.style,
            context_tokens=self.context_tokens,
        )


def load_profile(name: str, directory: Path) -> Profile:
    """Read a profile by name from `directory`, or by path if `name` holds a slash or ends in `.toml`.

    Raises:
        ConfigError: `profile_unknown`, `profile_invalid`.
    """
    path = Path(name) if "/" in name or name.endswith(".toml") else directory / f"{name}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"there is no model profile `{name}`",
            code="profile_unknown",
            hint=f"choose one of: {', '.join(sorted(p.stem for p in directory.glob('*.toml'))) or 'none found'}",
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"cannot read profile `{path}`: {exc}", code="profile_invalid", hint="it is TOML") from exc
    try:
        profile = Profile(**data)
    except (ValidationError, TypeError) as exc:
        raise ConfigError(
            f"profile `{path}` is not valid: {_first_problem(exc)}", code="profile_invalid", hint="see deploy/profiles/"
        ) from exc
    return _with_absolute_adapter(profile, path.resolve().parent)


def folder_sha256(folder: Path) -> str:
    """Return one digest over all files of a model folder: their SHA-256 and names, sorted by name.

    Raises:
        ConfigError: `weights_missing` if the folder is not there or empty.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file()) if folder.is_dir() else []
    if not files:
        raise ConfigError(
            f"no model at `{folder}`", code="weights_missing", hint="copy the model there, or correct the profile"
        )
    lines = "".join(f"{file_sha256(p)}  {p.relative_to(folder).as_posix()}\n" for p in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def inference_threads(wanted: int) -> int:
    """Return the number of threads: as wanted, else all cores but one, at least one."""
    return wanted or max(1, len(os.sched_getaffinity(0)) - 1)


def _with_absolute_adapter(profile: Profile, folder: Path) -> Profile:
    if profile.adapter is None:
        return profile
    adapter = profile.adapter.model_copy(update={"file": (folder / profile.adapter.file).resolve()})
    return profile.model_copy(update={"adapter": adapter})


def _first_problem(exc: ValidationError | TypeError) -> str:
    if isinstance(exc, TypeError):
        return "unexpected key"
    problem = exc.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"]) or "profile"
    return f"`{where}`: {problem['msg'].lower()}"
