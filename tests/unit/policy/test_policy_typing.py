"""The types say it: what must not be written does not type-check."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SNIPPETS = sorted((ROOT / "tests" / "typing").glob("*.py"))


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda path: path.stem)
def test_snippet_fails_exactly_where_it_says(snippet: Path, tmp_path: Path) -> None:
    """Mypy rejects exactly the lines marked `# expect: code`, with exactly those codes."""
    lines = enumerate(snippet.read_text(encoding="utf-8").splitlines(), start=1)
    expected = {
        (number, code.strip())
        for number, line in lines
        if "# expect:" in line
        for code in line.partition("# expect:")[2].split(",")
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--cache-dir",
            tmp_path,
            "--follow-imports=silent",
            "--no-color-output",
            snippet,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(rf"{re.escape(snippet.name)}:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    assert {(int(number), code) for number, code in found} == expected
    assert expected
