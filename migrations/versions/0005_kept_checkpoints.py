"""Signed checkpoints of the audit log, kept beside its entries.

Nothing that is there changes.  Down, what was kept is gone; what was carried away to witnesses still holds.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLE = """\
CREATE TABLE audit_checkpoints (
  size INTEGER NOT NULL PRIMARY KEY,
  note TEXT NOT NULL,
  peaks BLOB NOT NULL
) STRICT"""

_TRIGGERS = (
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


def upgrade() -> None:
    connection = op.get_bind()
    for statement in (_TABLE, *_TRIGGERS):
        connection.exec_driver_sql(statement)


def downgrade() -> None:
    op.get_bind().exec_driver_sql("DROP TABLE audit_checkpoints")
