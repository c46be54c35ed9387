"""Transcripts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from clinic.domain import canonical_sha256
from clinic.errors import DecryptionError, RecordError
from clinic.records.encounters import Encounter
from clinic.records.records import Records, Transaction
from tests.unit.records.records_world import CLINICIAN, as_thief, make_note, make_transcript


def test_a_transcript_comes_back_as_stored(records: Records, encounter: Encounter) -> None:
    """Every word with its times; the digest is that of the canonical JSON."""
    transcript = make_transcript("M\u00fcller said \u201cno\u201d \U0001f600")
    with records.write() as tx:
        digest = tx.transcripts.store(encounter.id, transcript)
    assert digest == canonical_sha256(transcript.model_dump(mode="json"))
    with records.read() as tx:
        assert tx.transcripts.current(encounter.id) == transcript
        assert tx.transcripts.current_sha256(encounter.id) == digest


def test_the_newest_version_counts(records: Records, encounter: Encounter, database: Path) -> None:
    """Another transcript is another version; the first is still there."""
    with records.write() as tx:
        tx.transcripts.store(encounter.id, make_transcript("one"))
        tx.transcripts.store(encounter.id, make_transcript("two"))
        assert tx.transcripts.current(encounter.id) == make_transcript("two")
    as_thief(database, "DELETE FROM transcripts WHERE version = 2")
    with records.read() as tx:
        assert tx.transcripts.current(encounter.id) == make_transcript("one")


def test_storing_the_same_again_changes_nothing(records: Records, encounter: Encounter, database: Path) -> None:
    """A repeated step makes no second version."""
    with records.write() as tx:
        first = tx.transcripts.store(encounter.id, make_transcript())
        assert tx.transcripts.store(encounter.id, make_transcript()) == first
    with pytest.raises(AssertionError, match="must hit a row"):
        as_thief(database, "DELETE FROM transcripts WHERE version = 2")


def test_an_encounter_without_a_transcript_has_none(records: Records, encounter: Encounter) -> None:
    """`current` is None; asking for its digest is `record_unknown`."""
    with records.read() as tx:
        assert tx.transcripts.current(encounter.id) is None
        with pytest.raises(RecordError) as caught:
            tx.transcripts.current_sha256(encounter.id)
    assert caught.value.code == "record_unknown"


def test_a_signed_encounter_takes_no_transcript(records: Records, encounter: Encounter) -> None:
    """What a signature rests on does not change any more."""
    with records.write() as tx:
        tx.notes.store_draft(encounter.id, make_note(), generation_id=None, actor=CLINICIAN)
        tx.notes.sign(encounter.id, expected_version=1, attestation="I read it.", actor=CLINICIAN)
        with pytest.raises(RecordError) as caught:
            tx.transcripts.store(encounter.id, make_transcript())
    assert caught.value.code == "note_locked"


def test_a_forged_digest_is_noticed(records: Records, encounter: Encounter, database: Path) -> None:
    """The digest in the row must be that of what is sealed."""
    with records.write() as tx:
        tx.transcripts.store(encounter.id, make_transcript())
    as_thief(database, "UPDATE transcripts SET sha256 = 'forged'")
    with pytest.raises(DecryptionError), records.read() as tx:
        tx.transcripts.current(encounter.id)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda tx: tx.transcripts.store("none", make_transcript()), id="store"),
        pytest.param(lambda tx: tx.transcripts.current("none"), id="current"),
        pytest.param(lambda tx: tx.transcripts.current_sha256("none"), id="current_sha256"),
    ],
)
def test_unknown_ids_are_record_unknown(records: Records, operation: Callable[[Transaction], object]) -> None:
    """Every method says so in the same way."""
    with pytest.raises(RecordError) as caught, records.write() as tx:
        operation(tx)
    assert caught.value.code == "record_unknown"
