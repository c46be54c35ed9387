"""The tables of the audit log, entries and kept checkpoints, and the SQL that guards them.

Rules kept here:

* Rows are only ever added, one after the other: triggers refuse UPDATE, DELETE and any INSERT but that of the next
  `seq`, or of a checkpoint that is longer than all before and no longer than the log.
* The DDL is stable: the migrations hold copies of it, and `FORMAT.md` another; a test holds the copies together.
* Triggers stop mistakes, not somebody with the file in hand: against that there is `verify.py`.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Connection, Integer, LargeBinary, MetaData, Table, Text, text

metadata: Final = MetaData()

audit_entries: Final = Table(
    "audit_entries",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("prev_hash", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=True),
)

audit_checkpoints: Final = Table(
    "audit_checkpoints",
    metadata,
    Column("size", Integer, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("peaks", LargeBinary, nullable=False),
)

CREATE_TABLE: Final = """\
CREATE TABLE audit_entries (
  seq INTEGER NOT NULL PRIMARY KEY,
  at TEXT NOT NULL,
  actor TEXT NOT NULL,
  role TEXT NOT NULL,
  event TEXT NOT NULL,
  body BLOB NOT NULL,
  prev_hash BLOB NOT NULL,
  hash BLOB NOT NULL,
  sealed BLOB
)"""

CREATE_CHECKPOINTS: Final = """\
CREATE TABLE audit_checkpoints (
  size INTEGER NOT NULL PRIMARY KEY,
  note TEXT NOT NULL,
  peaks BLOB NOT NULL
) STRICT"""

# INSERT OR REPLACE removes the old row without firing DELETE triggers, so the order of `seq` is guarded on INSERT too.
ENTRY_TRIGGERS: Final = (
    """\
CREATE TRIGGER audit_entries_next BEFORE INSERT ON audit_entries
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit_entries)
BEGIN SELECT RAISE(ABORT, 'audit entries are added in order'); END""",
    """\
CREATE TRIGGER audit_entries_no_update BEFORE UPDATE ON audit_entries
BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END""",
    """\
CREATE TRIGGER audit_entries_no_delete BEFORE DELETE ON audit_entries
BEGIN SELECT RAISE(ABORT, 'audit entries are never removed'); END""",
)

CHECKPOINT_TRIGGERS: Final = (
    """\
CREATE TRIGGER audit_checkpoints_next BEFORE INSERT ON audit_checkpoints
WHEN NEW.size <= (SELECT coalesce(max(size), 0) FROM audit_checkpoints)
  OR NEW.size > (SELECT coalesce(max(seq), 0) FROM audit_entries)
BEGIN SELECT RAISE(ABORT, 'audit checkpoints are added in order'); END""",
    """\
CREATE TRIGGER audit_checkpoints_no_update BEFORE UPDATE ON audit_checkpoints
BEGIN SELECT RAISE(ABORT, 'audit checkpoints are never changed'); END""",
    """\
CREATE TRIGGER audit_checkpoints_no_delete BEFORE DELETE ON audit_checkpoints
BEGIN SELECT RAISE(ABORT, 'audit checkpoints are never removed'); END""",
)

CREATE_TRIGGERS: Final = (*ENTRY_TRIGGERS, *CHECKPOINT_TRIGGERS)

TRIGGER_NAMES: Final = frozenset(
    f"audit_{table}_{what}" for table in ("entries", "checkpoints") for what in ("next", "no_update", "no_delete")
)

ENTRIES_DDL: Final = (CREATE_TABLE, *ENTRY_TRIGGERS)
CHECKPOINTS_DDL: Final = (CREATE_CHECKPOINTS, *CHECKPOINT_TRIGGERS)
DDL: Final = (*ENTRIES_DDL, *CHECKPOINTS_DDL)
"""What the migrations have made when they are done."""


def create(connection: Connection) -> None:
    """Create tables and triggers: for tests; the program does it through its migrations."""
    for statement in DDL:
        connection.exec_driver_sql(statement)


def guarded(connection: Connection) -> bool:
    """Say whether the triggers that keep the tables append-only are still there."""
    query = text(
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ('audit_entries', 'audit_checkpoints')"
    )
    return set(connection.execute(query).scalars()) >= TRIGGER_NAMES
