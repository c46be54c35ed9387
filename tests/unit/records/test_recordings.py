"""Recordings that arrive in chunks."""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from clinic.crypto.keys import Keyring
from clinic.domain import EncounterState
from clinic.errors import AudioError, ClinicError, DecryptionError, InputError, RecordError
from clinic.records.encounters import Encounter
from clinic.records.engine import open_engine
from clinic.records.recordings import MAX_CHUNK, ChunkAck, Recording
from clinic.records.records import Records, Transaction
from tests.unit.records.records_world import CLINICIAN, HASHER, FrozenClock, as_thief, event_names

MIB = 1 << 20


@pytest.fixture
def recording(records: Records, encounter: Encounter) -> Recording:
    """A recording that has just begun."""
    with records.write() as tx:
        return tx.recordings.start(encounter.id, mime="audio/webm;codecs=opus", actor=CLINICIAN)


def append(records: Records, recording: Recording, *chunks: tuple[int, bytes]) -> list[ChunkAck]:
    """Send chunks, each in its own transaction."""
    acks = []
    for index, data in chunks:
        with records.write() as tx:
            acks.append(tx.recordings.append(recording.id, index, data))
    return acks


def test_chunks_come_back_in_order_whatever_order_they_came_in(
    records: Records, encounter: Encounter, recording: Recording
) -> None:
    """Acknowledged with digest and size; complete only when it is said and all are there."""
    acks = append(records, recording, (1, b"two"), (0, b"one-"), (2, b"-three"))
    assert acks[0] == ChunkAck(1, hashlib.sha256(b"two").hexdigest(), 3)
    with records.read() as tx:
        found = tx.recordings.for_encounter(encounter.id)
    assert found is not None
    assert (found.received, found.size, found.complete) == ((0, 1, 2), 13, False)
    with records.write() as tx:
        done = tx.recordings.complete(recording.id, chunks=3, actor=CLINICIAN)
        assert b"".join(tx.recordings.chunks(recording.id)) == b"one-two-three"
    assert (done.complete, done.mime) == (True, "audio/webm;codecs=opus")


def test_a_recording_knows_its_encounter(records: Records, encounter: Encounter, recording: Recording) -> None:
    """So that whoever takes a chunk can ask for consent."""
    with records.read() as tx:
        assert tx.recordings.encounter_of(recording.id) == encounter.id


def test_completing_is_recorded_with_the_digest_of_the_audio(records: Records, recording: Recording) -> None:
    """The log holds number, size and SHA-256."""
    append(records, recording, (0, b"one"), (1, b"two"))
    with records.write() as tx:
        tx.recordings.complete(recording.id, chunks=2, actor=CLINICIAN)
    assert event_names(records)[-2:] == ["recording.started", "recording.completed"]
    body = list(records.audit.entries())[-1].body.decode()
    assert hashlib.sha256(b"onetwo").hexdigest() in body
    assert '"chunks":2' in body
    assert '"size":6' in body


def test_a_chunk_may_be_sent_again(records: Records, recording: Recording) -> None:
    """The same bytes under the same number are acknowledged again and stored once."""
    first, again = append(records, recording, (0, b"one"), (0, b"one"))
    assert first == again
    with records.read() as tx:
        assert list(tx.recordings.chunks(recording.id)) == [b"one"]


def test_other_bytes_under_a_known_number_are_refused(records: Records, recording: Recording) -> None:
    """What was acknowledged is not overwritten."""
    append(records, recording, (0, b"one"))
    with pytest.raises(RecordError) as caught:
        append(records, recording, (0, b"two"))
    assert caught.value.code == "record_conflict"
    with records.read() as tx:
        assert list(tx.recordings.chunks(recording.id)) == [b"one"]


def test_a_complete_recording_takes_no_more(records: Records, recording: Recording) -> None:
    """Neither a new chunk nor an old one is accepted after the end."""
    append(records, recording, (0, b"one"))
    with records.write() as tx:
        tx.recordings.complete(recording.id, chunks=1, actor=CLINICIAN)
    for index in (0, 1):
        with pytest.raises(RecordError) as caught:
            append(records, recording, (index, b"one"))
        assert caught.value.code == "record_conflict"


def test_completing_again_changes_nothing(records: Records, recording: Recording) -> None:
    """The same number is the same answer and one event; another number is a conflict."""
    append(records, recording, (0, b"one"))
    with records.write() as tx:
        first = tx.recordings.complete(recording.id, chunks=1, actor=CLINICIAN)
        assert tx.recordings.complete(recording.id, chunks=1, actor=CLINICIAN) == first
        with pytest.raises(RecordError) as caught:
            tx.recordings.complete(recording.id, chunks=2, actor=CLINICIAN)
    assert caught.value.code == "record_conflict"
    assert event_names(records).count("recording.completed") == 1


