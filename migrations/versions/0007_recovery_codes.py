"""Recovery codes of the second factor, and the roles that have to have one.

Down, all recovery codes are gone for good, and no role has to have a second factor.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TABLES = (
    """\
CREATE TABLE recovery_codes (
  user_id TEXT NOT NULL,
  codes BLOB NOT NULL,
  "left" INTEGER NOT NULL,
  row_version INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_recovery_codes PRIMARY KEY (user_id),
  CONSTRAINT fk_recovery_codes_user_id FOREIGN KEY(user_id) REFERENCES users (id)
) STRICT""",
    """\
CREATE TABLE factor_roles (
  role TEXT NOT NULL,
  since TEXT NOT NULL,
  CONSTRAINT pk_factor_roles PRIMARY KEY (role)
) STRICT""",
)


def upgrade() -> None:
    for statement in _TABLES:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.drop_table("factor_roles")
    op.drop_table("recovery_codes")
