"""A small store for the tests of the audit log: one SQLite file as the program opens it, and a way to break into it."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event, make_url

from clinic.audit import tables
from clinic.audit.events import AuditEvent, AuditOpened, EncounterOpened, LoginFailed, NoteSigned, PatientViewed
from clinic.audit.kept import Rhythm
from clinic.audit.log import AuditLog
from clinic.domain import OPERATOR

SEED = bytes(range(32))
OTHER_SEED = bytes(range(1, 33))
PSEUDONYM_KEY = b"p" * 32
PATIENT = "ab" * 16
DIGEST = "0123456789abcdef" * 4


class SteadyClock:
    """Goes forward a second each time it is asked."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Return the next moment."""
        self.now += timedelta(seconds=1)
        return self.now


def _open(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 30000"):
        connection.execute(f"PRAGMA {pragma}")


def open_engine(path: Path) -> Engine:
    """Open the file as the program does: WAL, every commit synced, transactions begun by hand."""
    engine = create_engine(make_url("sqlite://").set(database=str(path)))
    event.listen(engine, "connect", _open)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


@dataclass
class Store:
    """A database file with an audit log in it."""

    path: Path
    engine: Engine

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Yield a connection inside BEGIN IMMEDIATE."""
        with self.engine.begin() as connection:
            yield connection

    def log(
        self,
        *,
        seed: bytes = SEED,
        pinned: bool = True,
        rhythm: Rhythm | None = None,
        clock: SteadyClock | None = None,
    ) -> AuditLog:
        """Return a log over the file, as a freshly started process would."""
        return AuditLog(
            self.begin,
            pseudonym_key=PSEUDONYM_KEY,
            signing_seed=seed,
            clock=clock or SteadyClock(),
            path=self.path if pinned else None,
            rhythm=rhythm,
        )

    def tamper(self, *statements: str, parameters: tuple[object, ...] = ()) -> None:
        """Do what somebody with the file in hand can do: the triggers go first."""
        with closing(sqlite3.connect(self.path)) as raw, raw:
            for trigger in tables.TRIGGER_NAMES:
                raw.execute(f"DROP TRIGGER IF EXISTS {trigger}")
            for statement in statements:
                raw.execute(statement, parameters)


def make_store(path: Path) -> Store:
    """Create the file with table and triggers."""
    store = Store(path=path, engine=open_engine(path))
    with store.begin() as connection:
        tables.create(connection)
    return store


def some_events(count: int) -> Iterator[AuditEvent]:
    """Yield `count` different events, the first one `log.opened`."""
    yield AuditOpened(format_version=1)
    for number in range(2, count + 1):
        name = f"id-{number}"
        kinds: tuple[AuditEvent, ...] = (
            PatientViewed(patient=PATIENT),
            EncounterOpened(encounter=name, patient=PATIENT, kind="consultation", template="soap"),
            NoteSigned(encounter=name, note=name, version=number, content_sha256=DIGEST),
            LoginFailed(user_id=name, reason="login_failed"),
        )
        yield kinds[number % len(kinds)]


def fill(log: AuditLog, count: int) -> None:
    """Append `count` events, each in its own transaction; what names a patient has a sealed part."""
    for happened in some_events(count):
        log.append(happened, actor=OPERATOR, seal=_sealed if hasattr(happened, "patient") else None)


def _sealed(seq: int) -> bytes:
    """Return what stands for ciphertext."""
    return hashlib.sha512(seq.to_bytes(8, "big")).digest()
