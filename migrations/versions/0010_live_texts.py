"""What is heard while a recording runs: provisional, and gone before the recording is transcribed.

Down, nothing is lost that is not heard again.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TABLE = """\
CREATE TABLE live_texts (
  recording_id TEXT NOT NULL,
  patient_id TEXT NOT NULL,
  row_version INTEGER NOT NULL,
  heard BLOB,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_live_texts PRIMARY KEY (recording_id),
  CONSTRAINT fk_live_texts_recording_id FOREIGN KEY(recording_id) REFERENCES recordings (id),
  CONSTRAINT fk_live_texts_patient_id FOREIGN KEY(patient_id) REFERENCES patients (id)
) STRICT"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_TABLE)


def downgrade() -> None:
    op.drop_table("live_texts")
