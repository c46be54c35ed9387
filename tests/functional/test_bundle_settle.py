"""A new version takes over a data folder: backup first, then the migration, then the entry in the log."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from clinic.bundle import settle as settle_module
from clinic.bundle.installed import Installed, installed, record
from clinic.bundle.settle import needs_migration, settle
from clinic.cli import main
from clinic.config import Config
from clinic.doctor import Finding, examine
from clinic.errors import ClinicError
from clinic.home import open_records, unlock_home
from clinic.records.engine import open_engine
from clinic.records.migrate import current_revision, downgrade, head_revision
from tests.unit.bundle.bundle_world import VKEY

DIGEST = "ab" * 32
FOUND = Installed.model_validate_json(
    json.dumps(
        {
            "bundle": DIGEST,
            "vkey": VKEY,
            "program": {"version": "1.0", "commit": "c" * 40},
            "target": {"python": "3.11", "machine": "x86_64", "glibc": "2.36"},
            "requirements": "embedded",
            "licences": [
                {"id": "gemma", "name": "Terms", "sha256": "cd" * 32, "how": "typed", "at": "2026-01-01T00:00:00Z"}
            ],
        }
    )
)


def old_program(tmp_path: Path, *, status: int = 0) -> Path:
    """Return a program that stands for the version in force: notes the schema it finds, and ends with this status."""
    path = tmp_path / "old-clinic"
    path.write_text(
        f"""#!{sys.executable}
import sqlite3, sys
home = sys.argv[sys.argv.index("--home") + 1]
((revision,),) = sqlite3.connect(home + "/clinic.db").execute("TABLE_OF_VERSIONS")
open({str(tmp_path / "calls")!r}, "a").write(" ".join(sys.argv[1:3]) + " at " + revision + "\\n")
sys.exit({status})
""".replace("TABLE_OF_VERSIONS", "SELECT version_num FROM alembic_version"),
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def make_older(config: Config) -> str:
    """Put the database back by one version, and return that."""
    engine = open_engine(config.database)
    versions = sorted(path.name[:4] for path in (config.migrations_dir / "versions").glob("0*.py"))
    downgrade(engine, config.migrations_dir, revision=versions[-2])
    engine.dispose()
    return versions[-2]


def revision(config: Config) -> str | None:
    """Return the schema's version."""
    engine = open_engine(config.database)
    try:
        return current_revision(engine)
    finally:
        engine.dispose()


def events(config: Config) -> list[str]:
    """Return the names of the log's events."""
    records = open_records(config, unlock_home(config))
    try:
        return [entry.event for entry in records.audit.entries()]
    finally:
        records.close()


def test_an_older_database_is_backed_up_then_migrated_then_recorded(config: Config, tmp_path: Path) -> None:
    """The version in force sees the old schema; afterwards the database is of this version, and the log says so."""
    older = make_older(config)
    assert needs_migration(config)
    done = settle(config, FOUND, old=old_program(tmp_path), backup_to=tmp_path / "usb", passphrase=None)
    assert (done.migrated, done.recorded) == (True, 2)
    assert (tmp_path / "calls").read_text(encoding="utf-8") == f"backup create at {older}\n"
    assert revision(config) == head_revision(config.migrations_dir)
    assert events(config)[-2:] == ["licence.accepted", "program.installed"]
    again = settle(config, FOUND, old=None, backup_to=None, passphrase=None)
    assert (again.migrated, again.recorded) == (False, 0)


def test_without_a_backup_nothing_is_migrated(config: Config, tmp_path: Path) -> None:
    """A backup that fails, or nobody who could make one, leaves the database as it was."""
    older = make_older(config)
    for old, code in ((old_program(tmp_path, status=5), "data_backup_failed"), (None, "old_program_missing")):
        with pytest.raises(ClinicError) as caught:
            settle(config, FOUND, old=old, backup_to=None, passphrase=None)
        assert caught.value.code == code
        assert revision(config) == older


