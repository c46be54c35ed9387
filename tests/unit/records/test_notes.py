"""Notes: drafted, edited in versions, signed, amended."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from clinic.domain import Actor, EncounterState, Note, Role, StatementStatus, UserId, canonical_sha256
from clinic.errors import AuthenticationError, DecryptionError, InputError, RecordError
from clinic.records.changes import ReviewCounts, compare
from clinic.records.encounters import Encounter
from clinic.records.notes import StoredNote, _Signature
from clinic.records.patients import Patient
from clinic.records.records import Records, Transaction
from tests.unit.records.records_world import (
    CLINICIAN,
    FrozenClock,
    as_thief,
    begin_generation,
    event_names,
    make_completion,
    make_note,
    open_encounter,
)

OTHER = Actor(user_id=UserId("clinician-2"), role=Role.CLINICIAN)
WORDS = "I have read this note and it is right."


@pytest.fixture
def draft(records: Records, encounter: Encounter) -> StoredNote:
    """A draft without open flags."""
    return store(records, encounter, make_note())


def store(records: Records, encounter: Encounter, note: Note) -> StoredNote:
    """Store a draft as the job does."""
    with records.write() as tx:
        generation = begin_generation(tx, records, encounter)
        tx.generations.complete(generation, make_completion())
        return tx.notes.store_draft(encounter.id, note, generation_id=generation, actor=CLINICIAN)


def sign(
    records: Records, draft: StoredNote, *, version: int = 1, words: str = WORDS, actor: Actor = CLINICIAN
) -> StoredNote:
    """Sign a version."""
    with records.write() as tx:
        return tx.notes.sign(draft.encounter_id, expected_version=version, attestation=words, actor=actor)


def save(records: Records, draft: StoredNote, note: Note, *, version: int, actor: Actor = CLINICIAN) -> StoredNote:
    """Save an edit."""
    with records.write() as tx:
        return tx.notes.save(draft.encounter_id, note, expected_version=version, actor=actor)


def test_a_draft_comes_back_as_stored(records: Records, draft: StoredNote) -> None:
    """Version 1, unsigned, with its digest; the event counts statements, flags and omissions."""
    with records.read() as tx:
        assert tx.notes.get(draft.encounter_id) == draft
    assert (draft.version, draft.note, draft.signed, draft.addenda) == (1, make_note(), False, ())
    assert (draft.signed_by, draft.signed_at, draft.attestation) == (None, None, None)
    assert draft.content_sha256 == canonical_sha256(make_note().model_dump(mode="json"))
    last = list(records.audit.entries())[-1]
    assert last.event == "note.drafted"
    assert b'"flagged":0' in last.body
    assert b'"omissions":1' in last.body
    assert draft.content_sha256.encode() in last.body


def test_an_encounter_without_a_note_has_none(records: Records, encounter: Encounter) -> None:
    """None is no error."""
    with records.read() as tx:
        assert tx.notes.get(encounter.id) is None


def test_an_encounter_has_one_note(records: Records, encounter: Encounter, draft: StoredNote) -> None:
    """A second draft is a conflict; the first stays."""
    with pytest.raises(RecordError) as caught:
        store(records, encounter, make_note("Other."))
    assert caught.value.code == "record_conflict"
    with records.read() as tx:
        assert tx.notes.get(encounter.id) == draft


def test_a_note_names_a_generation_of_its_encounter(records: Records, encounter: Encounter, patient: Patient) -> None:
    """An unknown generation, or another encounter's, is refused."""
    with records.write() as tx:
        foreign = begin_generation(tx, records, open_encounter(tx, patient))
        with pytest.raises(RecordError) as conflict:
            tx.notes.store_draft(encounter.id, make_note(), generation_id=foreign, actor=CLINICIAN)
        with pytest.raises(RecordError) as unknown:
            tx.notes.store_draft(encounter.id, make_note(), generation_id="none", actor=CLINICIAN)
    assert (conflict.value.code, unknown.value.code) == ("record_conflict", "record_unknown")


