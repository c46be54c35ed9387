"""The rows of a database as one stream of bytes, and back (`FORMAT.md`, section 3).

Rules kept here:

* Reading is one read transaction: the stream is one state of the database, whoever writes meanwhile.
* A patient's wrapped key never enters the stream: where it stands in its row, the stream says so and no more.
* Writing and reading keep nothing but the row at hand: memory stays flat, whatever the size of the database.
* A reader believes nothing: each length is bounded, each kind is known, the digest at the end must fit.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Protocol

from clinic.errors import BackupError, StorageError

MAGIC: Final = b"clinic-backup-rows-v1\n"
KEY_TABLE: Final = "patients"
KEY_COLUMN: Final = "wrapped_dek"
OWNER_COLUMN: Final = "id"
"""Where the wrapped key of a patient stands, and the column that says whose it is."""

Value = int | float | str | bytes | None

_LONGEST: Final = 80 << 20  # a sealed value has at most 64 MiB
_HEAD: Final = struct.Struct(">cI")
_LENGTH: Final = struct.Struct(">I")
_INT: Final = struct.Struct(">q")
_FLOAT: Final = struct.Struct(">d")


class Elsewhere:
    """Stands where a wrapped key stood."""

    def __repr__(self) -> str:
        return "ELSEWHERE"


ELSEWHERE: Final = Elsewhere()


class Sink(Protocol):
    """Takes what a stream holds, in its order."""

    def file(self, name: str, content: bytes) -> None:
        """A small file of the data folder."""

    def statement(self, sql: str) -> None:
        """DDL: tables come before all rows, indexes and triggers after them."""

    def table(self, name: str, columns: Sequence[str]) -> None:
        """The rows that follow are of this table."""

    def row(self, values: Sequence[Value | Elsewhere]) -> None:
        """One row; ELSEWHERE in place of a wrapped key."""


@contextmanager
def snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection that sees one unchanging state of the database and cannot write.

    Raises:
        StorageError: `database_damaged`.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on the state is fixed
            yield connection
    except sqlite3.Error:  # its message may quote a value
        raise StorageError(
            "the database cannot be read whole",
            code="database_damaged",
            hint="run `clinic doctor`; the backups that there are stay as they are",
        ) from None


def stream(
    connection: sqlite3.Connection,
    *,
    files: Mapping[str, bytes],
    keys: Callable[[str, bytes], None],
    counts: dict[str, int],
) -> Iterator[bytes]:
    """Yield the stream, piece by piece.

    `keys` is given each patient's id and wrapped key, `counts` the number of rows of each table.
    """
    digest, records = hashlib.sha256(MAGIC), 0
    yield MAGIC
    for piece in _records(connection, files, keys, counts):
        digest.update(piece)
        records += 1
        yield piece
    yield _record(b"e", _INT.pack(records) + digest.digest())


def _records(
    connection: sqlite3.Connection,
    files: Mapping[str, bytes],
    keys: Callable[[str, bytes], None],
    counts: dict[str, int],
) -> Iterator[bytes]:
    for name, content in sorted(files.items()):
        yield _record(b"f", _framed(name.encode()) + content)
    schema = connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite~_%' ESCAPE '~' "
        "ORDER BY type != 'table', rowid"
    ).fetchall()
    tables = [name for kind, name, _ in schema if kind == "table"]
    for kind, _, sql in schema:
        if kind == "table":
            yield _record(b"d", str(sql).encode())
    for table in tables:
        yield from _rows(connection, table, keys, counts)
    for kind, _, sql in schema:
        if kind != "table":
            yield _record(b"d", str(sql).encode())


def _rows(
    connection: sqlite3.Connection, table: str, keys: Callable[[str, bytes], None], counts: dict[str, int]
) -> Iterator[bytes]:
    cursor = connection.execute(f"SELECT * FROM {quoted(table)} ORDER BY rowid")  # noqa: S608 - from the schema
    columns = [str(column[0]) for column in cursor.description]
    yield _record(b"t", b"".join(_framed(name.encode()) for name in (table, *columns)))
    secret = columns.index(KEY_COLUMN) if table == KEY_TABLE else -1
    owner = columns.index(OWNER_COLUMN) if table == KEY_TABLE else -1
    counts[table] = 0
    for row in cursor:
        counts[table] += 1
        if secret >= 0 and row[secret]:
            keys(str(row[owner]), row[secret])
            packed = [b"k" if at == secret else _packed(value) for at, value in enumerate(row)]
        else:
            packed = [_packed(value) for value in row]
        yield _record(b"r", b"".join(packed))


class Reader:
    """Takes the bytes of a stream as they come, and hands on what they say.

    Raises:
        BackupError: `backup_damaged`, in `feed` or `finish`.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._buffer = bytearray()
        self._at = 0
        self._digest = hashlib.sha256()
        self._begun = False
        self._ended = False
        self._records = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._ended:
            raise damaged("data.age", "something follows its end")
        self._buffer += data
        if not self._begun and len(self._buffer) >= len(MAGIC):
            if self._buffer[: len(MAGIC)] != MAGIC:
                raise damaged("data.age", "it is not of the format that this program reads")
            self._digest.update(MAGIC)
            self._at, self._begun = len(MAGIC), True
        while self._begun and self._step():
            pass
        del self._buffer[: self._at]
        self._at = 0

    def finish(self) -> None:
        """Say that nothing more comes."""
        if not self._ended or self._buffer:
            raise damaged("data.age", "it ends too early")

    def _step(self) -> bool:
        body = self._at + _HEAD.size
        if self._ended or len(self._buffer) < body:
            return False
        kind, length = _HEAD.unpack_from(self._buffer, self._at)
        if length > _LONGEST:
            raise damaged("data.age", "a record is longer than any can be")
        end = body + length
        if len(self._buffer) < end:
            return False
        with memoryview(self._buffer) as view:
            if kind != b"e":
                self._digest.update(view[self._at : end])
            content = bytes(view[body:end])
        self._at = end
        try:
            self._take(kind, content)
        except (struct.error, UnicodeDecodeError, IndexError, KeyError):
            raise damaged("data.age", "a record cannot be read") from None
        return True

    def _take(self, kind: bytes, content: bytes) -> None:
        if kind == b"e":
            if content != _INT.pack(self._records) + self._digest.digest():
                raise damaged("data.age", "its end does not fit what stands before it")
            self._ended = True
            return
        self._records += 1
        if kind == b"r":
            self._sink.row(_unpacked(content))
        elif kind == b"t":
            name, *columns = _unframed(content)
            self._sink.table(name.decode(), [column.decode() for column in columns])
        elif kind == b"d":
            self._sink.statement(content.decode())
        elif kind == b"f":
            (length,) = _LENGTH.unpack_from(content)
            self._sink.file(content[4 : 4 + length].decode(), content[4 + length :])
        else:
            raise damaged("data.age", "a record is of no known kind")