def test_without_the_rule_it_would_be_migrated(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where a failed backup is not looked at, the database changes."""
    older = make_older(config)
    monkeypatch.setattr(settle_module, "_back_up", lambda *_arguments: None)
    settle(config, FOUND, old=old_program(tmp_path, status=5), backup_to=None, passphrase=None)
    assert revision(config) != older


def test_a_clinic_that_runs_is_left_alone(config: Config, tmp_path: Path) -> None:
    """While a process has the keys, nothing is backed up or migrated."""
    older = make_older(config)
    keyring = unlock_home(config)
    with pytest.raises(ClinicError) as caught:
        settle(config, FOUND, old=old_program(tmp_path), backup_to=None, passphrase=None)
    assert caught.value.code == "keys_in_use"
    assert revision(config) == older
    assert not (tmp_path / "calls").exists()
    del keyring


@pytest.mark.parametrize("held", [True, False], ids=["started", "control"])
def test_a_clinic_that_starts_during_the_backup_is_left_alone(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, held: bool
) -> None:
    """Whoever has the keys after the backup works on the old schema: it is not changed under them."""
    older, running = make_older(config), []
    real = settle_module._back_up

    def started_meanwhile(*arguments: Any) -> None:
        real(*arguments)
        if held:
            running.append(unlock_home(config))

    monkeypatch.setattr(settle_module, "_back_up", started_meanwhile)
    code = None
    try:
        settle(config, FOUND, old=old_program(tmp_path), backup_to=None, passphrase=None)
    except ClinicError as error:
        code = error.code
    assert (code, revision(config) == older) == (("keys_in_use", True) if held else (None, False))


def test_a_newer_database_is_refused(config: Config) -> None:
    """A version that does not know the schema (a roll-back after a migration) is refused."""
    with open_engine(config.database).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ClinicError) as caught:
        settle(config, FOUND, old=None, backup_to=None, passphrase=None)
    assert caught.value.code == "schema_newer"


def test_a_version_that_comes_back_is_recorded_again(config: Config) -> None:
    """After a roll-back the log's last installed program is the one in force; a licence stands there once."""
    records = open_records(config, unlock_home(config))
    other = FOUND.model_copy(update={"bundle": "ef" * 32})
    assert [record(records, one) for one in (FOUND, FOUND, other, FOUND)] == [2, 0, 1, 1]
    records.close()
    assert events(config).count("licence.accepted") == 1


def test_doctor_says_what_is_not_recorded(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """`clinic doctor` names the bundle, and the entries that the log lacks; a checkout is said to be one."""

    def program() -> Finding:
        return next(finding for finding in examine(config, unlock_home(config)) if finding.check == "program")

    assert "not installed from a bundle" in program().detail
    monkeypatch.setattr("clinic.doctor.installed", lambda: FOUND)
    assert (program().ok, program().hint) == (False, "`clinic bundle record`")
    assert DIGEST[:12] in program().detail
    records = open_records(config, unlock_home(config))
    record(records, FOUND)
    records.close()
    assert program().ok


def test_a_checkout_has_nothing_to_record(config: Config, tmp_path: Path) -> None:
    """A program that did not come from a bundle says so; a damaged note of the installer counts as none."""
    result = CliRunner().invoke(main, ["bundle", "record", "--home", str(config.home)])
    assert result.exit_code == 2
    assert "not_from_bundle" in result.stderr
    (tmp_path / "installed.json").write_text('{"bundle": "x"}', encoding="utf-8")
    with pytest.raises(ClinicError) as caught:
        installed(tmp_path)
    assert caught.value.code == "not_from_bundle"
    (tmp_path / "installed.json").write_text(FOUND.model_dump_json(), encoding="utf-8")
    assert installed(tmp_path) == FOUND


def test_the_commands_as_a_person_uses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bundle key`, `build`, `verify`: the paper's lines come out, JSON is one document, a wrong file is named."""
    from tests.unit.bundle.bundle_world import make_project

    source, wheels = make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    key = runner.invoke(main, ["bundle", "key", "b.key", "--json"], input="four unrelated words here\n")
    vkey = json.loads(key.stdout)["vkey"]
    build = ["bundle", "build", "--out", "usb", "--key", "b.key", "--source", str(source), "--wheels", str(wheels)]
    made = runner.invoke(main, [*build, "--offline"], input="four unrelated words here\n")
    assert made.exit_code == 0, made.output
    assert vkey in made.stdout
    script = subprocess.run(["sha256sum", "usb/install_bundle.py"], capture_output=True, text=True, check=True).stdout
    assert script.split()[0] in made.stdout
    verified = json.loads(runner.invoke(main, ["bundle", "verify", "usb", "--vkey", vkey, "--json"]).stdout)
    assert verified["digest"] in made.stdout
    again = runner.invoke(main, [*build, "--offline"], input="four unrelated words here\n")
    assert "output_exists" in again.stderr
    shutil.rmtree("usb/objects")
    broken = runner.invoke(main, ["bundle", "verify", "usb", "--vkey", vkey])
    assert broken.exit_code == 1
    assert "bundle_incomplete" in broken.stderr
