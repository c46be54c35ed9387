"""Patient data is never in the file in the clear, and opens in its own place only."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Integer
from sqlalchemy import exc as sqlalchemy_exc
from sqlalchemy.orm import Session

from clinic.crypto.keys import Keyring
from clinic.domain import OPERATOR, Consent, Role, Scope, new_id
from clinic.errors import DecryptionError, RecordError
from clinic.records.answers import StoredAnswer
from clinic.records.engine import open_engine, write_transaction
from clinic.records.live_texts import LiveLine, LiveText
from clinic.records.models import PatientRow, metadata
from clinic.records.moments import Moment
from clinic.records.passkeys import Credential
from clinic.records.patients import PatientData
from clinic.records.records import Records
from clinic.records.sealed import Place, Sealed, SealedType, Vault
from tests.unit.records.records_world import (
    ADMINISTRATOR,
    CLINICIAN,
    HASHER,
    as_thief,
    begin_generation,
    make_completion,
    make_document,
    make_note,
    make_transcript,
    open_encounter,
)

CLEAR_COLUMNS = {
    "users": {"id", "username", "role", "created_at", "disabled_at"},
    "login_failures": {"subject", "failed_at", "locked_until"},
    "second_factors": {"user_id", "created_at", "confirmed_at"},
    "recovery_codes": {"user_id", "created_at"},
    "invitations": {"subject", "created_at"},
    "passkeys": {"id", "user_id", "credential_sha256", "created_at", "last_used_at"},
    "factor_roles": {"role", "since"},
    "api_tokens": {"id", "user_id", "created_at", "last_used_at", "revoked_at"},
    "api_answers": {"token_id", "key", "created_at"},
    "patients": {"id", "wrapped_dek", "created_at", "updated_at", "shredded_at"},
    "key_uses": {"owner"},
    "encounters": {
        *("id", "patient_id", "clinician_id", "kind", "template", "language", "consent", "state", "stage"),
        *("error_code", "created_at", "updated_at"),
    },
    "recordings": {"id", "encounter_id", "patient_id", "mime", "sha256", "created_at", "completed_at"},
    "recording_chunks": {"recording_id", "sha256"},
    "moments": {"id", "encounter_id", "patient_id", "created_at"},
    "live_texts": {"recording_id", "patient_id", "created_at"},
    "transcripts": {"id", "encounter_id", "patient_id", "sha256", "created_at"},
    "generations": {
        *("id", "encounter_id", "patient_id", "state", "prompt_sha256", "model", "model_sha256", "template_sha256"),
        *("error_code", "created_at", "finished_at"),
    },
    "notes": {"id", "encounter_id", "patient_id", "generation_id", "signed_at", "created_at"},
    "note_versions": {"note_id", "author_id", "content_sha256", "created_at"},
    "documents": {
        *("id", "encounter_id", "patient_id", "generation_id", "clinician_id", "template", "signed_at"),
        *("discarded_at", "created_at"),
    },
    "document_versions": {"document_id", "author_id", "content_sha256", "created_at"},
    "note_addenda": {"id", "note_id", "author_id", "content_sha256", "created_at"},
}

SEALED = {
    f"{table.name}.{column.name}"
    for table in metadata.tables.values()
    for column in table.columns
    if isinstance(column.type, SealedType)
}

CANARIES = (
    *("canary wharfington", "mrn-4711", "1961-02-03", "female", "canary cough", "canary number", "canary omission"),
    *("canary completion", "canary attestation", "canary addendum", "canary audio", "canary edit"),
    *("canary display", "canary-password", "canary tablet", "nightingale"),
    *("canary sentence", "dr canary"),
)


@dataclass
class World:
    """One patient with two encounters, every table filled."""

    patient_id: str
    encounter_ids: tuple[str, str]


def fill(records: Records, number: str = "MRN-4711") -> World:
    """Write something into every sealed column."""
    with records.write() as tx:
        patient = tx.patients.create(
            PatientData("Canary Wharfington", date(1961, 2, 3), "female", number), actor=OPERATOR
        )
        tx.patients.update(patient.id, PatientData("Canary Nightingale", date(1961, 2, 3), "female", number), OPERATOR)
        tx.patients.update(patient.id, patient.data, OPERATOR)
    ids = []
    for index in range(2):
        with records.write() as tx:
            encounter = open_encounter(tx, patient)
            ids.append(encounter.id)
            recording = tx.recordings.start(encounter.id, mime="audio/webm", actor=CLINICIAN)
            for chunk in range(2):
                tx.recordings.append(recording.id, chunk, b"canary audio %d%d" % (index, chunk))
            tx.recordings.complete(recording.id, chunks=2, actor=CLINICIAN)
            tx.moments.add(encounter.id, Moment(new_id(), 1.5, f"canary number {index}"), actor=CLINICIAN)
            tx.transcripts.store(encounter.id, make_transcript(f"the canary cough {index}"))
            generation = begin_generation(tx, records, encounter)
            tx.generations.complete(generation, make_completion(f"canary completion {index}"))
            note = make_note(f"Canary number {index}.")
            tx.notes.store_draft(encounter.id, note, generation_id=generation, actor=CLINICIAN)
            tx.notes.save(encounter.id, make_note(f"Canary edit {index}."), expected_version=1, actor=CLINICIAN)
            tx.notes.sign(encounter.id, expected_version=2, attestation=f"Canary attestation {index}", actor=CLINICIAN)
            for _ in range(2):
                tx.notes.add_addendum(encounter.id, f"Canary addendum {index}", CLINICIAN)
            letter = begin_generation(tx, records, encounter)
            tx.generations.complete(letter, make_completion(f"canary completion of a letter {index}"))
            document = make_document(f"Canary sentence {index}.")
            stored = tx.documents.store_draft(document, generation_id=letter, actor=CLINICIAN)
            edited = make_document(f"Canary sentence, edited {index}.")
            tx.documents.save(stored.id, edited, expected_version=1, actor=CLINICIAN)
            issued = {"attestation": f"Canary attestation {index}", "source_sha256": document.source_sha256}
            tx.documents.sign(stored.id, expected_version=2, actor=CLINICIAN, **issued)
    with records.write() as tx:
        running = tx.encounters.record_consent(open_encounter(tx, patient).id, Consent.GIVEN, CLINICIAN)
        recording = tx.recordings.start(running.id, mime="audio/webm", actor=CLINICIAN)
        tx.live_texts.want(recording.id)
        assert tx.live_texts.store(recording.id, LiveText((LiveLine(0.0, 1.0, "canary cough"),), 1.0, "en"))
    return World(patient.id, (ids[0], ids[1]))


def staff(records: Records) -> None:
    """Open two accounts."""
    with records.write() as tx:
        for name in ("ann", "ben"):
            user = tx.users.create(
                name,
                display_name=f"Canary Display {name}",
                role=Role.CLINICIAN,
                password="canary-password",
                actor=OPERATOR,
            )
            tx.factors.begin(user)
            tx.recovery.make(user.id, OPERATOR)
            tx.invitations.make(user.id, OPERATOR)
            credential = Credential(name.encode(), b"key", sign_count=0, backed_up=False)
            tx.passkeys.keep(user, credential, name=f"Canary tablet {name}", rp_id="clinic.test")
            token, _ = tx.tokens.create(user, name=f"Canary EMR {name}", scopes=list(Scope), days=1, actor=OPERATOR)
            tx.answers.keep(token.id, name, StoredAnswer(request_sha256="0" * 64, status=201, body=f"Canary {name}"))


def read_everything(records: Records) -> int:
    """Open every sealed value that there is; return how many encounters were read."""
    with records.write() as tx:
        patients = tx.patients.list(ADMINISTRATOR)
        encounters = [encounter for patient in patients for encounter in tx.encounters.for_patient(patient.id)]
        for user in tx.users.list():
            tx.users.password_hash(user.id)
            assert tx.factors.secret(user.id) is not None
            tx.recovery.check(user.id)
            tx.invitations.check(user.id)
            for passkey in tx.passkeys.of(user.id):
                tx.passkeys.check(passkey.id)
        for token in tx.tokens.list():
            tx.answers.check_all(token.id)
        for encounter in encounters:
            recording = tx.recordings.for_encounter(encounter.id)
            assert recording is not None
            if tx.live_texts.get(encounter.id) is not None:  # the one that still runs
                continue
            assert len(list(tx.recordings.chunks(recording.id))) == 2
            assert len(tx.moments.of_encounter(encounter.id)) == 1
            assert tx.transcripts.current(encounter.id) is not None
            assert tx.generations.completed_for(encounter.id) is not None
            assert tx.notes.get(encounter.id) is not None
            assert len(tx.notes.history(encounter.id)) == 2
            for document in tx.documents.for_encounter(encounter.id):
                tx.documents.check_all(document.id)
    return len(encounters) - len(patients)  # the one that runs, of each


def test_every_column_is_sealed_or_known_to_be_harmless() -> None:
    """A new text or BLOB column must be sealed, or be entered in the list of clear ones."""
    clear = {
        table.name: {column.name for column in table.columns if not isinstance(column.type, SealedType | Integer)}
        for table in metadata.tables.values()
    }
    assert clear == CLEAR_COLUMNS


def test_the_files_never_hold_patient_text(records: Records, database: Path) -> None:
    """Database, write-ahead log and shared memory hold no canary in any case or encoding."""
    fill(records)
    staff(records)
    files = sorted(database.parent.glob("clinic.db*"))
    assert [file.name for file in files] == ["clinic.db", "clinic.db-shm", "clinic.db-wal"]
    assert found_canaries(files) == set()


def test_a_plain_column_would_be_found(records: Records, database: Path) -> None:
    """Negative control: the same search finds a canary in a column that is not sealed."""
    world = fill(records)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE encounters SET template = 'Canary Wharfington' WHERE id = ?", (world.encounter_ids[0],)
        )
        assert found_canaries(list(database.parent.glob("clinic.db*"))) == set()  # not committed, not written
        connection.commit()
        assert found_canaries(list(database.parent.glob("clinic.db*"))) == {"canary wharfington"}


def found_canaries(files: list[Path]) -> set[str]:
    """Search the raw bytes for every canary, in UTF-8 and both UTF-16."""
    content = b"".join(file.read_bytes() for file in files).lower()
    return {
        canary for canary in CANARIES for code in ("utf-8", "utf-16-le", "utf-16-be") if canary.encode(code) in content
    }


def test_an_untouched_database_opens_whole(records: Records) -> None:
    """Control of the attacks below: without one, everything opens."""
    fill(records)
    fill(records, number="MRN-2")
    staff(records)
    assert read_everything(records) == 4


def pairs(database: Path, table: str, column: str) -> list[tuple[int, bytes]]:
    """Return row id and ciphertext of every row."""
    with closing(sqlite3.connect(database)) as connection:
        query = f"SELECT rowid, {column} FROM {table} ORDER BY rowid"  # noqa: S608 - names from the models
        return connection.execute(query).fetchall()


def put(database: Path, table: str, column: str, values: list[tuple[int, bytes]]) -> None:
    """Overwrite ciphertexts."""
    statements = (
        f"UPDATE {table} SET {column} = x'{value.hex()}' WHERE rowid = {rowid}"  # noqa: S608 - names from the models
        for rowid, value in values
    )
    as_thief(database, *statements)


@pytest.fixture
def full(records: Records) -> Records:
    """Two patients with two encounters each, and two accounts."""
    fill(records)
    fill(records, number="MRN-2")
    staff(records)
    return records


@pytest.mark.parametrize("address", sorted(SEALED))
def test_a_value_swapped_with_any_other_row_does_not_open(full: Records, database: Path, address: str) -> None:
    """Ciphertexts exchanged between two rows of one column are refused, of one patient or of two."""
    table, column = address.split(".")
    stored = pairs(database, table, column)
    assert len(stored) >= 2
    for other in {1, len(stored) - 1}:  # the neighbour, and the last row of the other patient
        (a, one), (b, two) = stored[0], stored[other]
        put(database, table, column, [(a, two), (b, one)])
        with pytest.raises(DecryptionError):
            read_everything(full)
        put(database, table, column, [(a, one), (b, two)])
    assert read_everything(full) == 4


@pytest.mark.parametrize("address", sorted(SEALED))
def test_a_value_from_another_column_does_not_open(full: Records, database: Path, address: str) -> None:
    """A ciphertext of the same patient from another column is refused in this one."""
    table, column = address.split(".")
    staff = {"users", "second_factors", "recovery_codes", "passkeys", "invitations", "api_tokens", "api_answers"}
    for other in sorted(SEALED - {address}):
        other_table, other_column = other.split(".")
        if (other_table in staff) != (table in staff):
            continue
        rowid, own = pairs(database, table, column)[0]
        foreign = pairs(database, other_table, other_column)[0][1]
        put(database, table, column, [(rowid, foreign)])
        with pytest.raises(DecryptionError):
            read_everything(full)
        put(database, table, column, [(rowid, own)])
    assert read_everything(full) == 4


@pytest.mark.parametrize("address", sorted(SEALED))
def test_one_flipped_bit_does_not_open(full: Records, database: Path, address: str) -> None:
    """A damaged ciphertext is refused; SQLite's own integrity check says nothing."""
    table, column = address.split(".")
    rowid, own = pairs(database, table, column)[0]
    put(database, table, column, [(rowid, own[:-1] + bytes([own[-1] ^ 1]))])
    assert rows_ok(database)
    with pytest.raises(DecryptionError):
        read_everything(full)


