"""One-time codes: to set one's own password, and to set a new clinic up in the browser.

Down, all codes that wait are gone: the administrator makes new ones.
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TABLE = """\
CREATE TABLE invitations (
  subject TEXT NOT NULL,
  data BLOB NOT NULL,
  row_version INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_invitations PRIMARY KEY (subject)
) STRICT"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_TABLE)


def downgrade() -> None:
    op.drop_table("invitations")
