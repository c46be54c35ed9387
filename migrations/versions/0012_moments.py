"""What is marked and typed while a consultation is recorded.

Down, marks and typed notes are gone for good; what was taken into a note stays there.
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def _never(verb: str) -> str:
    return (
        f"CREATE TRIGGER moments_no_{verb} BEFORE {verb.upper()} ON moments "
        f"BEGIN SELECT RAISE(ABORT, 'moments refuses {verb}'); END"
    )


_STATEMENTS = (
    """\
CREATE TABLE moments (
  id TEXT NOT NULL,
  encounter_id TEXT NOT NULL,
  patient_id TEXT NOT NULL,
  content BLOB NOT NULL,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_moments PRIMARY KEY (id),
  CONSTRAINT fk_moments_encounter_id FOREIGN KEY(encounter_id) REFERENCES encounters (id),
  CONSTRAINT fk_moments_patient_id FOREIGN KEY(patient_id) REFERENCES patients (id)
) STRICT""",
    "CREATE INDEX ix_moments_encounter_id ON moments (encounter_id)",
    _never("update"),
    _never("delete"),
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.drop_table("moments")