def rows_ok(database: Path) -> bool:
    """Ask SQLite whether the file is whole."""
    with closing(sqlite3.connect(database)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok")


def test_an_old_value_does_not_open_in_the_new_row_version(records: Records, database: Path) -> None:
    """A ciphertext kept from before an update is refused after it."""
    with records.write() as tx:
        patient = tx.patients.create(PatientData("Before"), OPERATOR)
    old = pairs(database, "patients", "data")
    with records.write() as tx:
        tx.patients.update(patient.id, PatientData("After"), OPERATOR)
    put(database, "patients", "data", old)
    with pytest.raises(DecryptionError), records.read() as tx:
        tx.patients.data(patient.id)


def test_an_encounter_moved_to_another_patient_does_not_open(full: Records, database: Path) -> None:
    """Rewriting whose a transcript is makes it unreadable, not somebody else's."""
    as_thief(
        database,
        "UPDATE transcripts SET patient_id = (SELECT max(id) FROM patients) "
        "WHERE patient_id = (SELECT min(id) FROM patients)",
    )
    with pytest.raises(DecryptionError):
        read_everything(full)


def test_a_transcript_moved_to_another_encounter_does_not_open(records: Records, database: Path) -> None:
    """Rewriting to which encounter of the same patient a transcript belongs is refused."""
    first, second = fill(records).encounter_ids
    delete = f"DELETE FROM transcripts WHERE encounter_id = '{second}'"  # noqa: S608 - an id
    move = f"UPDATE transcripts SET encounter_id = '{second}' WHERE encounter_id = '{first}'"  # noqa: S608 - ids
    as_thief(database, delete, move)
    with pytest.raises(DecryptionError), records.read() as tx:
        tx.transcripts.current(second)


def test_another_patients_key_is_refused(full: Records, database: Path) -> None:
    """A wrapped key copied from another patient does not unwrap."""
    wrapped = pairs(database, "patients", "wrapped_dek")
    put(database, "patients", "wrapped_dek", [(wrapped[0][0], wrapped[1][1])])
    with pytest.raises(DecryptionError):
        read_everything(full)


def test_another_clinics_keyring_opens_nothing(full: Records, database: Path) -> None:
    """A stolen database is unreadable under any other keys."""
    del full
    engine = open_engine(database)
    thief = Records(engine, keyring=Keyring.generate(), hasher=HASHER)
    with pytest.raises(DecryptionError), thief.write() as tx:
        tx.patients.list(ADMINISTRATOR)
    engine.dispose()


def test_a_sealed_column_refuses_plain_bytes(records: Records, database: Path) -> None:
    """What did not come out of the vault is refused before it reaches the driver."""
    fill(records)
    engine = open_engine(database)
    with write_transaction(engine) as connection, Session(bind=connection) as session:
        row = session.query(PatientRow).first()
        assert row is not None
        row.data = b"canary wharfington"  # type: ignore[assignment]  # what the test is about
        with pytest.raises(sqlalchemy_exc.StatementError, match=r"only what Vault\.seal returned") as caught:
            session.flush()
    assert "canary wharfington" not in str(caught.value)
    engine.dispose()


def test_a_strict_table_refuses_text_in_a_sealed_column(records: Records, database: Path) -> None:
    """The database itself refuses text where ciphertext belongs."""
    fill(records)
    with closing(sqlite3.connect(database)) as connection, pytest.raises(sqlite3.IntegrityError, match="TEXT"):
        connection.execute("UPDATE patients SET data = 'canary wharfington'")


def test_the_vault_seals_into_sealed_columns_only(keyring: Keyring) -> None:
    """Sealing for a clear column is the caller's mistake."""
    vault = Vault(keyring, wrapped_key=lambda _: b"", count=lambda _: None)
    vault.enrol("p1")
    with pytest.raises(TypeError, match="not a sealed column"):
        vault.seal(PatientRow.wrapped_dek, b"x", Place("p1", "p1"))


def test_a_vault_forgets_its_keys(keyring: Keyring) -> None:
    """After the transaction no unwrapped key is left in the vault."""
    vault = Vault(keyring, wrapped_key=lambda _: b"nonsense", count=lambda _: None)
    vault.enrol("p1")
    vault.seal(PatientRow.data, b"x", Place("p1", "p1"))
    vault.close()
    with pytest.raises(DecryptionError):
        vault.seal(PatientRow.data, b"x", Place("p1", "p1"))


def test_reprs_show_nothing(records: Records, keyring: Keyring) -> None:
    """Vault, sealed values and patients show neither key nor text."""
    vault = Vault(keyring, wrapped_key=lambda _: b"", count=lambda _: None)
    assert repr(vault) == "Vault()"
    assert repr(Sealed(b"canary")) == "Sealed(6 bytes)"
    world = fill(records)
    with records.write() as tx:
        shown = repr(
            (
                tx.patients.get(world.patient_id, OPERATOR),
                tx.notes.get(world.encounter_ids[0]),
                tx.notes.history(world.encounter_ids[0]),
                tx.generations.completed_for(world.encounter_ids[0]),
                records,
            )
        )
    assert "canary" not in shown.lower()


def test_unknown_shapes_are_refused_without_a_quote(records: Records, keyring: Keyring, database: Path) -> None:
    """Sealed JSON of another shape is a `DecryptionError` that does not quote it."""
    with records.write() as tx:
        patient = tx.patients.create(PatientData("Canary"), OPERATOR)
    (rowid, _), *_ = pairs(database, "patients", "data")
    with closing(sqlite3.connect(database)) as connection:
        wrapped = connection.execute("SELECT wrapped_dek FROM patients").fetchone()[0]
    vault = Vault(keyring, wrapped_key=lambda _: wrapped, count=lambda _: None)
    forged = vault.seal_json(PatientRow.data, {"surname": "canary"}, Place(patient.id, patient.id))
    put(database, "patients", "data", [(rowid, forged)])
    with pytest.raises(DecryptionError) as caught, records.read() as tx:
        tx.patients.data(patient.id)
    assert "canary" not in str(caught.value).lower()
    assert caught.value.__cause__ is None


def test_an_unknown_patient_has_no_key(records: Records) -> None:
    """Asking for the data of a patient that is not there is `record_unknown`."""
    with pytest.raises(RecordError) as caught, records.read() as tx:
        tx.patients.data("nobody")
    assert caught.value.code == "record_unknown"
