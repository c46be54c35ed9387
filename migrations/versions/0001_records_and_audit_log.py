"""Records and audit log: everything that there is at the start.

Columns called BLOB hold ciphertext, apart from the audit log's canonical bytes and hashes.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_AUDIT = (
    """\
CREATE TABLE audit_entries (
  seq INTEGER NOT NULL PRIMARY KEY,
  at TEXT NOT NULL,
  actor TEXT NOT NULL,
  role TEXT NOT NULL,
  event TEXT NOT NULL,
  body BLOB NOT NULL,
  prev_hash BLOB NOT NULL,
  hash BLOB NOT NULL
)""",
    """\
CREATE TRIGGER audit_entries_next BEFORE INSERT ON audit_entries
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit_entries)
BEGIN SELECT RAISE(ABORT, 'audit entries are added in order'); END""",
    """\
CREATE TRIGGER audit_entries_no_update BEFORE UPDATE ON audit_entries
BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END""",
    """\
CREATE TRIGGER audit_entries_no_delete BEFORE DELETE ON audit_entries
BEGIN SELECT RAISE(ABORT, 'audit entries are never removed'); END""",
)

_TABLES = (
    """\
CREATE TABLE users (
  id TEXT NOT NULL,
  username TEXT NOT NULL,
  display_name BLOB NOT NULL,
  role TEXT NOT NULL,
  password_hash BLOB NOT NULL,
  session_epoch INTEGER NOT NULL,
  row_version INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  disabled_at TEXT,
  CONSTRAINT pk_users PRIMARY KEY (id),
  CONSTRAINT uq_users_username UNIQUE (username)
) STRICT""",
    """\
CREATE TABLE login_failures (
  subject TEXT NOT NULL,
  failures INTEGER NOT NULL,
  failed_at TEXT NOT NULL,
  locked_until TEXT,
  CONSTRAINT pk_login_failures PRIMARY KEY (subject)
) STRICT""",
    """\
CREATE TABLE patients (
  id TEXT NOT NULL,
  wrapped_dek BLOB NOT NULL,
  record_number_index INTEGER,
  data BLOB NOT NULL,
  row_version INTEGER NOT NULL,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  CONSTRAINT pk_patients PRIMARY KEY (id)
) STRICT""",
    "CREATE INDEX ix_patients_record_number_index ON patients (record_number_index)",
    """\
CREATE TABLE encounters (
  id TEXT NOT NULL,
  patient_id TEXT NOT NULL,
  clinician_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  template TEXT NOT NULL,
  language TEXT,
  consent TEXT NOT NULL,
  state TEXT NOT NULL,
  stage TEXT,
  error_code TEXT,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  CONSTRAINT pk_encounters PRIMARY KEY (id),
  CONSTRAINT fk_encounters_patient_id FOREIGN KEY (patient_id) REFERENCES patients (id)
) STRICT""",
    "CREATE INDEX ix_encounters_patient_id ON encounters (patient_id)",
    "CREATE INDEX ix_encounters_created_at ON encounters (created_at)",
    "CREATE INDEX ix_encounters_state ON encounters (state)",
    """\
CREATE TABLE recordings (
  id TEXT NOT NULL,
  encounter_id TEXT NOT NULL,
  patient_id TEXT NOT NULL,
  mime TEXT NOT NULL,
  chunks INTEGER,
  sha256 TEXT,
  created_at TEXT NOT NULL,
  completed_at TEXT,
  CONSTRAINT pk_recordings PRIMARY KEY (id),
  CONSTRAINT fk_recordings_encounter_id FOREIGN KEY (encounter_id) REFERENCES encounters (id),
  CONSTRAINT fk_recordings_patient_id FOREIGN KEY (patient_id) REFERENCES patients (id)
) STRICT""",
    "CREATE INDEX ix_recordings_encounter_id ON recordings (encounter_id)",
    """\
CREATE TABLE recording_chunks (
  recording_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  size INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  data BLOB NOT NULL,
  CONSTRAINT pk_recording_chunks PRIMARY KEY (recording_id, number),
  CONSTRAINT fk_recording_chunks_recording_id FOREIGN KEY (recording_id) REFERENCES recordings (id)
) STRICT""",
    """\
CREATE TABLE transcripts (
  id TEXT NOT NULL,
  encounter_id TEXT NOT NULL,
  patient_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  transcript BLOB NOT NULL,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_transcripts PRIMARY KEY (id),
  CONSTRAINT uq_transcripts_encounter_id_version UNIQUE (encounter_id, version),
  CONSTRAINT fk_transcripts_encounter_id FOREIGN KEY (encounter_id) REFERENCES encounters (id),
  CONSTRAINT fk_transcripts_patient_id FOREIGN KEY (patient_id) REFERENCES patients (id)
) STRICT""",
    """\
