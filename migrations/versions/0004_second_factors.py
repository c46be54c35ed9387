"""A second factor for each account: what breaks the glass.

Down, the secrets are gone for good: everybody enrols again after the next upgrade.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TABLE = """\
CREATE TABLE second_factors (
  user_id TEXT NOT NULL,
  secret BLOB NOT NULL,
  row_version INTEGER NOT NULL,
  last_step INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  confirmed_at TEXT,
  CONSTRAINT pk_second_factors PRIMARY KEY (user_id),
  CONSTRAINT fk_second_factors_user_id FOREIGN KEY(user_id) REFERENCES users (id)
) STRICT"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_TABLE)


def downgrade() -> None:
    op.drop_table("second_factors")
