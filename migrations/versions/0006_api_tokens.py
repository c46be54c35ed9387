"""Tokens of the JSON API, and the answers that are kept to repeat them.

Down, all tokens are gone for good: the programs that used them get new ones after the next upgrade.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TABLES = (
    """\
CREATE TABLE api_tokens (
  id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  grant_data BLOB NOT NULL,
  created_at TEXT NOT NULL,
  last_used_at TEXT,
  revoked_at TEXT,
  CONSTRAINT pk_api_tokens PRIMARY KEY (id),
  CONSTRAINT fk_api_tokens_user_id FOREIGN KEY(user_id) REFERENCES users (id)
) STRICT""",
    "CREATE INDEX ix_api_tokens_user_id ON api_tokens (user_id)",
    """\
CREATE TABLE api_answers (
  token_id TEXT NOT NULL,
  "key" TEXT NOT NULL,
  answer BLOB NOT NULL,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_api_answers PRIMARY KEY (token_id, "key"),
  CONSTRAINT fk_api_answers_token_id FOREIGN KEY(token_id) REFERENCES api_tokens (id)
) STRICT""",
    "CREATE INDEX ix_api_answers_created_at ON api_answers (created_at)",
)


def upgrade() -> None:
    for statement in _TABLES:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.drop_table("api_answers")
    op.drop_table("api_tokens")
