"""The parts of the scripts that decide something, run in Node where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

NODE = shutil.which("node")
JS = Path(__file__).resolve().parents[2] / "clinic" / "web" / "static" / "js"
TESTS = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))


@pytest.mark.skipif(NODE is None, reason="needs node, a development tool")
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_script(path: Path, tmp_path: Path) -> None:
    """Every `node --test` of the file passes."""
    for script in JS.glob("*.js"):  # Node takes a file for a module by its folder or its name
        (tmp_path / script.name).write_bytes(script.read_bytes())
    (tmp_path / "package.json").write_text('{"type": "module"}', encoding="ascii")
    (tmp_path / path.name).write_bytes(path.read_bytes())
    done = subprocess.run(
        [str(NODE), "--test", path.name], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(JS.glob("*.js")), ids=lambda path: path.name)
def test_every_import_is_one_of_ours(path: Path) -> None:
    """Modules import each other by file, and nothing else."""
    for name in re.findall(r'^import .* from "([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE):
        assert (JS / name).is_file(), name
