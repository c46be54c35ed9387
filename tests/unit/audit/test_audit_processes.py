"""Several processes, and processes that die: the chain stays whole."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from clinic.audit.events import AuditOpened
from clinic.domain import OPERATOR
from tests.unit.audit.audit_store import Store

_PROGRAM = ("-m", "tests.unit.audit.audit_appender")
_ROOT = Path(__file__).resolve().parents[3]


def _start(store: Store, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, *_PROGRAM, str(store.path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)


def test_four_processes_append_into_one_chain(store: Store) -> None:
    """Each acknowledged entry has a number of its own, none is missing, and the chain verifies."""
    children = [_start(store, f"p{number}", 40) for number in range(4)]
    outputs = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0, 0, 0]
    acknowledged = sorted(int(seq) for output in outputs for seq in output.split())
    assert acknowledged == list(range(1, 161))
    report = store.log().verify()
    assert (report.ok, report.entries) == (True, 160)
    actors = {entry.body for entry in store.log().entries()}
    assert len(actors) == 160


def test_killed_processes_lose_nothing_that_they_acknowledged(store: Store) -> None:
    """After `kill -9` at any moment every acknowledged entry is there and the chain goes on."""
    log = store.log()
    log.append(AuditOpened(format_version=1), actor=OPERATOR)
    acknowledged = 1
    for cycle in range(4):
        child = _start(store, f"c{cycle}", 100_000)
        assert child.stdout is not None
        first = child.stdout.readline()  # it has begun
        time.sleep(0.03 * (cycle + 1))
        child.kill()
        rest = child.stdout.read()
        child.stdout.close()
        child.wait(timeout=60)
        complete = [line for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = int(complete[-1])
        report = log.verify()
        assert report.ok, report.message
        assert report.entries >= acknowledged
        log.append(AuditOpened(format_version=1), actor=OPERATOR)
    assert acknowledged > 4
    assert log.verify(checkpoint=log.checkpoint()).ok
