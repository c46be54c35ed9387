"""Patients."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest

from clinic.crypto.keys import Keyring
from clinic.domain import OPERATOR
from clinic.errors import DecryptionError, InputError, RecordError
from clinic.records.patients import Patient, PatientData
from clinic.records.records import Records, Transaction
from tests.unit.records.records_world import ADMINISTRATOR, CLINICIAN, FrozenClock, event_names


def test_a_patient_comes_back_as_entered(records: Records, patient: Patient, clock: FrozenClock) -> None:
    """All fields survive; looking at them is recorded under the pseudonym."""
    with records.write() as tx:
        found = tx.patients.get(patient.id, CLINICIAN)
    assert found == patient
    assert found.data == PatientData("Canary Wharfington", date(1961, 2, 3), "female", "MRN-4711")
    assert found.created_at == clock.moment
    last = list(records.audit.entries())[-1]
    assert (last.event, last.actor) == ("patient.viewed", CLINICIAN.user_id)
    assert records.audit.pseudonym(patient.id).encode() in last.body
    assert patient.id.encode() not in last.body


def test_blanks_are_trimmed_and_empty_fields_are_none() -> None:
    """What a form sends for an empty field means: not known."""
    data = PatientData("  Ada   Lovelace ", None, "  ", "")
    assert data == PatientData("Ada Lovelace", None, None, None)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: PatientData(""), id="no name"),
        pytest.param(lambda: PatientData("canary" * 100), id="endless name"),
        pytest.param(lambda: PatientData("canary\x00name"), id="control character"),
        pytest.param(lambda: PatientData("canary\ud800name"), id="lone surrogate"),
        pytest.param(lambda: PatientData("canary", record_number="---"), id="number without digits"),
        pytest.param(lambda: PatientData("canary", record_number="9" * 100), id="endless number"),
        pytest.param(lambda: PatientData("canary", date(1066, 1, 1)), id="too old"),
    ],
)
def test_impossible_data_is_refused_without_a_quote(make: Callable[[], object]) -> None:
    """The error names the field, never the value."""
    with pytest.raises(InputError) as caught:
        make()
    assert "canary" not in f"{caught.value} {caught.value.hint}"


def test_nobody_is_born_tomorrow(records: Records) -> None:
    """A date of birth in the future is refused."""
    with pytest.raises(InputError), records.write() as tx:
        tx.patients.create(PatientData("Ada", date(2026, 11, 24)), OPERATOR)


def test_a_record_number_is_unique(records: Records, patient: Patient) -> None:
    """The same number in another spelling is refused, and nothing is written."""
    before = event_names(records)
    with pytest.raises(RecordError) as caught, records.write() as tx:
        tx.patients.create(PatientData("Other", record_number="mrn 4711"), OPERATOR)
    assert caught.value.code == "record_conflict"
    assert "4711" not in str(caught.value)
    with records.write() as tx:
        assert tx.patients.list(OPERATOR) == (patient,)
    assert event_names(records) == [*before, "patients.listed"]


def test_patients_without_a_number_do_not_conflict(records: Records) -> None:
    """Two patients may both have none."""
    with records.write() as tx:
        tx.patients.create(PatientData("Ada"), OPERATOR)
        tx.patients.create(PatientData("Ada"), OPERATOR)
        assert len(tx.patients.list(OPERATOR)) == 2


def test_an_update_replaces_everything(records: Records, patient: Patient) -> None:
    """New data, new index; the patient keeps their own number, and the old one is free again."""
    changed = PatientData("Canary Wharfington", date(1961, 2, 3), "female", "NEW-1")
    with records.write() as tx:
        tx.patients.update(patient.id, patient.data, CLINICIAN)  # own number is no conflict
        assert tx.patients.update(patient.id, changed, CLINICIAN).data == changed
        assert tx.patients.find("MRN-4711") == ()
        tx.patients.create(PatientData("Other", record_number="MRN-4711"), OPERATOR)
        with pytest.raises(RecordError) as caught:
            tx.patients.update(patient.id, patient.data, CLINICIAN)
    assert caught.value.code == "record_conflict"
    assert event_names(records).count("patient.updated") == 2


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda tx: tx.patients.get("nobody", CLINICIAN), id="get"),
        pytest.param(lambda tx: tx.patients.data("nobody"), id="data"),
        pytest.param(lambda tx: tx.patients.update("nobody", PatientData("Ada"), CLINICIAN), id="update"),
    ],
)
def test_an_unknown_patient_is_record_unknown(records: Records, operation: Callable[[Transaction], object]) -> None:
    """Every method says so in the same way."""
    with pytest.raises(RecordError) as caught, records.write() as tx:
        operation(tx)
    assert caught.value.code == "record_unknown"


def test_the_list_is_sorted_by_name_and_recorded(records: Records) -> None:
    """Names sort without case and accents; the event holds the count only."""
    with records.write() as tx:
        for name in ("Zo\u00eb", "\u00c9mile", "adam"):
            tx.patients.create(PatientData(name), OPERATOR)
        names = [patient.data.name for patient in tx.patients.list(ADMINISTRATOR)]
    assert names == ["adam", "\u00c9mile", "Zo\u00eb"]
    assert list(records.audit.entries())[-1].body == b'{"count":3}'


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("jose", ["Jos\u00e9 Mart\u00ed"], id="no accents"),
        pytest.param("MART jos", ["Jos\u00e9 Mart\u00ed"], id="parts in any order"),
        pytest.param("mrn1", ["Jos\u00e9 Mart\u00ed"], id="whole number"),
        pytest.param("1990-05", ["Ann Jones"], id="part of the date of birth"),
        pytest.param("jo", ["Ann Jones", "Jos\u00e9 Mart\u00ed"], id="several"),
        pytest.param("nobody", [], id="none"),
        pytest.param("   ", ["Ann Jones", "Jos\u00e9 Mart\u00ed"], id="blank"),
    ],
)
def test_search_looks_everywhere(records: Records, text: str, found: list[str]) -> None:
    """A record number is found as a whole; anything else as parts of name, number or date of birth."""
    with records.write() as tx:
        tx.patients.create(PatientData("Jos\u00e9 Mart\u00ed", record_number="MRN-1"), OPERATOR)
        tx.patients.create(PatientData("Ann Jones", date(1990, 5, 6), record_number="MRN-2"), OPERATOR)
    with records.read() as tx:
        ids = tx.patients.find(text)
    with records.write() as tx:
        assert [patient.data.name for patient in tx.patients.named(ids, CLINICIAN).values()] == found
    assert event_names(records)[-1] == "patients.listed"


def test_what_is_found_is_shown_with_a_record_only(records: Records, patient: Patient) -> None:
    """A search alone gives ids and writes nothing; the names need a transaction that records the look."""
    before = event_names(records)
    with records.read() as tx:
        assert tx.patients.find("Canary") == (patient.id,) == tx.patients.find_resembling("Kanary")
        with pytest.raises(RuntimeError):
            tx.patients.named([patient.id], CLINICIAN)
    assert event_names(records) == before


def test_audited_reading_needs_a_write_transaction(records: Records, patient: Patient) -> None:
    """A reading transaction cannot show a patient to anybody."""
    with records.read() as tx:
        with pytest.raises(RuntimeError):
            tx.patients.get(patient.id, CLINICIAN)
        with pytest.raises(RuntimeError):
            tx.patients.list(CLINICIAN)
        assert tx.patients.data(patient.id) == patient.data  # the program itself may


def test_rewrapping_moves_all_keys_to_the_new_version(records: Records, patient: Patient, keyring: Keyring) -> None:
    """After a rotation and a rewrap, the old key version is not needed any more; the data did not change."""
    rotated = keyring.with_new_kek()
    after = Records(records._engine, keyring=rotated)
    only_new = Keyring(rotated._root, {rotated.key_id: rotated._keks[rotated.key_id]}, key_id=rotated.key_id)
    retired = Records(records._engine, keyring=only_new)
    with pytest.raises(DecryptionError), retired.read() as tx:
        tx.patients.data(patient.id)
    with after.write() as tx:
        assert tx.patients.to_rewrap() == tx.patients.rewrap(limit=10) == 1
    with after.write() as tx:  # may be repeated
        assert tx.patients.to_rewrap() == tx.patients.rewrap(limit=10) == 0
    with retired.read() as tx:
        assert tx.patients.data(patient.id) == patient.data
