"""The units' filter of system calls against what the programs really call: a filter that is too narrow ends a clinic.

systemd is not started: strace lists the calls, `systemd-analyze` what the filter lets through.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from clinic.config import Config
from clinic.home import HomeOptions, create
from tests.conftest import MODELS, ROOT, SAMPLE

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(not (shutil.which("strace") and shutil.which("systemd-analyze")), reason="`make tools`"),
]

ONLY_AS_ROOT = frozenset({"fchown"}) if os.geteuid() == 0 else frozenset[str]()
"""As root, files are given to the folder's owner; the units are never root."""

FILTER = [
    line.removeprefix("SystemCallFilter=")
    for line in (ROOT / "deploy" / "systemd" / "clinic-worker.service").read_text("utf-8").splitlines()
    if line.startswith("SystemCallFilter=")
]


@cache
def members(group: str) -> frozenset[str]:
    """Return the calls of a group, its groups opened."""
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    names = [line.strip() for line in listed.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return frozenset().union(*(members(name) if name[0] == "@" else {name} for name in names))


def let_through(lines: list[str]) -> set[str]:
    """Return what is left of the calls after these lines of a unit."""
    allowed: set[str] = set()
    for line in lines:
        for group in line.removeprefix("~").split():
            allowed = allowed - members(group) if line[0] == "~" else allowed | members(group)
    return allowed


def called(trace: Path, *arguments: str, config: Config) -> set[str]:
    """Run a command, its children included, and return the names of the calls that it made."""
    command = ["strace", "-f", "-qq", "-o", str(trace), sys.executable, "-m", "clinic", *arguments]
    done = subprocess.run(
        [*command, "--home", str(config.home)], capture_output=True, text=True, check=False, timeout=540
    )
    assert done.returncode == 0, done.stderr[-500:]
    with trace.open(encoding="utf-8", errors="replace") as lines:
        return {match[1] for line in lines if (match := re.match(r"\d+ +([a-z_0-9]+)\(", line))}


@pytest.mark.parametrize("command", ["audit checkpoint", "backup create", "consult"])
def test_no_call_is_outside_the_filter(tmp_path: Path, command: str) -> None:
    """A checkpoint, a backup, and a whole consultation: decoder, recogniser, model server with its keeper."""
    config = create(tmp_path / "home", HomeOptions(insecure_key_file=True, models=MODELS)).config
    (tmp_path / "disk").mkdir(mode=0o700)
    more = {"backup create": ["--to", str(tmp_path / "disk")], "consult": [str(SAMPLE)]}.get(command, [])
    found = called(tmp_path / "trace", *command.split(), *more, config=config)
    assert len(found) > 30
    assert found - let_through(FILTER) - ONLY_AS_ROOT == set()


def test_a_filter_that_is_too_narrow_is_seen(tmp_path: Path) -> None:
    """Negative control: without the calls about processes, none that holds a key could protect itself."""
    config = create(tmp_path / "home", HomeOptions(insecure_key_file=True, models=MODELS)).config
    found = called(tmp_path / "trace", "audit", "checkpoint", config=config)
    assert "prctl" in found - let_through([*FILTER, "~@process"])
