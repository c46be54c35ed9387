"""What seals cannot show: a whole old row put back, a row taken away, a clear column changed; and what they do show."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from clinic.audit.events import GenerationCompleted, GenerationFailed, GenerationInterrupted, TextSubmitted
from clinic.domain import OPERATOR, Consent, Role
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient, PatientData
from clinic.records.records import Records, Transaction
from tests.unit.records.records_world import (
    CLINICIAN,
    as_thief,
    begin_generation,
    make_completion,
    make_note,
    make_transcript,
)

PASSWORD = "a long enough canary password"


def dictate(tx: Transaction, encounter: Encounter, text: str) -> str:
    """Store a typed text as the transcript, as the web form does."""
    digest = tx.transcripts.store(encounter.id, make_transcript(text))
    tx.append(TextSubmitted(encounter=encounter.id, sha256=digest, words=len(text.split())), actor=CLINICIAN)
    return digest


def generate(tx: Transaction, records: Records, encounter: Encounter, transcript_sha256: str) -> None:
    """Authorise, begin and complete a generation, as the flow does."""
    generation = begin_generation(tx, records, encounter, transcript_sha256=transcript_sha256)
    completion = make_completion()
    stored = tx.generations.complete(generation, completion)
    event = GenerationCompleted(
        generation=generation,
        authorized_seq=stored.audit_seq,
        output_sha256=completion.sha256,
        tokens_in=10,
        tokens_out=3,
        attempts=1,
    )
    tx.append(event, actor=CLINICIAN)


@pytest.fixture
def full(records: Records, encounter: Encounter) -> Records:
    """Of everything something: accounts, consent, audio, transcripts, generations, a signed and amended note."""
    with records.write() as tx:
        for name, role in (("ada", Role.CLINICIAN), ("bob", Role.ADMINISTRATOR), ("eve", Role.AUDITOR)):
            tx.users.create(name, display_name=name, role=role, password=PASSWORD, actor=OPERATOR)
        tx.users.reset_password("ada", PASSWORD + "2", OPERATOR)
        tx.users.disable("eve", OPERATOR)
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, CLINICIAN)
        tx.encounters.record_consent(encounter.id, Consent.WITHDRAWN, CLINICIAN)
        recording = tx.recordings.start(encounter.id, mime="audio/wav", actor=CLINICIAN)
        tx.recordings.append(recording.id, 0, b"one")
        tx.recordings.append(recording.id, 1, b"two")
        tx.recordings.complete(recording.id, chunks=2, actor=CLINICIAN)
        dictate(tx, encounter, "first words")
        dictate(tx, encounter, "other words")
        digest = dictate(tx, encounter, "first words")
        generate(tx, records, encounter, digest)
        failed = begin_generation(tx, records, encounter, transcript_sha256=digest)
        seq = tx.generations.fail(failed, "model_timeout").audit_seq
        tx.append(GenerationFailed(generation=failed, authorized_seq=seq, code="model_timeout"), actor=CLINICIAN)
        tx.notes.store_draft(encounter.id, make_note(), generation_id=None, actor=CLINICIAN)
        tx.notes.save(encounter.id, make_note("Edited."), expected_version=1, actor=CLINICIAN)
        tx.notes.sign(encounter.id, expected_version=2, attestation="Read.", actor=CLINICIAN)
        tx.notes.add_addendum(encounter.id, "Later.", CLINICIAN)
    return records


def problems(records: Records, *, deep: bool = False) -> set[tuple[str, str]]:
    """Sweep, and return what was found, by problem and kind."""
    return {(finding.problem, finding.kind) for finding in records.sweep(deep=deep)}


def test_an_honest_database_has_no_findings(full: Records) -> None:
    """Log and database agree, and everything opens."""
    assert full.sweep() == ()
    assert full.sweep(deep=True) == ()


def test_an_interrupted_and_a_running_generation_are_no_findings(records: Records, encounter: Encounter) -> None:
    """What an honest crash leaves behind, before and after it is noticed."""
    with records.write() as tx:
        digest = dictate(tx, encounter, "some words")
        first = begin_generation(tx, records, encounter, transcript_sha256=digest)
    assert records.sweep() == ()
    with records.write() as tx:
        seq = tx.generations.interrupt(first).audit_seq
        tx.append(GenerationInterrupted(generation=first, authorized_seq=seq), actor=CLINICIAN)
    assert records.sweep() == ()


def test_a_transcript_of_the_command_line_is_known_by_the_decision_over_it(
    records: Records, encounter: Encounter, database: Path
) -> None:
    """It has no entry of its own: none before the decision is no finding; after it, taking it away is one."""
    with records.write() as tx:
        digest = tx.transcripts.store(encounter.id, make_transcript())
    assert records.sweep() == ()
    with records.write() as tx:
        generate(tx, records, encounter, digest)
    assert records.sweep() == ()
    as_thief(database, "DELETE FROM transcripts")
    assert problems(records) == {("missing", "transcript"), ("missing", "newest_transcript")}


def test_it_neither_waits_for_a_writer_nor_sees_what_is_not_committed(full: Records, encounter: Encounter) -> None:
    """A sweep in a working clinic stops nobody."""
    with full.write() as tx:
        tx.encounters.record_consent(encounter.id, Consent.REFUSED, CLINICIAN)
        assert full.sweep() == ()
    assert full.sweep() == ()


def test_an_old_patient_row_put_back_is_found(records: Records, patient: Patient, database: Path) -> None:
    """The whole old row opens, because it is genuine; the sweep says that it is not the newest."""
    with closing(sqlite3.connect(database)) as connection:
        data, version, index = connection.execute(
            "SELECT hex(data), row_version, record_number_index FROM patients"
        ).fetchone()
    with records.write() as tx:
        tx.patients.update(patient.id, PatientData("After"), OPERATOR)
    assert records.sweep() == ()
    as_thief(
        database,
        f"UPDATE patients SET data = x'{data}', row_version = {version}, record_number_index = {index}",  # noqa: S608
    )
    with records.read() as tx:
        assert tx.patients.data(patient.id) == patient.data  # why a sweep is needed
    assert problems(records) == {("missing", "patient"), ("unrecorded", "patient")}


@pytest.mark.parametrize(
    ("attack", "kind"),
    [
        pytest.param("DELETE FROM note_versions WHERE version = 2", "note_version", id="version removed"),
        pytest.param("DELETE FROM note_addenda", "addendum", id="addendum removed"),
        pytest.param("UPDATE recordings SET sha256 = 'x', chunks = 0", "recording", id="recording changed"),
        pytest.param("DELETE FROM recording_chunks WHERE number = 1", "recording", id="chunk removed"),
        pytest.param("UPDATE recordings SET completed_at = NULL", "recording", id="recording reopened"),
        pytest.param("UPDATE users SET role = 'administrator' WHERE username = 'ada'", "user", id="role"),
        pytest.param("UPDATE users SET role = 'god' WHERE username = 'ada'", "user", id="no such role"),
        pytest.param("UPDATE users SET disabled_at = NULL", "user_disabled", id="account opened again"),
        pytest.param("DELETE FROM users WHERE username = 'bob'", "user", id="account removed"),
        pytest.param("UPDATE users SET session_epoch = 1 WHERE username = 'ada'", "sessions", id="old sessions back"),
        pytest.param("UPDATE encounters SET consent = 'given'", "consent", id="consent"),
        pytest.param("UPDATE encounters SET clinician_id = 'other'", "encounter", id="clinician"),
        pytest.param("UPDATE encounters SET kind = 'dictation'", "encounter", id="kind"),
        pytest.param("UPDATE encounters SET template = 'other'", "encounter", id="template"),
        pytest.param("UPDATE encounters SET patient_id = 'other'", "encounter", id="patient of the encounter"),
        pytest.param("UPDATE encounters SET state = 'drafted'", "signed_encounter", id="encounter reopened"),
        pytest.param("DELETE FROM transcripts", "transcript", id="transcripts removed"),
        pytest.param("DELETE FROM transcripts WHERE version = 2", "transcript", id="a transcript removed"),
        pytest.param("DELETE FROM transcripts WHERE version = 3", "newest_transcript", id="the newest removed"),
        pytest.param("DELETE FROM generations", "generation", id="generations removed"),
        pytest.param("DELETE FROM generations WHERE state = 'failed'", "generation", id="a failed one removed"),
        pytest.param("UPDATE generations SET model = 'other'", "generation", id="model"),
        pytest.param("UPDATE generations SET state = 'begun'", "generation_end", id="generation reopened"),
        pytest.param("UPDATE generations SET error_code = 'x' WHERE state = 'failed'", "generation_end", id="code"),
        pytest.param("UPDATE generations SET completion = NULL", "generation_end", id="answer removed"),
        pytest.param("UPDATE note_versions SET author_id = 'other'", "note_version", id="author"),
        pytest.param("UPDATE note_addenda SET author_id = 'other'", "addendum", id="author of an addendum"),
        pytest.param(
            "UPDATE notes SET signed_version = NULL, signed_at = NULL, signature = NULL", "signature", id="unsigned"
        ),
    ],
)
def test_what_was_taken_away_is_found(full: Records, database: Path, attack: str, kind: str) -> None:
    """The log names what must be there."""
    as_thief(database, attack)
    assert ("missing", kind) in problems(full)


@pytest.mark.parametrize(
    ("attack", "kind"),
    [
        pytest.param("UPDATE users SET display_name = password_hash", "user", id="display name"),
        pytest.param("UPDATE users SET password_hash = zeroblob(64)", "user", id="password hash"),
        pytest.param(
            "UPDATE users SET password_hash = (SELECT u.password_hash FROM users u WHERE u.username = 'bob') "
            "WHERE username = 'ada'",
            "user",
            id="another's password",
        ),
        pytest.param("UPDATE users SET created_at = 'never'", "user", id="no time"),
        pytest.param("UPDATE patients SET data = zeroblob(64)", "patient", id="patient"),
        pytest.param("UPDATE patients SET wrapped_dek = zeroblob(64)", "patient", id="patient's key"),
        pytest.param("DELETE FROM patients", "transcript", id="patient removed"),
        pytest.param(
            "UPDATE transcripts SET transcript = (SELECT t.transcript FROM transcripts t WHERE t.version = 3 - "
            "transcripts.version) WHERE version < 3",
            "transcript",
            id="transcripts swapped",
        ),
        pytest.param("UPDATE transcripts SET version = version + 10", "transcript", id="transcripts renumbered"),
        pytest.param("UPDATE generations SET completion = zeroblob(64)", "generation", id="answer damaged"),
        pytest.param(
            "UPDATE note_versions SET note = (SELECT v.note FROM note_versions v WHERE v.version = 3 - "
            "note_versions.version)",
            "note",
            id="versions swapped",
        ),
        pytest.param("DELETE FROM note_versions", "note", id="all versions removed"),
        pytest.param("UPDATE note_addenda SET text = zeroblob(64)", "note", id="addendum damaged"),
        pytest.param("UPDATE notes SET signature = zeroblob(64)", "note", id="signature damaged"),
    ],
)
def test_what_does_not_open_is_found_and_ends_nothing(full: Records, database: Path, attack: str, kind: str) -> None:
    """Damaged or swapped blobs are findings; the sweep goes on behind them, to the last account."""
    as_thief(database, attack, "UPDATE users SET role = 'clinician' WHERE username = 'bob'")
    found = problems(full)
    assert ("unreadable", kind) in found
    assert ("unrecorded", "user") in found


def test_swapped_audio_is_found_by_the_deep_sweep_only(full: Records, database: Path) -> None:
    """Negative control: without `deep` no audio is opened."""
    as_thief(
        database,
        "UPDATE recording_chunks SET data = (SELECT c.data FROM recording_chunks c "
        "WHERE c.number = 1 - recording_chunks.number)",
    )
    assert problems(full) == set()
    assert problems(full, deep=True) == {("unreadable", "recording")}


def test_what_was_slipped_in_is_found(full: Records, database: Path) -> None:
    """A version that no entry names is reported, whatever its content."""
    as_thief(
        database,
        "INSERT INTO note_versions SELECT note_id, 3, author_id, content_sha256, note, created_at "
        "FROM note_versions WHERE version = 2",
    )
    assert problems(full) == {("unrecorded", "note_version"), ("unreadable", "note")}


def test_an_answer_that_was_rejected_is_no_finding(full: Records, encounter: Encounter) -> None:
    """Completed, then failed after all: the last word counts."""
    with full.write() as tx:
        stored = tx.generations.completed_for(encounter.id)
        assert stored is not None
        tx.generations.reject(stored.id, "output_empty")
        event = GenerationFailed(generation=stored.id, authorized_seq=stored.audit_seq, code="output_empty")
        tx.append(event, actor=CLINICIAN)
    assert full.sweep(deep=True) == ()
