"""Passkeys (WebAuthn).

Down, all passkeys are gone for good: who signed in with one sets it up again.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_TABLES = (
    """\
CREATE TABLE passkeys (
  id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  credential_sha256 TEXT NOT NULL,
  data BLOB NOT NULL,
  row_version INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  last_used_at TEXT,
  CONSTRAINT pk_passkeys PRIMARY KEY (id),
  CONSTRAINT uq_passkeys_credential_sha256 UNIQUE (credential_sha256),
  CONSTRAINT fk_passkeys_user_id FOREIGN KEY(user_id) REFERENCES users (id)
) STRICT""",
    "CREATE INDEX ix_passkeys_user_id ON passkeys (user_id)",
)


def upgrade() -> None:
    for statement in _TABLES:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.drop_table("passkeys")
