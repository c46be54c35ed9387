"""The one door to the database file: how it is opened, begun, committed and how it fails.

Rules kept here:

* Every connection carries the same pragmas (`PRAGMAS`), set on connect and read back: a database that refuses one is
  not used.  WAL with `synchronous=FULL`, because `NORMAL` loses acknowledged commits at a power cut.
* The driver never begins or commits on its own: writing transactions start with `BEGIN IMMEDIATE`, reading ones with
  `BEGIN`, and DDL is inside them like anything else.
* What the disk refuses (full, read-only, I/O error) is a `StorageError`, and nothing was acknowledged.
* One thread of a process writes at a time, in the order in which they came; the others wait in the process, not in
  SQLite's sleeps, and together never longer than `PATIENCE_S`.  Then it is `database_busy`.
* What the disk refuses while the audit log's guard watches latches it: nothing more is written until it is verified.
* A database file that was removed or replaced under a living connection is noticed before anything is written to it.
* File and folder are the owner's alone: mode 0600.  Errors never carry the parameters of a statement.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from clinic.audit.guard import Guard
from clinic.audit.latch import Reason
from clinic.errors import StorageError

PRAGMAS: Final[tuple[tuple[str, str, str | int], ...]] = (
    # name, value to set, value to read back
    ("busy_timeout", "1500", 1500),
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("foreign_keys", "ON", 1),
    ("secure_delete", "ON", 1),
    ("trusted_schema", "OFF", 0),
    ("cell_size_check", "ON", 1),
    ("recursive_triggers", "ON", 1),  # without it INSERT OR REPLACE deletes a row past its DELETE trigger
    ("temp_store", "MEMORY", 2),  # sorting spills into memory, never into a temporary file
)

PATIENCE_S: Final = 1.5
"""How long a writer waits for its turn: short, so that whoever asked is answered within two seconds."""

_USUAL_WAIT: Final = int(PATIENCE_S * 1000)
_POOL: Final = 16
_SLACK: Final = 100  # milliseconds that may be added to it without asking
_PRIVATE: Final = 0o600
_BEGIN = "clinic_begin"
_WAIT = "clinic_wait"
_FILE = "clinic_file"
_PID = "clinic_pid"

_turns: WeakKeyDictionary[Engine, threading.Lock] = WeakKeyDictionary()

_CODES: Final[dict[int, tuple[str, str, str]]] = {
    sqlite3.SQLITE_FULL: (
        "disk_full",
        "the disk is full",
        "free some space; nothing was lost, the step can be repeated",
    ),
    sqlite3.SQLITE_IOERR: (
        "disk_full",
        "the disk cannot be read or written",
        "check space and health of the disk; nothing was acknowledged, the step can be repeated",
    ),
    sqlite3.SQLITE_READONLY: (
        "disk_full",
        "the disk or the database file is read-only",
        "check how the disk is mounted and who owns the data folder",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "disk_full",
        "the database file cannot be opened",
        "check that the data folder is there, has space and belongs to the clinic's account",
    ),
    sqlite3.SQLITE_BUSY: (
        "database_busy",
        "the database is held by another program",
        "try again; close other programs that have the database open",
    ),
    sqlite3.SQLITE_PROTOCOL: (
        "disk_full",
        "the locks of the database file cannot be used",
        "check that the data folder is on a local disk, and its health; nothing was acknowledged",
    ),
    sqlite3.SQLITE_CORRUPT: (
        "database_damaged",
        "the database file is damaged",
        "stop the clinic service and restore the data folder from your backup",
    ),
    sqlite3.SQLITE_NOTADB: (
        "database_damaged",
        "the database file is not a database",
        "stop the clinic service and restore the data folder from your backup",
    ),
}


def open_engine(path: Path) -> Engine:
    """Return an engine for the database file at `path`; the file is made (mode 0600) if it is not there."""
    open_private(path)
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"isolation_level": None, "timeout": PATIENCE_S, "cached_statements": 256},
        pool_size=_POOL,  # opening one costs more than a transaction: every thread of the web form keeps its own
        hide_parameters=True,
    )
    _listen(engine, path)
    return engine


@contextmanager
def write_transaction(engine: Engine, guard: Guard | None = None, *, closing: bool = False) -> Iterator[Connection]:
    """Yield a connection inside BEGIN IMMEDIATE; commit on exit, roll back on any exception.

    Args:
        engine: from `open_engine`.
        guard: refuses while the audit log is latched, and latches on what the disk refuses.
        closing: this only ends what was under way (see `Guard.require_open`).

    Raises:
        StorageError: the disk refused, or the database file is no longer the one that was opened.
        AuditLatchedError: the audit log is latched, by this failure or before.
    """
    if guard is None:
        with storage_errors(), _turn(engine) as left, immediate(engine, left) as connection, connection.begin():
            require_same_file(connection)
            yield connection
        return
    guard.require_open(closing=closing)
    with _watched(guard), _turn(engine) as left, immediate(engine, left) as connection, connection.begin():
        require_same_file(connection)
        yield connection
    guard.note_written()


@contextmanager
def read_transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection that sees one unchanging state of the database."""
    with storage_errors(), engine.connect().execution_options(**{_BEGIN: "BEGIN"}) as connection, connection.begin():
        yield connection


