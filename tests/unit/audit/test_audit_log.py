"""The log: append, confirm, head, and what happens when the store fails."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, inspect
from sqlalchemy.exc import IntegrityError, OperationalError

from clinic.audit import tables
from clinic.audit.checkpoint import open_checkpoint
from clinic.audit.entry import GENESIS, RawEntry, entry_bytes, entry_hash
from clinic.audit.events import AuditOpened, LoginSucceeded, PatientViewed
from clinic.audit.log import AuditLog
from clinic.audit.proof import verify_proof
from clinic.audit.tree import EMPTY_ROOT, root_of
from clinic.domain import OPERATOR, Actor, Role, UserId
from clinic.errors import AuditError, StorageError
from tests.unit.audit.audit_store import (
    OTHER_SEED,
    PATIENT,
    PSEUDONYM_KEY,
    SEED,
    SteadyClock,
    Store,
    fill,
    make_store,
    open_engine,
)

EVENT = PatientViewed(patient=PATIENT)


def test_an_entry_holds_what_happened_who_did_it_and_when(store: Store) -> None:
    """The first entry has seq 1, follows 32 zero bytes and carries the hash of its own content."""
    entry = store.log().append(EVENT, actor=OPERATOR)
    assert (entry.seq, entry.at, entry.actor, entry.role) == (1, "2026-01-02T03:04:06.678Z", "operator", "clinician")
    assert (entry.event, entry.body) == ("patient.viewed", b'{"patient":"' + PATIENT.encode() + b'"}')
    assert (entry.prev_hash, entry.hash) == (GENESIS, entry_hash(entry.raw()))


def test_entries_follow_each_other(filled: Store) -> None:
    """Numbers are contiguous from 1 and each entry names the hash of the one before."""
    entries = list(filled.log().entries())
    assert [entry.seq for entry in entries] == list(range(1, 11))
    assert [entry.prev_hash for entry in entries[1:]] == [entry.hash for entry in entries[:-1]]


def test_entries_can_be_asked_for_by_range(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends belong to the range, and pages do not show."""
    monkeypatch.setattr("clinic.audit.reading._PAGE", 3)
    assert [entry.seq for entry in filled.log().entries(first=4, last=6)] == [4, 5, 6]
    assert [entry.seq for entry in filled.log().entries()] == list(range(1, 11))
    assert list(filled.log().entries(first=11)) == []


def test_the_hash_is_over_length_framed_fields() -> None:
    """Moving a character from one field to the next gives other bytes."""
    log_entry = AuditOpened(format_version=1)
    row = (1, b"ab", b"c", b"d", log_entry.name.encode(), log_entry.to_canonical(), GENESIS, b"")
    moved = (1, b"a", b"bc", b"d", log_entry.name.encode(), log_entry.to_canonical(), GENESIS, b"")
    assert entry_bytes(RawEntry(*row)) != entry_bytes(RawEntry(*moved))


def test_the_callers_transaction_decides(store: Store) -> None:
    """In the caller's transaction an entry is there after the commit and gone after a rollback."""
    log = store.log()
    with store.begin() as connection:
        log.append(EVENT, actor=OPERATOR, connection=connection)
        entry = log.append(EVENT, actor=OPERATOR, connection=connection)
    log.confirm(entry)
    with store.begin() as connection:
        lost = log.append(EVENT, actor=OPERATOR, connection=connection)
        connection.rollback()
    with pytest.raises(AuditError):
        log.confirm(lost)
    assert log.append(EVENT, actor=OPERATOR).seq == lost.seq == 3


def test_a_confirmed_entry_is_the_stored_one(filled: Store) -> None:
    """Confirming an entry that differs in any field from the stored one fails."""
    log = filled.log()
    entry = log.append(EVENT, actor=OPERATOR)
    log.confirm(entry)
    for other in (
        replace(entry, seq=12),
        replace(entry, seq=1),
        replace(entry, actor="somebody"),
        replace(entry, body=b"{}"),
        replace(entry, hash=bytes(32)),
    ):
        with pytest.raises(AuditError) as caught:
            log.confirm(other)
        assert caught.value.code == "audit_unavailable"


def test_an_actor_is_an_identifier(store: Store) -> None:
    """The name of a person cannot become an actor."""
    actor = Actor(user_id=UserId("Dr Jane Doe"), role=Role.CLINICIAN)
    with pytest.raises(AuditError) as caught:
        store.log().append(EVENT, actor=actor)
    assert caught.value.code == "event_invalid"
    assert "Jane" not in str(caught.value)


# --- pseudonyms, head, checkpoint -----------------------------------------------------------------


