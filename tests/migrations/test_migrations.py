"""Migrations: equal to the models, there and back with data, whole under a kill."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import IntegrityError

from clinic.audit import tables as audit_tables
from clinic.audit.events import LoginFailed
from clinic.audit.verify import Problem
from clinic.crypto.keys import Keyring
from clinic.domain import OPERATOR, Consent, EncounterKind, Role, Scope, new_id
from clinic.errors import ConfigError, StorageError
from clinic.records import migrate, models
from clinic.records.answers import StoredAnswer
from clinic.records.engine import open_engine, read_transaction, write_transaction
from clinic.records.invitations import SETUP
from clinic.records.live_texts import LiveLine, LiveText
from clinic.records.moments import Moment
from clinic.records.passkeys import Credential
from clinic.records.patients import PatientData
from clinic.records.records import Records

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
REVISIONS = sorted((MIGRATIONS / "versions").glob("*.py"))
HEAD = REVISIONS[-1].stem.split("_")[0]
NEXT = "9999"

SECOND = '''
"""A later revision, for the test."""
from alembic import op
revision, down_revision, branch_labels, depends_on = "9999", "{head}", None, None
def upgrade():
    op.execute("CREATE TABLE first (v)")
    op.execute("UPDATE patients SET row_version = row_version + 100")
    {between}
    op.execute("CREATE TABLE second (v)")
def downgrade():
    op.execute("DROP TABLE second")
    op.execute("DROP TABLE first")
'''


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database of this test lies."""
    return tmp_path / "clinic.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    """An engine on it; the database is empty."""
    engine = open_engine(path)
    yield engine
    engine.dispose()


@pytest.fixture
def longer(tmp_path: Path) -> Callable[..., Path]:
    """Make a migrations folder with one more revision."""

    def make(between: str = "pass") -> Path:
        folder = tmp_path / "migrations"
        shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "9999_test.py").write_text(SECOND.format(head=HEAD, between=between), encoding="utf-8")
        return folder

    return make


def schema(path: Path) -> dict[str, str]:
    """Return the DDL of everything in the file, white space folded."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: " ".join(sql.split()) for name, sql in rows}


def seed(engine: Engine, keyring: Keyring) -> tuple[Records, str]:
    """Write sealed records and audit entries."""
    records = Records(engine, keyring=keyring)
    with records.write() as tx:
        patient = tx.patients.create(PatientData("Canary", date(1961, 2, 3), "female", "MRN-1"), OPERATOR)
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=OPERATOR
        )
        recording = tx.recordings.start(encounter.id, mime="audio/wav", actor=OPERATOR)
        tx.recordings.append(recording.id, 0, b"canary audio")
    return records, patient.id


def test_the_head_is_what_the_models_say(engine: Engine) -> None:
    """Autogenerate finds nothing to add, drop or change, in the records and in the audit log."""
    migrate.upgrade(engine, MIGRATIONS)
    with read_transaction(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, [models.metadata, audit_tables.metadata]) == []  # type: ignore[arg-type]


def test_a_difference_would_be_found(engine: Engine) -> None:
    """Negative control: a dropped index and an added column are both reported."""
    migrate.upgrade(engine, MIGRATIONS)
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("DROP INDEX ix_encounters_state")
        connection.exec_driver_sql("ALTER TABLE notes ADD COLUMN extra TEXT")
        context = MigrationContext.configure(connection)
        found = compare_metadata(context, [models.metadata, audit_tables.metadata])  # type: ignore[arg-type]
    assert {difference[0] for difference in found} == {"add_index", "remove_column"}


def test_the_triggers_are_what_the_models_say(engine: Engine, path: Path) -> None:
    """Table options and triggers, which autogenerate does not see, are equal too."""
    migrate.upgrade(engine, MIGRATIONS)
    actual = schema(path)
    declared = [" ".join(sql.split()) for sql in (*models.TRIGGERS, *audit_tables.CREATE_TRIGGERS)]
    assert sorted(sql for name, sql in actual.items() if name.startswith("trigger ")) == sorted(declared)
    added = re.sub(r" ([,)])", r"\1", actual["table audit_entries"])  # SQLite writes a later column in its own way
    assert added == re.sub(r" ([,)])", r"\1", " ".join(audit_tables.CREATE_TABLE.split()))
    for table in models.metadata.tables:
        assert actual[f"table {table}"].endswith("STRICT"), table


