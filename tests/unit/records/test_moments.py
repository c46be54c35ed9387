"""Marks and typed notes: sealed, never changed, kept once, and an event each."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from clinic.domain import new_id
from clinic.errors import ClinicError, InputError, RecordError
from clinic.records.encounters import Encounter
from clinic.records.moments import LONGEST_TEXT, MOST, Moment
from clinic.records.records import Records
from tests.unit.records.records_world import CLINICIAN, as_thief

NOTE = Moment(new_id(), 61.5, "canary number: 140 over 90")
MARK = Moment(new_id(), 2.0, "")
SWAP = "UPDATE moments SET content = (SELECT content FROM moments WHERE id = 'MARK') WHERE id = 'NOTE'"


def add(records: Records, encounter: Encounter, *moments: Moment) -> None:
    """Add moments."""
    for moment in moments:
        with records.write() as tx:
            tx.moments.add(encounter.id, moment, actor=CLINICIAN)


def test_they_come_back_in_the_order_of_the_recording(records: Records, encounter: Encounter) -> None:
    """Each is an event with its author and number of words; sent again, it is there once."""
    add(records, encounter, NOTE, MARK, NOTE)
    with records.read() as tx:
        assert tx.moments.of_encounter(encounter.id) == (MARK, NOTE)
        assert tx.moments.get(encounter.id, NOTE.id) == NOTE
    entries = [entry for entry in records.audit.entries() if entry.event == "moment.noted"]
    assert [entry.actor for entry in entries] == [CLINICIAN.user_id] * 2
    assert [b'"words":5' in entry.body for entry in entries] == [True, False]
    assert records.sweep() == ()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(Moment("not an id", 1.0, "x"), id="id"),
        pytest.param(Moment(new_id(), -1.0, "x"), id="time"),
        pytest.param(Moment(new_id(), float("nan"), "x"), id="no-time"),
        pytest.param(Moment(new_id(), 1.0, "x" * (LONGEST_TEXT + 1)), id="long"),
    ],
)
def test_what_is_none_is_refused(records: Records, encounter: Encounter, moment: Moment) -> None:
    """Nothing of it is kept."""
    with pytest.raises(InputError):
        add(records, encounter, moment)
    with records.read() as tx:
        assert tx.moments.of_encounter(encounter.id) == ()


def test_another_one_under_a_known_id_is_refused(records: Records, encounter: Encounter) -> None:
    """What is kept is not overwritten."""
    add(records, encounter, NOTE)
    with pytest.raises(RecordError) as caught:
        add(records, encounter, Moment(NOTE.id, 61.5, "other words"))
    assert caught.value.code == "record_conflict"


def test_there_is_an_end(records: Records, encounter: Encounter, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than anybody makes are refused."""
    assert MOST >= 100
    monkeypatch.setattr("clinic.records.moments.MOST", 1)
    add(records, encounter, NOTE)
    with pytest.raises(InputError):
        add(records, encounter, MARK)


@pytest.mark.parametrize("change", ["UPDATE moments SET encounter_id = encounter_id", "DELETE FROM moments"])
def test_the_database_refuses_changes(records: Records, encounter: Encounter, database: Path, change: str) -> None:
    """Whoever holds the connection."""
    add(records, encounter, NOTE)
    with closing(sqlite3.connect(database)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(change)


def test_one_that_is_swapped_is_found(records: Records, encounter: Encounter, database: Path) -> None:
    """A blob of another row does not open, and the sweep names it."""
    add(records, encounter, NOTE, MARK)
    as_thief(database, SWAP.replace("MARK", MARK.id).replace("NOTE", NOTE.id))
    with records.read() as tx, pytest.raises(ClinicError):
        tx.moments.get(encounter.id, NOTE.id)
    assert [(found.problem, found.kind, found.id) for found in records.sweep()] == [("unreadable", "moment", NOTE.id)]