def test_a_pseudonym_is_stable_and_keyed(store: Store) -> None:
    """The same patient has the same pseudonym, another patient or another key gives another."""
    log = store.log()
    other = AuditLog(store.begin, pseudonym_key=b"q" * 32, signing_seed=SEED)
    assert log.pseudonym("p1") == store.log().pseudonym("p1")
    assert len({log.pseudonym("p1"), log.pseudonym("p2"), other.pseudonym("p1")}) == 3
    assert PatientViewed(patient=log.pseudonym("p1")).name == "patient.viewed"


def test_the_head_follows_the_log(store: Store) -> None:
    """Size, hash and root are those of the committed entries, whether hashed at once or bit by bit."""
    log = store.log()
    assert (log.head().size, log.head().hash, log.head().root) == (0, GENESIS, EMPTY_ROOT)
    for size in range(1, 8):
        entry = log.append(EVENT, actor=OPERATOR)
        head = log.head()
        assert (head.size, head.hash) == (size, entry.hash)
        assert head.root == root_of(e.hash for e in log.entries()) == store.log().head().root


def test_a_checkpoint_is_signed_over_the_head(filled: Store) -> None:
    """The checkpoint opens with the published key and names size and root."""
    log = filled.log()
    checkpoint = open_checkpoint(log.checkpoint(), vkey=log.vkey)
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (log.origin, 10, log.head().root)
    assert open_checkpoint(log.checkpoint(size=4), vkey=log.public_key).root == log.tree(4).root()
    with pytest.raises(AuditError):
        log.checkpoint(size=11)


def test_the_origin_belongs_to_the_key(store: Store) -> None:
    """Another signing key makes another log name."""
    assert store.log().origin == store.log().origin != store.log(seed=OTHER_SEED).origin


def test_a_proof_shows_one_entry_and_no_other(filled: Store) -> None:
    """Entry, proof and public key are enough; for another entry the proof does not hold."""
    log = filled.log()
    entries = list(log.entries())
    for entry in entries:
        proof = log.prove(entry.seq)
        assert verify_proof(proof, entry_hash=entry.hash, vkey=log.vkey).size == 10
        with pytest.raises(AuditError):
            verify_proof(proof, entry_hash=entries[entry.seq % 10].hash, vkey=log.vkey)
    for seq in (0, 11):
        with pytest.raises(AuditError) as caught:
            log.prove(seq)
        assert caught.value.code == "entry_unknown"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2sp.org/tlog-proof@v1\n\n",
        "c2sp.org/tlog-proof@v1\nindex 01\n\n",
        "x\nindex 1\n\n",
        "c2sp.org/tlog-proof@v1\nindex 1\n*\n\n",
    ],
)
def test_what_is_no_proof_is_refused(store: Store, text: str) -> None:
    """Only the exact form is read."""
    with pytest.raises(AuditError) as caught:
        verify_proof(text, entry_hash=GENESIS, vkey=store.log().vkey)
    assert caught.value.code == "proof_invalid"


def test_a_log_that_shrank_or_changed_is_not_signed(filled: Store) -> None:
    """What this process has seen must stay: otherwise no checkpoint, even though the rest is a valid chain."""
    log = filled.log()
    log.head()
    filled.tamper("DELETE FROM audit_entries WHERE seq = 10")
    with pytest.raises(AuditError) as caught:
        log.checkpoint()
    assert caught.value.code == "audit_damaged"
    filled.log().append(EVENT, actor=OPERATOR)
    with pytest.raises(AuditError):
        log.checkpoint()
    assert filled.log().checkpoint()  # a process that saw nothing cannot know: that is what earlier checkpoints are for


def test_an_entry_that_is_no_text_is_reported(filled: Store) -> None:
    """Reading over a damaged entry is an audit error, not a decoding error."""
    filled.tamper("UPDATE audit_entries SET actor = x'ff' WHERE seq = 5")
    with pytest.raises(AuditError, match="`5`") as caught:
        list(filled.log().entries())
    assert caught.value.code == "audit_damaged"


def test_a_damaged_log_is_not_signed(filled: Store) -> None:
    """A process that starts on a changed log does not sign it."""
    filled.tamper("UPDATE audit_entries SET actor = 'somebody' WHERE seq = 5")
    with pytest.raises(AuditError) as caught:
        filled.log().checkpoint()
    assert caught.value.code == "audit_damaged"


