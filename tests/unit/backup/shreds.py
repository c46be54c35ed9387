"""A patient shredded, as far as backups can see: the record is destroyed, no backup was re-keyed yet."""

from __future__ import annotations

from clinic.backup.site import Site
from clinic.domain import OPERATOR, PatientId, ShredReason


def shred(site: Site, patient: PatientId) -> None:
    """Destroy the record in the data folder."""
    assert site.records.shred(patient, reason=ShredReason.PATIENT_REQUEST, actor=OPERATOR).finished
