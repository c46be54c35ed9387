"""Taking the last bytes of destroyed keys out of the files: what a deletion alone leaves behind.

Rules kept here:

* `secure_delete` overwrites a cell that is deleted and a page that is given back, but not the copies that SQLite leaves
  in the unused part of a page when it moves cells between pages.  So the table is written anew and its old pages are
  given back as a whole, which overwrites them as a whole.
* Older states in the write-ahead log hold the key as well: the log is emptied and cut to nothing afterwards.
* So do the copies that `clinic migrate` makes before it changes an older database: they are overwritten and removed.
* Killed in between, all of it can be done again: each step leaves the database as it was, but for the remains.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine

from clinic.errors import StorageError
from clinic.records.engine import immediate, require_same_file, storage_errors, truncate_journal

_TABLE: Final = "patients"
_SCHEMA: Final = "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL AND type = ? ORDER BY name"
_CHUNK: Final = 1 << 20


def scrub(engine: Engine) -> None:
    """Leave nothing of any patient's key in the files of this database but the keys that its rows hold now.

    Raises:
        StorageError: `journal_busy` if a reader keeps an older state in use; do it again later.
    """
    rewrite_patients(engine)
    truncate_journal(engine)
    remove_copies(Path(engine.url.database or ""))


def rewrite_patients(engine: Engine) -> None:
    """Write the table of patients anew, in one transaction, with the same rows, indexes and triggers."""
    with storage_errors(), immediate(engine) as connection:
        try:
            # Without this, giving the table up would ask every row of every other table whom it belongs to.
            connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]
            with connection.begin():
                require_same_file(connection)
                _rewrite(connection)
        finally:
            connection.invalidate()  # never back into the pool without foreign keys


def remove_copies(database: Path) -> None:
    """Overwrite and remove the copies that were made before migrations: they hold the keys of their time.

    Raises:
        StorageError: one of them cannot be removed.
    """
    stem, suffix = database.stem, database.suffix
    for pattern in (f"{stem}.before-*{suffix}", f".{stem}.before-*{suffix}.*.partial"):
        for copy in database.parent.glob(pattern):
            try:
                _erase(copy)
            except OSError as error:
                raise StorageError(
                    f"cannot remove `{copy}`, which holds older keys: {os.strerror(error.errno or 0).lower()}",
                    hint="make it removable or remove it yourself, then run the same command again",
                ) from error


def _rewrite(connection: Connection) -> None:
    schema = {kind: connection.exec_driver_sql(_SCHEMA, (_TABLE, kind)).scalars().all() for kind in _KINDS}
    before = _count(connection, _TABLE)
    connection.exec_driver_sql(f"CREATE TEMP TABLE kept AS SELECT * FROM main.{_TABLE} ORDER BY rowid")  # noqa: S608 - a constant
    connection.exec_driver_sql(f"DROP TABLE main.{_TABLE}")
    for statement in (*schema["table"], *schema["index"]):
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql(f"INSERT INTO main.{_TABLE} SELECT * FROM temp.kept ORDER BY rowid")  # noqa: S608 - as above
    for statement in schema["trigger"]:
        connection.exec_driver_sql(statement)
    connection.exec_driver_sql("DROP TABLE temp.kept")
    if _count(connection, _TABLE) != before:
        raise RuntimeError("the table of patients did not come out as it was; nothing was changed")


_KINDS: Final = ("table", "index", "trigger")


def _count(connection: Connection, table: str) -> int:
    return int(connection.exec_driver_sql(f"SELECT count(*) FROM main.{table}").scalar_one())  # noqa: S608 - as above


def _erase(path: Path) -> None:
    """Overwrite a file where it lies, sync it, then remove it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        left = os.fstat(descriptor).st_size
        while left:
            left -= os.write(descriptor, bytes(min(left, _CHUNK)))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    path.unlink()
