"""The schema's version: found out, brought up to date, refused.

Rules kept here:

* An upgrade is one transaction, however many revisions it takes: after a crash the database is as it was, or current.
* The program starts only on exactly its own schema: an older one is migrated first (`clinic migrate`), a newer one is
  refused, and an empty file is never mistaken for a clinic.
* Before an older database is changed, a copy of it is made beside it.  The copy is sealed like the original; whoever
  shreds a patient deletes it too.
* Foreign keys are off while tables are rebuilt and checked as a whole before the commit, as SQLite advises.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from clinic.errors import ConfigError
from clinic.records.engine import immediate, open_private, read_transaction, storage_errors


def current_revision(engine: Engine) -> str | None:
    """Return the schema's revision; None for an empty database."""
    with read_transaction(engine) as connection:
        return _revision(connection)


def head_revision(migrations_dir: Path) -> str:
    """Return the newest revision that this program knows."""
    head = ScriptDirectory.from_config(_config(migrations_dir)).get_current_head()
    if head is None:
        raise ConfigError(f"no migrations in `{migrations_dir}`", hint="the installation is incomplete: install again")
    return head


def check_current(engine: Engine, migrations_dir: Path) -> None:
    """Raise unless the database has exactly this program's schema.

    Raises:
        ConfigError: `schema_missing`, `schema_older`, `schema_newer`.
    """
    revision = current_revision(engine)
    if revision is None:
        raise ConfigError(
            "the database is empty",
            code="schema_missing",
            hint="restore a backup; for a new clinic, start with `clinic init`",
        )
    _require_known(revision, migrations_dir)
    if revision != head_revision(migrations_dir):
        raise ConfigError(
            f"the database has schema `{revision}`, this program needs `{head_revision(migrations_dir)}`",
            code="schema_older",
            hint="stop the clinic service and run `clinic migrate`; a copy is made first",
        )


def upgrade(engine: Engine, migrations_dir: Path) -> Path | None:
    """Bring the schema up to date, all at once or not at all; return the copy that was made of an older database.

    Raises:
        ConfigError: `schema_newer`.
        StorageError: the disk refused; nothing was changed.
    """
    copy: Path | None = None
    with _migration(engine) as connection:
        revision = _revision(connection)
        head = head_revision(migrations_dir)
        if revision is not None:
            _require_known(revision, migrations_dir)
        if revision is not None and revision != head:
            copy = _copy(engine, before=head)
        _run(connection, migrations_dir, lambda config: command.upgrade(config, "head"))
    return copy


def downgrade(engine: Engine, migrations_dir: Path, *, revision: str) -> None:
    """Go back to a revision, dropping what came later.  For tests; a clinic goes back by restoring the copy."""
    with _migration(engine) as connection:
        _run(connection, migrations_dir, lambda config: command.downgrade(config, revision))


@contextmanager
def _migration(engine: Engine) -> Iterator[Connection]:
    with storage_errors(), immediate(engine) as connection:
        try:
            connection.connection.driver_connection.execute("PRAGMA foreign_keys=OFF")  # type: ignore[union-attr]
            with connection.begin():
                yield connection
                if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                    raise RuntimeError("the migration leaves rows that point nowhere; nothing was changed")
        finally:
            connection.invalidate()  # never back into the pool without foreign keys


def _run(connection: Connection, migrations_dir: Path, step: Callable[[AlembicConfig], None]) -> None:
    config = _config(migrations_dir)
    config.attributes["connection"] = connection
    step(config)


def _config(migrations_dir: Path) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(migrations_dir).replace("%", "%%"))
    return config


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _require_known(revision: str, migrations_dir: Path) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config(migrations_dir)).walk_revisions()}
    if revision not in known:
        raise ConfigError(
            f"the database has schema `{revision}`, which this program does not know",
            code="schema_newer",
            hint="it was used by a newer version: install that one, or restore a backup made before",
        )


def _copy(engine: Engine, *, before: str) -> Path:
    path = Path(engine.url.database or "")
    target = path.with_name(f"{path.stem}.before-{before}{path.suffix}")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        open_private(partial)
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(partial)) as copy:
            source.backup(copy)
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
