"""The accounting of disclosures over a real store: whole, of one patient only, and plain about what is gone."""

from __future__ import annotations

import csv
import io
from datetime import date
from pathlib import Path

import pytest

from clinic.audit.accounting import Accounting, Proof, Use, account, as_csv
from clinic.audit.details import PatientLink
from clinic.audit.entry import Entry
from clinic.audit.events import GenerationCompleted, NoteEdited, PatientViewed
from clinic.domain import OPERATOR, Consent, Role, ShredReason
from clinic.errors import AuditError, InputError, RecordError
from clinic.records.disclosures import disclosures, patient_with
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient, PatientData
from clinic.records.records import Records
from tests.unit.records.records_world import (
    ADMINISTRATOR,
    CLINICIAN,
    FrozenClock,
    as_thief,
    begin_generation,
    event_names,
    make_completion,
    make_note,
    open_encounter,
)


@pytest.fixture
def used(records: Records, patient: Patient, encounter: Encounter, clock: FrozenClock) -> Encounter:
    """An encounter of the patient through which something of every kind happened, a day later, beside another's."""
    clock.advance(days=1)
    with records.write() as tx:
        other = tx.patients.create(PatientData("Somebody Else"), OPERATOR)
        open_encounter(tx, other)
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, CLINICIAN)
        tx.patients.list(CLINICIAN)
        tx.patients.get(patient.id, CLINICIAN)
        tx.patients.get(other.id, CLINICIAN)
        generation = begin_generation(tx, records, encounter)
        tx.generations.complete(generation, make_completion())
        ended = GenerationCompleted(
            generation=generation, authorized_seq=1, output_sha256="a" * 64, tokens_in=1, tokens_out=1, attempts=1
        )
        tx.append(ended, actor=CLINICIAN)
        tx.notes.store_draft(encounter.id, make_note(), generation_id=generation, actor=CLINICIAN)
    return encounter


def events_of(found: Accounting) -> list[str]:
    """Return the names of the entries that are listed."""
    return [line.event for line in found.lines]


EXPECTED = [
    "patient.created",
    "encounter.opened",
    "consent.recorded",
    "patient.viewed",
    "generation.authorized",
    "generation.completed",
    "note.drafted",
]


def test_it_lists_every_use_of_this_patient_and_of_nobody_else(
    records: Records, patient: Patient, used: Encounter
) -> None:
    """What names the pseudonym, the encounter or the generation is in it, in order; another's is not."""
    found = disclosures(records, patient.id, actor=CLINICIAN)
    assert events_of(found) == EXPECTED
    assert {line.encounter for line in found.lines} == {None, used.id}
    assert [line.use for line in found.lines].count(Use.GENERATED) == 3
    assert next(line.purpose for line in found.lines if line.event == "generation.authorized") == "treatment"
    assert next(line.purpose for line in found.lines if line.event == "patient.viewed") is None
    assert dict(found.common)["patients.listed"] == 1


def test_asking_is_recorded_before_it_is_answered(records: Records, patient: Patient) -> None:
    """The accounting is an entry of its own, about the patient, and so stands in the next one as a read."""
    size = records.audit.size()
    first = disclosures(records, patient.id, actor=CLINICIAN)
    assert (first.through, event_names(records)[-1]) == (size, "patient.accounted")
    last = disclosures(records, patient.id, actor=CLINICIAN).lines[-1]
    assert (last.event, last.use, last.proof, last.actor) == (
        "patient.accounted",
        Use.READ,
        Proof.SEALED,
        CLINICIAN.user_id,
    )


