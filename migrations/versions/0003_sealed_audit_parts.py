"""A sealed part beside the plain one of an audit entry.

Entries that are there keep every byte and stay of version 1.  Down, the sealed parts are gone for good, and with them
the proof that the entries which had one are unchanged: the older program reports the first of them as changed.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql("ALTER TABLE audit_entries ADD COLUMN sealed BLOB")


def downgrade() -> None:
    op.get_bind().exec_driver_sql("ALTER TABLE audit_entries DROP COLUMN sealed")
