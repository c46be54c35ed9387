"""What the audit log and the sealing cost: audited requests at 16 clients, sealed rows, audio.

Run with `make bench`; each line is printed with its baseline from the same run.  Nothing here passes or fails by time.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from clinic.audit.events import PatientViewed
from clinic.config import Config
from clinic.domain import OPERATOR, Consent, EncounterKind
from clinic.records.engine import PATIENCE_S, PRAGMAS, open_engine, read_transaction, write_transaction
from clinic.records.patients import PatientData
from clinic.records.records import Records
from tests.benchmarks.test_flow import machine, say

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(600)]

CLIENTS = 16
RATE = 200
SECONDS = 5.0
ROWS = 300
CHUNK = 1 << 20
MEGABYTES = 64


def load(action: Callable[[], object], *, rate: float = 0.0) -> tuple[float, float, float]:
    """Run an action from 16 threads; return how many a second, and median and 99th percentile of one, in ms.

    `rate`: so many a second in all, each timed from when it was due; 0 for as many as possible.
    """
    taken: list[list[float]] = [[] for _ in range(CLIENTS)]
    failed: list[BaseException] = []
    start = threading.Barrier(CLIENTS + 1)
    end, pause = [0.0], CLIENTS / rate if rate else 0.0

    def work(mine: list[float]) -> None:
        for _ in range(3):
            action()  # opens what a thread needs once
        start.wait()
        due = time.perf_counter() + pause * threads.index(threading.current_thread()) / CLIENTS
        try:
            while time.perf_counter() < end[0]:
                time.sleep(max(due - time.perf_counter(), 0.0) if rate else 0.0)
                begun = due if rate else time.perf_counter()
                due += pause
                action()
                mine.append(1000 * (time.perf_counter() - begun))
        except BaseException as error:  # noqa: BLE001 - told after the threads have ended
            failed.append(error)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    end[0] = float("inf")
    start.wait()
    end[0] = time.perf_counter() + SECONDS
    for thread in threads:
        thread.join()
    assert failed == []
    every = sorted(value for mine in taken for value in mine)
    return len(every) / SECONDS, statistics.median(every), every[round(0.99 * (len(every) - 1))]


def plain(path: Path) -> Callable[[], object]:
    """Return the baseline: one row in plain SQLite with the same pragmas, one thread at a time as the records do."""
    local = threading.local()
    turn = threading.Lock()

    def insert() -> None:
        with turn:
            if not hasattr(local, "db"):
                local.db = open_plain(path)
            local.db.execute("BEGIN IMMEDIATE")
            local.db.execute("INSERT INTO plain (body) VALUES (?)", (os.urandom(200),))
            local.db.execute("COMMIT")

    return insert


def open_plain(path: Path) -> sqlite3.Connection:
    """Open a plain database as the records are opened."""
    db = sqlite3.connect(path, isolation_level=None, timeout=PATIENCE_S)
    for name, value, _ in PRAGMAS:
        db.execute(f"PRAGMA {name}={value}")
    db.execute("CREATE TABLE IF NOT EXISTS plain (id INTEGER PRIMARY KEY, body BLOB)")
    return db


def test_audited_requests_at_sixteen_clients(records: Records, tmp_path: Path) -> None:
    """Written, synced and read back, as the gate does before each prompt; the model is none."""
    event = PatientViewed(patient="ab" * 16)

    def audited() -> None:
        records.audit.confirm(records.audit.append(event, actor=OPERATOR))

    insert = plain(tmp_path / "plain.db")
    _, slow_base_median, slow_base_p99 = load(insert, rate=RATE)
    slow, slow_median, slow_p99 = load(audited, rate=RATE)
    base, base_median, base_p99 = load(insert)
    rate, median, p99 = load(audited)
    say(machine())
    say(
        f"{RATE} a second from {CLIENTS} clients: plain median {slow_base_median:.1f} ms, p99 {slow_base_p99:.1f} ms; "
        f"audited {slow:.0f}/s, median {slow_median:.1f} ms, p99 {slow_p99:.1f} ms; "
        f"added p99 {slow_p99 - slow_base_p99:.1f} ms"
    )
    say(
        f"as many as they can: plain inserts, {CLIENTS} clients: {base:.0f}/s, median {base_median:.1f} ms, "
        f"p99 {base_p99:.1f} ms"
    )
    say(
        f"audited requests (append, sync, confirm), {CLIENTS} clients: {rate:.0f}/s, median {median:.1f} ms, "
        f"p99 {p99:.1f} ms; added p99 {p99 - base_p99:.1f} ms; synchronous=FULL"
    )
    assert records.audit.verify().ok


class Base(DeclarativeBase):
    """Tables of the baseline."""


class PlainRow(Base):
    """A patient in the clear, through the same engine and mapper."""

    __tablename__ = "plain_patients"
    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


def mapped(path: Path) -> tuple[float, float]:
    """Return seconds for the same inserts and reads, in the clear and unaudited, through the same engine and mapper."""
    engine = open_engine(path)
    with write_transaction(engine) as connection:
        Base.metadata.create_all(connection)
    begun = time.perf_counter()
    for number in range(ROWS):
        with write_transaction(engine) as connection, Session(bind=connection) as session:
            session.add(PlainRow(id=f"{number:032x}", name=f"Name {number}"))
            session.flush()
    inserted = time.perf_counter() - begun
    begun = time.perf_counter()
    for number in range(ROWS):
        with read_transaction(engine) as connection, Session(bind=connection) as session:
            found = session.get(PlainRow, f"{number:032x}")
            assert found is not None
    read = time.perf_counter() - begun
    engine.dispose()
    return inserted, read


def test_sealed_rows_against_plain_ones(records: Records, tmp_path: Path) -> None:
    """Patients, sealed and audited, one transaction each; beside a plain row with its own transaction."""
    with closing(open_plain(tmp_path / "plain.db")) as db:
        begun = time.perf_counter()
        for number in range(ROWS):
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO plain (body) VALUES (?)", (f"Name {number}".encode(),))
            db.execute("COMMIT")
        plain_s = time.perf_counter() - begun
        begun = time.perf_counter()
        for number in range(ROWS):
            db.execute("SELECT body FROM plain WHERE id = ?", (number + 1,)).fetchone()
        plain_read_s = time.perf_counter() - begun
    begun = time.perf_counter()
    made = []
    for number in range(ROWS):
        with records.write() as tx:
            made.append(tx.patients.create(PatientData(name=f"Name {number}"), actor=OPERATOR).id)
    sealed_s = time.perf_counter() - begun
    begun = time.perf_counter()
    for patient in made:
        with records.read() as tx:
            assert tx.patients.data(patient).name.startswith("Name")
    sealed_read_s = time.perf_counter() - begun
    mapped_s, mapped_read_s = mapped(tmp_path / "mapped.db")
    say(
        f"beside the same engine and mapper, unsealed and unaudited ({ROWS / mapped_s:.0f} inserts/s, "
        f"{ROWS / mapped_read_s:.0f} reads/s): inserts {mapped_s / sealed_s:.2f}x, "
        f"reads {mapped_read_s / sealed_read_s:.2f}x"
    )
    say(f"inserts: sealed and audited {ROWS / sealed_s:.0f}/s, plain {ROWS / plain_s:.0f}/s: {plain_s / sealed_s:.2f}x")
    say(
        f"reads: sealed {ROWS / sealed_read_s:.0f}/s, plain {ROWS / plain_read_s:.0f}/s: "
        f"{plain_read_s / sealed_read_s:.2f}x"
    )


def test_audio(records: Records, config: Config, tmp_path: Path) -> None:
    """Recorded chunks of 1 MiB, sealed and stored; beside the same bytes in plain SQLite, and the cipher alone."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data, cipher = os.urandom(CHUNK), AESGCM(os.urandom(32))
    begun = time.perf_counter()
    for number in range(MEGABYTES):
        cipher.encrypt(number.to_bytes(12), data, b"context")
    say(f"sealing alone (AES-256-GCM): {MEGABYTES / (time.perf_counter() - begun):.0f} MiB/s")
    with closing(open_plain(tmp_path / "plain.db")) as db:
        begun = time.perf_counter()
        db.execute("BEGIN IMMEDIATE")
        for _ in range(MEGABYTES):
            db.execute("INSERT INTO plain (body) VALUES (?)", (data,))
        db.execute("COMMIT")
        plain_s = time.perf_counter() - begun
    with records.write() as tx:
        patient = tx.patients.create(PatientData(name="Somebody"), actor=OPERATOR)
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=OPERATOR
        )
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, actor=OPERATOR)
        recording = tx.recordings.start(encounter.id, mime="audio/webm", actor=OPERATOR)
    begun = time.perf_counter()
    with records.write() as tx:
        for number in range(MEGABYTES):
            tx.recordings.append(recording.id, number, data)
    sealed_s = time.perf_counter() - begun
    say(
        f"audio, sealed and stored in one transaction: {MEGABYTES / sealed_s:.0f} MiB/s, plain "
        f"{MEGABYTES / plain_s:.0f} MiB/s: {plain_s / sealed_s:.2f}x"
    )
    assert config.database.stat().st_size > 0