def test_nothing_is_appended_to_a_damaged_end(filled: Store) -> None:
    """If the last entry was changed, the next one is refused."""
    filled.tamper("UPDATE audit_entries SET actor = 'somebody' WHERE seq = 10")
    with pytest.raises(AuditError) as caught:
        filled.log().append(EVENT, actor=OPERATOR)
    assert caught.value.code == "audit_damaged"


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("UPDATE audit_entries SET actor = 'x'", id="update"),
        pytest.param("DELETE FROM audit_entries WHERE seq = 10", id="delete"),
        pytest.param("INSERT OR REPLACE INTO audit_entries SELECT * FROM audit_entries WHERE seq = 3", id="replace"),
        pytest.param(
            "INSERT INTO audit_entries SELECT * FROM audit_entries WHERE seq = 3 ON CONFLICT DO UPDATE SET actor = 'x'",
            id="upsert",
        ),
        pytest.param(
            "INSERT INTO audit_entries SELECT 12, at, actor, role, event, body, prev_hash, hash, sealed "
            "FROM audit_entries WHERE seq = 3",
            id="gap",
        ),
        pytest.param(
            "INSERT INTO audit_entries SELECT NULL, at, actor, role, event, body, prev_hash, hash, sealed "
            "FROM audit_entries WHERE seq = 3",
            id="no number",
        ),
    ],
)
def test_the_table_only_grows_in_order(filled: Store, statement: str) -> None:
    """Triggers refuse every statement but the next entry; without the triggers the same statement goes through."""
    with pytest.raises(IntegrityError, match="audit entries"), filled.begin() as connection:
        connection.exec_driver_sql(statement)
    assert filled.log().verify().ok
    filled.tamper(statement)


def test_guards_are_noticed_when_gone(filled: Store) -> None:
    """`guarded` tells whether the triggers are there."""
    with filled.begin() as connection:
        assert tables.guarded(connection)
    filled.tamper()
    with filled.begin() as connection:
        assert not tables.guarded(connection)


def test_the_table_object_and_the_ddl_agree(store: Store) -> None:
    """What SQLAlchemy believes and what the DDL creates are the same columns."""
    with store.begin() as connection:
        found = inspect(connection).get_columns("audit_entries")
    expected = [(c.name, c.nullable, type(c.type).__name__) for c in tables.audit_entries.columns]
    kinds = {"INTEGER": "Integer", "TEXT": "Text", "BLOB": "LargeBinary"}
    assert [(c["name"], c["nullable"], kinds[str(c["type"])]) for c in found] == expected


# --- a store that fails ---------------------------------------------------------------------------


def test_a_missing_table_is_an_audit_error(tmp_path: Path) -> None:
    """Any SQL error means: not recorded."""
    path = tmp_path / "empty.db"
    engine = open_engine(path)
    engine.connect().close()
    log = Store(path=path, engine=engine).log()
    for action in (
        lambda: log.append(EVENT, actor=OPERATOR),
        log.head,
        log.verify,
        lambda: list(log.entries()),
    ):
        with pytest.raises(AuditError) as caught:
            action()
        assert caught.value.code == "audit_unavailable"
    engine.dispose()


def test_a_full_disk_is_an_audit_error_and_nothing_is_half_written(filled: Store) -> None:
    """When SQLite reports a full disk, the entry is refused, and after there is room again the log goes on, whole."""
    log = filled.log()
    with filled.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(AuditError) as caught:
        fill(log, 1000)
    assert caught.value.code == "audit_unavailable"
    written = log.head().size
    with filled.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert 10 < written < 1000
    assert log.append(EVENT, actor=OPERATOR).seq == written + 1
    assert log.verify().ok


def test_a_storage_error_of_the_engine_keeps_its_hint(store: Store) -> None:
    """What the engine found out about the disk reaches the reader, as an audit error."""

    def begin() -> AbstractContextManager[Connection]:
        raise StorageError("the disk is full", hint="free some space")

    log = AuditLog(begin, pseudonym_key=PSEUDONYM_KEY, signing_seed=SEED)
    with pytest.raises(AuditError, match="the disk is full") as caught:
        log.append(EVENT, actor=OPERATOR)
    assert caught.value.hint == "free some space"
    assert store.log().head().size == 0


def test_a_read_only_database_is_an_audit_error(filled: Store) -> None:
    """A database that cannot be written refuses, and what is there stays readable."""
    log = filled.log()
    with filled.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(AuditError):
        log.append(EVENT, actor=OPERATOR)
    filled.engine.dispose()
    assert log.verify().entries == 10


def _unlink(path: Path) -> None:
    path.unlink()


def _replace_by_copy(path: Path) -> None:
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