def immediate(engine: Engine, patience_s: float = PATIENCE_S) -> Connection:
    """Return a connection, not yet in a transaction, whose transactions begin with BEGIN IMMEDIATE."""
    return engine.connect().execution_options(**{_BEGIN: "BEGIN IMMEDIATE", _WAIT: int(patience_s * 1000)})


def open_private(path: Path) -> None:
    """Make `path` an empty file of the owner's alone (-wal and -shm take their mode from it), or tighten its mode."""
    try:
        # An existing database is not opened here: closing a descriptor would drop the locks that SQLite holds on it
        # in this process (POSIX).
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE))
    except FileExistsError:
        _tighten(path)
    except OSError as error:
        raise StorageError(
            f"cannot open the database file `{path}`: {os.strerror(error.errno or 0).lower()}",
            hint="check that the data folder is there, has space and belongs to the clinic's account",
        ) from error


def truncate_journal(engine: Engine) -> None:
    """Move everything committed into the database file and cut the write-ahead log to nothing.

    Raises:
        StorageError: `journal_busy` if a reader keeps an older state in use for longer than the busy timeout.
    """
    with storage_errors(), closing(engine.raw_connection()) as connection:
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise StorageError(
            "older states of the database are still in use, so its write-ahead log was not emptied",
            code="journal_busy",
            hint="nothing is lost; end long-running commands, then run the same command again",
        )


def integrity_problems(engine: Engine) -> tuple[str, ...]:
    """Return what SQLite's own check of the file finds: broken pages and indexes, rows that point nowhere.

    It names tables and pages, no values.

    Raises:
        StorageError: the file is too damaged to be checked.
    """
    with read_transaction(engine) as connection:
        found = [str(line) for line in connection.exec_driver_sql("PRAGMA integrity_check").scalars() if line != "ok"]
        nowhere = {(row[0], row[2]) for row in connection.exec_driver_sql("PRAGMA foreign_key_check")}
    return (*found, *(f"rows of {table} point nowhere in {parent}" for table, parent in sorted(nowhere)))


