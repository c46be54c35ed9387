"""Count how often each key seals, and let a patient's key be destroyed.

The counters of what there is already start at what can be told: every stored value, and every version of a patient's
row.  That is less than what was ever sealed by the drafts in between, by a handful for each key: far from the limit.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_PATIENTS = """\
CREATE TABLE {name} (
  id TEXT NOT NULL,
  wrapped_dek BLOB{required},
  record_number_index INTEGER,
  data BLOB{required},
  row_version INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,{shredded}
  CONSTRAINT pk_patients PRIMARY KEY (id)
) STRICT"""
_COLUMNS = "id, wrapped_dek, record_number_index, data, row_version, created_at, updated_at"
_INDEX = "CREATE INDEX ix_patients_record_number_index ON patients (record_number_index)"

_KEY_USES = """\
CREATE TABLE key_uses (
  owner TEXT NOT NULL,
  sealed INTEGER NOT NULL,
  CONSTRAINT pk_key_uses PRIMARY KEY (owner)
) STRICT"""

_SEALED = """\
INSERT INTO key_uses (owner, sealed)
SELECT owner, sum(sealed) FROM (
  SELECT id AS owner, row_version AS sealed FROM patients
  UNION ALL SELECT patient_id, 1 FROM recordings JOIN recording_chunks ON recording_id = recordings.id
  UNION ALL SELECT patient_id, 1 FROM transcripts
  UNION ALL SELECT patient_id, 1 FROM generations WHERE completion IS NOT NULL
  UNION ALL SELECT patient_id, 1 FROM notes WHERE signature IS NOT NULL
  UNION ALL SELECT patient_id, 1 FROM notes JOIN note_versions ON note_id = notes.id
  UNION ALL SELECT patient_id, 1 FROM notes JOIN note_addenda ON note_id = notes.id
  UNION ALL SELECT 'staff', row_version + 1 FROM users
  UNION ALL SELECT 'local-ca', 1 WHERE EXISTS (SELECT 1 FROM audit_entries)
) GROUP BY owner"""

_WRAPPED = "SELECT hex(substr(wrapped_dek, 2, 4)), count(*) FROM patients GROUP BY 1"

_TRIGGERS = (
    """\
CREATE TRIGGER patients_no_update BEFORE UPDATE ON patients WHEN OLD.shredded_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'patients refuses update'); END""",
    """\
CREATE TRIGGER patients_no_delete BEFORE DELETE ON patients
BEGIN SELECT RAISE(ABORT, 'patients refuses delete'); END""",
)


def upgrade() -> None:
    connection = op.get_bind()
    _rebuild(required="", shredded="\n  shredded_at TEXT,")
    for statement in (_KEY_USES, _SEALED, *_TRIGGERS):
        connection.exec_driver_sql(statement)
    for version, wrapped in connection.exec_driver_sql(_WRAPPED).all():
        values = (f"kek:{int(version, 16)}", wrapped)
        connection.exec_driver_sql("INSERT INTO key_uses (owner, sealed) VALUES (?, ?)", values)


def downgrade() -> None:
    connection = op.get_bind()
    for trigger in ("patients_no_update", "patients_no_delete"):
        connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
    # A shredded patient has neither key nor data; the older schema takes empty ones, which do not open.
    connection.exec_driver_sql("UPDATE patients SET wrapped_dek = x'', data = x'' WHERE wrapped_dek IS NULL")
    _rebuild(required=" NOT NULL", shredded="")
    op.drop_table("key_uses")


def _rebuild(*, required: str, shredded: str) -> None:
    connection = op.get_bind()
    connection.exec_driver_sql(_PATIENTS.format(name="new_patients", required=required, shredded=shredded))
    connection.exec_driver_sql(f"INSERT INTO new_patients ({_COLUMNS}) SELECT {_COLUMNS} FROM patients")  # noqa: S608 - constants
    connection.exec_driver_sql("DROP TABLE patients")
    connection.exec_driver_sql("ALTER TABLE new_patients RENAME TO patients")
    connection.exec_driver_sql(_INDEX)
