"""What audit entries say of a patient: sealed for one entry of one log, gone with the patient's key."""

from __future__ import annotations

import dataclasses

import pytest

from clinic.audit.details import DecisionFacts, Detail, PatientLink
from clinic.audit.entry import MAX_SEALED, MIN_SEALED, Entry, entry_hash
from clinic.audit.events import PatientViewed
from clinic.domain import OPERATOR, ShredReason
from clinic.errors import DecryptionError, RecordError
from clinic.records.patients import Patient, PatientData
from clinic.records.records import Records
from tests.unit.records.records_world import CLINICIAN

FACTS = DecisionFacts.of({"consent": True, "count": 3, "rules": {"b", "a"}, "role": "clinician"})


def view(records: Records, patient: Patient, detail: Detail | None = None) -> Entry:
    """Append an entry about a patient."""
    with records.write() as tx:
        event = PatientViewed(patient=records.audit.pseudonym(patient.id))
        return tx.append(event, actor=OPERATOR, patient_id=patient.id, detail=detail)


def opened(records: Records, entry: Entry, patient_id: str) -> Detail:
    """Open the sealed part of an entry."""
    with records.read() as tx:
        return tx.detail(entry, patient_id)


@pytest.mark.parametrize("detail", [None, FACTS])
def test_a_sealed_part_opens_for_its_patient(records: Records, patient: Patient, detail: Detail | None) -> None:
    """A link where nothing else is said; the stored entry verifies and holds the id nowhere in the clear."""
    entry = view(records, patient, detail)
    assert opened(records, entry, patient.id) == (detail or PatientLink(patient.id))
    stored = records.audit.entry(entry.seq)
    assert stored == entry
    assert stored.sealed is not None
    assert MIN_SEALED <= len(stored.sealed) <= MAX_SEALED
    assert patient.id.encode() not in b"".join(part for part in stored.raw()[1:] if isinstance(part, bytes))
    assert records.audit.verify().ok


@pytest.mark.parametrize("change", [{"seq": 99}, {"event": "patient.created"}, {"sealed": None}, {"sealed": b"x" * 60}])
def test_a_sealed_part_opens_nowhere_else(records: Records, patient: Patient, change: dict[str, object]) -> None:
    """Another number, event or blob is refused; the negative control, the entry itself, opens."""
    entry = view(records, patient)
    assert opened(records, entry, patient.id) == PatientLink(patient.id)
    with pytest.raises(DecryptionError):
        opened(records, dataclasses.replace(entry, **change), patient.id)  # type: ignore[arg-type]


def test_another_patient_opens_nothing(records: Records, patient: Patient) -> None:
    """The accounting for one patient holds their entries and nobody else's."""
    with records.write() as tx:
        other = tx.patients.create(PatientData("Somebody Else"), OPERATOR)
    entry = view(records, patient)
    with pytest.raises(DecryptionError):
        opened(records, entry, other.id)
    with records.read() as tx:
        mine = [found.seq for found, _ in tx.about(patient.id, records.audit.entries())]
        theirs = [found.seq for found, _ in tx.about(other.id, records.audit.entries())]
    assert entry.seq in mine
    assert theirs
    assert not set(mine) & set(theirs)


def test_after_a_shred_the_log_verifies_and_says_nothing(records: Records, patient: Patient) -> None:
    """The sealed part stays as bytes that nobody opens; a link is no longer written, and facts are refused."""
    entry = view(records, patient)
    assert records.shred(patient.id, reason=ShredReason.PATIENT_REQUEST, actor=CLINICIAN).finished
    assert records.audit.verify().ok
    with pytest.raises(RecordError, match="destroyed for good"):
        opened(records, entry, patient.id)
    assert view(records, patient).sealed is None
    with pytest.raises(RecordError, match="destroyed for good"):
        view(records, patient, FACTS)


def test_a_part_sealed_or_removed_afterwards_changes_the_hash(records: Records, patient: Patient) -> None:
    """Version 1 and 2 never have the same hash."""
    raw = view(records, patient).raw()
    assert raw.sealed is not None
    assert len({entry_hash(raw._replace(sealed=sealed)) for sealed in (None, b"", raw.sealed, raw.sealed + b"x")}) == 4
