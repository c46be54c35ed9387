"""`clinic doctor` and `clinic audit verify`: which of them sees what."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from clinic.audit.witness import add
from clinic.cli import main
from clinic.config import Config
from clinic.doctor import Finding, examine
from clinic.domain import OPERATOR, EncounterKind, Role
from clinic.home import unlock_home
from clinic.policy import activation
from clinic.policy.activation import PolicyStore, policy_signer
from clinic.policy.load import PolicySet
from clinic.records.patients import PatientData
from clinic.records.records import Records
from tests.unit.records.records_world import as_thief


@pytest.fixture(autouse=True)
def _models_are_read_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of megabytes at each look: `test_box.py` and those of the models read them."""
    monkeypatch.setattr("clinic.doctor.assemble", lambda weights, models: models / weights.name)
    monkeypatch.setattr("clinic.doctor.weights", lambda _: Finding("writing model", ok=True, detail="not read here"))


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


def activate(config: Config, records: Records, source: Path) -> None:
    """Let the policies in `source` decide."""
    store = PolicyStore(config.policies_dir, records.audit, policy_signer(records.policy_seed))
    store.activate(source, "strict", actor=OPERATOR)


def test_a_set_that_knows_the_facts_of_today_is_well(clinic: Config, records: Records) -> None:
    """The control of the next: none before the first start, then the one that ships."""
    assert "none yet" in look(clinic, "policy set in force").detail
    activate(clinic, records, clinic.policy.directory)
    found = look(clinic, "policy set in force")
    assert found.ok
    assert "version 1, strict" in found.detail


def older_set(source: Path, target: Path) -> Path:
    """Copy the policies as they were before `scope_score` was a fact."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("scope.*"))
    for path in (target / "schema.cedarschema", *target.glob("tests/**/*.toml")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(line for line in lines if "scope_score" not in line), encoding="utf-8")
    return target


def test_a_set_of_an_older_program_is_told_before_it_denies(
    clinic: Config, records: Records, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was activated when its facts were all there were: after the upgrade the doctor says what to do."""
    older = older_set(clinic.policy.directory, tmp_path / "older")
    with monkeypatch.context() as then:
        then.setattr(activation, "require_tested", PolicySet.load)
        activate(clinic, records, older)
    found = look(clinic, "policy set in force")
    assert not found.ok
    assert "clinic policy activate" in found.hint
    activate(clinic, records, clinic.policy.directory)
    assert look(clinic, "policy set in force").ok


def test_the_doctor_compares_with_the_witnesses(clinic: Config, records: Records) -> None:
    """A log that was cut behind what another device saw verifies by itself, and not for the doctor."""
    add(clinic.home, records.audit, name="tablet", text=records.audit.checkpoint())
    assert look(clinic, "audit log").detail.endswith("1 checkpoint of witnesses")
    as_thief(clinic.database, "DELETE FROM audit_entries WHERE seq = (SELECT max(seq) FROM audit_entries)")
    assert records.audit.verify().ok
    assert not look(clinic, "audit log").ok