CREATE TABLE generations (
  id TEXT NOT NULL,
  encounter_id TEXT NOT NULL,
  patient_id TEXT NOT NULL,
  audit_seq INTEGER NOT NULL,
  state TEXT NOT NULL,
  prompt_sha256 TEXT NOT NULL,
  model TEXT NOT NULL,
  model_sha256 TEXT NOT NULL,
  template_sha256 TEXT NOT NULL,
  completion BLOB,
  error_code TEXT,
  created_at TEXT NOT NULL,
  finished_at TEXT,
  CONSTRAINT pk_generations PRIMARY KEY (id),
  CONSTRAINT uq_generations_audit_seq UNIQUE (audit_seq),
  CONSTRAINT fk_generations_encounter_id FOREIGN KEY (encounter_id) REFERENCES encounters (id),
  CONSTRAINT fk_generations_patient_id FOREIGN KEY (patient_id) REFERENCES patients (id),
  CONSTRAINT fk_generations_audit_seq FOREIGN KEY (audit_seq) REFERENCES audit_entries (seq)
) STRICT""",
    "CREATE INDEX ix_generations_encounter_id ON generations (encounter_id)",
    """\
CREATE TABLE notes (
  id TEXT NOT NULL,
  encounter_id TEXT NOT NULL,
  patient_id TEXT NOT NULL,
  generation_id TEXT,
  signed_version INTEGER,
  signed_at TEXT,
  signature BLOB,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_notes PRIMARY KEY (id),
  CONSTRAINT uq_notes_encounter_id UNIQUE (encounter_id),
  CONSTRAINT fk_notes_encounter_id FOREIGN KEY (encounter_id) REFERENCES encounters (id),
  CONSTRAINT fk_notes_patient_id FOREIGN KEY (patient_id) REFERENCES patients (id),
  CONSTRAINT fk_notes_generation_id FOREIGN KEY (generation_id) REFERENCES generations (id)
) STRICT""",
    """\
CREATE TABLE note_versions (
  note_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  author_id TEXT NOT NULL,
  content_sha256 TEXT NOT NULL,
  note BLOB NOT NULL,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_note_versions PRIMARY KEY (note_id, version),
  CONSTRAINT fk_note_versions_note_id FOREIGN KEY (note_id) REFERENCES notes (id)
) STRICT""",
    """\
CREATE TABLE note_addenda (
  id TEXT NOT NULL,
  note_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  author_id TEXT NOT NULL,
  content_sha256 TEXT NOT NULL,
  text BLOB NOT NULL,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_note_addenda PRIMARY KEY (id),
  CONSTRAINT uq_note_addenda_note_id_number UNIQUE (note_id, number),
  CONSTRAINT fk_note_addenda_note_id FOREIGN KEY (note_id) REFERENCES notes (id)
) STRICT""",
)

_TRIGGERS = (
    """\
CREATE TRIGGER transcripts_no_update BEFORE UPDATE ON transcripts
BEGIN SELECT RAISE(ABORT, 'transcripts refuses update'); END""",
    """\
CREATE TRIGGER transcripts_no_delete BEFORE DELETE ON transcripts
BEGIN SELECT RAISE(ABORT, 'transcripts refuses delete'); END""",
    """\
CREATE TRIGGER note_versions_no_update BEFORE UPDATE ON note_versions
BEGIN SELECT RAISE(ABORT, 'note_versions refuses update'); END""",
    """\
CREATE TRIGGER note_versions_no_delete BEFORE DELETE ON note_versions
BEGIN SELECT RAISE(ABORT, 'note_versions refuses delete'); END""",
    """\
CREATE TRIGGER note_versions_no_insert BEFORE INSERT ON note_versions
WHEN (SELECT signed_version FROM notes WHERE id = NEW.note_id) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'note_versions refuses insert'); END""",
    """\
CREATE TRIGGER note_addenda_no_update BEFORE UPDATE ON note_addenda
BEGIN SELECT RAISE(ABORT, 'note_addenda refuses update'); END""",
    """\
CREATE TRIGGER note_addenda_no_delete BEFORE DELETE ON note_addenda
BEGIN SELECT RAISE(ABORT, 'note_addenda refuses delete'); END""",
    """\
CREATE TRIGGER note_addenda_no_insert BEFORE INSERT ON note_addenda
WHEN (SELECT signed_version FROM notes WHERE id = NEW.note_id) IS NULL
BEGIN SELECT RAISE(ABORT, 'note_addenda refuses insert'); END""",
    """\
CREATE TRIGGER notes_no_update BEFORE UPDATE ON notes
WHEN OLD.signed_version IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'notes refuses update'); END""",
    """\
CREATE TRIGGER notes_no_delete BEFORE DELETE ON notes
BEGIN SELECT RAISE(ABORT, 'notes refuses delete'); END""",
)

_CHILDREN_FIRST = (
    "note_addenda",
    "note_versions",
    "notes",
    "generations",
    "transcripts",
    "recording_chunks",
    "recordings",
    "encounters",
    "patients",
    "login_failures",
    "users",
    "audit_entries",
)


def upgrade() -> None:
    for statement in (*_AUDIT, *_TABLES, *_TRIGGERS):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    for table in _CHILDREN_FIRST:
        op.drop_table(table)
