"""Transactions: all of it or nothing, audit events included."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest

from clinic.audit.events import KeyUnlocked
from clinic.audit.log import AuditLog
from clinic.domain import OPERATOR, Consent, EncounterState
from clinic.errors import AuditError
from clinic.records.encounters import Encounter
from clinic.records.patients import PatientData
from clinic.records.records import Records, Transaction
from tests.unit.records.records_world import CLINICIAN, event_names, make_transcript


def test_rows_and_events_are_committed_together(records: Records) -> None:
    """After the block both are there, and the log verifies."""
    with records.write() as tx:
        patient = tx.patients.create(PatientData("Ada"), OPERATOR)
        tx.append(KeyUnlocked(slot_kind="passphrase"), actor=OPERATOR)
    with records.read() as tx:
        assert tx.patients.data(patient.id).name == "Ada"
    assert event_names(records) == ["patient.created", "key.unlocked"]
    assert records.audit.verify().ok


def test_an_exception_takes_both_back(records: Records) -> None:
    """Neither row nor event of a failed block is left, and the next entry follows without a gap."""
    with suppress(ZeroDivisionError), records.write() as tx:
        tx.patients.create(PatientData("Ada"), OPERATOR)
        raise ZeroDivisionError
    assert event_names(records) == []
    with records.write() as tx:
        assert tx.patients.list(OPERATOR) == ()
    assert [entry.seq for entry in records.audit.entries()] == [1]


def test_without_its_event_nothing_is_stored(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the audit log cannot be written, the row is not either (P1)."""

    def fail(*_: object, **__: object) -> None:
        raise AuditError("the audit log cannot be written")

    with monkeypatch.context() as patched:
        patched.setattr(AuditLog, "append", fail)
        with pytest.raises(AuditError), records.write() as tx:
            tx.patients.create(PatientData("Ada"), OPERATOR)
    with records.write() as tx:
        assert tx.patients.list(OPERATOR) == ()


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda tx, _: tx.append(KeyUnlocked(slot_kind="passphrase"), actor=OPERATOR), id="append"),
        pytest.param(lambda tx, _: tx.patients.create(PatientData("Ada"), OPERATOR), id="create"),
        pytest.param(lambda tx, e: tx.encounters.mark(e.id, state=EncounterState.QUEUED), id="mark"),
        pytest.param(lambda tx, e: tx.encounters.record_consent(e.id, Consent.GIVEN, CLINICIAN), id="consent"),
        pytest.param(lambda tx, e: tx.transcripts.store(e.id, make_transcript()), id="transcript"),
    ],
)
def test_a_reading_transaction_writes_nothing(
    records: Records, encounter: Encounter, operation: Callable[[Transaction, Encounter], object]
) -> None:
    """Whether or not the method appends an event, it is the caller's mistake, and nothing is changed."""
    before = event_names(records)
    with pytest.raises(RuntimeError, match="opened for reading"), records.read() as tx:
        operation(tx, encounter)
    assert event_names(records) == before
    with records.read() as tx:
        assert tx.encounters.get(encounter.id) == encounter
        assert tx.transcripts.current(encounter.id) is None


def test_a_transaction_ends_with_its_block(records: Records, encounter: Encounter) -> None:
    """A transaction that is over cannot be used."""
    with records.write() as tx:
        pass
    with pytest.raises(RuntimeError, match="is over"):
        tx.encounters.get(encounter.id)
    with pytest.raises(RuntimeError, match="is over"):
        tx.append(KeyUnlocked(slot_kind="passphrase"), actor=OPERATOR)


def test_a_reader_is_not_stopped_by_a_writer(records: Records, encounter: Encounter) -> None:
    """Reading goes on beside an open writing transaction and sees the state before it."""
    with records.write() as writer:
        writer.encounters.mark(encounter.id, state=EncounterState.QUEUED)
        with records.read() as reader:
            assert reader.encounters.get(encounter.id).state is EncounterState.OPEN


def test_the_repr_names_the_file_only(records: Records) -> None:
    """Neither keys nor parameters are shown."""
    assert repr(records).startswith("Records('/")