def test_constraints_are_what_the_models_say(engine: Engine, path: Path, tmp_path: Path) -> None:
    """The DDL that the models would give has the same columns and constraints, in words."""
    migrate.upgrade(engine, MIGRATIONS)
    other = tmp_path / "models.db"
    plain = create_engine(f"sqlite:///{other}")
    with plain.begin() as connection:
        audit_tables.create(connection)
        models.metadata.create_all(connection)
    plain.dispose()

    def clauses(ddl: str) -> list[str]:
        inside = ddl[ddl.index("(") + 1 : ddl.rindex(")")].lower()
        inside = re.sub(r"\s+", " ", inside).replace(" (", "(").replace("( ", "(")
        return sorted(part.strip() for part in re.split(r",(?![^(]*\))", inside))

    migrated, declared = schema(path), schema(other)
    for name in declared:
        if not name.startswith("table audit"):
            assert clauses(migrated[name]) == clauses(declared[name]), name


@pytest.mark.parametrize("revision", REVISIONS, ids=lambda path: path.stem)
def test_a_revision_imports_nothing_of_the_program(revision: Path) -> None:
    """A revision means the same for ever: it imports Alembic and SQLAlchemy only."""
    tree = ast.parse(revision.read_text(encoding="utf-8"))
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {name.split(".")[0] for name in imported} <= {"__future__", "alembic", "sqlalchemy"}


def test_there_is_one_line_of_revisions() -> None:
    """No branches: each revision has one follower at most, and each file is named after its revision."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = list(ScriptDirectory.from_config(config).walk_revisions())
    assert len({script.down_revision for script in scripts}) == len(scripts)
    assert sorted(script.revision for script in scripts) == [path.stem.split("_")[0] for path in REVISIONS]


def test_down_to_nothing_and_up_again_with_data(engine: Engine, path: Path) -> None:
    """A filled database goes down to an empty one and up to the same schema; new records work in it."""
    keyring = Keyring.generate()
    migrate.upgrade(engine, MIGRATIONS)
    before = schema(path)
    seed(engine, keyring)
    migrate.downgrade(engine, MIGRATIONS, revision="base")
    assert set(schema(path)) == {"table alembic_version"}
    assert migrate.current_revision(engine) is None
    migrate.upgrade(engine, MIGRATIONS)
    assert schema(path) == before
    records, patient_id = seed(engine, keyring)
    with records.read() as tx:
        assert tx.patients.data(patient_id).name == "Canary"


def test_upgrading_a_current_database_changes_nothing(engine: Engine, path: Path) -> None:
    """It may be repeated at every start; no copy is made."""
    migrate.upgrade(engine, MIGRATIONS)
    records, patient_id = seed(engine, Keyring.generate())
    before = schema(path)
    assert migrate.upgrade(engine, MIGRATIONS) is None
    assert schema(path) == before
    with records.read() as tx:
        assert tx.patients.data(patient_id).name == "Canary"
    migrate.check_current(engine, MIGRATIONS)


def test_an_upgrade_copies_the_older_database_first(engine: Engine, path: Path, longer: Callable[..., Path]) -> None:
    """The copy is whole, sealed, the owner's alone, and opens as it was; the original is upgraded."""
    migrate.upgrade(engine, MIGRATIONS)
    keyring = Keyring.generate()
    _, patient_id = seed(engine, keyring)
    copy = migrate.upgrade(engine, longer())
    assert copy == path.with_name("clinic.before-9999.db")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert b"Canary" not in copy.read_bytes()
    assert migrate.current_revision(engine) == NEXT
    kept = open_engine(copy)
    assert migrate.current_revision(kept) == HEAD
    with Records(kept, keyring=keyring).read() as tx:
        assert tx.patients.data(patient_id).name == "Canary"
    kept.dispose()
    assert not list(path.parent.glob(".*partial"))


