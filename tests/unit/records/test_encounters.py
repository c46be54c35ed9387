"""Encounters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from clinic.domain import Consent, EncounterKind, EncounterState, ShredReason, Stage
from clinic.errors import InputError, RecordError
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from clinic.records.records import Records, Transaction
from tests.unit.records.records_world import (
    ADMINISTRATOR,
    CLINICIAN,
    FrozenClock,
    event_names,
    make_note,
    open_encounter,
)


def test_an_encounter_comes_back_as_opened(records: Records, patient: Patient, encounter: Encounter) -> None:
    """It is the actor's, open, without a recorded consent; the opening is recorded under the pseudonym."""
    with records.read() as tx:
        assert tx.encounters.get(encounter.id) == encounter
    assert (encounter.patient_id, encounter.clinician_id) == (patient.id, CLINICIAN.user_id)
    assert (encounter.kind, encounter.template, encounter.language) == (EncounterKind.CONSULTATION, "soap", "en")
    assert (encounter.consent, encounter.state) == (Consent.NOT_RECORDED, EncounterState.OPEN)
    assert (encounter.stage, encounter.error_code) == (None, None)
    last = list(records.audit.entries())[-1]
    assert last.event == "encounter.opened"
    assert patient.id.encode() not in last.body


def test_the_language_may_be_unknown(records: Records, patient: Patient) -> None:
    """Without a language the recogniser decides."""
    with records.write() as tx:
        opened = tx.encounters.open(
            patient.id, kind=EncounterKind.DICTATION, template="soap", language=None, actor=CLINICIAN
        )
    assert opened.language is None


@pytest.mark.parametrize(
    ("template", "language"),
    [pytest.param("a template", "en", id="template"), pytest.param("soap", "the English one", id="language")],
)
def test_clear_columns_take_names_only(records: Records, patient: Patient, template: str, language: str) -> None:
    """No sentence can get into a column that is not sealed."""
    with pytest.raises(InputError), records.write() as tx:
        tx.encounters.open(
            patient.id, kind=EncounterKind.CONSULTATION, template=template, language=language, actor=CLINICIAN
        )


def test_a_patients_encounters_come_newest_first(records: Records, patient: Patient, clock: FrozenClock) -> None:
    """The list of one patient."""
    opened = []
    for _ in range(3):
        clock.advance(minutes=1)
        with records.write() as tx:
            opened.append(open_encounter(tx, patient))
    with records.read() as tx:
        assert tx.encounters.for_patient(patient.id) == tuple(reversed(opened))


def test_recent_encounters_of_all_or_of_one(records: Records, patient: Patient, clock: FrozenClock) -> None:
    """Newest first, at most `limit`, of one clinician if named."""
    with records.write() as tx:
        mine = open_encounter(tx, patient)
        clock.advance(minutes=1)
        theirs = tx.encounters.open(
            patient.id, kind=EncounterKind.DICTATION, template="soap", language="en", actor=ADMINISTRATOR
        )
    with records.read() as tx:
        assert tx.encounters.recent(10) == (theirs, mine)
        assert tx.encounters.recent(1) == (theirs,)
        assert tx.encounters.recent(10, clinician_id=CLINICIAN.user_id) == (mine,)


def test_day_holds_what_is_new_and_what_is_unfinished(records: Records, patient: Patient, clock: FrozenClock) -> None:
    """Yesterday's stay while they are unfinished; where consent was refused, or all is done, only what is of today."""
    with records.write() as tx:
        answers = {answer: open_encounter(tx, patient) for answer in ("open", "refused", "drafted", "signed")}
        tx.encounters.record_consent(answers["refused"].id, Consent.REFUSED, CLINICIAN)
        tx.notes.store_draft(answers["drafted"].id, make_note(), generation_id=None, actor=CLINICIAN)
        tx.encounters.mark(answers["drafted"].id, state=EncounterState.DRAFTED)
        tx.notes.store_draft(answers["signed"].id, make_note(), generation_id=None, actor=CLINICIAN)
        tx.notes.sign(answers["signed"].id, expected_version=1, attestation="Read.", actor=CLINICIAN)
    names = {encounter.id: name for name, encounter in answers.items()}
    for since, expected in ((clock.moment, set(answers)), (clock.moment + timedelta(days=1), {"open", "drafted"})):
        with records.read() as tx:
            assert {names[e.id] for e in tx.encounters.of_the_day(since, limit=9)[0]} == expected
            newest, total = tx.encounters.of_the_day(since, limit=1)
            assert (len(newest), total) == (min(1, len(expected)), len(expected))
            assert tx.encounters.of_the_day(since, clinician_id="nobody", limit=9) == ((), 0)
    records.shred(patient.id, reason=ShredReason.PATIENT_REQUEST, actor=CLINICIAN)
    with records.read() as tx:
        assert tx.encounters.of_the_day(clock.moment, limit=9) == ((), 0)