def test_nothing_is_told_where_it_cannot_be_recorded(
    records: Records, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that takes no entry gives no accounting."""

    def refuse(*_: object, **__: object) -> None:
        raise AuditError("the audit log cannot be written")

    monkeypatch.setattr(records.audit, "append", refuse)
    with pytest.raises(AuditError):
        disclosures(records, patient.id, actor=CLINICIAN)


def test_a_log_that_does_not_verify_gives_none(records: Records, patient: Patient, database: Path) -> None:
    """One changed body, and nothing is told."""
    as_thief(database, "UPDATE audit_entries SET role = 'auditor' WHERE seq = 1")
    with pytest.raises(AuditError) as refused:
        disclosures(records, patient.id, actor=CLINICIAN)
    assert refused.value.code == "audit_damaged"


@pytest.mark.usefixtures("used")
def test_links_and_plain_entries_are_told_apart(records: Records, patient: Patient) -> None:
    """What has a link is proved by it; an entry without one, as older versions wrote them, is said to be so."""
    with records.write() as tx:
        tx.append(PatientViewed(patient=records.audit.pseudonym(patient.id)), actor=ADMINISTRATOR)
    found = disclosures(records, patient.id, actor=CLINICIAN)
    assert (found.lines[-1].proof, found.lines[-1].actor) == (Proof.UNSEALED, ADMINISTRATOR.user_id)
    assert found.count(Proof.SEALED) > 3
    assert found.count(Proof.CONTRADICTED) == 0


def test_a_link_alone_ties_an_entry_to_its_patient(records: Records, patient: Patient) -> None:
    """An entry whose plain part names nothing known is found by its sealed part, and by nothing else."""
    unknown = NoteEdited(encounter="e-unknown", note="n-1", version=2, content_sha256="a" * 64)
    with records.write() as tx:
        tx.append(unknown, actor=CLINICIAN, patient_id=patient.id)
        tx.append(unknown, actor=CLINICIAN)
    assert events_of(disclosures(records, patient.id, actor=CLINICIAN))[-2:] == ["note.edited", "note.edited"]
    blind = account(records.audit.entries(), pseudonym=records.audit.pseudonym(patient.id), opens=None)
    assert "note.edited" not in events_of(blind)


def test_a_link_that_contradicts_the_plain_entry_is_shown(records: Records, patient: Patient) -> None:
    """The pseudonym says one patient, the link another: both accountings list the entry as contradicted."""
    with records.write() as tx:
        other = tx.patients.create(PatientData("Somebody Else"), OPERATOR)
        event = PatientViewed(patient=records.audit.pseudonym(patient.id))
        entry = tx.append(event, actor=CLINICIAN, patient_id=other.id)
        lying = tx.append(event, actor=CLINICIAN, patient_id=patient.id, detail=PatientLink(other.id))
    for who in (patient.id, other.id):
        lines = disclosures(records, who, actor=CLINICIAN).lines
        assert next(line.proof for line in lines if line.seq == entry.seq) is Proof.CONTRADICTED
    mine = disclosures(records, patient.id, actor=CLINICIAN).lines
    assert next(line.proof for line in mine if line.seq == lying.seq) is Proof.CONTRADICTED


@pytest.mark.usefixtures("used")
def test_after_a_shred_the_links_are_gone_and_said_to_be(records: Records, patient: Patient) -> None:
    """Nothing opens any more; the plain entries are still listed, the shred and its reason with them."""
    records.shred(patient.id, reason=ShredReason.PATIENT_REQUEST, actor=CLINICIAN)
    found = disclosures(records, patient.id, actor=CLINICIAN)
    assert found.shredded
    assert found.count(Proof.SEALED) == 0
    assert found.count(Proof.DESTROYED) > 3
    assert events_of(found) == [*EXPECTED, "patient.shredded"]
    assert (found.lines[-1].use, found.lines[-1].purpose) == (Use.DESTROYED, "patient_request")


@pytest.mark.usefixtures("used")
def test_days_are_utc_and_both_included(records: Records, patient: Patient) -> None:
    """What ties an entry to the patient may stand before the days; what lies outside them is not listed."""
    second = date(2026, 11, 24)
    assert events_of(disclosures(records, patient.id, actor=CLINICIAN, end=date(2026, 11, 23))) == EXPECTED[:2]
    assert events_of(disclosures(records, patient.id, actor=CLINICIAN, start=second, end=second))[:5] == EXPECTED[2:]
    assert disclosures(records, patient.id, actor=CLINICIAN, end=date(2020, 1, 1)).lines == ()
    with pytest.raises(InputError, match="before the first"):
        disclosures(records, patient.id, actor=CLINICIAN, start=second, end=date(2026, 11, 23))


def test_an_auditor_asks_by_pseudonym(records: Records, patient: Patient) -> None:
    """The pseudonym leads to the patient, before and after a shred; one of nobody's is refused."""
    pseudonym = records.audit.pseudonym(patient.id)
    assert patient_with(records, pseudonym) == patient.id
    records.shred(patient.id, reason=ShredReason.PATIENT_REQUEST, actor=CLINICIAN)
    assert patient_with(records, pseudonym) == patient.id
    with pytest.raises(RecordError, match="pseudonym"):
        patient_with(records, "0" * 32)


@pytest.mark.usefixtures("patient")
def test_an_unknown_patient_leaves_no_entry(records: Records) -> None:
    """Without a patient there is nothing to tell and nothing to record."""
    size = records.audit.size()
    with pytest.raises(RecordError):
        disclosures(records, "0" * 32, actor=CLINICIAN)
    assert records.audit.size() == size


def test_a_cell_is_no_formula(records: Records, patient: Patient) -> None:
    """A spreadsheet reads the table as text, whatever an account is called; nothing of the patient is in it."""
    found = disclosures(records, patient.id, actor=CLINICIAN)
    table = as_csv(found, {OPERATOR.user_id: "=HYPERLINK(1)"})
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == len(found.lines)
    assert rows[0]["user"] == "'=HYPERLINK(1)"
    assert patient.id not in table
    assert patient.data.name not in table


def test_an_event_of_tomorrow_is_listed_as_other() -> None:
    """What names the patient is never passed over for want of a word for it."""
    body = b'{"patient":"' + b"a" * 32 + b'"}'
    entry = Entry(1, "2026-01-02T03:04:05.678Z", "u-1", Role.CLINICIAN.value, "new.event", body, bytes(32), bytes(32))
    found = account([entry], pseudonym="a" * 32, opens=lambda _: False)
    assert [(line.use, line.proof) for line in found.lines] == [(Use.OTHER, Proof.UNSEALED)]
    assert account([entry], pseudonym="b" * 32, opens=lambda _: False).lines == ()