def test_saving_adds_a_version(records: Records, draft: StoredNote, clock: FrozenClock) -> None:
    """The newest is current, all are in the history with their authors; each is recorded."""
    clock.advance(minutes=1)
    second = save(records, draft, make_note("Edited."), version=1)
    assert (second.version, second.note) == (2, make_note("Edited."))
    with records.read() as tx:
        history = tx.notes.history(draft.encounter_id)
    assert [(v.version, v.note, v.author_id) for v in history] == [
        (1, make_note(), CLINICIAN.user_id),
        (2, make_note("Edited."), CLINICIAN.user_id),
    ]
    assert history[1].created_at == clock.moment
    last = list(records.audit.entries())[-1]
    assert (last.event, second.content_sha256.encode() in last.body) == ("note.edited", True)


def test_saving_on_an_old_version_is_a_conflict(records: Records, draft: StoredNote) -> None:
    """Nobody overwrites what they have not seen, be it their own from another tab."""
    save(records, draft, make_note("Edited."), version=1)
    for version in (0, 1, 3):
        with pytest.raises(RecordError) as caught:
            save(records, draft, make_note("Mine."), version=version)
        assert caught.value.code == "record_conflict"


def test_the_same_edit_sent_again_changes_nothing(records: Records, draft: StoredNote) -> None:
    """A browser that lost the answer may repeat the request."""
    first = save(records, draft, make_note("Edited."), version=1)
    assert save(records, draft, make_note("Edited."), version=1) == first
    assert event_names(records).count("note.edited") == 1


def test_signing_locks_the_note(records: Records, draft: StoredNote, clock: FrozenClock) -> None:
    """Who, when and with which words is kept; the encounter is signed; the event names version and digest."""
    signed = sign(records, draft)
    assert (signed.signed, signed.signed_by, signed.signed_at) == (True, CLINICIAN.user_id, clock.moment)
    assert (signed.attestation, signed.version) == (WORDS, 1)
    with records.read() as tx:
        assert tx.notes.get(draft.encounter_id) == signed
        assert tx.encounters.get(draft.encounter_id).state is EncounterState.SIGNED
    last = list(records.audit.entries())[-1]
    assert (last.event, signed.content_sha256.encode() in last.body) == ("note.signed", True)


def test_a_signed_note_is_neither_edited_nor_signed_again(records: Records, draft: StoredNote) -> None:
    """Both are `note_locked`, and so is moving the encounter on."""
    sign(records, draft)
    with pytest.raises(RecordError) as edited:
        save(records, draft, make_note("Later."), version=1)
    with pytest.raises(RecordError) as signed:
        sign(records, draft)
    with pytest.raises(RecordError) as marked, records.write() as tx:
        tx.encounters.mark(draft.encounter_id, state=EncounterState.QUEUED)
    assert {edited.value.code, signed.value.code, marked.value.code} == {"note_locked"}
    with records.write() as tx:  # saying again what is so is no error
        assert tx.encounters.mark(draft.encounter_id, state=EncounterState.SIGNED).state is EncounterState.SIGNED


def test_an_open_flag_forbids_signing(records: Records, encounter: Encounter) -> None:
    """`flags_open` until the clinician has decided (P5)."""
    draft = store(records, encounter, make_note(status=StatementStatus.FLAGGED))
    with pytest.raises(RecordError) as caught:
        sign(records, draft)
    assert caught.value.code == "flags_open"
    with records.read() as tx:
        assert tx.encounters.get(encounter.id).state is EncounterState.OPEN
    save(records, draft, make_note(status=StatementStatus.CONFIRMED), version=1)
    assert sign(records, draft, version=2).signed


def test_one_signs_what_one_has_seen(records: Records, draft: StoredNote) -> None:
    """If another tab saved in between, the signature is refused."""
    save(records, draft, make_note("Edited."), version=1)
    with pytest.raises(RecordError) as caught:
        sign(records, draft, version=1)
    assert caught.value.code == "record_conflict"


@pytest.mark.parametrize("words", ["", "  \n"], ids=["empty", "blank"])
def test_a_signature_needs_words(records: Records, draft: StoredNote, words: str) -> None:
    """An empty attestation is refused."""
    with pytest.raises(InputError) as caught:
        sign(records, draft, words=words)
    assert caught.value.code == "attestation_missing"


