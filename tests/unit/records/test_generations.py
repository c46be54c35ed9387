"""Generations: released, ended once, never without their audit entry (P1)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from clinic.audit.events import KeyUnlocked
from clinic.errors import RecordError
from clinic.records.encounters import Encounter
from clinic.records.generations import GenerationState
from clinic.records.patients import Patient
from clinic.records.records import Records, Transaction
from tests.unit.records.records_world import CLINICIAN, FrozenClock, begin_generation, make_completion, open_encounter

CLAIM: dict[str, Any] = {
    "prompt_sha256": "2" * 64,
    "model": "gemma",
    "model_sha256": "3" * 64,
    "template_sha256": "4" * 64,
}


def test_a_completed_generation_comes_back(records: Records, encounter: Encounter, clock: FrozenClock) -> None:
    """With its answer, its audit entry and its digests."""
    with records.write() as tx:
        generation = begin_generation(tx, records, encounter)
    clock.advance(seconds=40)
    with records.write() as tx:
        done = tx.generations.complete(generation, make_completion())
    with records.read() as tx:
        assert tx.generations.completed_for(encounter.id) == done
        assert tx.generations.dangling(encounter.id) == ()
    assert (done.state, done.completion) == (GenerationState.COMPLETED, make_completion())
    assert done.audit_seq == list(records.audit.entries())[-1].seq
    assert (done.finished_at, done.model, done.prompt_sha256) == (clock.moment, "gemma", "2" * 64)


def test_a_generation_that_has_not_ended_dangles(records: Records, encounter: Encounter) -> None:
    """It is the mark of a crash, until it is said to be interrupted."""
    with records.write() as tx:
        first = begin_generation(tx, records, encounter)
        second = begin_generation(tx, records, encounter)
    with records.write() as tx:
        assert [generation.id for generation in tx.generations.dangling(encounter.id)] == [first, second]
        assert tx.generations.completed_for(encounter.id) is None
        assert tx.generations.interrupt(first).state is GenerationState.INTERRUPTED
        assert [generation.id for generation in tx.generations.dangling(encounter.id)] == [second]


def test_a_failure_keeps_its_code(records: Records, encounter: Encounter) -> None:
    """A failed generation is neither completed nor dangling."""
    with records.write() as tx:
        failed = tx.generations.fail(begin_generation(tx, records, encounter), "model_timeout")
        assert (failed.state, failed.error_code, failed.completion) == (GenerationState.FAILED, "model_timeout", None)
        assert tx.generations.dangling(encounter.id) == ()
        assert tx.generations.completed_for(encounter.id) is None


def test_a_code_is_never_a_sentence(records: Records, encounter: Encounter) -> None:
    """A message in place of a code is the caller's mistake."""
    with records.write() as tx:
        generation = begin_generation(tx, records, encounter)
        with pytest.raises(ValueError, match="an error code holds"):
            tx.generations.fail(generation, "The model said: canary")


def test_the_newest_completed_generation_counts(records: Records, encounter: Encounter) -> None:
    """By the order of the audit log."""
    with records.write() as tx:
        for text in ("first", "second"):
            tx.generations.complete(begin_generation(tx, records, encounter), make_completion(text))
        found = tx.generations.completed_for(encounter.id)
    assert found is not None
    assert found.completion == make_completion("second")


END: dict[str, Callable[[Transaction, str], object]] = {
    "complete": lambda tx, generation: tx.generations.complete(generation, make_completion()),
    "fail": lambda tx, generation: tx.generations.fail(generation, "model_timeout"),
    "interrupt": lambda tx, generation: tx.generations.interrupt(generation),
}


@pytest.mark.parametrize("second", list(END))
@pytest.mark.parametrize("first", list(END))
def test_a_generation_ends_once(records: Records, encounter: Encounter, first: str, second: str) -> None:
    """Whatever came first stays."""
    with records.write() as tx:
        generation = begin_generation(tx, records, encounter)
        END[first](tx, generation)
        with pytest.raises(RecordError) as caught:
            END[second](tx, generation)
    assert caught.value.code == "record_conflict"


