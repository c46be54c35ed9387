"""Kept checkpoints as people meet them: a clinic that stops, the worker's clock, the commands."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clinic.audit.events import LoginSucceeded
from clinic.audit.kept import Rhythm
from clinic.cli import main
from clinic.config import Config
from clinic.domain import OPERATOR, utc_now
from clinic.home import open_records, unlock_home
from clinic.jobs.upkeep import keep_due_checkpoint, keep_last_checkpoint
from clinic.records.engine import open_engine
from clinic.records.records import Records

DEADLINE_S = 60.0


def clinic(config: Config, *arguments: str) -> Result:
    """Run one command."""
    return CliRunner().invoke(main, [*arguments, "--home", str(config.home)])


def kept(records: Records) -> list[int]:
    """Return over how many entries checkpoints are kept."""
    return [each.size for each in records.audit.kept_checkpoints()]


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_one_is_kept_when_the_clinic_stops(config: Config, records: Records, command: str) -> None:
    """After SIGTERM the last kept checkpoint covers the last entry, and the log verifies against all of them."""
    with (config.logs_dir / "test.log").open("ab") as log:
        run = [sys.executable, "-m", "clinic", command, "--home", str(config.home)]
        process = subprocess.Popen(run, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    deadline = time.monotonic() + DEADLINE_S
    ready = config.logs_dir / ("worker.log" if command == "serve" else "test.log")
    while not (ready.exists() and "worker ready" in ready.read_text()):
        assert (time.monotonic() < deadline, process.poll()) == (True, None)
        time.sleep(0.1)
    records.audit.append(LoginSucceeded(user_id="late"), actor=OPERATOR)
    process.terminate()
    process.wait(40)
    assert kept(records)[-1] == records.audit.size()
    report = records.audit.verify()
    assert (report.ok, report.kept_checkpoints) == (True, len(kept(records)))


def test_the_worker_keeps_one_by_the_clock(config: Config) -> None:
    """What the worker calls every few seconds does nothing until an entry is old enough."""
    now = utc_now()
    keyring, engine = unlock_home(config), open_engine(config.database)
    records = Records(engine, keyring=keyring, clock=lambda: now, rhythm=Rhythm(entries=500, minutes=15))
    keep_due_checkpoint(records)
    assert kept(records) == []
    now += timedelta(minutes=16)
    keep_due_checkpoint(records)
    keep_due_checkpoint(records)
    assert kept(records) == [records.audit.size()]
    records.close()


def test_trouble_does_not_stop_the_worker(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged log is named by its code, and has latched."""
    records = open_records(config, unlock_home(config))
    records.audit.append(LoginSucceeded(user_id="u"), actor=OPERATOR)
    keep_last_checkpoint(records)
    records.audit.append(LoginSucceeded(user_id="u"), actor=OPERATOR)
    with closing(sqlite3.connect(config.database)) as raw, raw:
        raw.execute("DROP TRIGGER audit_entries_no_update")
        raw.execute("UPDATE audit_entries SET actor = 'x' WHERE seq = (SELECT max(seq) FROM audit_entries)")
    keep_last_checkpoint(records)
    assert "no last checkpoint of the audit log was kept: audit_damaged" in caplog.text
    assert records.guard.current() is not None
    records.close()


def test_the_commands_list_and_verify_them(config: Config, records: Records, tmp_path: Path) -> None:
    """`audit checkpoints` lists them, `audit verify` and `doctor` count them, and a rewritten log names the first."""
    for number in range(3):
        records.audit.append(LoginSucceeded(user_id=f"u-{number}"), actor=OPERATOR)
        records.audit.keep_checkpoint()
    sizes = kept(records)
    listed = clinic(config, "audit", "checkpoints", "--json")
    assert [each["entries"] for each in json.loads(listed.stdout)] == sizes
    assert f"{sizes[0]:>10} entries  root" in clinic(config, "audit", "checkpoints").stdout
    verified = clinic(config, "audit", "verify", "--json")
    assert (verified.exit_code, json.loads(verified.stdout)["kept_checkpoints"]) == (0, 3)
    assert "against 3 kept checkpoints" in clinic(config, "audit", "verify").stdout
    shorter = tmp_path / "kept.txt"
    shorter.write_text(records.audit.kept_checkpoints()[0].note.decode(), encoding="utf-8")
    assert clinic(config, "audit", "verify", "--checkpoint", str(shorter)).exit_code == 0
    with closing(sqlite3.connect(config.database)) as raw, raw:
        for trigger in ("next", "no_update", "no_delete"):
            raw.execute(f"DROP TRIGGER audit_checkpoints_{trigger}")
        raw.execute("UPDATE audit_checkpoints SET peaks = zeroblob(length(peaks)) WHERE size = ?", (sizes[1],))
    refused = clinic(config, "audit", "verify", "--json")
    assert (refused.exit_code, json.loads(refused.stdout)["bad_checkpoint"]) == (1, sizes[1])
    assert f"first bad checkpoint over {sizes[1]} entries" in clinic(config, "audit", "verify").stdout