@pytest.mark.parametrize("statements", ["removed", "none"])
def test_a_note_without_a_statement_is_not_signed(records: Records, encounter: Encounter, statements: str) -> None:
    """`note_empty`, whether all were removed or none was ever there; with one put back it can be signed."""
    empty = make_note(status=StatementStatus.REMOVED)
    if statements == "none":
        empty = empty.model_copy(update={"statements": ()})
    draft = store(records, encounter, empty)
    with pytest.raises(RecordError) as caught:
        sign(records, draft)
    assert caught.value.code == "note_empty"
    with records.read() as tx:
        assert tx.encounters.get(encounter.id).state is EncounterState.OPEN
    save(records, draft, make_note(status=StatementStatus.CONFIRMED), version=1)
    assert sign(records, draft, version=2).signed


def test_another_clinician_neither_edits_nor_signs(records: Records, draft: StoredNote) -> None:
    """Who opened the encounter was there: others are `not_allowed`, and leave no version, signature or event."""
    with pytest.raises(AuthenticationError) as edited:
        save(records, draft, make_note("Edited."), version=1, actor=OTHER)
    with pytest.raises(AuthenticationError) as signed:
        sign(records, draft, actor=OTHER)
    assert {edited.value.code, signed.value.code} == {"not_allowed"}
    with records.read() as tx:
        assert tx.notes.get(draft.encounter_id) == draft
    assert not {"note.edited", "note.signed"} & set(event_names(records))
    assert sign(records, draft).signed


@pytest.mark.parametrize("role", [Role.ADMINISTRATOR, Role.AUDITOR])
def test_only_a_clinician_edits_signs_and_amends(records: Records, draft: StoredNote, role: Role) -> None:
    """Any other role is `not_allowed`."""
    actor = Actor(user_id=UserId("x"), role=role)
    with pytest.raises(AuthenticationError) as edited:
        save(records, draft, make_note("Edited."), version=1, actor=actor)
    with pytest.raises(AuthenticationError) as signed:
        sign(records, draft, actor=actor)
    sign(records, draft)
    with pytest.raises(AuthenticationError) as amended, records.write() as tx:
        tx.notes.add_addendum(draft.encounter_id, "Later.", actor)
    assert {edited.value.code, signed.value.code, amended.value.code} == {"not_allowed"}


def test_addenda_follow_a_signed_note(records: Records, draft: StoredNote, clock: FrozenClock) -> None:
    """In order, with author and time; the note itself and its signature do not change; each is recorded."""
    signed = sign(records, draft)
    clock.advance(days=1)
    with records.write() as tx:
        tx.notes.add_addendum(draft.encounter_id, " First. ", CLINICIAN)
        amended = tx.notes.add_addendum(draft.encounter_id, "Second.", OTHER)
    assert [(a.text, a.author_id, a.created_at) for a in amended.addenda] == [
        ("First.", CLINICIAN.user_id, clock.moment),
        ("Second.", OTHER.user_id, clock.moment),
    ]
    assert (amended.note, amended.version, amended.signed_at) == (signed.note, signed.version, signed.signed_at)
    assert event_names(records)[-2:] == ["note.amended", "note.amended"]


def test_a_draft_takes_no_addendum(records: Records, draft: StoredNote) -> None:
    """What can be edited is edited."""
    with pytest.raises(RecordError) as caught, records.write() as tx:
        tx.notes.add_addendum(draft.encounter_id, "Later.", CLINICIAN)
    assert caught.value.code == "note_unsigned"


def test_an_addendum_needs_words(records: Records, draft: StoredNote) -> None:
    """An empty addendum is refused."""
    sign(records, draft)
    with pytest.raises(InputError) as caught, records.write() as tx:
        tx.notes.add_addendum(draft.encounter_id, " ", CLINICIAN)
    assert caught.value.code == "addendum_empty"


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda tx, e: tx.notes.save(e, make_note(), expected_version=1, actor=CLINICIAN), id="save"),
        pytest.param(lambda tx, e: tx.notes.sign(e, expected_version=1, attestation=WORDS, actor=CLINICIAN), id="sign"),
        pytest.param(lambda tx, e: tx.notes.add_addendum(e, "Later.", CLINICIAN), id="add_addendum"),
        pytest.param(lambda tx, e: tx.notes.history(e), id="history"),
    ],
)
def test_without_a_note_there_is_nothing_to_change(
    records: Records, encounter: Encounter, operation: Callable[[Transaction, str], object]
) -> None:
    """An encounter without a note, and one that is not there, are `record_unknown`."""
    for encounter_id in (encounter.id, "none"):
        with pytest.raises(RecordError) as caught, records.write() as tx:
            operation(tx, encounter_id)
        assert caught.value.code == "record_unknown"