def damaged(part: str, why: str) -> BackupError:
    """Return the error that names the damaged part of a backup."""
    return BackupError(
        f"`{part}` of the backup is damaged: {why}",
        code="backup_damaged",
        hint="take another backup; keep this one aside, and check the disk it lies on",
    )


def quoted(name: str) -> str:
    """Return a table's or column's name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'


def _record(kind: bytes, content: bytes) -> bytes:
    return _HEAD.pack(kind, len(content)) + content


def _framed(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _unframed(content: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        found.append(_slice(content, at + 4, length))
        at += 4 + length
    return found


def _packed(value: Value) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, str):
        return b"s" + _framed(value.encode())
    if isinstance(value, bytes):
        return b"b" + _framed(value)
    if isinstance(value, int):
        return b"i" + _INT.pack(value)
    return b"f" + _FLOAT.pack(value)


def _unpacked(content: bytes) -> list[Value | Elsewhere]:
    values: list[Value | Elsewhere] = []
    at, end = 0, len(content)
    while at < end:
        kind = content[at : at + 1]
        at += 1
        if kind in {b"s", b"b"}:
            (length,) = _LENGTH.unpack_from(content, at)
            data = _slice(content, at + 4, length)
            values.append(data.decode() if kind == b"s" else data)
            at += 4 + length
        elif kind in {b"i", b"f"}:
            values.append((_INT if kind == b"i" else _FLOAT).unpack_from(content, at)[0])
            at += 8
        else:
            values.append({b"n": None, b"k": ELSEWHERE}[kind])
    return values


def _slice(content: bytes, start: int, length: int) -> bytes:
    if start + length > len(content):
        raise IndexError
    return content[start : start + length]
