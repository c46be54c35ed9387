"""`clinic doctor` and `clinic audit verify`: which of them sees what."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner

from clinic.cli import main
from clinic.config import Config
from clinic.doctor import Finding, examine
from clinic.domain import OPERATOR, EncounterKind, Role
from clinic.home import unlock_home
from clinic.records.patients import PatientData
from clinic.records.records import Records
from tests.unit.records.records_world import as_thief

HINT = "`clinic doctor` compares the records with it"


@pytest.fixture
def clinic(config: Config, records: Records) -> Config:
    """A data folder with an account and a short recording."""
    with records.write() as tx:
        tx.users.create(
            "ada", display_name="Ada", role=Role.CLINICIAN, password="a long canary password", actor=OPERATOR
        )
        patient = tx.patients.create(PatientData("Canary"), OPERATOR)
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=OPERATOR
        )
        recording = tx.recordings.start(encounter.id, mime="audio/wav", actor=OPERATOR)
        tx.recordings.append(recording.id, 0, b"canary audio")
        tx.recordings.complete(recording.id, chunks=1, actor=OPERATOR)
    return config


def look(config: Config, check: str) -> Finding:
    """Run the doctor and return one finding."""
    return next(finding for finding in examine(config, unlock_home(config)) if finding.check == check)


def test_an_untouched_clinic_is_well(clinic: Config) -> None:
    """The control of what follows."""
    for check in ("database", "audit log", "records against the log"):
        finding = look(clinic, check)
        assert finding.ok, finding


def test_a_changed_role_is_the_doctors_finding_not_the_logs(clinic: Config) -> None:
    """The log stays whole when the records are changed: the doctor says it, and names the account."""
    as_thief(clinic.database, "UPDATE users SET role = 'administrator'")
    assert look(clinic, "audit log").ok
    found = look(clinic, "records against the log")
    assert not found.ok
    assert "user " in found.detail
    assert "missing" in found.detail
    assert found.hint


def test_the_doctor_opens_audio(clinic: Config) -> None:
    """It sweeps deeply."""
    as_thief(clinic.database, "UPDATE recording_chunks SET data = zeroblob(length(data))")
    found = look(clinic, "records against the log")
    assert not found.ok
    assert "recording" in found.detail
    assert "unreadable" in found.detail


def test_many_findings_are_counted_and_a_few_named(clinic: Config) -> None:
    """The line stays readable."""
    as_thief(
        clinic.database,
        "UPDATE users SET role = 'x'",
        "UPDATE encounters SET consent = 'given', kind = 'dictation', state = 'signed'",
    )
    assert "and" in look(clinic, "records against the log").detail.rpartition(",")[2]


def test_a_row_that_points_nowhere_is_found(clinic: Config) -> None:
    """SQLite's own checks are one finding."""
    as_thief(clinic.database, "PRAGMA foreign_keys = OFF", "DELETE FROM encounters")
    found = look(clinic, "database")
    assert not found.ok
    assert "rows of recordings point nowhere in encounters" in found.detail


def test_a_broken_page_is_found_and_hides_no_other_check(clinic: Config) -> None:
    """A file with holes is a finding with a hint, not a traceback."""
    with closing(sqlite3.connect(clinic.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page_size = int(connection.execute("PRAGMA page_size").fetchone()[0])
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'encounters'").fetchone()
    with clinic.database.open("r+b") as file:
        file.seek((root - 1) * page_size)
        file.write(b"\xff" * page_size)
    found = look(clinic, "database")
    assert not found.ok
    assert "backup" in found.hint
    assert look(clinic, "disk").check == "disk"


def test_a_missing_database_is_not_made(clinic: Config) -> None:
    """Looking must not leave an empty database behind in place of the lost one."""
    for path in clinic.home.glob("clinic.db*"):
        path.unlink()
    found = [finding for finding in examine(clinic, None) if finding.check == "database"]
    assert [finding.ok for finding in found] == [False]
    assert not clinic.database.exists()


def test_without_the_key_nothing_is_said_to_be_well(clinic: Config) -> None:
    """What was not looked at is not ok."""
    findings = {finding.check: finding.ok for finding in examine(clinic, None)}
    assert not findings["records against the log"]
    assert findings["database"]


def test_verify_says_what_it_verifies(clinic: Config) -> None:
    """For people it names the command that compares the records; for programs there is the report alone."""
    text = CliRunner().invoke(main, ["audit", "verify", "--home", str(clinic.home)])
    assert text.exit_code == 0
    assert "verified" in text.output
    assert HINT in text.output
    report = CliRunner().invoke(main, ["audit", "verify", "--json", "--home", str(clinic.home)])
    assert json.loads(report.output)["ok"]
    assert HINT not in report.output
