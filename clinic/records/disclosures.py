"""The accounting of disclosures over a store: verified first, recorded first.

Rules kept here:

* A log that does not verify gives no accounting.
* Looking is an event: `patient.accounted` is committed before anything is returned.
* Auditors know patients by pseudonym, and that is enough to ask: nothing that is returned says who it is.
"""

from __future__ import annotations

from datetime import date

from clinic.audit.accounting import Accounting, Opens, account
from clinic.audit.details import PatientLink
from clinic.audit.entry import Entry
from clinic.audit.events import PatientAccounted
from clinic.domain import Actor
from clinic.errors import AuditError, DecryptionError, InputError, RecordError
from clinic.records.records import Records, Transaction


def disclosures(
    records: Records, patient_id: str, *, actor: Actor, start: date | None = None, end: date | None = None
) -> Accounting:
    """Return what the log says was done with a patient's record, from day `start` to day `end` (UTC, both included).

    Raises:
        InputError: `range_invalid` if the end lies before the start.
        RecordError: `record_unknown`.
        AuditError: `audit_damaged` if the log does not verify; nothing is returned.
    """
    if start is not None and end is not None and end < start:
        raise InputError("the last day lies before the first", code="range_invalid", hint="days are UTC: 2026-11-26")
    _require_whole(records)
    pseudonym = records.audit.pseudonym(patient_id)
    with records.read() as tx:
        opens = None if tx.patients.is_shredded(patient_id) else _opener(tx, patient_id)
        found = account(records.audit.entries(), pseudonym=pseudonym, opens=opens, start=start, end=end)
    with records.write() as tx:
        tx.append(PatientAccounted(patient=pseudonym, entries=len(found.lines)), actor=actor, patient_id=patient_id)
    return found


def patient_with(records: Records, pseudonym: str) -> str:
    """Return the id of the patient whom the log knows by this pseudonym.

    Raises:
        RecordError: `record_unknown`.
    """
    with records.read() as tx:
        patient_id = tx.patients.with_pseudonym(pseudonym)
    if patient_id is None:
        hint = "copy all 32 digits from an entry of this clinic's log"
        raise RecordError("no patient here has this pseudonym", hint=hint)
    return patient_id


def _require_whole(records: Records) -> None:
    report = records.audit.verify()
    if not report.ok:
        raise AuditError(
            f"the audit log does not verify, so it gives no accounting: {report.message}",
            code="audit_damaged",
            hint="keep the data folder as it is and run `clinic audit verify` with your last checkpoint",
        )


def _opener(tx: Transaction, patient_id: str) -> Opens:
    """Return what opens the links of a patient."""

    def opens(entry: Entry) -> bool:
        try:
            detail = tx.detail(entry, patient_id)
        except DecryptionError:
            return False
        return not isinstance(detail, PatientLink) or detail.patient_id == patient_id

    return opens
