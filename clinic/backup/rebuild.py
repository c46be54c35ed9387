"""From the parts of a backup to a database again: for a restore, a drill, or only to look whether it is whole.

Rules kept here:

* Nothing that was built is used unless the digest of the whole `data.age` is the one that the clinic signed.
* Every patient has a key, or had none, or was forgotten on purpose; a key of nobody, and a patient without one, are
  damage.
* What is built only to be looked at wraps its keys under a key that exists in memory alone: whatever a crash leaves
  of it opens for nobody.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyrage

from clinic.backup import ageio
from clinic.backup.manifest import DATA, DEKS, Deks, Manifest
from clinic.backup.rows import (
    ELSEWHERE,
    KEY_COLUMN,
    KEY_TABLE,
    OWNER_COLUMN,
    Elsewhere,
    Reader,
    Value,
    damaged,
    quoted,
)
from clinic.errors import StorageError
from clinic.records.engine import open_private

AUDIO: Final = ("recording_chunks", "data")
"""Where nearly all bytes of a database are."""

Wrap = Callable[[str, bytes], bytes]
_BATCH: Final = 500
_BATCH_BYTES: Final = 8 << 20


@dataclass(slots=True)
class Rebuilt:
    """What came out.  `without_key` are the patients that were forgotten on purpose."""

    files: dict[str, bytes] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)
    without_key: list[str] = field(default_factory=list)


def rebuild(
    folder: Path,
    target: Path,
    *,
    manifest: Manifest,
    deks: Deks,
    identity: pyrage.x25519.Identity,
    pseudonym: Callable[[str], str],
    wrap: Wrap,
    audio: bool = True,
    step: ageio.Step | None = None,
) -> Rebuilt:
    """Write the database of a backup to the new file `target`; its caller removes it if this raises.

    Args:
        folder: the backup.
        target: does not exist yet.
        manifest: of the backup, read before.
        deks: of the backup, read before.
        identity: opens the backup.
        pseudonym: tells under which name a patient was forgotten.
        wrap: gives the form in which a patient's key is stored; raises `DecryptionError` if it does not open.
        audio: whether to keep the recordings' bytes.
        step: told how many sealed bytes were read.

    Raises:
        BackupError: `backup_damaged`, `backup_incomplete`, `backup_foreign`.
        StorageError: the disk refused.
    """
    open_private(target)
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as connection:
            # Whoever reads from the medium must be done before anything counts: no journal is needed until then.
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "trusted_schema=OFF", "secure_delete=ON"):
                connection.execute(f"PRAGMA {pragma}").close()
            connection.execute("BEGIN")
            builder = _Builder(connection, deks, pseudonym=pseudonym, wrap=wrap, audio=audio)
            reader = Reader(builder)
            read = ageio.read(folder / DATA, identity, reader.feed, step=step)
            reader.finish()
            if (read.size, read.sha256) != (manifest.data_bytes, manifest.data_sha256):
                raise damaged(DATA, "it is not the file that this backup was made with")
            built = builder.finish()
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise _refused(error) from None
    if built.tables != dict(manifest.tables):
        raise damaged(DATA, "it does not hold the rows that its manifest counts")
    return built


class _Builder:
    """Takes a stream's records and writes them to a database."""

    def __init__(
        self, connection: sqlite3.Connection, deks: Deks, *, pseudonym: Callable[[str], str], wrap: Wrap, audio: bool
    ) -> None:
        self._connection = connection
        self._deks = deks
        self._pseudonym = pseudonym
        self._wrap = wrap
        self._audio = audio
        self._built = Rebuilt()
        self._used: set[str] = set()
        self._table = ""
        self._insert = ""
        self._columns: Sequence[str] = ()
        self._rows: list[Sequence[Value | Elsewhere]] = []
        self._size = 0

    def file(self, name: str, content: bytes) -> None:
        self._built.files[name] = content

    def statement(self, sql: str) -> None:
        self._flush()
        if not sql.lstrip().upper().startswith("CREATE "):
            raise damaged(DATA, "it holds a statement that creates nothing")
        self._connection.execute(sql)

    def table(self, name: str, columns: Sequence[str]) -> None:
        self._flush()
        self._table, self._columns = name, columns
        self._built.tables[name] = 0
        names = ", ".join(quoted(column) for column in columns)
        self._insert = f"INSERT INTO {quoted(name)} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - quoted

    def row(self, values: Sequence[Value | Elsewhere]) -> None:
        row = list(values)
        if len(row) != len(self._columns):
            raise damaged(DATA, "a row does not fit its table")
        if self._table == KEY_TABLE:
            self._put_key(row)
        if not self._audio and self._table == AUDIO[0]:
            row[self._columns.index(AUDIO[1])] = b""
        self._built.tables[self._table] += 1
        self._rows.append(row)
        self._size += sum(len(value) for value in row if isinstance(value, bytes))
        if len(self._rows) >= _BATCH or self._size >= _BATCH_BYTES:
            self._flush()

    def finish(self) -> Rebuilt:
        self._flush()
        if set(self._deks.keys) - self._used:
            raise damaged(DEKS, "it holds the key of a patient whom the data do not know")
        return self._built

    def _put_key(self, row: list[Value | Elsewhere]) -> None:
        at = self._columns.index(KEY_COLUMN)
        if row[at] is not ELSEWHERE:
            return
        patient = str(row[self._columns.index(OWNER_COLUMN)])
        wrapped = self._deks.keys.get(patient)
        if wrapped is not None:
            self._used.add(patient)
            row[at] = self._wrap(patient, wrapped)
        elif self._pseudonym(patient) in self._deks.forgotten:
            self._built.without_key.append(patient)
            row[at] = b""
        else:
            raise damaged(DEKS, "the key of a patient is missing, and it does not say that this is on purpose")

    def _flush(self) -> None:
        if self._rows:
            self._connection.executemany(self._insert, self._rows)
        self._rows, self._size = [], 0


def _refused(error: sqlite3.Error) -> StorageError | Exception:
    code = int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return StorageError(
            "there is no room to rebuild the database of the backup",
            code="disk_full",
            hint="free some space on the disk of the data folder; the clinic and the backup are unharmed",
        )
    return damaged(DATA, "its rows do not make a database")