@pytest.mark.parametrize("operation", list(END))
def test_an_unknown_generation_is_record_unknown(records: Records, operation: str) -> None:
    """Every method says so in the same way."""
    with pytest.raises(RecordError) as caught, records.write() as tx:
        END[operation](tx, "none")
    assert caught.value.code == "record_unknown"


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda tx: tx.generations.completed_for("none"), id="completed_for"),
        pytest.param(lambda tx: tx.generations.dangling("none"), id="dangling"),
        pytest.param(lambda tx: tx.generations.begin("g", encounter_id="none", audit_seq=1, **CLAIM), id="begin"),
    ],
)
def test_an_unknown_encounter_is_record_unknown(records: Records, operation: Callable[[Transaction], object]) -> None:
    """Every method says so in the same way."""
    with pytest.raises(RecordError) as caught, records.write() as tx:
        operation(tx)
    assert caught.value.code == "record_unknown"


def test_no_generation_begins_without_an_audit_entry(records: Records, encounter: Encounter) -> None:
    """An entry that is not there authorises nothing."""
    with pytest.raises(RuntimeError, match="no audit entry authorises"), records.write() as tx:
        tx.generations.begin("g", encounter_id=encounter.id, audit_seq=999, **CLAIM)


def test_another_kind_of_entry_authorises_nothing(records: Records, encounter: Encounter) -> None:
    """Only `generation.authorized` does."""
    with records.write() as tx:
        entry = tx.append(KeyUnlocked(slot_kind="passphrase"), actor=CLINICIAN)
        with pytest.raises(RuntimeError, match="no audit entry authorises"):
            tx.generations.begin("g", encounter_id=encounter.id, audit_seq=entry.seq, **CLAIM)


@pytest.mark.parametrize("what", ["generation", "prompt", "encounter"])
def test_an_entry_authorises_exactly_its_own(
    records: Records, encounter: Encounter, patient: Patient, what: str
) -> None:
    """Another generation, another prompt or another encounter under the same entry is refused."""
    with records.write() as tx:
        stored = tx.generations.interrupt(begin_generation(tx, records, encounter))
        other = open_encounter(tx, patient)
        claim = {**CLAIM, "prompt_sha256": "9" * 64} if what == "prompt" else CLAIM
        generation = "g" if what == "generation" else stored.id
        target = other.id if what == "encounter" else encounter.id
        with pytest.raises(RuntimeError, match="no audit entry authorises"):
            tx.generations.begin(generation, encounter_id=target, audit_seq=stored.audit_seq, **claim)


def test_an_entry_authorises_once(records: Records, encounter: Encounter) -> None:
    """The same generation does not begin twice."""
    with records.write() as tx:
        stored = tx.generations.interrupt(begin_generation(tx, records, encounter))
        with pytest.raises(RecordError) as caught:
            tx.generations.begin(stored.id, encounter_id=encounter.id, audit_seq=stored.audit_seq, **CLAIM)
    assert caught.value.code == "record_conflict"


def test_the_database_refuses_a_generation_without_its_entry(
    records: Records, encounter: Encounter, database: Path
) -> None:
    """The foreign key holds even for a program that forgets to ask; without foreign keys it would not (control)."""
    with records.write() as tx:
        begin_generation(tx, records, encounter)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        copy = (
            "INSERT INTO generations SELECT 'forged' || ?1, encounter_id, patient_id, ?1, state, prompt_sha256, model, "
            "model_sha256, template_sha256, NULL, NULL, created_at, NULL FROM generations LIMIT 1"
        )
        connection.execute("PRAGMA foreign_keys=ON")
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            connection.execute(copy, (999,))
        connection.execute("PRAGMA foreign_keys=OFF")
        assert connection.execute(copy, (999,)).rowcount == 1
