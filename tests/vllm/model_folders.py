"""Model folders for the real vLLM, made once from what is here and kept in `.cache/vllm`.

Rules kept here:

* A folder's name carries the digest of everything it was made from: a change makes it anew, by itself.
* A folder appears under its name only when it is complete.
* Without the environment of `make test-vllm` these tests fail; they are never skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clinic.weights import GEMMA_3_270M, file_sha256
from tests.conftest import MODELS, ROOT

PROGRAM = ROOT / ".venv-vllm" / "bin" / "vllm"
ADAPTER = ROOT / "deploy" / "adapter" / "gemma-3-270m-notes.gguf"
_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
_MAKERS = Path(__file__).with_name("checkpoints")
_FOLDER = ROOT / ".cache" / "vllm"


def require_environment() -> None:
    """Fail where vLLM is not installed."""
    if not PROGRAM.is_file():
        pytest.fail("vLLM is not installed: `make test-vllm` installs it and runs these tests", pytrace=False)


def gemma3() -> Path:
    """Return the folder with the packaged Gemma 3 270M as `base` and our adapter as `adapter`."""
    base = MODELS / GEMMA_3_270M.name / GEMMA_3_270M.files[0].name
    return _made("gemma3", [ADAPTER.with_name("checkpoint.py"), ADAPTER], [base, ADAPTER], also=GEMMA_3_270M.sha256)


def small_gemma4() -> Path:
    """Return the folder with the small Gemma 4, its weights random."""
    return _made("small_gemma4", [_MAKERS / "small_gemma4.py", _MAKERS / "chat_template.jinja"], [])


def scripted_gemma4(script: list[dict[str, Any]]) -> Path:
    """Return the folder with the small Gemma 4 that has learnt `script`; learning takes some minutes, once."""
    small = small_gemma4()
    text = json.dumps(script)
    _FOLDER.mkdir(parents=True, exist_ok=True)
    file = _FOLDER / f"script-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    file.write_text(text, encoding="utf-8")
    makers = [_MAKERS / "scripted_gemma4.py", _MAKERS / "media.py"]
    return _made("scripted_gemma4", [*makers, file], [small, file], also=small.name)


def _made(name: str, sources: list[Path], arguments: list[Path], *, also: str = "") -> Path:
    digest = hashlib.sha256(also.encode())
    for source in sources:
        digest.update(file_sha256(source).encode())
    target = _FOLDER / f"{name}-{digest.hexdigest()[:12]}"
    if target.is_dir():
        return target
    require_environment()
    partial = target.with_suffix(f".{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    subprocess.run(
        [_PYTHON, sources[0], *arguments, partial],
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"},
    )
    partial.rename(target)
    return target