def _replace_by_link(path: Path) -> None:
    path.rename(path.with_name("moved.db"))
    elsewhere = path.with_name("elsewhere.db")
    elsewhere.write_bytes(b"")
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("attack", [_unlink, _replace_by_copy, _replace_by_link])
def test_a_database_file_taken_away_is_noticed(filled: Store, attack: object) -> None:
    """If the file at the path is no longer the open one, nothing counts as recorded.

    Negative control: without the check SQLite accepts and reads back entries that no path leads to any more.
    """
    assert callable(attack)
    log, careless = filled.log(), filled.log(pinned=False)
    log.confirm(log.append(EVENT, actor=OPERATOR))
    attack(filled.path)
    entry = careless.append(EVENT, actor=OPERATOR)
    careless.confirm(entry)
    with pytest.raises(AuditError, match="not the one that was opened"):
        log.confirm(entry)
    with pytest.raises(AuditError, match="not the one that was opened"):
        log.append(EVENT, actor=OPERATOR)


def test_a_write_ahead_log_taken_away_is_noticed(filled: Store) -> None:
    """Commits into a removed `-wal` file are lost, so they are not confirmed."""
    log, careless = filled.log(), filled.log(pinned=False)
    entry = log.append(EVENT, actor=OPERATOR)
    log.confirm(entry)
    filled.path.with_name(filled.path.name + "-wal").unlink()
    careless.confirm(entry)
    with pytest.raises(AuditError, match="not the one that was opened"):
        log.confirm(entry)


def test_a_log_needs_its_file(tmp_path: Path, store: Store) -> None:
    """A path that leads nowhere is an error at once."""
    with pytest.raises(AuditError):
        AuditLog(store.begin, pseudonym_key=PSEUDONYM_KEY, signing_seed=SEED, path=tmp_path / "missing.db")


def test_holding_the_file_does_not_drop_the_locks_of_sqlite(filled: Store) -> None:
    """When an AuditLog is made and thrown away, another process still cannot write into an open transaction."""
    with filled.begin() as connection:
        connection.execute(tables.audit_entries.select().limit(1)).all()
        for _ in range(3):
            filled.log()  # thrown away at once: its descriptor is closed
        program = (
            "import sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
            "try: c.execute('BEGIN IMMEDIATE'); print('written')\n"
            "except sqlite3.OperationalError as e: print(e)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(filled.path)], capture_output=True, text=True, check=True, timeout=60
        )
    assert done.stdout.strip() == "database is locked"


def test_errors_and_reprs_hold_no_key(filled: Store) -> None:
    """Neither the log nor its errors show key material."""
    log = filled.log()
    with closing(sqlite3.connect(filled.path)) as raw:
        raw.execute("SELECT 1")
    assert "pppp" not in repr(log)
    assert SEED.hex() not in repr(vars(log))


def test_time_is_utc_with_milliseconds(store: Store) -> None:
    """Whatever zone the clock is in, the entry carries UTC."""
    zone = timezone(timedelta(hours=5, minutes=30))
    log = AuditLog(
        store.begin,
        pseudonym_key=PSEUDONYM_KEY,
        signing_seed=SEED,
        clock=lambda: datetime(2026, 1, 1, 2, 0, 0, 999, tzinfo=zone),
    )
    assert log.append(EVENT, actor=OPERATOR).at == "2025-12-31T20:30:00.000Z"


def test_ten_thousand_entries_cost_no_more_each_than_a_few(store: Store) -> None:
    """Appending does not look at the whole log: the statement count per entry stays two, whatever the size."""
    seen: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    log = store.log()
    with store.begin() as connection:
        for _ in range(200):
            log.append(LoginSucceeded(user_id="u"), actor=OPERATOR, connection=connection)
    statements = [statement for statement in seen if "audit_entries" in statement]
    assert len(statements) == 400
    with store.begin() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statements[0]}").all()
    assert "SCAN" in str(plan)  # from the end of the primary key, one row
    assert "TEMP B-TREE" not in str(plan)


def test_store_helpers_make_independent_files(tmp_path: Path) -> None:
    """Two stores do not share anything; the same events under the same clock give the same hashes."""
    one, two = make_store(tmp_path / "one.db"), make_store(tmp_path / "two.db")
    fill(one.log(), 3)
    fill(two.log(), 3)
    assert one.log().head() == two.log().head()
    assert hashlib.sha256().digest() == EMPTY_ROOT
    assert SteadyClock()() == SteadyClock()()
    with pytest.raises(OperationalError), one.begin() as connection:
        connection.exec_driver_sql("SELECT * FROM nothing")
    one.engine.dispose()
    two.engine.dispose()
