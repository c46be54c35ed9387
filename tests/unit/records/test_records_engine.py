"""The door to the database file."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, exc

from clinic.errors import StorageError
from clinic.records import engine as engine_module
from clinic.records.engine import PRAGMAS, integrity_problems, open_engine, read_transaction, write_transaction


def rows(path: Path, query: str = "SELECT count(*) FROM t") -> int:
    """Ask the file itself, past the engine under test."""
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(query).fetchone()[0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with one empty table `t`."""
    path = tmp_path / "clinic.db"
    engine = open_engine(path)
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE t (v BLOB)")
    engine.dispose()
    return path


@pytest.fixture
def table(path: Path) -> Iterator[Engine]:
    """An engine on it."""
    engine = open_engine(path)
    yield engine
    engine.dispose()


@pytest.mark.parametrize(("name", "value", "expected"), [pytest.param(*p, id=p[0]) for p in PRAGMAS])
def test_every_pragma_reads_back_on_every_connection(table: Engine, name: str, value: str, expected: str | int) -> None:
    """Each connection of the pool carries each pragma."""
    del value
    with read_transaction(table) as first, read_transaction(table) as second:
        for connection in (first, second):
            assert connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() == expected


def test_pragmas_do_not_come_by_themselves(path: Path) -> None:
    """Negative control: a connection that was not opened through the engine lacks them."""
    with closing(sqlite3.connect(path)) as connection:
        actual = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name, _, _ in PRAGMAS}
    assert actual["foreign_keys"] == 0
    assert actual["recursive_triggers"] == 0
    assert actual["cell_size_check"] == 0
    assert actual["trusted_schema"] == 1