def complete(records: Records, recording: Recording, chunks: int) -> ClinicError:
    """Try to complete and return the refusal."""
    with pytest.raises(ClinicError) as caught, records.write() as tx:
        tx.recordings.complete(recording.id, chunks=chunks, actor=CLINICIAN)
    return caught.value


def test_missing_chunks_are_named(records: Records, recording: Recording) -> None:
    """`audio_incomplete` says which numbers to send again."""
    append(records, recording, (0, b"one"), (3, b"four"))
    error = complete(records, recording, 5)
    assert isinstance(error, AudioError)
    assert (error.code, "1, 2, 4" in str(error)) == ("audio_incomplete", True)


def test_a_long_list_of_missing_chunks_is_cut(records: Records, recording: Recording) -> None:
    """Twenty numbers and how many more."""
    append(records, recording, (0, b"one"))
    assert str(complete(records, recording, 100)).endswith("19, 20 and 79 more")


def test_more_chunks_than_announced_is_a_conflict(records: Records, recording: Recording) -> None:
    """A sender that has lost count is told so."""
    append(records, recording, (0, b"one"), (1, b"two"))
    assert complete(records, recording, 1).code == "record_conflict"


@pytest.mark.parametrize("chunks", [(), ((0, b""),)], ids=["no chunk", "no byte"])
def test_an_empty_recording_is_refused(
    records: Records, recording: Recording, chunks: tuple[tuple[int, bytes], ...]
) -> None:
    """Nothing was recorded: `audio_empty`."""
    append(records, recording, *chunks)
    assert complete(records, recording, len(chunks)).code == "audio_empty"


def test_a_chunk_has_a_limit(records: Records, recording: Recording) -> None:
    """One MiB is accepted, one byte more is not."""
    append(records, recording, (0, b"x" * MAX_CHUNK))
    with pytest.raises(InputError) as caught:
        append(records, recording, (1, b"x" * (MAX_CHUNK + 1)))
    assert caught.value.code == "chunk_too_large"


@pytest.mark.parametrize("index", [-1, 1 << 16])
def test_a_number_has_limits(records: Records, recording: Recording, index: int) -> None:
    """Numbers are 0 to 65535."""
    with pytest.raises(InputError):
        append(records, recording, (index, b"x"))


@pytest.mark.parametrize("mime", ["", "canary words", "audio/webm; name=canary", "audio"], ids=repr)
def test_a_media_type_is_no_free_text(records: Records, encounter: Encounter, mime: str) -> None:
    """Only a type with codecs gets into the clear column."""
    with pytest.raises(InputError), records.write() as tx:
        tx.recordings.start(encounter.id, mime=mime, actor=CLINICIAN)


@pytest.mark.parametrize("mime", ["audio/wav", "video/webm", "audio/mp4;codecs=mp4a.40.2", 'audio/ogg; codecs="opus"'])
def test_what_browsers_send_is_accepted(records: Records, encounter: Encounter, mime: str) -> None:
    """The media types of the common browsers."""
    with records.write() as tx:
        assert tx.recordings.start(encounter.id, mime=mime, actor=CLINICIAN).mime == mime


def test_the_newest_recording_counts(
    records: Records, encounter: Encounter, recording: Recording, clock: FrozenClock
) -> None:
    """A second recording replaces the first as the encounter's, and deletes nothing."""
    append(records, recording, (0, b"one"))
    clock.advance(seconds=1)
    with records.write() as tx:
        second = tx.recordings.start(encounter.id, mime="audio/wav", actor=CLINICIAN)
        assert tx.recordings.for_encounter(encounter.id) == second
        assert list(tx.recordings.chunks(recording.id)) == [b"one"]


def test_an_encounter_without_a_recording_has_none(records: Records, encounter: Encounter) -> None:
    """None is no error."""
    with records.read() as tx:
        assert tx.recordings.for_encounter(encounter.id) is None