def test_unknown_encounters_are_record_unknown(records: Records) -> None:
    """For reading and drafting too."""
    with records.write() as tx:
        with pytest.raises(RecordError) as read:
            tx.notes.get("none")
        with pytest.raises(RecordError) as drafted:
            tx.notes.store_draft("none", make_note(), generation_id=None, actor=CLINICIAN)
    assert {read.value.code, drafted.value.code} == {"record_unknown"}


LOCKED = [
    "UPDATE notes SET signed_version = NULL, signature = NULL",
    "UPDATE notes SET encounter_id = 'x'",
    "DELETE FROM notes",
    "UPDATE note_versions SET author_id = 'x'",
    "DELETE FROM note_versions",
    "INSERT INTO note_versions SELECT note_id, 9, author_id, content_sha256, note, created_at FROM note_versions",
    (
        "INSERT OR REPLACE INTO note_versions "
        "SELECT note_id, version, 'x', content_sha256, note, created_at FROM note_versions"
    ),
    "UPDATE note_addenda SET author_id = 'x'",
    "DELETE FROM note_addenda",
    (
        "INSERT OR REPLACE INTO note_addenda "
        "SELECT id, note_id, number, 'x', content_sha256, text, created_at FROM note_addenda"
    ),
]


@pytest.mark.parametrize("statement", LOCKED)
def test_the_database_locks_a_signed_note(records: Records, draft: StoredNote, database: Path, statement: str) -> None:
    """Triggers refuse it for whoever holds a connection; without them it would pass (control)."""
    sign(records, draft)
    with records.write() as tx:
        tx.notes.add_addendum(draft.encounter_id, "Later.", CLINICIAN)
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA recursive_triggers=ON")
        with pytest.raises(sqlite3.IntegrityError, match="refuses"):
            connection.execute(statement)
    as_thief(database, statement)


def test_the_database_keeps_addenda_from_drafts(draft: StoredNote, database: Path) -> None:
    """No addendum gets to an unsigned note past the program."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        insert = "INSERT INTO note_addenda VALUES ('a', ?, 1, 'x', 'y', x'00', 'z')"
        with pytest.raises(sqlite3.IntegrityError, match="refuses"):
            connection.execute(insert, (draft.id,))


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param("UPDATE notes SET signature = NULL", id="signature taken away"),
        pytest.param("UPDATE notes SET signed_version = NULL", id="version taken away"),
        pytest.param("UPDATE notes SET signed_version = NULL, signature = NULL, signed_at = NULL", id="unsigned"),
        pytest.param("UPDATE notes SET signed_version = 1", id="another version signed"),
        pytest.param("DELETE FROM note_versions WHERE version = 2", id="signed version removed"),
        pytest.param("UPDATE note_versions SET content_sha256 = 'forged' WHERE version = 2", id="digest forged"),
    ],
)
def test_a_signature_cannot_be_tampered_with(records: Records, draft: StoredNote, database: Path, attack: str) -> None:
    """Whoever holds the file can remove the triggers; the seal still says that something is wrong."""
    save(records, draft, make_note("Edited."), version=1)
    sign(records, draft, version=2)
    with records.write() as tx:
        tx.notes.add_addendum(draft.encounter_id, "Later.", CLINICIAN)
    as_thief(database, attack)
    with pytest.raises(DecryptionError), records.read() as tx:
        tx.notes.get(draft.encounter_id)


def test_what_became_of_the_draft_is_sealed_with_the_signature(records: Records, draft: StoredNote) -> None:
    """The counts are those of the versions, and come back with the note; a draft has none yet."""
    assert draft.review is None
    save(records, draft, make_note("Edited."), version=1)
    signed = sign(records, draft, version=2)
    with records.read() as tx:
        notes = [version.note for version in tx.notes.history(draft.encounter_id)]
        assert tx.notes.get(draft.encounter_id) == signed
    assert signed.review == ReviewCounts.of(compare(notes))
    assert signed.review.edit_distance > 0


def test_signature_of_before_has_no_counts(
    records: Records, draft: StoredNote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note that was signed before the counts were kept is read as it is."""
    whole = _Signature.model_dump
    monkeypatch.setattr(_Signature, "model_dump", lambda self: whole(self, exclude={"review"}))
    signed = sign(records, draft)
    assert (signed.signed, signed.review) == (True, None)