def test_without_room_for_the_copy_nothing_is_upgraded(
    engine: Engine, path: Path, longer: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that cannot take the copy stops the upgrade before it begins."""
    migrate.upgrade(engine, MIGRATIONS)
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "_sync", _raise_full)
        with pytest.raises(StorageError) as caught:
            migrate.upgrade(engine, longer())
    assert caught.value.code == "disk_full"
    assert migrate.current_revision(engine) == HEAD
    assert not list(path.parent.glob("*before*"))
    assert not list(path.parent.glob(".*partial"))


def _raise_full(_: Path) -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


@pytest.mark.parametrize(
    ("revision", "code"),
    [pytest.param(None, "schema_missing", id="empty"), pytest.param(HEAD, "schema_older", id="older")],
)
def test_the_program_starts_on_its_own_schema_only(
    engine: Engine, longer: Callable[..., Path], revision: str | None, code: str
) -> None:
    """An empty or an older database is refused, each with its own code and what to do."""
    if revision is not None:
        migrate.upgrade(engine, MIGRATIONS)
    with pytest.raises(ConfigError) as caught:
        migrate.check_current(engine, longer())
    assert (caught.value.code, bool(caught.value.hint)) == (code, True)


@pytest.mark.parametrize("operation", [migrate.check_current, migrate.upgrade])
def test_a_newer_schema_is_refused(
    engine: Engine, longer: Callable[..., Path], operation: Callable[[Engine, Path], object]
) -> None:
    """A database of a newer program is neither used nor changed."""
    migrate.upgrade(engine, longer())
    with pytest.raises(ConfigError) as caught:
        operation(engine, MIGRATIONS)
    assert caught.value.code == "schema_newer"
    assert migrate.current_revision(engine) == NEXT


def test_a_failing_revision_leaves_nothing(engine: Engine, path: Path, longer: Callable[..., Path]) -> None:
    """An exception half-way takes back DDL and data, and the version stays."""
    migrate.upgrade(engine, MIGRATIONS)
    seed(engine, Keyring.generate())
    before = schema(path)
    with pytest.raises(ZeroDivisionError):
        migrate.upgrade(engine, longer("1 / 0"))
    assert schema(path) == before
    assert migrate.current_revision(engine) == HEAD


def test_rows_that_point_nowhere_stop_an_upgrade(engine: Engine, path: Path, longer: Callable[..., Path]) -> None:
    """Foreign keys are off during the upgrade and checked before the commit; afterwards they are on again."""
    migrate.upgrade(engine, MIGRATIONS)
    seed(engine, Keyring.generate())
    before = schema(path)
    with pytest.raises(RuntimeError, match="point nowhere"):
        migrate.upgrade(
            engine, longer('op.execute("DROP TRIGGER patients_no_delete"); op.execute("DELETE FROM patients")')
        )
    assert schema(path) == before
    with read_transaction(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
        assert connection.exec_driver_sql("SELECT count(*) FROM patients").scalar_one() == 1


# --- killed ---------------------------------------------------------------------------------------------


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a child process; return its exit code, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at(engine: Engine, number: int) -> None:
    """Let SIGKILL hit this process right after statement `number` of the engine."""
    seen = 0

    def after(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(engine, "after_cursor_execute", after)


def count_statements(path: Path) -> int:
    """Return how many statements an upgrade from nothing takes."""
    engine = open_engine(path)
    seen: list[str] = []
    event.listen(engine, "after_cursor_execute", lambda *args: seen.append(args[2]))
    migrate.upgrade(engine, MIGRATIONS)
    engine.dispose()
    return len(seen)


def test_a_kill_after_any_statement_leaves_nothing(tmp_path: Path) -> None:
    """SIGKILL after each single statement of all revisions: the database is still empty, and can be upgraded."""
    statements = count_statements(tmp_path / "count.db")
    assert statements > 30
    for number in range(1, statements + 1):
        path = tmp_path / f"{number}.db"

        def upgrade(path: Path = path, number: int = number) -> None:
            engine = open_engine(path)
            kill_at(engine, number)
            migrate.upgrade(engine, MIGRATIONS)

        assert in_child(upgrade) == -signal.SIGKILL, number
        assert schema(path) == {}, number
    engine = open_engine(tmp_path / f"{statements}.db")
    migrate.upgrade(engine, MIGRATIONS)
    migrate.check_current(engine, MIGRATIONS)
    engine.dispose()


def test_a_kill_inside_a_later_revision_changes_no_data(path: Path, longer: Callable[..., Path]) -> None:
    """Data, schema and version are as before; the next start upgrades as if nothing had been."""
    keyring = Keyring.generate()
    engine = open_engine(path)
    migrate.upgrade(engine, MIGRATIONS)
    _, patient_id = seed(engine, keyring)
    engine.dispose()
    before = schema(path)
    killing = longer("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert in_child(lambda: _upgrade(path, killing)) == -signal.SIGKILL
    assert schema(path) == before
    engine = open_engine(path)
    migrate.check_current(engine, MIGRATIONS)
    with Records(engine, keyring=keyring).read() as tx:
        assert tx.patients.data(patient_id).name == "Canary"
    engine.dispose()


def _upgrade(path: Path, migrations: Path) -> None:
    migrate.upgrade(open_engine(path), migrations)


def test_without_our_transactions_a_kill_leaves_a_half(path: Path, longer: Callable[..., Path]) -> None:
    """Negative control: Alembic on SQLAlchemy's usual SQLite connection leaves half a migration."""
    engine = open_engine(path)
    migrate.upgrade(engine, MIGRATIONS)
    engine.dispose()
    killing = longer("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    def usual() -> None:
        config = AlembicConfig()
        config.set_main_option("script_location", str(killing))
        with create_engine(f"sqlite:///{path}").connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    assert in_child(usual) == -signal.SIGKILL
    assert "table first" in schema(path)
    assert "table second" not in schema(path)


def test_two_programs_that_start_at_once_upgrade_once(path: Path) -> None:
    """The second waits for the first and finds the work done."""
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _upgrade(path, MIGRATIONS)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    engine = open_engine(path)
    migrate.check_current(engine, MIGRATIONS)
    engine.dispose()


def test_alembic_itself_is_refused(tmp_path: Path) -> None:
    """Nobody runs revisions outside our transaction by accident."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS))
    with pytest.raises(SystemExit, match="clinic migrate"):
        command.upgrade(config, "head")
    assert list(tmp_path.iterdir()) == []


def test_connections_are_the_callers(engine: Engine) -> None:
    """After an upgrade the engine goes on with connections that carry all pragmas."""
    migrate.upgrade(engine, MIGRATIONS)

    def foreign_keys(connection: Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one())

    with read_transaction(engine) as first, read_transaction(engine) as second:
        assert (foreign_keys(first), foreign_keys(second)) == (1, 1)


# --- each revision, down and up again with data -------------------------------------------------------


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """Return what a query finds."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_0002_counts_what_was_sealed_and_keeps_every_patient(engine: Engine, path: Path) -> None:
    """Down and up again: patients open, counters hold what can be told, a shredded one has no key either way."""
    keyring = Keyring.generate()
    migrate.upgrade(engine, MIGRATIONS)
    records, patient_id = seed(engine, keyring)
    with write_transaction(engine) as connection:
        connection.exec_driver_sql(
            "INSERT INTO patients (id, row_version, created_at, updated_at, shredded_at) VALUES "
            "('gone', 1, '2026-11-25T00:00:00.000000Z', '2026-11-25T00:00:00.000000Z', '2026-11-25T00:00:00.000000Z')"
        )
    counted = rows(path, "SELECT owner, sealed FROM key_uses ORDER BY owner")
    assert counted == sorted([("kek:1", 1), (patient_id, 5)])  # two records, and a sealed part of three audit entries
    migrate.downgrade(engine, MIGRATIONS, revision="0001")
    assert "table key_uses" not in schema(path)
    assert rows(path, "SELECT wrapped_dek, data FROM patients WHERE id = 'gone'") == [(b"", b"")]
    assert rows(path, "SELECT count(*) FROM patients WHERE length(wrapped_dek) > 60") == [(1,)]
    with write_transaction(engine) as connection:
        connection.exec_driver_sql("DELETE FROM patients WHERE id = 'gone'")
    migrate.upgrade(engine, MIGRATIONS)
    assert rows(path, "SELECT owner, sealed FROM key_uses WHERE owner <> 'local-ca' ORDER BY owner") == sorted(
        [("kek:1", 1), (patient_id, 2)]  # the sealed audit parts went with the way down
    )
    with records.read() as tx:
        assert tx.patients.data(patient_id).name == "Canary"
    with pytest.raises(IntegrityError), write_transaction(engine) as connection:
        connection.exec_driver_sql("DELETE FROM patients")


def entry_rows(path: Path) -> list[tuple[object, ...]]:
    """Return every entry as it was before there were sealed parts, byte for byte."""
    return rows(path, "SELECT seq, at, actor, role, event, body, prev_hash, hash FROM audit_entries ORDER BY seq")


def test_0003_keeps_every_entry_byte_for_byte(engine: Engine, path: Path) -> None:
    """Entries of version 1 come through the way up unchanged and verify beside those of version 2 that follow."""
    keyring = Keyring.generate()
    migrate.upgrade(engine, MIGRATIONS)
    old = Records(engine, keyring=keyring)
    with old.write() as tx:
        for number in range(5):
            tx.append(LoginFailed(user_id=f"id-{number}", reason="login_failed"), actor=OPERATOR)
    migrate.downgrade(engine, MIGRATIONS, revision="0002")
    before = entry_rows(path)
    assert len(before) == 5
    assert "sealed" not in schema(path)["table audit_entries"]
    migrate.upgrade(engine, MIGRATIONS)
    assert entry_rows(path) == before
    assert rows(path, "SELECT count(*) FROM audit_entries WHERE sealed IS NOT NULL") == [(0,)]
    records, _ = seed(engine, keyring)
    versions = rows(path, "SELECT sealed IS NOT NULL, count(*) FROM audit_entries GROUP BY 1 ORDER BY 1")
    assert versions == [(0, 5), (1, 3)]
    report = records.audit.verify()
    assert (report.ok, report.entries) == (True, 8)


def test_0003_down_is_seen_by_whoever_verifies(engine: Engine, path: Path) -> None:
    """The way down takes the sealed parts, the plain ones stay: the first entry that had one is named as changed."""
    migrate.upgrade(engine, MIGRATIONS)
    keyring = Keyring.generate()
    with Records(engine, keyring=keyring).write() as tx:
        tx.append(LoginFailed(user_id="id", reason="login_failed"), actor=OPERATOR)
    records, _ = seed(engine, keyring)
    assert records.audit.verify().ok
    before = entry_rows(path)
    first_sealed = rows(path, "SELECT min(seq) FROM audit_entries WHERE sealed IS NOT NULL")[0][0]
    migrate.downgrade(engine, MIGRATIONS, revision="0002")
    assert entry_rows(path) == before
    migrate.upgrade(engine, MIGRATIONS)
    report = Records(engine, keyring=keyring).audit.verify()
    assert (report.ok, report.problem, report.first_bad) == (False, Problem.CHANGED, first_sealed)


def test_0005_begins_without_checkpoints_and_changes_no_entry(engine: Engine, path: Path) -> None:
    """Down, kept checkpoints are gone and nothing else; up again, new ones are kept over the whole log."""
    keyring = Keyring.generate()
    migrate.upgrade(engine, MIGRATIONS)
    records, patient_id = seed(engine, keyring)
    assert records.audit.keep_checkpoint() == 3
    query = "SELECT * FROM audit_entries ORDER BY seq"
    before, kept = rows(path, query), rows(path, "SELECT * FROM audit_checkpoints")
    migrate.downgrade(engine, MIGRATIONS, revision="0004")
    assert not [name for name in schema(path) if "audit_checkpoints" in name]
    assert rows(path, query) == before
    migrate.upgrade(engine, MIGRATIONS)
    assert rows(path, "SELECT count(*) FROM audit_checkpoints") == [(0,)]
    again = Records(engine, keyring=keyring)
    assert again.audit.keep_checkpoint() == 3
    assert rows(path, "SELECT * FROM audit_checkpoints") == kept
    assert again.audit.verify().kept_checkpoints == 1
    with again.read() as tx:
        assert tx.patients.data(patient_id).name == "Canary"


def test_0006_begins_without_tokens_and_changes_nothing_else(engine: Engine, path: Path) -> None:
    """Down, tokens and kept answers are gone, and the log says that they were; up again, new ones are made."""
    keyring = Keyring.generate()
    migrate.upgrade(engine, MIGRATIONS)
    records, patient_id = seed(engine, keyring)
    hasher = PasswordHasher.from_parameters(CHEAPEST)
    records = Records(engine, keyring=keyring, hasher=hasher)
    with records.write() as tx:
        user = tx.users.create(
            "ann", display_name="Ann", role=Role.CLINICIAN, password="a long enough phrase", actor=OPERATOR
        )
        token, secret = tx.tokens.create(user, name="EMR", scopes=[Scope.NOTES_READ], days=9, actor=OPERATOR)
        tx.answers.keep(token.id, "key", StoredAnswer(request_sha256="0" * 64, status=201, body="{}"))
    migrate.downgrade(engine, MIGRATIONS, revision="0006")
    before = {name: sql for name, sql in schema(path).items() if "api_" not in name}
    entries = rows(path, "SELECT * FROM audit_entries ORDER BY seq")
    migrate.downgrade(engine, MIGRATIONS, revision="0005")
    assert schema(path) == before
    assert rows(path, "SELECT * FROM audit_entries ORDER BY seq") == entries
    migrate.upgrade(engine, MIGRATIONS)
    again = Records(engine, keyring=keyring, hasher=hasher)
    with again.write() as tx:
        assert tx.tokens.look_up(secret).refusal == "token_invalid"
        assert tx.patients.data(patient_id).name == "Canary"
        new, shown = tx.tokens.create(user, name="EMR", scopes=[Scope.NOTES_READ], days=9, actor=OPERATOR)
        assert tx.tokens.look_up(shown).token == new
    assert [(f.problem, f.kind, f.id) for f in again.sweep() if f.kind == "token"] == [("missing", "token", token.id)]


def test_0007_begins_without_recovery_codes_and_rules(engine: Engine, path: Path) -> None:
    """Down, codes and rules are gone, the log says that they were, and accounts stay; up again, new ones are made."""
    keyring, hasher = Keyring.generate(), PasswordHasher.from_parameters(CHEAPEST)
    migrate.upgrade(engine, MIGRATIONS)
    records = Records(engine, keyring=keyring, hasher=hasher)
    with records.write() as tx:
        user = tx.users.create(
            "ann", display_name="Ann", role=Role.AUDITOR, password="a long enough phrase", actor=OPERATOR
        )
        tx.recovery.make(user.id, OPERATOR)
        tx.require_factor_for([Role.AUDITOR], OPERATOR)
    assert records.sweep() == ()
    migrate.downgrade(engine, MIGRATIONS, revision="0007")
    kept = {
        name: sql for name, sql in schema(path).items() if "recovery_codes" not in name and "factor_role" not in name
    }
    entries = rows(path, "SELECT * FROM audit_entries ORDER BY seq")
    migrate.downgrade(engine, MIGRATIONS, revision="0006")
    assert schema(path) == kept
    assert rows(path, "SELECT * FROM audit_entries ORDER BY seq") == entries
    migrate.upgrade(engine, MIGRATIONS)
    again = Records(engine, keyring=keyring, hasher=hasher)
    with again.read() as tx:
        assert (tx.standing(user).recovery_left, tx.standing(user).required) == (0, False)
    assert {(found.problem, found.kind) for found in again.sweep()} == {
        ("missing", "recovery"),
        ("missing", "factor_role"),
    }
    with again.write() as tx:
        assert len(tx.recovery.make(user.id, OPERATOR)) == 10


def test_0008_begins_without_passkeys(engine: Engine, path: Path) -> None:
    """Down, passkeys are gone and nothing else; up again, the sweep says so."""
    keyring, hasher = Keyring.generate(), PasswordHasher.from_parameters(CHEAPEST)
    migrate.upgrade(engine, MIGRATIONS)
    records = Records(engine, keyring=keyring, hasher=hasher)
    with records.write() as tx:
        user = tx.users.create(
            "ann", display_name="Ann", role=Role.AUDITOR, password="a long enough phrase", actor=OPERATOR
        )
        credential = Credential(b"handle", b"key", sign_count=0, backed_up=False)
        tx.passkeys.keep(user, credential, name="tablet", rp_id="clinic.test")
    assert records.sweep() == ()
    migrate.downgrade(engine, MIGRATIONS, revision="0008")
    kept = {name: sql for name, sql in schema(path).items() if "passkeys" not in name}
    migrate.downgrade(engine, MIGRATIONS, revision="0007")
    assert schema(path) == kept
    migrate.upgrade(engine, MIGRATIONS)
    again = Records(engine, keyring=keyring, hasher=hasher)
    with again.read() as tx:
        assert tx.standing(user).passkeys == 0
    assert [(found.problem, found.kind) for found in again.sweep()] == [("missing", "passkey")]


def test_0009_begins_without_codes(engine: Engine, path: Path) -> None:
    """Down, codes that wait are gone and nothing else; up again, the sweep says so, and new ones are made."""
    keyring = Keyring.generate()
    migrate.upgrade(engine, MIGRATIONS)
    records = Records(engine, keyring=keyring)
    with records.write() as tx:
        tx.invitations.make(SETUP, OPERATOR)
    assert records.sweep() == ()
    migrate.downgrade(engine, MIGRATIONS, revision="0009")
    kept = {name: sql for name, sql in schema(path).items() if "invitations" not in name}
    migrate.downgrade(engine, MIGRATIONS, revision="0008")
    assert schema(path) == kept
    migrate.upgrade(engine, MIGRATIONS)
    again = Records(engine, keyring=keyring)
    assert [(found.problem, found.kind) for found in again.sweep()] == [("missing", "invitation")]
    with again.write() as tx:
        assert not tx.invitations.is_setup_open()
        tx.invitations.make(SETUP, OPERATOR)
        assert tx.invitations.is_setup_open()


def test_0010_forgets_what_is_heard_again(engine: Engine, path: Path) -> None:
    """Down, the live text is gone and nothing else; up again, somebody may read along anew."""
    keyring = Keyring.generate()
    migrate.upgrade(engine, MIGRATIONS)
    records, patient_id = seed(engine, keyring)
    with records.write() as tx:
        encounter = tx.encounters.for_patient(patient_id)[0]
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, OPERATOR)
        recording = tx.recordings.for_encounter(encounter.id)
        assert recording is not None
        tx.live_texts.want(recording.id)
        assert tx.live_texts.store(recording.id, LiveText((LiveLine(0.0, 1.0, "canary"),), 1.0))
    before = {name: sql for name, sql in schema(path).items() if "live_texts" not in name}
    chunks = rows(path, "SELECT * FROM recording_chunks")
    migrate.downgrade(engine, MIGRATIONS, revision="0009")
    assert schema(path).keys() <= before.keys()
    assert rows(path, "SELECT * FROM recording_chunks") == chunks
    migrate.upgrade(engine, MIGRATIONS)
    with Records(engine, keyring=keyring).write() as tx:
        assert tx.live_texts.get(encounter.id) is None
        tx.live_texts.want(recording.id)
        assert [wanted.chunks for wanted in tx.live_texts.wanted()] == [1]


def test_0012_begins_without_moments_and_changes_nothing_else(engine: Engine, path: Path) -> None:
    """Down, marks and typed notes are gone, and the sweep says so; up again, new ones are kept."""
    keyring = Keyring.generate()
    migrate.upgrade(engine, MIGRATIONS)
    records, patient_id = seed(engine, keyring)
    with records.write() as tx:
        encounter = tx.encounters.for_patient(patient_id)[0]
        moment = tx.moments.add(encounter.id, Moment(new_id(), 1.0, "canary"), actor=OPERATOR)
    assert records.sweep() == ()
    migrate.downgrade(engine, MIGRATIONS, revision="0012")
    kept = {name: sql for name, sql in schema(path).items() if "moments" not in name}
    migrate.downgrade(engine, MIGRATIONS, revision="0011")
    assert schema(path) == kept
    migrate.upgrade(engine, MIGRATIONS)
    again = Records(engine, keyring=keyring)
    assert [(found.problem, found.kind, found.id) for found in again.sweep()] == [("missing", "moment", moment.id)]
    with again.write() as tx:
        tx.moments.add(encounter.id, Moment(new_id(), 1.0, "canary"), actor=OPERATOR)
