"""Documents in the records: only from a signed note, in versions, ended once, sealed and in the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from clinic.domain import (
    NO_MODEL,
    Actor,
    Document,
    EncounterState,
    Role,
    StatementStatus,
    UserId,
)
from clinic.errors import AuthenticationError, ClinicError, DecryptionError, RecordError
from clinic.records.documents import StoredDocument
from clinic.records.encounters import Encounter
from clinic.records.records import Records, Transaction
from tests.unit.records.records_world import (
    CLINICIAN,
    begin_generation,
    make_completion,
    make_document,
    make_note,
    make_transcript,
)

OTHER = Actor(user_id=UserId("clinician-2"), role=Role.CLINICIAN)
SOURCE = make_document().source_sha256


@dataclass(frozen=True)
class World:
    """A signed note, and a document of it."""

    encounter: Encounter
    stored: StoredDocument


def draft(tx: Transaction, records: Records, encounter: Encounter, document: Document | None = None) -> StoredDocument:
    """Store a document by a completed generation."""
    generation = begin_generation(tx, records, encounter, model=NO_MODEL.id)
    tx.generations.complete(generation, make_completion())
    return tx.documents.store_draft(document or make_document(), generation_id=generation, actor=CLINICIAN)


def signed_note(tx: Transaction, encounter: Encounter) -> None:
    """Sign a note."""
    tx.transcripts.store(encounter.id, make_transcript())
    tx.notes.store_draft(encounter.id, make_note(), generation_id=None, actor=CLINICIAN)
    tx.encounters.mark(encounter.id, state=EncounterState.DRAFTED)
    tx.notes.sign(encounter.id, expected_version=1, attestation="Read.", actor=CLINICIAN)


@pytest.fixture
def world(records: Records, encounter: Encounter) -> World:
    """A document in its first version."""
    with records.write() as tx:
        signed_note(tx, encounter)
        return World(encounter, draft(tx, records, encounter))


def code_of(action: Callable[[], object]) -> str:
    """Return the code with which an action is refused."""
    with pytest.raises(ClinicError) as caught:
        action()
    return caught.value.code


def sign(tx: Transaction, stored: StoredDocument, *, version: int = 1, source: str = SOURCE) -> StoredDocument:
    """Issue it."""
    return tx.documents.sign(
        stored.id,
        expected_version=version,
        attestation="Canary attestation",
        source_sha256=source,
        required=("request",),
        actor=CLINICIAN,
    )


def test_a_document_needs_a_signed_note_and_a_complete_generation(records: Records, encounter: Encounter) -> None:
    """Neither a draft nor a running generation will do."""
    with records.write() as tx:
        tx.transcripts.store(encounter.id, make_transcript())
        tx.notes.store_draft(encounter.id, make_note(), generation_id=None, actor=CLINICIAN)
        generation = begin_generation(tx, records, encounter)
        store = partial(tx.documents.store_draft, make_document(), generation_id=generation, actor=CLINICIAN)
        assert code_of(store) == "record_conflict"
        tx.generations.complete(generation, make_completion())
        assert code_of(store) == "note_unsigned"
        tx.notes.sign(encounter.id, expected_version=1, attestation="Read.", actor=CLINICIAN)
        assert store().version == 1


def test_versions_are_added_and_never_overwritten(records: Records, world: World) -> None:
    """On top of the version that was seen, and once only."""
    with records.write() as tx:
        save = partial(tx.documents.save, world.stored.id, actor=CLINICIAN)
        assert save(make_document("Two."), expected_version=1).version == 2
        assert save(make_document("Two."), expected_version=1).version == 2  # sent again
        with pytest.raises(RecordError) as caught:
            save(make_document("Three."), expected_version=1)
        assert caught.value.code == "record_conflict"
        assert tx.documents.get(world.stored.id).document.text.statements[0].text == "Two."


def test_only_who_had_it_drafted_changes_it(records: Records, world: World) -> None:
    """Another clinician reads."""
    with records.write() as tx:
        assert tx.documents.get(world.stored.id).document == make_document()
        for action in (
            lambda: tx.documents.save(world.stored.id, make_document("X."), expected_version=1, actor=OTHER),
            lambda: tx.documents.discard(world.stored.id, actor=OTHER),
            lambda: tx.documents.sign(
                world.stored.id, expected_version=1, attestation="A", source_sha256=SOURCE, actor=OTHER
            ),
        ):
            with pytest.raises(AuthenticationError) as caught:
                action()
            assert caught.value.code == "not_allowed"


@pytest.mark.parametrize(
    ("document", "seen", "code"),
    [
        pytest.param(make_document(flagged=True), (2, SOURCE), "flags_open", id="open flag"),
        pytest.param(make_document(section="other"), (2, SOURCE), "section_empty", id="required section empty"),
        pytest.param(make_document("Edited."), (2, "e" * 64), "source_changed", id="addendum in between"),
        pytest.param(make_document("Edited."), (1, SOURCE), "record_conflict", id="another version"),
    ],
)
def test_what_is_not_ready_is_not_issued(
    records: Records, world: World, document: Document, seen: tuple[int, str], code: str
) -> None:
    """A flag, an empty section, something new in the note, a version that has moved."""
    with records.write() as tx:
        tx.documents.save(world.stored.id, document, expected_version=1, actor=CLINICIAN)
        assert code_of(lambda: sign(tx, world.stored, version=seen[0], source=seen[1])) == code
        assert tx.documents.get(world.stored.id).is_draft


def test_a_document_without_a_sentence_is_not_issued(records: Records, world: World) -> None:
    """Everything removed is nothing."""
    document = make_document()
    gone = document.text.statements[0].model_copy(update={"status": StatementStatus.REMOVED})
    empty = document.model_copy(update={"text": document.text.model_copy(update={"statements": (gone,)})})
    with records.write() as tx:
        tx.documents.save(world.stored.id, empty, expected_version=1, actor=CLINICIAN)
        assert code_of(lambda: sign(tx, world.stored, version=2)) == "note_empty"


def test_issued_and_discarded_are_locked(records: Records, world: World) -> None:
    """No edit, no second end; both are in the log."""
    with records.write() as tx:
        issued = sign(tx, world.stored)
        other = draft(tx, records, world.encounter)
        tx.documents.discard(other.id, actor=CLINICIAN)
        assert (issued.signed, issued.signed_by, issued.attestation) == (True, CLINICIAN.user_id, "Canary attestation")
        for document_id in (issued.id, other.id):
            save = partial(tx.documents.save, document_id, make_document("X."), expected_version=1, actor=CLINICIAN)
            assert code_of(save) == "document_locked"
            assert code_of(partial(tx.documents.discard, document_id, actor=CLINICIAN)) == "document_locked"
        states = {listed.state for listed in tx.documents.for_patient(world.encounter.patient_id)}
        assert states == {"signed", "discarded"}
    names = [entry.event for entry in records.audit.entries()]
    assert [name for name in names if name.startswith("document.")] == [
        "document.drafted",
        "document.signed",
        "document.drafted",
        "document.discarded",
    ]


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param("UPDATE documents SET signed_at = NULL, signed_version = NULL, signature = NULL", id="unsign"),
        pytest.param("UPDATE document_versions SET author_id = 'x'", id="change a version"),
        pytest.param("DELETE FROM document_versions", id="remove a version"),
        pytest.param("DELETE FROM documents", id="remove a document"),
        pytest.param(
            "INSERT INTO document_versions SELECT document_id, 9, author_id, content_sha256, document, created_at "
            "FROM document_versions",
            id="add a version",
        ),
    ],
)
def test_the_database_itself_refuses(records: Records, world: World, database: Path, attack: str) -> None:
    """Whoever holds the connection: an issued document stays as it is."""
    with records.write() as tx:
        sign(tx, world.stored)
    with closing(sqlite3.connect(database)) as connection, pytest.raises(sqlite3.IntegrityError, match="refuses"):
        connection.execute(attack)


def as_thief(database: Path, attack: str) -> None:
    """Change the database as somebody would who has dropped the triggers."""
    with closing(sqlite3.connect(database)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(attack)
        connection.commit()


def problems(records: Records) -> set[tuple[str, str]]:
    """Sweep, and return what was found about documents."""
    found = {(finding.problem, finding.kind) for finding in records.sweep()}
    return {each for each in found if each[1].startswith("document")}


@pytest.mark.parametrize(
    ("attack", "finding"),
    [
        pytest.param("DELETE FROM document_versions WHERE version = 2", ("missing", "document_version"), id="version"),
        pytest.param("UPDATE documents SET clinician_id = 'x'", ("missing", "document"), id="whose it is"),
        pytest.param("UPDATE documents SET template = 'x'", ("missing", "document"), id="template"),
        pytest.param("UPDATE documents SET discarded_at = NULL", ("missing", "document_discarded"), id="brought back"),
        pytest.param(
            "UPDATE documents SET signed_version = NULL, signed_at = NULL, signature = NULL",
            ("missing", "document_signed"),
            id="unsigned",
        ),
        pytest.param("UPDATE document_versions SET document = zeroblob(64)", ("unreadable", "document"), id="damaged"),
        pytest.param("UPDATE documents SET signature = zeroblob(64)", ("unreadable", "document"), id="signature"),
        pytest.param(
            "INSERT INTO document_versions SELECT document_id, 9, author_id, content_sha256, document, created_at "
            "FROM document_versions WHERE version = 1",
            ("unrecorded", "document_version"),
            id="slipped in",
        ),
    ],
)
def test_the_sweep_finds_what_was_done_to_documents(
    records: Records, world: World, database: Path, attack: str, finding: tuple[str, str]
) -> None:
    """Taken away, changed, damaged, slipped in; nothing is found before."""
    with records.write() as tx:
        tx.documents.save(world.stored.id, make_document("Two."), expected_version=1, actor=CLINICIAN)
        sign(tx, world.stored, version=2)
        tx.documents.discard(draft(tx, records, world.encounter).id, actor=CLINICIAN)
    assert problems(records) == set()
    as_thief(database, attack)
    assert finding in problems(records)


def test_a_damaged_document_is_never_shown(records: Records, world: World, database: Path) -> None:
    """An old version under the newest number does not open."""
    with records.write() as tx:
        tx.documents.save(world.stored.id, make_document("Two."), expected_version=1, actor=CLINICIAN)
    as_thief(
        database,
        "UPDATE document_versions SET document = (SELECT v.document FROM document_versions v WHERE v.version = 1)",
    )
    with records.read() as tx, pytest.raises(DecryptionError):
        tx.documents.get(world.stored.id)


def test_the_generation_of_a_document_is_not_the_notes(records: Records, world: World) -> None:
    """What the encounter's page says of its draft does not come from a letter."""
    with records.read() as tx:
        assert tx.generations.completed_for(world.encounter.id) is None
        assert tx.generations.get(world.stored.generation_id).completion is not None