def _tighten(path: Path) -> None:
    try:
        if stat.S_IMODE(path.stat().st_mode) != _PRIVATE:
            path.chmod(_PRIVATE)
    except OSError as error:
        raise StorageError(
            f"cannot take the database file `{path}` from other accounts: {os.strerror(error.errno or 0).lower()}",
            hint="the data folder is mounted read-only or belongs to another account: check `mount` and its owner",
        ) from error


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what the disk refuses into `StorageError`; every other database error passes unchanged.

    The cause is cut off: SQLite's own message may name values.
    """
    try:
        yield
    except (exc.DBAPIError, sqlite3.Error) as error:
        problem = _CODES.get(_primary_code(error))
        if problem is None:
            raise
        code, message, hint = problem
        raise StorageError(message, code=code, hint=hint) from None


def require_same_file(connection: Connection) -> None:
    """Raise `StorageError` unless the path still names the file that this connection has open.

    SQLite goes on committing into an unlinked file without a word; what it then acknowledges is lost.
    """
    path, opened = connection.info[_FILE]
    if opened is None or _identity(path) != opened:
        connection.invalidate()
        raise StorageError(
            "the database file was removed or replaced while in use",
            code="database_replaced",
            hint="stop the clinic service, put the right file in place, start again",
        )


@contextmanager
def _watched(guard: Guard) -> Iterator[None]:
    """As `storage_errors`, and latch."""
    try:
        yield
    except (exc.DBAPIError, sqlite3.Error) as error:
        latch = guard.note_fault(error)
        if latch is not None:
            raise latch.refusal() from None
        with storage_errors():
            raise
    except StorageError as error:
        if error.code == "database_replaced":
            raise guard.latch(Reason.FILE_REPLACED).refusal() from None
        if error.code == "database_busy" and (latch := guard.note_busy()) is not None:
            raise latch.refusal() from None
        raise


@contextmanager
def _turn(engine: Engine) -> Iterator[float]:
    """Wait until no other thread of this process writes, and yield the seconds that are left to wait for others.

    SQLite's own waiting sleeps, and is not fair.
    """
    turn: threading.Lock = _turns.setdefault(engine, threading.Lock())
    deadline = time.monotonic() + PATIENCE_S
    if not turn.acquire(timeout=PATIENCE_S):
        code, message, hint = _CODES[sqlite3.SQLITE_BUSY]
        raise StorageError(message, code=code, hint=hint)
    try:
        yield max(deadline - time.monotonic(), 0.0)
    finally:
        turn.release()


def _listen(engine: Engine, path: Path) -> None:
    def connect(dbapi_connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        _set_pragmas(dbapi_connection)
        entry.info[_FILE] = (path, _identity(path))
        entry.info[_PID] = os.getpid()

    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        wait, usual = options.get(_WAIT, _USUAL_WAIT), _USUAL_WAIT
        if wait >= usual - _SLACK:
            connection.exec_driver_sql(options.get(_BEGIN, "BEGIN"))
            return
        connection.exec_driver_sql(f"PRAGMA busy_timeout={wait}")
        try:
            connection.exec_driver_sql(options[_BEGIN])
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={usual}")

    def handle_error(context: ExceptionContext) -> None:
        # After a failed fsync the same descriptor may claim success: never go on with it.
        if getattr(context.original_exception, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR:
            context.is_disconnect = True

    event.listen(engine, "connect", connect)
    event.listen(engine, "handle_error", handle_error)
    event.listen(engine, "begin", begin)
    event.listen(engine, "checkout", _refuse_foreign_process)


def _refuse_foreign_process(
    _connection: sqlite3.Connection, entry: ConnectionPoolEntry, proxy: PoolProxiedConnection
) -> None:
    # A connection that crossed a fork breaks SQLite's locks; the pool opens a fresh one instead.
    if entry.info[_PID] != os.getpid():
        entry.dbapi_connection = None  # type: ignore[misc]  # in the slots of its concrete class
        proxy.dbapi_connection = None  # type: ignore[misc]  # the pattern that SQLAlchemy documents
        raise exc.DisconnectionError("connection belongs to another process")


def _set_pragmas(connection: sqlite3.Connection) -> None:
    for name, value, expected in PRAGMAS:
        connection.execute(f"PRAGMA {name}={value}").close()
        actual = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if actual != expected:
            raise StorageError(
                f"the database refuses `{name}={value}`",
                code="database_unsafe",
                hint="use a local file system (no network share) and the SQLite that ships with Python",
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # gone, or not to be looked at: either way not known to be the same
        return None
    return status.st_dev, status.st_ino


def _primary_code(error: exc.DBAPIError | sqlite3.Error) -> int:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return int(getattr(cause, "sqlite_errorcode", 0)) & 0xFF  # the low byte of an extended code
