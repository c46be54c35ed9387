"""Every file system call of one audited request fails once (EIO, ENOSPC), and the process is killed once at each.

As Tessera tests its storage: trace one request, then run it again for every single call and every fault, with strace
injecting the fault into exactly that call, and look at what is left with a fresh process.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

from clinic.config import Config
from tests.campaigns.audited_requests import Findings, Order, check
from tests.campaigns.processes import Model, Requests, Work, copy_home, recording_model

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

FAULTS = ("error=EIO", "error=ENOSPC", "signal=SIGKILL")
_WATCHED = "%file,%desc"
_NOT_FILES = {"poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_ctl", "epoll_create1", "mmap"}
"""Not about files, or (anonymous `mmap`) about memory; mapped files are covered by the calls that fill them."""
_LINE = re.compile(r"^(?:\d+ +)?([a-z0-9_]+)\((.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """The `number`-th call of `name` in a request."""

    name: str
    number: int


@dataclass
class Outcome:
    """What one faulty request came to."""

    findings: Findings
    fired: bool
    refused: str | None
    crashed: bool


@dataclass
class Tally:
    """What a campaign saw."""

    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def add(self, call: Call, fault: str, outcome: Outcome) -> None:
        """Count one injection."""
        self.counts["injections"] += 1
        self.counts["fired"] += outcome.fired
        self.counts["prompts seen"] += outcome.findings.prompts
        self.counts["unrecorded"] += outcome.findings.unrecorded
        self.counts["not refused in our words"] += outcome.crashed
        self.refusals[outcome.refused or ("killed" if "SIGKILL" in fault else "went on")] += 1
        self.violations += [f"{call} {fault}: {found}" for found in outcome.findings.violations]


@contextmanager
def traced(pid: int, log: Path, *options: str) -> Iterator[None]:
    """Attach strace to a process until the block ends."""
    command = ["strace", "-f", "-y", "-p", str(pid), "-o", str(log), "-e", f"trace={_WATCHED}", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        first = strace.stderr.readline()
        assert "attached" in first, first
        try:
            yield
        finally:
            strace.terminate()  # it has ended by itself if the process has
            strace.communicate(timeout=60)


def calls_of_a_request(config: Config, folder: Path, order: Order) -> list[Call]:
    """Trace one good request; return its file system calls in order."""
    log = folder / "trace.txt"
    with recording_model(folder) as model:
        child = Requests(config.home, model, Work(order=order, count=1))
        with traced(child.pid, log):
            child.go()
            assert child.finish() == 0
        assert child.acknowledged.steps[-1][0] == "note"
    return list(_file_calls(log.read_text()))


def _file_calls(trace: str) -> Iterator[Call]:
    seen: Counter[str] = Counter()
    for line in trace.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        name, rest = found.groups()
        seen[name] += 1
        on_a_pipe = re.match(r"\d+<(pipe|socket|UNIX|anon_inode)", rest)
        if name not in _NOT_FILES and on_a_pipe is None:
            yield Call(name, seen[name])


def faulty_request(config: Config, model: Model, call: Call, fault: str, order: Order) -> Outcome:
    """Make one request in which this call meets this fault, and look at what it left."""
    before = len(model.seen())
    log = config.home / "trace.txt"
    child = Requests(config.home, model, Work(order=order, count=1))
    with traced(child.pid, log, "-e", f"inject={call.name}:{fault}:when={call.number}"):
        child.go()
        code = child.finish()
    trace = log.read_text()
    log.unlink()
    fired = "killed by SIGKILL" in trace if "SIGKILL" in fault else "(INJECTED)" in trace
    acknowledged = child.acknowledged
    findings = check(config, model.seen()[before:], acknowledged)
    return Outcome(findings, fired, acknowledged.refused, crashed=code not in (0, -9))


def campaign(config: Config, folder: Path, pairs: list[tuple[Call, str]], order: Order) -> Tally:
    """Run one faulty request for each pair, each on its own copy of the data folder."""
    tally = Tally()
    folder.mkdir(exist_ok=True)
    with recording_model(folder) as model:
        for call, fault in pairs:
            home = copy_home(config, folder / "h")
            tally.add(call, fault, faulty_request(home, model, call, fault, order))
            shutil.rmtree(home.home)
            if order is Order.RELEASE_FIRST and tally.counts["unrecorded"]:
                break
    return tally


def _late(calls: list[Call]) -> list[tuple[Call, str]]:
    """Return kills at the last writes and syncs of a request, where the mutant's model has been asked already."""
    return [(call, "signal=SIGKILL") for call in reversed(calls) if call.name in ("pwrite64", "fdatasync")]


@needs_strace
def test_some_calls_fail_short(config: Config, tmp_path: Path) -> None:
    """Every 100th pair of call and fault: no violation, and the injections fired."""
    calls = calls_of_a_request(copy_home(config, tmp_path / "t"), tmp_path, Order.RECORD_FIRST)
    assert len(calls) > 50
    tally = campaign(config, tmp_path / "c", list(product(calls, FAULTS))[::100], Order.RECORD_FIRST)
    assert tally.violations == []
    assert tally.counts["fired"] >= 0.95 * tally.counts["injections"] > 0


@needs_strace
def test_the_mutant_is_caught_short(config: Config, tmp_path: Path) -> None:
    """Released before recorded: a kill at one of the late writes finds it."""
    calls = calls_of_a_request(copy_home(config, tmp_path / "t"), tmp_path, Order.RELEASE_FIRST)
    assert campaign(config, tmp_path / "c", _late(calls), Order.RELEASE_FIRST).counts["unrecorded"] == 1


@needs_strace
@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_every_call_fails(config: Config, tmp_path: Path) -> None:
    """Every call times every fault: 0 violations, at least 95 % of the injections fired."""
    calls = calls_of_a_request(copy_home(config, tmp_path / "t"), tmp_path, Order.RECORD_FIRST)
    tally = campaign(config, tmp_path / "c", list(product(calls, FAULTS)), Order.RECORD_FIRST)
    kinds = Counter(call.name for call in calls)
    print(f"\nsystem calls: {len(calls)} {dict(kinds)}\n{dict(tally.counts)}\n{dict(tally.refusals)}")  # noqa: T201
    print("\n".join(tally.violations[:50]))  # noqa: T201 - what a long campaign found must not get lost
    assert tally.violations == []
    assert tally.counts["fired"] >= 0.95 * tally.counts["injections"]
