"""A patient's record is destroyed for good: nothing of its key is left in any file, and the log still verifies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from clinic.audit.events import PatientShredded
from clinic.crypto.keys import Keyring
from clinic.domain import OPERATOR, EncounterState, ShredReason
from clinic.errors import RecordError, StorageError
from clinic.records import engine as engine_module
from clinic.records import records as records_module
from clinic.records.engine import open_engine, truncate_journal
from clinic.records.patients import PatientData
from clinic.records.records import Records, Transaction
from clinic.records.scrub import remove_copies
from tests.unit.records.records_world import (
    CLINICIAN,
    HASHER,
    as_thief,
    begin_generation,
    make_transcript,
    open_encounter,
)

LOOKS_SHREDDED = (
    "UPDATE patients SET wrapped_dek = NULL, data = NULL, record_number_index = NULL, shredded_at = created_at "
    "WHERE id = '{other}'"
)
OTHERS = 150
PIECE = 16


def add(tx: Transaction, number: int) -> str:
    """Add a patient."""
    return tx.patients.create(PatientData(f"Patient {number}", record_number=str(number)), OPERATOR).id


@pytest.fixture
def victim(records: Records) -> str:
    """A patient with audio and work under way, in the middle of many others, so that pages were split around them."""
    with records.write() as tx:
        before = [add(tx, number) for number in range(OTHERS)]
        assert before
        patient = tx.patients.create(PatientData("Canary", record_number="C-1"), OPERATOR)
        encounter = open_encounter(tx, patient)
        recording = tx.recordings.start(encounter.id, mime="audio/wav", actor=CLINICIAN)
        tx.recordings.append(recording.id, 0, b"canary audio" * 1000)
        tx.recordings.complete(recording.id, chunks=1, actor=CLINICIAN)
    with records.write() as tx:
        for number in range(OTHERS, 2 * OTHERS):
            add(tx, number)
    return patient.id


def wrapped(database: Path, patient_id: str) -> bytes:
    """Return the wrapped key of a patient."""
    with closing(sqlite3.connect(database)) as connection:
        found: bytes = connection.execute("SELECT wrapped_dek FROM patients WHERE id = ?", (patient_id,)).fetchone()[0]
    return found


def audio(database: Path) -> list[bytes]:
    """Return pieces of the sealed audio."""
    with closing(sqlite3.connect(database)) as connection:
        blob: bytes = connection.execute("SELECT data FROM recording_chunks").fetchone()[0]
    return [blob[at : at + PIECE] for at in range(0, len(blob), PIECE) if len(blob) - at >= PIECE]


def pieces(secret: bytes) -> list[bytes]:
    """Return every run of 16 bytes of a secret: a copy that was overwritten in part is found as well."""
    return [secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1)]


def left(folder: Path, secret: list[bytes]) -> dict[str, int]:
    """Return, file by file, how many of these pieces are in it."""
    counts = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if found := sum(content.count(piece) for piece in secret):
            counts[path.name] = found
    return counts


def shred(records: Records, patient_id: str) -> None:
    """Destroy a record wholly."""
    assert records.shred(patient_id, reason=ShredReason.PATIENT_REQUEST, actor=CLINICIAN).finished


def test_no_byte_of_the_key_or_the_audio_is_left_in_any_file(records: Records, database: Path, victim: str) -> None:
    """Every run of 16 bytes of the wrapped key and of the sealed audio is in the files before, and in none after."""
    secret = [*pieces(wrapped(database, victim)), *audio(database)]
    copy = database.with_name("clinic.before-0001-20260101T000000Z.db")
    copy.write_bytes(wrapped(database, victim))
    assert set(left(database.parent, secret)) >= {"clinic.db-wal", copy.name}  # the control: the search finds it
    shred(records, victim)
    assert left(database.parent, secret) == {}
    assert not copy.exists()


def test_what_it_leaves_is_whole(records: Records, database: Path, victim: str) -> None:
    """The log verifies, the sweep finds nothing, everybody else opens, the schema is as it was."""

    def schema() -> list[tuple[str, str]]:
        with closing(sqlite3.connect(database)) as connection:
            return connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()

    before = schema()
    shred(records, victim)
    assert schema() == before
    assert records.audit.verify().ok
    assert records.sweep(deep=True) == ()
    with records.write() as tx:
        assert len(tx.patients.list(OPERATOR)) == 2 * OTHERS
        assert tx.patients.find("C-1") == ()
    assert records.usage().patient_keys == 2 * OTHERS
    event = next(iter(records.audit.named(PatientShredded.name)))
    assert "patient_request" in str(event.body)
    assert event.actor == CLINICIAN.user_id
    engine = open_engine(database)
    assert engine_module.integrity_problems(engine) == ()
    engine.dispose()


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch, database: Path, keyring: Keyring) -> Iterator[Records]:
    """Records over a database that overwrites nothing when it deletes."""
    pragmas = tuple(("secure_delete", "OFF", 0) if p[0] == "secure_delete" else p for p in engine_module.PRAGMAS)
    monkeypatch.setattr(engine_module, "PRAGMAS", pragmas)
    engine = open_engine(database)
    yield Records(engine, keyring=keyring, hasher=HASHER)
    engine.dispose()


def test_without_secure_delete_the_key_is_found(
    careless: Records, database: Path, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: a plain deletion with `secure_delete=OFF`, the log emptied, leaves the key in the file."""
    secret = pieces(wrapped(database, victim))
    monkeypatch.setattr(records_module, "scrub", truncate_journal)
    shred(careless, victim)
    assert set(left(database.parent, secret)) == {"clinic.db"}


