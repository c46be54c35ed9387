"""A clinic whose notes come from a real vLLM, started by our own launcher under the production flags."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from clinic.config import Config
from clinic.generation.client import ModelClient
from clinic.generation.launcher import ModelServer, model_server
from clinic.generation.profiles import Profile, folder_sha256, load_profile
from clinic.home import HomeOptions, create, open_records, unlock_home
from clinic.records.records import Records
from tests.conftest import MODELS, ROOT
from tests.unit.generation.generation_world import PROFILES, embedded
from tests.vllm.model_folders import PROGRAM

READY_S = 420
"""A start takes about a minute here; more where the machine has other work."""

_FIRST_PIN = re.compile(r"unless \{\s*\[\s*")
_PROFILE = """\
id = "{id}"
label = "{id}, for tests"
licence = "see the model's own"
engine = "vllm"
style = "{style}"
context_tokens = 8192
ready_timeout_s = {ready}

[weights]
path = "{weights}"
sha256 = "{sha256}"
{adapter}
[vllm]
program = "{program}"
dialect = "{dialect}"
dtype = "bfloat16"
enforce_eager = true
cpu_kv_cache_gib = 1
max_lora_rank = 32
{more}
"""
_ADAPTER = """
[adapter]
file = "{file}"
sha256 = "{sha256}"
canary = {canary}
"""


def completion_profile(folder: Path, gemma3: Path, *, adapter: Path | None = None) -> Path:
    """Write the profile of Gemma 3 270M with our adapter, or another, and return its path."""
    ours = embedded().adapter
    if ours is None:
        raise RuntimeError("the embedded profile has an adapter")
    lora = adapter or gemma3 / "adapter"
    canary = json.dumps(ours.canary)
    section = _ADAPTER.format(file=lora, sha256=folder_sha256(lora), canary=canary)
    name, style = "gemma-3-270m-vllm", "completion"
    return _write(folder, name, style=style, weights=gemma3 / "base", dialect="plain", adapter=section)


def chat_profile(folder: Path, weights: Path, *, more: str = "") -> Path:
    """Write the profile of a small Gemma 4 and return its path; `more`: further lines for `[vllm]`."""
    return _write(folder, "gemma-4-small", style="chat", weights=weights, dialect="gemma4", more=more)


def _write(
    folder: Path, name: str, *, style: str, weights: Path, dialect: str, adapter: str = "", more: str = ""
) -> Path:
    path = folder / f"{name}.toml"
    text = _PROFILE.format(
        id=name,
        style=style,
        ready=READY_S,
        weights=weights,
        sha256=folder_sha256(weights),
        adapter=adapter,
        program=PROGRAM,
        dialect=dialect,
        more=more,
    )
    path.write_text(text, encoding="utf-8")
    load_profile(str(path), PROFILES)  # a mistake is told here, not by a server that does not start
    return path


@dataclass(slots=True)
class VllmClinic:
    """One data folder, its records, and the server that its commands and jobs find at its socket."""

    config: Config
    records: Records
    server: ModelServer
    said: list[str] = field(default_factory=list)

    @property
    def profile(self) -> Profile:
        """The profile that is served."""
        return self.server.profile

    def client(self, *, timeout_s: float = 240) -> ModelClient:
        """Return our own client."""
        return ModelClient(self.server.socket, profile=self.profile, timeout_s=timeout_s)

    def raw(self) -> httpx.Client:
        """Return a client that sends what ours never would."""
        transport = httpx.HTTPTransport(uds=str(self.server.socket))
        return httpx.Client(transport=transport, base_url="http://m", timeout=240, headers={"Connection": "close"})

    def files(self) -> Iterator[Path]:
        """Yield every file that the server could have written: log, cache, and whatever else lies in the folder."""
        for folder in (self.config.logs_dir, self.config.run_dir):
            yield from (path for path in folder.rglob("*") if path.is_file())

    def process(self, title: str) -> int:
        """Return the id of the server's process that calls itself `title`."""
        for pid in self.server.processes():
            if title in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace"):
                return pid
        raise AssertionError(f"there is no process {title}")


def _policies_that_pin(folder: Path, profile: Profile) -> Path:
    """Copy the policies that ship, with this model's digest among the pins: an unknown model is denied."""
    copy = folder / "policies"
    shutil.copytree(ROOT / "policies", copy)
    pins = copy / "pins.cedar"
    text = pins.read_text(encoding="utf-8")
    pins.write_text(_FIRST_PIN.sub(rf'\g<0>"{profile.sha256}", ', text, count=1), encoding="utf-8")
    return copy


@contextmanager
def vllm_clinic(folder: Path, profile: Path) -> Iterator[VllmClinic]:
    """Make a data folder for this profile and run its model server."""
    config = create(folder / "home", HomeOptions(insecure_key_file=True, models=MODELS)).config
    settings = config.home / "clinic.toml"
    text = settings.read_text(encoding="utf-8")
    policies = _policies_that_pin(folder, load_profile(str(profile), PROFILES))
    text = f'{text}\n[generation]\nprofile = "{profile}"\n\n[policy]\ndirectory = "{policies}"\n'
    settings.write_text(text, encoding="utf-8")
    config = Config.load(config.home)
    said: list[str] = []
    server = model_server(config, say=said.append)
    if server is None:
        raise RuntimeError("the profile's server is ours to start")
    server.start()
    try:
        yield VllmClinic(config, open_records(config, unlock_home(config)), server, said)
    finally:
        server.stop()
