"""Live texts: provisional, sealed, and gone with what they are about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import select

from clinic.domain import Consent, EncounterState, ShredReason
from clinic.errors import DecryptionError
from clinic.records.encounters import Encounter
from clinic.records.live_texts import LiveLine, LiveText
from clinic.records.models import LiveTextRow
from clinic.records.recordings import Recording
from clinic.records.records import Records, Transaction
from tests.unit.records.records_world import CLINICIAN, make_transcript

TEXT = LiveText((LiveLine(0.5, 2.0, "the canary cough"), LiveLine(2.0, 9.0, "", skipped=True)), 9.5, "en")


@pytest.fixture
def running(records: Records, encounter: Encounter) -> Recording:
    """A recording that runs, with two chunks, and somebody who reads along."""
    with records.write() as tx:
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, CLINICIAN)
        recording = tx.recordings.start(encounter.id, mime="audio/webm", actor=CLINICIAN)
        for number in range(2):
            tx.recordings.append(recording.id, number, b"sound")
        tx.live_texts.want(recording.id)
        tx.live_texts.want(recording.id)
    return recording


def stored(records: Records, recording: Recording, text: LiveText = TEXT) -> bool:
    """Store what was heard."""
    with records.write() as tx:
        return tx.live_texts.store(recording.id, text)


def heard(records: Records, recording: Recording) -> LiveText | None:
    """Return what the page would show."""
    with records.read() as tx:
        return tx.live_texts.get(recording.encounter_id)


def test_what_was_heard_comes_back(records: Records, running: Recording) -> None:
    """The newest text is the one that counts; which chunks there are is told up to the first hole."""
    assert heard(records, running) == LiveText()
    for _ in range(2):
        assert stored(records, running)
    assert heard(records, running) == TEXT
    with records.write() as tx:
        assert [(w.recording_id, w.chunks, w.language) for w in tx.live_texts.wanted()] == [(running.id, 2, "en")]
        tx.recordings.append(running.id, 3, b"sound")
        assert [w.chunks for w in tx.live_texts.wanted()] == [2]


def test_nobody_reads_along_unasked(records: Records, encounter: Encounter) -> None:
    """Without a wish nothing is kept, and nothing is to be heard."""
    with records.write() as tx:
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, CLINICIAN)
        recording = tx.recordings.start(encounter.id, mime="audio/webm", actor=CLINICIAN)
        assert not tx.live_texts.store(recording.id, TEXT)
        assert tx.live_texts.get(encounter.id) is None
        assert tx.live_texts.wanted() == ()


def complete(tx: Transaction, running: Recording) -> None:
    """End the recording."""
    tx.recordings.complete(running.id, chunks=2, actor=CLINICIAN)


def anew(tx: Transaction, running: Recording) -> None:
    """Record anew."""
    tx.recordings.start(running.encounter_id, mime="audio/webm", actor=CLINICIAN)


def withdraw(tx: Transaction, running: Recording) -> None:
    """The patient changes their mind."""
    tx.encounters.record_consent(running.encounter_id, Consent.WITHDRAWN, CLINICIAN)


def typed(tx: Transaction, running: Recording) -> None:
    """A text is typed instead, and its job queued."""
    tx.transcripts.store(running.encounter_id, make_transcript("typed"))
    tx.encounters.mark(running.encounter_id, state=EncounterState.QUEUED)


ENDS: tuple[Callable[[Transaction, Recording], None], ...] = (complete, anew, withdraw, typed)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_it_ends_with_its_recording(
    records: Records, running: Recording, end: Callable[[Transaction, Recording], None]
) -> None:
    """Nothing of it is left, nothing comes after, and it is not to be heard any more."""
    assert stored(records, running)
    with records.write() as tx:
        end(tx, running)
    assert not stored(records, running)
    assert heard(records, running) is None
    with records.write() as tx:
        assert tx.live_texts.wanted() == ()
        assert tx._work.session.scalars(select(LiveTextRow)).all() == []


def test_a_destroyed_record_has_none(records: Records, running: Recording, encounter: Encounter) -> None:
    """It goes with the patient's key."""
    assert stored(records, running)
    records.shred(encounter.patient_id, reason=ShredReason.PATIENT_REQUEST, actor=CLINICIAN)
    with records.read() as tx:
        assert tx._work.session.scalars(select(LiveTextRow)).all() == []


def test_what_nobody_ended_is_forgotten(records: Records, running: Recording) -> None:
    """A recording that was left alone keeps its sound, not its live text."""
    assert stored(records, running)
    with records.write() as tx:
        assert not tx.live_texts.any_older(timedelta(hours=1))
        tx.live_texts.drop_older(timedelta(hours=1))
    assert heard(records, running) == TEXT
    with records.write() as tx:
        assert tx.live_texts.any_older(timedelta(seconds=-1))
        tx.live_texts.drop_older(timedelta(seconds=-1))
    assert heard(records, running) is None
    with records.read() as tx:
        assert len(list(tx.recordings.chunks(running.id))) == 2


def test_an_older_version_does_not_open(records: Records, running: Recording) -> None:
    """A blob of an earlier version in the place of the newest is refused."""
    assert stored(records, running)
    with records.read() as tx:
        old = tx._work.session.scalars(select(LiveTextRow.heard)).one()
    assert stored(records, running)
    with records.write() as tx:
        tx._work.session.scalars(select(LiveTextRow)).one().heard = old
        tx._work.session.flush()
        with pytest.raises(DecryptionError):
            tx.live_texts.get(running.encounter_id)