def test_without_emptying_the_journal_the_key_is_found(
    records: Records, database: Path, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: deleted with `secure_delete=ON`, but the write-ahead log not cut: the key is in it."""
    secret = pieces(wrapped(database, victim))
    monkeypatch.setattr(records_module, "scrub", lambda _engine: None)
    shred(records, victim)
    assert "clinic.db-wal" in left(database.parent, secret)


def test_a_reader_in_the_way_leaves_the_rest_for_later(
    records: Records, database: Path, victim: str, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody reads an older state it says that it is not finished; the next look finishes it."""
    pragmas = tuple(("busy_timeout", "50", 50) if p[0] == "busy_timeout" else p for p in engine_module.PRAGMAS)
    monkeypatch.setattr(engine_module, "PRAGMAS", pragmas)
    engine = open_engine(database)
    hasty = Records(engine, keyring=keyring, hasher=HASHER)
    secret = pieces(wrapped(database, victim))
    with records.read() as tx:
        assert tx.patients.data(victim).name == "Canary"
        assert not hasty.shred(victim, reason=ShredReason.LEGAL_ORDER, actor=OPERATOR).finished
        with pytest.raises(StorageError) as caught:
            hasty.finish_shredding()
        assert caught.value.code == "journal_busy"
        assert left(database.parent, secret)
    assert hasty.finish_shredding() == 1
    assert hasty.finish_shredding() == 0
    assert left(database.parent, secret) == {}
    engine.dispose()


def test_a_destroyed_record_takes_nothing_more(records: Records, victim: str) -> None:
    """Seen, changed, opened, recorded, queued or shredded again: each is `patient_shredded`."""
    with records.read() as tx:
        encounter = tx.encounters.for_patient(victim)[0]
    with records.write() as tx:
        patient = tx.patients.get(victim, CLINICIAN)
    shred(records, victim)
    with records.write() as tx:
        for attempt in (
            lambda: tx.patients.get(victim, CLINICIAN),
            lambda: tx.patients.update(victim, PatientData("Again"), CLINICIAN),
            lambda: open_encounter(tx, patient),
            lambda: tx.recordings.start(encounter.id, mime="audio/wav", actor=CLINICIAN),
            lambda: tx.encounters.mark(encounter.id, state=EncounterState.QUEUED),
            lambda: tx.transcripts.store(encounter.id, make_transcript("late words")),
            lambda: tx.shredding.shred(victim, reason=ShredReason.LEGAL_ORDER, actor=OPERATOR),
            lambda: tx.shredding.holdings(victim),
        ):
            with pytest.raises(RecordError) as caught:
                attempt()
            assert caught.value.code == "patient_shredded"


def test_what_is_under_way_is_stopped(records: Records, victim: str) -> None:
    """A queued job has failed with a code, a released generation is interrupted and takes no answer any more."""
    with records.write() as tx:
        encounter = tx.encounters.for_patient(victim)[0]
        digest = tx.transcripts.store(encounter.id, make_transcript("some words"))
        generation = begin_generation(tx, records, encounter, transcript_sha256=digest)
        tx.encounters.mark(encounter.id, state=EncounterState.RUNNING)
    shred(records, victim)
    with records.read() as tx:
        stopped = tx.encounters.get(encounter.id)
        assert (stopped.state, stopped.error_code) == (EncounterState.FAILED, "patient_shredded")
        assert tx.encounters.unfinished() == ()
    with pytest.raises(RecordError) as caught, records.write() as tx:
        tx.generations.fail(generation, "model_timeout")
    assert caught.value.code == "patient_shredded"
    assert len(list(records.audit.named("generation.interrupted"))) == 1
    assert records.sweep(deep=True) == ()


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE patients SET shredded_at = NULL WHERE id = '{victim}'", ("missing", "patient_shredded")),
        ("UPDATE patients SET data = x'00' WHERE id = '{victim}'", ("missing", "patient_shredded")),
        (LOOKS_SHREDDED, ("unrecorded", "patient_shredded")),
        (
            "INSERT INTO recording_chunks SELECT id, 0, 12000, sha256, x'00' FROM recordings",
            ("missing", "patient_shredded"),
        ),
        ("UPDATE recordings SET chunks = 9", ("unrecorded", "recording")),
    ],
)
def test_the_sweep_tells_a_shredded_patient_from_a_changed_row(
    records: Records, database: Path, victim: str, statement: str, found: tuple[str, str]
) -> None:
    """A row put back, a value left, a row only made to look shredded, audio put back, a clear column: each is found."""
    with records.write() as tx:
        other = add(tx, 9999)
    shred(records, victim)
    assert records.sweep(deep=True) == ()
    as_thief(database, statement.format(victim=victim, other=other))
    assert found in {(finding.problem, finding.kind) for finding in records.sweep(deep=True)}


def test_a_copy_that_cannot_be_removed_is_said(
    database: Path, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, with what to do."""
    del records
    copy = database.with_name("clinic.before-0001-20260101T000000Z.db")
    copy.write_bytes(b"older")

    def refuse(*_: object) -> int:
        raise PermissionError(13, "refused")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(StorageError, match=r"clinic\.before-0001"):
        remove_copies(database)