@pytest.mark.parametrize("state", [EncounterState.QUEUED, EncounterState.RUNNING, EncounterState.DRAFTED])
def test_no_recording_begins_under_a_job_or_a_note(
    records: Records, encounter: Encounter, state: EncounterState
) -> None:
    """The recording that a job reads is not exchanged under it."""
    with records.write() as tx:
        tx.encounters.mark(encounter.id, state=state)
        with pytest.raises(RecordError) as caught:
            tx.recordings.start(encounter.id, mime="audio/wav", actor=CLINICIAN)
    assert caught.value.code == "record_conflict"


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda tx: tx.recordings.start("none", mime="audio/wav", actor=CLINICIAN), id="start"),
        pytest.param(lambda tx: tx.recordings.append("none", 0, b"x"), id="append"),
        pytest.param(lambda tx: tx.recordings.complete("none", chunks=1, actor=CLINICIAN), id="complete"),
        pytest.param(lambda tx: tx.recordings.chunks("none"), id="chunks"),
        pytest.param(lambda tx: tx.recordings.for_encounter("none"), id="for_encounter"),
        pytest.param(lambda tx: tx.recordings.encounter_of("none"), id="encounter_of"),
    ],
)
def test_unknown_ids_are_record_unknown(records: Records, operation: Callable[[Transaction], object]) -> None:
    """Every method says so in the same way, before the first chunk is asked for."""
    with pytest.raises(RecordError) as caught, records.write() as tx:
        operation(tx)
    assert caught.value.code == "record_unknown"


def test_chunks_that_are_swapped_on_disk_do_not_open(records: Records, recording: Recording, database: Path) -> None:
    """The order of a recording cannot be changed in the file."""
    append(records, recording, (0, b"one"), (1, b"two"))
    as_thief(
        database,
        "UPDATE recording_chunks SET number = number + 10",
        "UPDATE recording_chunks SET number = 11 - number",
    )
    with pytest.raises(DecryptionError), records.read() as tx:
        list(tx.recordings.chunks(recording.id))


def test_a_chunk_removed_on_disk_is_missed(records: Records, recording: Recording, database: Path) -> None:
    """A complete recording that lacks a chunk is damaged, not shorter."""
    append(records, recording, (0, b"one"), (1, b"two"))
    with records.write() as tx:
        tx.recordings.complete(recording.id, chunks=2, actor=CLINICIAN)
    as_thief(database, "DELETE FROM recording_chunks WHERE number = 1")
    with pytest.raises(DecryptionError), records.read() as tx:
        tx.recordings.chunks(recording.id)


def store(records: Records, recording: Recording, chunks: int) -> None:
    """Store chunks of one MiB of noise."""
    for index in range(chunks):
        append(records, recording, (index, secrets.token_bytes(MIB)))


def peak_of(work: Callable[[], object]) -> int:
    """Return the most memory that Python held at once during `work`, bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_long_recording_is_streamed(records: Records, recording: Recording) -> None:
    """Reading and completing 48 MiB holds a few MiB at a time; collecting the chunks does not (control)."""
    store(records, recording, 48)

    def read() -> int:
        with records.read() as tx:
            return sum(len(chunk) for chunk in tx.recordings.chunks(recording.id))

    def collect() -> int:
        with records.read() as tx:
            return len(list(tx.recordings.chunks(recording.id)))

    def close() -> None:
        with records.write() as tx:
            tx.recordings.complete(recording.id, chunks=48, actor=CLINICIAN)

    assert peak_of(read) < 8 * MIB
    assert peak_of(close) < 8 * MIB
    assert peak_of(collect) > 40 * MIB


def test_chunks_belong_to_their_transaction(records: Records, recording: Recording) -> None:
    """Reading on after the transaction is over is the caller's mistake."""
    append(records, recording, (0, b"one"), (1, b"two"))
    with records.read() as tx:
        chunks = tx.recordings.chunks(recording.id)
        assert next(chunks) == b"one"
    with pytest.raises(RuntimeError):
        next(chunks)


@pytest.mark.parametrize("after", [1, 2, 7, 20, 40])
def test_acknowledged_chunks_survive_kill(
    engine: Engine, keyring: Keyring, recording: Recording, database: Path, after: int
) -> None:
    """SIGKILL while chunks stream in: every chunk that was acknowledged is there and opens (P4)."""
    engine.dispose()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sender = Records(open_engine(database), keyring=keyring, hasher=HASHER)
            for index in range(1000):
                append(sender, recording, (index, bytes([index % 256]) * 5000))
                os.write(writing, b"a")
        finally:
            os._exit(1)
    os.close(writing)
    acknowledged = len(os.read(reading, after))
    while acknowledged < after:
        acknowledged += len(os.read(reading, after - acknowledged))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    acknowledged += len(os.read(reading, 1000))
    os.close(reading)
    survivor = open_engine(database)
    with Records(survivor, keyring=keyring, hasher=HASHER).read() as tx:
        chunks = list(tx.recordings.chunks(recording.id))
    survivor.dispose()
    assert len(chunks) in {acknowledged, acknowledged + 1}
    assert chunks == [bytes([index % 256]) * 5000 for index in range(len(chunks))]
