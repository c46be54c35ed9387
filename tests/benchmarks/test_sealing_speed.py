"""What sealing costs, everything else equal: the same patients in the clear and sealed, without and with an entry.

Run with `make bench`.  The kinds take turns row by row in one database file, so that they share what the machine has to
give; nothing here passes or fails by time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from datetime import datetime

import pytest
from pydantic import TypeAdapter
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from clinic.audit.events import PatientCreated
from clinic.config import Config
from clinic.domain import OPERATOR, canonical_json, new_id, utc_now
from clinic.home import unlock_home
from clinic.records.engine import open_engine, read_transaction, write_transaction
from clinic.records.models import PatientRow
from clinic.records.patients import PatientData
from clinic.records.records import Records
from clinic.records.sealed import Place
from clinic.records.work import Parts, UnitOfWork
from tests.benchmarks.test_flow import machine, say

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(600)]

ROWS = 400
WARM = 20
DATA = {"date_of_birth": "1961-02-03", "name": "Amina Okafor", "record_number": None, "sex": "female"}
CLEAR = TypeAdapter(PatientData)

Step = Callable[[], object]


class Base(DeclarativeBase):
    """Tables of the baseline."""


class ClearRow(Base):
    """The columns of a patient, but in the clear, and so without a key."""

    __tablename__ = "clear_patients"
    id: Mapped[str] = mapped_column(primary_key=True)
    record_number_index: Mapped[int | None] = mapped_column(index=True)
    data: Mapped[str]
    row_version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    shredded_at: Mapped[datetime | None]


def in_turn(steps: dict[str, Step]) -> dict[str, float]:
    """Return the median of each step in microseconds; they take turns, each time another first."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(WARM + ROWS):
        at = number % len(names)
        for name in names[at:] + names[:at]:
            begun = time.perf_counter()
            steps[name]()
            if number >= WARM:
                taken[name].append(1e6 * (time.perf_counter() - begun))
    return {name: statistics.median(values) for name, values in taken.items()}


class Bench:
    """One data folder, and each kind of insert and read as a step."""

    def __init__(self, config: Config) -> None:
        keyring = unlock_home(config)
        self.engine: Engine = open_engine(config.database)
        self.records = Records(self.engine, keyring=keyring)
        self.parts = Parts(keyring=keyring, audit=self.records.audit, clock=utc_now, hasher=self.records._parts.hasher)
        self.clear_ids: list[str] = []
        self.sealed_ids: list[str] = []
        with write_transaction(self.engine) as connection:
            Base.metadata.create_all(connection)

    def clear(self, *, audited: bool) -> None:
        """Insert a patient in the clear; `audited` with the entry's own part in the clear, too: there is none."""
        with write_transaction(self.engine, self.records.guard) as connection, Session(bind=connection) as session:
            now = utc_now()
            row = ClearRow(id=new_id(), row_version=1, created_at=now, updated_at=now)
            row.data = canonical_json(DATA).decode()
            session.add(row)
            session.flush()
            self.clear_ids.append(row.id)
            if audited:
                event = PatientCreated(patient=self.records.audit.pseudonym(row.id))
                self.records.audit.append(event, actor=OPERATOR, connection=connection)

    def sealed(self) -> None:
        """Insert a patient with a key of their own, sealed and counted, without an entry."""
        with write_transaction(self.engine, self.records.guard) as connection:
            work = UnitOfWork(connection, self.parts, writable=True)
            now = utc_now()
            row = PatientRow(id=new_id(), row_version=1, created_at=now, updated_at=now)
            row.wrapped_dek = work.vault.enrol(row.id)
            row.data = work.vault.seal_json(PatientRow.data, DATA, Place(row.id, row.id, 1))
            work.add(row)
            work.finish()
            work.close()
            self.sealed_ids.append(row.id)

    def whole(self) -> None:
        """Insert a patient as the program does: sealed, with an entry that has a sealed part."""
        with self.records.write() as tx:
            self.sealed_ids.append(tx.patients.create(CLEAR.validate_python(DATA), actor=OPERATOR).id)

    def commit(self) -> None:
        """Begin and commit with one small row: what no insert can go below."""
        with write_transaction(self.engine, self.records.guard) as connection:
            _nothing(connection)

    def read_clear(self) -> None:
        """Read and parse one in the clear."""
        with read_transaction(self.engine) as connection, Session(bind=connection) as session:
            row = session.get(ClearRow, self.clear_ids[len(self.clear_ids) // 2])
            assert row is not None
            assert CLEAR.validate_json(row.data).name

    def read_sealed(self) -> None:
        """Read, open and parse one."""
        with self.records.read() as tx:
            assert tx.patients.data(self.sealed_ids[len(self.sealed_ids) // 2]).name


def _nothing(connection: Connection) -> None:
    connection.exec_driver_sql("UPDATE alone SET n = n + 1")


def test_what_sealing_costs(config: Config) -> None:
    """Medians row by row, in turns, and what sealed reaches of the same in the clear."""
    bench = Bench(config)
    with write_transaction(bench.engine) as connection:
        connection.exec_driver_sql("CREATE TABLE alone (n INTEGER)")
        connection.exec_driver_sql("INSERT INTO alone VALUES (0)")
    made = in_turn(
        {
            "commit alone": bench.commit,
            "clear": lambda: bench.clear(audited=False),
            "sealed": bench.sealed,
            "clear, audited": lambda: bench.clear(audited=True),
            "sealed, audited": bench.whole,
        }
    )
    read = in_turn({"clear": bench.read_clear, "sealed": bench.read_sealed})
    say(machine())
    say("inserts, median: " + "; ".join(f"{name} {value:.0f} us" for name, value in made.items()))
    say(
        f"sealed reaches {made['clear'] / made['sealed']:.2f} of the same in the clear, both unaudited; "
        f"{made['clear, audited'] / made['sealed, audited']:.2f}, both audited; "
        f"sealed and audited {made['clear'] / made['sealed, audited']:.2f} of clear and unaudited"
    )
    say(
        f"reads, median: clear {read['clear']:.0f} us, sealed {read['sealed']:.0f} us: "
        f"{read['clear'] / read['sealed']:.2f}"
    )
    assert bench.records.audit.verify().ok
