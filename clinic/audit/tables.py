"""The table of the audit log, and the SQL that guards it.

Rules kept here:

* Rows are only ever added, one after the other: triggers refuse UPDATE, DELETE and any INSERT but that of the next
  `seq`.
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

# INSERT OR REPLACE removes the old row without firing DELETE triggers, so the order of `seq` is guarded on INSERT too.
CREATE_TRIGGERS: Final = (
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

TRIGGER_NAMES: Final = frozenset({"audit_entries_next", "audit_entries_no_update", "audit_entries_no_delete"})

DDL: Final = (CREATE_TABLE, *CREATE_TRIGGERS)
"""What the migrations have made when they are done."""


def create(connection: Connection) -> None:
    """Create table and triggers: for tests; the program does it through its migrations."""
    for statement in DDL:
        connection.exec_driver_sql(statement)


def guarded(connection: Connection) -> bool:
    """Say whether the triggers that keep the table append-only are still there."""
    query = text("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_entries'")
    return set(connection.execute(query).scalars()) >= TRIGGER_NAMES