@pytest.mark.parametrize("consent", list(Consent))
def test_consent_is_recorded(records: Records, encounter: Encounter, consent: Consent) -> None:
    """Every answer is kept, with an audit event."""
    with records.write() as tx:
        assert tx.encounters.record_consent(encounter.id, consent, CLINICIAN).consent is consent
    last = list(records.audit.entries())[-1]
    assert (last.event, f'"consent":"{consent}"'.encode() in last.body) == ("consent.recorded", True)


def test_unfinished_encounters_are_queued_or_running(records: Records, patient: Patient, clock: FrozenClock) -> None:
    """Oldest first; all other states are finished or not begun."""
    ids = {}
    for state in (s for s in EncounterState if s is not EncounterState.SIGNED):
        clock.advance(minutes=1)
        with records.write() as tx:
            ids[state] = open_encounter(tx, patient).id
            tx.encounters.mark(ids[state], state=state)
    with records.read() as tx:
        unfinished = [encounter.id for encounter in tx.encounters.unfinished()]
    assert unfinished == [ids[EncounterState.QUEUED], ids[EncounterState.RUNNING]]


def test_a_failure_keeps_the_stage_and_a_retry_clears_it(
    records: Records, encounter: Encounter, clock: FrozenClock
) -> None:
    """Where it failed stays visible; queueing again clears code and stage."""
    with records.write() as tx:
        tx.encounters.mark(encounter.id, state=EncounterState.RUNNING, stage=Stage.GENERATE)
        failed = tx.encounters.mark(encounter.id, state=EncounterState.FAILED, error_code="model_timeout")
        assert (failed.stage, failed.error_code) == (Stage.GENERATE, "model_timeout")
        clock.advance(seconds=5)
        queued = tx.encounters.mark(encounter.id, state=EncounterState.QUEUED)
        assert (queued.stage, queued.error_code, queued.updated_at) == (None, None, clock.moment)
        later = tx.encounters.mark(encounter.id, stage=Stage.TRANSCRIBE)
        assert (later.state, later.stage) == (EncounterState.QUEUED, Stage.TRANSCRIBE)


def test_the_policies_of_a_denial_fit_into_the_code(records: Records, encounter: Encounter) -> None:
    """A denial names the policies that fired."""
    with records.write() as tx:
        denied = tx.encounters.mark(
            encounter.id, state=EncounterState.DENIED, error_code="denied:consent-given,audio-1"
        )
    assert denied.error_code == "denied:consent-given,audio-1"


@pytest.mark.parametrize(
    "code", ["the patient said no", "", "x" * 2000, "Mu\u0308ller"], ids=["text", "none", "long", "name"]
)
def test_an_error_code_is_never_a_sentence(records: Records, encounter: Encounter, code: str) -> None:
    """A message in place of a code is the caller's mistake, and is not repeated in the error."""
    with pytest.raises(ValueError, match="an error code holds") as caught, records.write() as tx:
        tx.encounters.mark(encounter.id, state=EncounterState.FAILED, error_code=code)
    assert not code or code not in str(caught.value)


def test_marking_does_not_sign(records: Records, encounter: Encounter) -> None:
    """Only signing the note makes an encounter signed."""
    with pytest.raises(RuntimeError), records.write() as tx:
        tx.encounters.mark(encounter.id, state=EncounterState.SIGNED)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda tx: tx.encounters.get("none"), id="get"),
        pytest.param(lambda tx: tx.encounters.mark("none", state=EncounterState.OPEN), id="mark"),
        pytest.param(lambda tx: tx.encounters.record_consent("none", Consent.GIVEN, CLINICIAN), id="consent"),
        pytest.param(lambda tx: tx.encounters.for_patient("none"), id="for_patient"),
        pytest.param(
            lambda tx: tx.encounters.open(
                "none", kind=EncounterKind.DICTATION, template="soap", language="en", actor=CLINICIAN
            ),
            id="open",
        ),
    ],
)
def test_unknown_ids_are_record_unknown(records: Records, operation: Callable[[Transaction], object]) -> None:
    """Every method says so in the same way, and nothing is recorded."""
    with pytest.raises(RecordError) as caught, records.write() as tx:
        operation(tx)
    assert caught.value.code == "record_unknown"
    assert event_names(records) == []
