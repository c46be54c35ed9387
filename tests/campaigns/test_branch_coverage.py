"""Every line and every branch of keys, envelopes and audit log is run by their own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns.mutation import ROOT


def uncovered(modules: list[str], tests: list[str], folder: Path) -> dict[str, list[str]]:
    """Run tests, and name what they did not run, by file: lines (`12`) and branches (`12->15`, `12->end`)."""
    report = folder / "coverage.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--cov-branch"]
    command += [f"--cov={module}" for module in modules] + [f"--cov-report=json:{report}", *tests]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"COVERAGE_FILE": str(folder / "coverage")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    files = json.loads(report.read_text())["files"]
    return {name: _missing(found) for name, found in files.items()}


def _missing(found: dict[str, list[list[int]]]) -> list[str]:
    branches = [f"{start}->{end if end > 0 else 'end'}" for start, end in found["missing_branches"]]
    return [str(line) for line in found["missing_lines"]] + branches


def test_the_envelope_is_covered(tmp_path: Path) -> None:
    """The short form, with its control: without one of the files of tests, something is missing, and named."""
    modules = ["clinic.crypto.envelope", "clinic.crypto.aead"]
    both = ["tests/unit/crypto/test_envelope.py", "tests/unit/crypto/test_envelope_limits.py"]
    found = uncovered(modules, both, tmp_path)
    assert found == {"clinic/crypto/envelope.py": [], "clinic/crypto/aead.py": []}
    assert uncovered(modules, both[1:], tmp_path)["clinic/crypto/aead.py"]


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_keys_and_log_are_covered(tmp_path: Path) -> None:
    """100 % of all lines and branches of `clinic/crypto` and `clinic/audit`."""
    found = uncovered(["clinic.crypto", "clinic.audit"], ["tests/unit/crypto", "tests/unit/audit"], tmp_path)
    print(f"\n{len(found)} files; missing: {({name: gone for name, gone in found.items() if gone}) or 'nothing'}")  # noqa: T201
    assert len(found) > 20
    assert not any(found.values())
