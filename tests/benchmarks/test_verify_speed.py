"""How fast a log is verified, how much memory that takes, and where the time goes.

Run with `make bench`; each line is printed with its baseline from the same run.  Nothing here passes or fails by time.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from clinic.audit import events
from clinic.audit.entry import RawEntry, entry_bytes, entry_hash, timestamp
from clinic.audit.verify import verify_log
from clinic.config import Config
from clinic.records.records import Records
from tests.benchmarks.test_flow import machine, say

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ENTRIES = 1_000_000
IN_MEMORY = 200_000
SEALED = 40
"""In a hundred: how many entries have a sealed part."""

_INSERT = (
    "INSERT INTO audit_entries (seq, at, actor, role, event, body, prev_hash, hash, sealed) "
    "VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?, ?)"
)
_MEASURED = """\
import sys
from pathlib import Path
from clinic.cli import main
sys.argv = ["clinic", "audit", "verify", "--json"]
try:
    main()
finally:
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""


def chosen(identifier: str, digest: str) -> list[tuple[bytes, bytes]]:
    """Return name and body of ten entries, as one consultation leaves them: mostly looked at, once decided."""
    viewed = events.PatientViewed(patient=identifier)
    encounter = events.EncounterViewed(encounter=identifier, patient=identifier)
    authorized = events.GenerationAuthorized(
        generation=identifier,
        encounter=identifier,
        patient=identifier,
        action="draft_note",
        purpose="documentation",
        policy_set=digest,
        policies=("permit.consent", "permit.documentation"),
        obligations=("evidence:required", "label:draft", "max_tokens:1200"),
        prompt_sha256=digest,
        model="gemma-3-270m-it-Q4",
        model_sha256=digest,
        template="soap",
        template_sha256=digest,
        transcript_sha256=digest,
    )
    several = [viewed, encounter, viewed, encounter, viewed, encounter, viewed, encounter]
    return [(each.name.encode(), each.to_canonical()) for each in (*several, authorized, viewed)]


def chain(last: RawEntry | None, count: int) -> Iterator[RawEntry]:
    """Yield so many entries that follow `last`, rightly hashed."""
    pool, begun = chosen("5f" * 16, "9d" * 32), datetime(2026, 1, 2, tzinfo=UTC) if last is None else datetime.now(UTC)
    seq, known = (0, bytes(32)) if last is None else (last.seq, last.hash)
    for number in range(1, count + 1):
        name, body = pool[number % len(pool)]
        at = timestamp(begun + timedelta(milliseconds=number)).encode()
        sealed = os.urandom(90) if number % 100 < SEALED else None
        entry = RawEntry(seq + number, at, b"operator", b"clinician", name, body, known, b"", sealed)
        known = entry_hash(entry)
        yield entry._replace(hash=known)


def rate(rows: Iterable[object]) -> float:
    """Return how many a second are used up."""
    begun = time.perf_counter()
    count = sum(1 for _ in rows)
    return count / (time.perf_counter() - begun)


def test_verifying_in_memory() -> None:
    """The verifier alone, against one SHA-256 of the same bytes."""
    rows = list(chain(None, IN_MEMORY))
    joined = [entry_bytes(row) for row in rows]
    hashed = rate(sha256(each).digest() for each in joined)
    begun, worked = time.perf_counter(), time.thread_time()
    report = verify_log(rows)
    worked = len(rows) / (time.thread_time() - worked)
    verified = len(rows) / (time.perf_counter() - begun)
    assert (report.ok, report.entries) == (True, IN_MEMORY)
    say(f"machine: {machine()}, load {os.getloadavg()[0]:.1f}")
    say(
        f"verifying in memory: {verified:,.0f} entries/s, {worked:,.0f} a second of processor time; "
        f"one SHA-256 of each alone: {hashed:,.0f}/s"
    )


def test_verifying_a_million_entries(records: Records, config: Config) -> None:
    """The command `clinic audit verify`, in a process of its own, on a log of a million entries on disk."""
    last = list(records.audit.raw_entries())[-1]
    records.close()
    with closing(sqlite3.connect(config.database, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.executemany(_INSERT, chain(last, ENTRIES - last.seq))
        db.execute("COMMIT")
    read = rate(records.audit.raw_entries())
    environment = os.environ | {"CLINIC_HOME": str(config.home)}
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begun
    assert done.returncode == 0, done.stderr
    assert f'"entries":{ENTRIES}' in done.stdout.replace(" ", "")
    memory = int(done.stderr.split()[-1]) / 1024
    say(
        f"`clinic audit verify`, {ENTRIES:,} entries, {config.database.stat().st_size >> 20} MiB: {seconds:.1f} s, "
        f"{ENTRIES / seconds:,.0f} entries/s, {memory:.0f} MiB at most; reading the rows alone {read:,.0f}/s; "
        f"load {os.getloadavg()[0]:.1f}"
    )
