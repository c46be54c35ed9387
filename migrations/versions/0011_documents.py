"""Documents made from signed notes, and their versions.

Nothing that is there changes.  Down, all documents are gone for good: print what is needed before.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_TABLES = (
    """\
CREATE TABLE documents (
  id TEXT NOT NULL,
  encounter_id TEXT NOT NULL,
  patient_id TEXT NOT NULL,
  generation_id TEXT NOT NULL,
  clinician_id TEXT NOT NULL,
  template TEXT NOT NULL,
  signed_version INTEGER,
  signed_at TEXT,
  signature BLOB,
  discarded_at TEXT,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_documents PRIMARY KEY (id),
  CONSTRAINT fk_documents_encounter_id FOREIGN KEY(encounter_id) REFERENCES encounters (id),
  CONSTRAINT fk_documents_patient_id FOREIGN KEY(patient_id) REFERENCES patients (id),
  CONSTRAINT fk_documents_generation_id FOREIGN KEY(generation_id) REFERENCES generations (id)
) STRICT""",
    "CREATE INDEX ix_documents_encounter_id ON documents (encounter_id)",
    "CREATE INDEX ix_documents_patient_id ON documents (patient_id)",
    """\
CREATE TABLE document_versions (
  document_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  author_id TEXT NOT NULL,
  content_sha256 TEXT NOT NULL,
  document BLOB NOT NULL,
  created_at TEXT NOT NULL,
  CONSTRAINT pk_document_versions PRIMARY KEY (document_id, version),
  CONSTRAINT fk_document_versions_document_id FOREIGN KEY(document_id) REFERENCES documents (id)
) STRICT""",
)

_TRIGGERS = (
    """\
CREATE TRIGGER document_versions_no_update BEFORE UPDATE ON document_versions
BEGIN SELECT RAISE(ABORT, 'document_versions refuses update'); END""",
    """\
CREATE TRIGGER document_versions_no_delete BEFORE DELETE ON document_versions
BEGIN SELECT RAISE(ABORT, 'document_versions refuses delete'); END""",
    """\
CREATE TRIGGER document_versions_no_insert BEFORE INSERT ON document_versions
WHEN (SELECT coalesce(signed_at, discarded_at) FROM documents WHERE id = NEW.document_id) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'document_versions refuses insert'); END""",
    """\
CREATE TRIGGER documents_no_update BEFORE UPDATE ON documents
WHEN coalesce(OLD.signed_at, OLD.discarded_at) IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'documents refuses update'); END""",
    """\
CREATE TRIGGER documents_no_delete BEFORE DELETE ON documents
BEGIN SELECT RAISE(ABORT, 'documents refuses delete'); END""",
)


def upgrade() -> None:
    for statement in (*_TABLES, *_TRIGGERS):
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    op.drop_table("document_versions")
    op.drop_table("documents")