def test_a_database_that_refuses_a_pragma_is_not_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pragma that does not read back as it was set is an error."""
    monkeypatch.setattr(engine_module, "PRAGMAS", (("journal_mode", "WAL", "memory"),))
    engine = open_engine(path)
    with pytest.raises(StorageError) as caught, read_transaction(engine):
        pass
    assert caught.value.code == "database_unsafe"


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    """Database, write-ahead log and shared memory have mode 0600 whatever the umask."""
    path = tmp_path / "clinic.db"
    old = os.umask(0)
    try:
        engine = open_engine(path)
        with write_transaction(engine) as connection:
            connection.exec_driver_sql("CREATE TABLE t (v)")
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        engine.dispose()
    finally:
        os.umask(old)
    assert modes == {"clinic.db": 0o600, "clinic.db-wal": 0o600, "clinic.db-shm": 0o600}


def test_a_loose_mode_is_tightened(path: Path) -> None:
    """Opening a database that others could read takes that from them."""
    path.chmod(0o644)
    open_engine(path).dispose()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [errno.EROFS, errno.EPERM])
def test_a_mode_that_cannot_be_tightened_is_a_storage_error(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A read-only disk, or somebody else's file: one clear line, no traceback."""
    path.chmod(0o644)

    def refuse(_path: Path, _mode: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(StorageError) as caught:
        open_engine(path)
    assert os.strerror(number).lower() in str(caught.value)
    assert "read-only" in caught.value.hint


def test_a_mode_that_is_right_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a database that is private already needs no right to change it."""

    def refuse(_path: Path, _mode: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "chmod", refuse)
    open_engine(path).dispose()


def test_a_whole_database_has_no_integrity_problems(table: Engine) -> None:
    """The control of the next two."""
    assert integrity_problems(table) == ()


def test_an_index_that_lies_is_an_integrity_problem(table: Engine, path: Path) -> None:
    """SQLite's own check compares tables and indexes."""
    with write_transaction(table) as connection:
        connection.exec_driver_sql("CREATE INDEX i ON t (v)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1), (2)")
    with closing(sqlite3.connect(path)) as thief:
        thief.execute("PRAGMA writable_schema = ON")
        thief.execute("UPDATE sqlite_schema SET sql = 'CREATE INDEX i ON t (v) WHERE v > 1' WHERE name = 'i'")
        thief.commit()
    table.dispose()  # an open connection keeps the schema that it read
    assert integrity_problems(table) != ()


def test_a_row_that_points_nowhere_is_an_integrity_problem(table: Engine, path: Path) -> None:
    """Foreign keys are checked as well: whoever goes past the program is not held by them."""
    with closing(sqlite3.connect(path)) as thief:
        thief.execute("CREATE TABLE child (parent INTEGER REFERENCES family (id))")
        thief.execute("CREATE TABLE family (id INTEGER PRIMARY KEY)")
        thief.execute("INSERT INTO child VALUES (7)")
        thief.commit()
    assert integrity_problems(table) == ("rows of child point nowhere in family",)


def test_no_hint_names_a_command_that_does_not_exist() -> None:
    """There is no `clinic backup`."""
    hints = [hint for _, _, hint in engine_module._CODES.values()]
    assert not [hint for hint in hints if "clinic backup" in hint]


def test_a_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    """A database in a folder that is not there cannot be opened."""
    with pytest.raises(StorageError) as caught:
        open_engine(tmp_path / "absent" / "clinic.db")
    assert caught.value.code == "disk_full"


def test_a_write_transaction_commits(table: Engine, path: Path) -> None:
    """What was written in the block is in the file after it."""
    with write_transaction(table) as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    assert rows(path) == 1


def test_an_exception_rolls_everything_back(table: Engine, path: Path) -> None:
    """Rows and DDL of a failed block are gone."""

    def fail() -> None:
        with write_transaction(table) as connection:
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            connection.exec_driver_sql("CREATE TABLE u (v)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert rows(path) == 0
    assert rows(path, "SELECT count(*) FROM sqlite_master WHERE name = 'u'") == 0


def test_a_read_transaction_sees_one_state(table: Engine) -> None:
    """A commit elsewhere is not seen before the reading block ends."""
    with read_transaction(table) as reader:
        before = reader.exec_driver_sql("SELECT count(*) FROM t").scalar_one()
        with write_transaction(table) as writer:
            writer.exec_driver_sql("INSERT INTO t VALUES (1)")
        assert reader.exec_driver_sql("SELECT count(*) FROM t").scalar_one() == before


def test_a_second_writer_is_told_that_the_database_is_busy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BEGIN IMMEDIATE waits for the lock and then gives up with a code of its own."""
    quick = tuple(("busy_timeout", "50", 50) if p[0] == "busy_timeout" else p for p in PRAGMAS)
    monkeypatch.setattr(engine_module, "PRAGMAS", quick)
    first, second = open_engine(path), open_engine(path)
    with write_transaction(first), pytest.raises(StorageError) as caught, write_transaction(second):
        pass
    assert caught.value.code == "database_busy"
    first.dispose()
    second.dispose()


def test_a_database_at_its_size_limit_is_a_full_disk(table: Engine, path: Path) -> None:
    """`database or disk is full` becomes `disk_full`; nothing is kept, and work goes on when there is room."""
    with write_transaction(table) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=8")
    with pytest.raises(StorageError) as caught, write_transaction(table) as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(1000000))")
    assert caught.value.code == "disk_full"
    assert rows(path) == 0
    with write_transaction(table) as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=100000")
        connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(1000000))")
    assert rows(path) == 1


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow past `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)


def test_a_refused_write_is_a_full_disk(table: Engine, path: Path) -> None:
    """`disk I/O error` becomes `disk_full`; nothing is kept, and the connection is not used again."""
    with write_transaction(table) as connection:
        before = connection.connection.driver_connection
    with pytest.raises(StorageError) as caught, file_size_limit(200_000), write_transaction(table) as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(1000000))")
    assert caught.value.code == "disk_full"
    assert rows(path) == 0
    with write_transaction(table) as connection:
        assert connection.connection.driver_connection is not before
        connection.exec_driver_sql("INSERT INTO t VALUES (zeroblob(1000000))")
    assert rows(path) == 1


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB; skips where none may be mounted."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k,mode=0700", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_file_system_is_a_full_disk(tiny_disk: Path) -> None:
    """What was committed before the disk filled is there; what was refused is not."""
    path = tiny_disk / "clinic.db"
    engine = open_engine(path)
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE t (v BLOB)")
    acknowledged: list[int] = []

    def fill() -> None:
        for number in range(100):
            with write_transaction(engine) as connection:
                connection.exec_driver_sql("INSERT INTO t VALUES (randomblob(20000))")
            acknowledged.append(number)

    with pytest.raises(StorageError) as caught:
        fill()
    engine.dispose()
    assert caught.value.code == "disk_full"
    assert 0 < len(acknowledged) < 100
    assert rows(path) == len(acknowledged)


def test_a_read_only_database_is_a_storage_error(table: Engine) -> None:
    """`attempt to write a readonly database` becomes `disk_full`."""
    with read_transaction(table) as connection:  # returned to the pool, read-only
        connection.exec_driver_sql("PRAGMA query_only=ON")
    with pytest.raises(StorageError) as caught, write_transaction(table) as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    assert caught.value.code == "disk_full"
    assert "read-only" in str(caught.value)


def test_a_file_that_is_no_database_is_named_damaged(tmp_path: Path) -> None:
    """Garbage in place of the database is `database_damaged`."""
    path = tmp_path / "clinic.db"
    path.write_bytes(b"not a database at all" * 500)
    with pytest.raises(StorageError) as caught, read_transaction(open_engine(path)):
        pass
    assert caught.value.code == "database_damaged"


@pytest.mark.parametrize("replace", [False, True], ids=["removed", "replaced"])
def test_a_file_taken_from_under_the_connection_is_noticed(table: Engine, path: Path, *, replace: bool) -> None:
    """Nothing is written, and nothing acknowledged, once the path names another file or none."""
    with write_transaction(table):
        pass
    path.rename(path.with_name("stolen.db"))
    if replace:
        open_engine(path).dispose()
    with pytest.raises(StorageError) as caught, write_transaction(table) as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    assert caught.value.code == "database_replaced"


@pytest.mark.parametrize("when", ["at every look", "when it was opened"])
def test_a_file_that_cannot_be_looked_at_is_not_trusted(
    when: str, table: Engine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `stat` that fails, now or when the connection was made, is refused in our words; nothing is written."""
    fails = OSError(errno.EIO, os.strerror(errno.EIO))
    look = Path.stat

    def stat_of(self: Path, **options: bool) -> os.stat_result:
        if self == path:
            raise fails
        return look(self, **options)

    if when == "at every look":
        with write_transaction(table):
            pass
    with monkeypatch.context() as broken:
        broken.setattr(Path, "stat", stat_of)
        with pytest.raises(StorageError) as caught, write_transaction(table) as connection:
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    assert caught.value.code == "database_replaced"
    assert rows(path) == 0
    with write_transaction(table) as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    assert rows(path) == 1


def test_locks_that_do_not_work_are_named(table: Engine) -> None:
    """SQLite's "locking protocol" is an error of ours, and not told as it is."""
    error = sqlite3.OperationalError("locking protocol")
    error.sqlite_errorcode = sqlite3.SQLITE_PROTOCOL
    with pytest.raises(StorageError) as caught, write_transaction(table):
        raise error
    assert caught.value.code == "disk_full"


def test_sqlite_itself_does_not_notice(path: Path) -> None:
    """Negative control: a bare connection goes on committing into the unlinked file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        path.unlink()
        connection.execute("INSERT INTO t VALUES (2)")
        assert connection.execute("SELECT count(*) FROM t").fetchone()[0] == 2
    assert not path.exists()


def test_a_connection_does_not_cross_a_fork(table: Engine, path: Path) -> None:
    """A child process gets a connection of its own, and parent and child both write."""
    with write_transaction(table) as connection:
        parents = connection.connection.driver_connection
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with write_transaction(table) as connection:
                connection.exec_driver_sql("INSERT INTO t VALUES (1)")
                status = 2 if connection.connection.driver_connection is parents else 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with write_transaction(table) as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (2)")
    assert rows(path) == 2


def violate(engine: Engine) -> str:
    """Insert the same value twice and return the error's text."""
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS names (name TEXT PRIMARY KEY)")
        connection.exec_driver_sql("INSERT OR REPLACE INTO names VALUES (?)", ("canary name",))
    with pytest.raises(exc.IntegrityError) as caught, engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO names VALUES (?)", ("canary name",))
    return str(caught.value)


def test_errors_carry_no_parameters(table: Engine, path: Path) -> None:
    """The text of a database error holds no value; an engine without that setting does (control)."""
    assert "canary name" not in violate(table)
    plain = create_engine(f"sqlite:///{path}")
    assert "canary name" in violate(plain)
    plain.dispose()
