"""`clinic audit export` as it is typed: ranges by number and by day, both formats, mistakes."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import traceback
from pathlib import Path

import pyrage
import pytest
from click.testing import CliRunner, Result

from clinic.audit.checkpoint import Checkpoint
from clinic.audit.events import LoginSucceeded
from clinic.backup.keys import BackupKeys
from clinic.cli import main
from clinic.config import Config
from clinic.domain import OPERATOR
from clinic.errors import ClinicError
from clinic.home import HomeOptions, create, open_records, unlock_home
from tests.conftest import ROOT

KEY = pyrage.x25519.Identity.generate()
RECIPIENT = str(KEY.to_public())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder with a few entries."""
    config: Config = create(tmp_path / "home", HomeOptions(insecure_key_file=True)).config
    audit = open_records(config, unlock_home(config)).audit
    for number in range(4):
        audit.append(LoginSucceeded(user_id=f"u-{number}"), actor=OPERATOR)
    return config.home


def export(home: Path, out: Path, *options: str) -> Result:
    """Run the command with `--json`."""
    common = ["audit", "export", "--home", str(home), "--recipient", RECIPIENT, "--out", str(out), "--json"]
    return CliRunner().invoke(main, [*common, *options])


def today(home: Path) -> str:
    """Return the day of the first entry."""
    config = Config.load(home)
    return next(open_records(config, unlock_home(config)).audit.entries()).at[:10]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param([], (1, 5), id="all"),
        pytest.param(["--from", "2", "--to", "4"], (2, 4), id="numbers"),
        pytest.param(["--first", "2", "--last", "4"], (2, 4), id="the names of before"),
        pytest.param(["--from", "DAY", "--to", "DAY"], (1, 5), id="a day"),
    ],
)
def test_a_range_is_exported(home: Path, tmp_path: Path, options: list[str], expected: tuple[int, int]) -> None:
    """The manifest says what is in it, and nothing else is."""
    out = tmp_path / "audit.age"
    done = export(home, out, *(option.replace("DAY", today(home)) for option in options))
    assert done.exit_code == 0, done.output
    manifest = json.loads(done.stdout)["manifest"]
    assert (manifest["first"], manifest["last"], manifest["count"]) == (*expected, expected[1] - expected[0] + 1)
    identity = tmp_path / "key"
    identity.write_text(str(KEY))
    opened = CliRunner().invoke(main, ["audit", "open", str(out), "--identity", str(identity), "--json"])
    assert [entry["seq"] for entry in json.loads(opened.stdout)["entries"]] == list(range(expected[0], expected[1] + 1))


def test_fhir_is_one_resource_a_line(home: Path, tmp_path: Path) -> None:
    """What the recipient decrypts is NDJSON."""
    out = tmp_path / "audit.ndjson.age"
    assert export(home, out, "--format", "fhir", "--from", "3").exit_code == 0
    lines = pyrage.decrypt(out.read_bytes(), [KEY]).splitlines()
    assert [json.loads(line)["resourceType"] for line in lines] == ["AuditEvent"] * 3


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--from", "yesterday"], id="no day"),
        pytest.param(["--from", "2026-02-31"], id="no such day"),
        pytest.param(["--from", "1999-01-01", "--to", "1999-12-31"], id="before the log"),
        pytest.param(["--from", "4", "--to", "3"], id="backwards"),
        pytest.param(["--to", "6"], id="beyond the end"),
    ],
)
def test_a_range_that_is_none_is_a_usage_error(home: Path, tmp_path: Path, options: list[str]) -> None:
    """Exit 2, the code, a hint, no file, and nothing recorded."""
    out = tmp_path / "audit.age"
    done = export(home, out, *options)
    error = json.loads(done.stdout)["error"]
    assert (done.exit_code, error["code"], bool(error["hint"]), out.exists()) == (2, "range_invalid", True, False)
    config = Config.load(home)
    assert open_records(config, unlock_home(config)).audit.head().size == 5


def checkpoint(home: Path, *options: str) -> str:
    """Return what `clinic audit checkpoint` prints."""
    return CliRunner().invoke(main, ["audit", "checkpoint", "--home", str(home), *options]).stdout


def opened(tmp_path: Path, out: Path, *options: str) -> tuple[int, dict[str, object]]:
    """Run `clinic audit open`; return its exit code and its report, or its error."""
    identity = tmp_path / "key"
    identity.write_text(str(KEY))
    common = ["audit", "open", str(out), "--identity", str(identity), "--json"]
    done = CliRunner().invoke(main, [*common, *options])
    document = json.loads(done.stdout)
    return done.exit_code, document.get("report") or document["error"]


def test_an_export_proves_what_the_auditor_saw(home: Path, tmp_path: Path) -> None:
    """With `--seen` it is decided for that checkpoint; without, it is said that it cannot be."""
    seen, out = tmp_path / "seen.txt", tmp_path / "audit.age"
    seen.write_text(checkpoint(home))
    audit = open_records(Config.load(home), unlock_home(Config.load(home))).audit
    for number in range(5):
        audit.append(LoginSucceeded(user_id=f"u-{number}"), actor=OPERATOR)
    assert export(home, tmp_path / "without.age", "--from", "8").exit_code == 0
    done = export(home, out, "--from", "8", "--seen", str(seen))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["manifest"]["proofs"] >= 2
    key = ["--vkey", audit.vkey]
    assert opened(tmp_path, out, *key, "--seen", str(seen))[0] == 0
    code, report = opened(tmp_path, tmp_path / "without.age", *key, "--seen", str(seen))
    assert (code, report["problem"]) == (1, "checkpoint_not_covered")
    assert "cannot be decided" in str(report["message"])
    program = [sys.executable, "-I", str(ROOT / "deploy" / "verify_export.py")]
    for file, expected, words in ((out, 0, "VERIFIED"), (tmp_path / "without.age", 4, "cannot be decided")):
        options = [str(file), "--identity", str(tmp_path / "key"), *key, "--seen", str(seen)]
        ran = subprocess.run([*program, *options], check=False, capture_output=True, text=True, timeout=60)
        assert (ran.returncode, words in ran.stdout) == (expected, True), ran.stdout


def test_what_shows_a_witness_that_the_log_grew_is_taken_as_seen(home: Path, tmp_path: Path) -> None:
    """What `checkpoint --since` prints holds a checkpoint: it is that one which was seen."""
    seen, out = tmp_path / "seen.txt", tmp_path / "audit.age"
    seen.write_text(checkpoint(home, "--since", "2"))
    assert export(home, out, "--seen", str(seen)).exit_code == 0
    assert opened(tmp_path, out, "--seen", str(seen))[0] == 0


@pytest.mark.parametrize(
    ("text", "code"),
    [("rubbish", "checkpoint_malformed"), ("STRANGER", "checkpoint_signature"), ("LONGER", "audit_rolled_back")],
    ids=["rubbish", "stranger", "longer"],
)
def test_a_checkpoint_that_the_log_does_not_hold_is_not_proved(
    home: Path, tmp_path: Path, text: str, code: str
) -> None:
    """An error, no file, and nothing recorded: the log was cut, or it is another one."""
    audit = open_records(Config.load(home), unlock_home(Config.load(home))).audit
    other = create(tmp_path / "other", HomeOptions(insecure_key_file=True)).config
    signer = audit._signer
    notes = {
        "STRANGER": checkpoint(other.home),
        "LONGER": signer.sign(Checkpoint(origin=signer.name, size=99, root=bytes(32)).text()),
    }
    seen, out = tmp_path / "seen.txt", tmp_path / "audit.age"
    seen.write_text(notes.get(text, text))
    done = export(home, out, "--seen", str(seen))
    assert json.loads(done.stdout)["error"]["code"] == code
    assert not out.exists()
    assert audit.size() == 5


def test_growth_between_two_checkpoints_is_shown_to_somebody_else(home: Path, tmp_path: Path) -> None:
    """`audit consistency` prints what `deploy/witness.py` accepts; with a hash of it changed, it does not."""
    audit = open_records(Config.load(home), unlock_home(Config.load(home))).audit
    older, newer, shown = tmp_path / "older.txt", tmp_path / "newer.txt", tmp_path / "shown.txt"
    older.write_text(checkpoint(home))
    for number in range(6):
        audit.append(LoginSucceeded(user_id=f"u-{number}"), actor=OPERATOR)
    newer.write_text(checkpoint(home))

    def asked(*files: Path, options: tuple[str, ...] = ()) -> Result:
        return CliRunner().invoke(main, ["audit", "consistency", *map(str, files), "--home", str(home), *options])

    def witness(name: str, file: Path) -> int:
        program = [sys.executable, "-I", str(ROOT / "deploy" / "witness.py"), "see", str(tmp_path / name), str(file)]
        return subprocess.run([*program, "--vkey", audit.vkey], check=False, capture_output=True, timeout=60).returncode

    done = asked(older, newer)
    assert (done.exit_code, "from 5 to 11 entries" in done.stderr) == (0, True)
    shown.write_text(done.stdout)
    for name in ("honest", "deceived"):
        assert witness(name, older) == 0
    assert witness("honest", shown) == 0
    lines = done.stdout.split("\n")
    first = base64.b64decode(lines[1])
    lines[1] = base64.b64encode(bytes([first[0] ^ 1]) + first[1:]).decode()
    shown.write_text("\n".join(lines))
    assert witness("deceived", shown) != 0

    said = json.loads(asked(older, newer, options=("--json",)).stdout)
    assert (said["older"], said["newer"], said["note"]) == (5, 11, newer.read_text())
    assert said["path"] == done.stdout.split("\n\n", maxsplit=1)[0].split("\n")[1:]
    assert json.loads(asked(older, older, options=("--json",)).stdout)["path"] == []
    backwards = asked(newer, older)
    assert (backwards.exit_code, "(range_invalid)" in backwards.stderr) == (2, True)
    forked = tmp_path / "forked.txt"
    forked.write_text(audit._signer.sign(Checkpoint(origin=audit._signer.name, size=4, root=bytes(32)).text()))
    refused = asked(forked, newer)
    assert (refused.exit_code, "(audit_forked)" in refused.stderr, refused.stdout) == (1, True, "")


def test_an_empty_key_is_refused(home: Path, tmp_path: Path) -> None:
    """A variable that was not set does not let an export vouch for itself."""
    out = tmp_path / "audit.age"
    assert export(home, out).exit_code == 0
    assert opened(tmp_path, out)[0] == 0
    code, report = opened(tmp_path, out, "--vkey", "")
    assert (code, report["problem"]) == (1, "checkpoint_malformed")


SECRET = str(KEY)
BARE = SECRET.removeprefix("AGE-SECRET-KEY-1")


def holds_a_piece(text: str) -> bool:
    """Tell whether eight letters of the secret key stand in a text: errors may show a long value shortened."""
    return any(BARE[at : at + 8] in text for at in range(len(BARE) - 7))


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["audit", "export", "--recipient", SECRET, "--out", "x.age"], id="as the recipient"),
        pytest.param(["audit", "export", "--recipient", f"age1{BARE}", "--out", "x.age"], id="mistyped"),
        pytest.param(["audit", "export", SECRET, "--recipient", RECIPIENT, "--out", "x.age"], id="as a word too many"),
        pytest.param(["audit", "export", "--format", SECRET, "--out", "x.age"], id="as another option"),
        pytest.param(["audit", "export", f"--{SECRET}"], id="as the name of an option"),
        pytest.param(["audit", SECRET], id="as a command of a group"),
        pytest.param([SECRET], id="as a command"),
        pytest.param(["keys", "remove-slot", SECRET], id="as a slot"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_a_secret_key_on_the_command_line_is_not_repeated(home: Path, arguments: list[str], as_json: bool) -> None:  # noqa: FBT001
    """Wherever it was put by mistake, what is said about it does not hold it."""
    given = [*arguments, *(["--json"] if as_json else [])]
    done = CliRunner(env={"CLINIC_HOME": str(home)}).invoke(main, given)
    assert done.exit_code == 2
    assert done.output
    assert not holds_a_piece(done.output)
    config = Config.load(home)
    bodies = b"".join(entry.body for entry in open_records(config, unlock_home(config)).audit.entries())
    assert not holds_a_piece(bodies.decode())


def recipients_of(home: Path) -> None:
    """Read the recipients of backups as a backup does."""
    config = Config.load(home)
    BackupKeys.of(unlock_home(config)).recipients(config.backup.recipients)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(f'["{SECRET}"]', id="a secret key"),
        pytest.param(f'"{SECRET}"', id="of another type"),
        pytest.param(f'[["{SECRET}"]]', id="nested"),
        pytest.param(f'["{SECRET}"', id="no TOML"),
    ],
)
def test_a_secret_key_in_the_configuration_is_not_repeated(home: Path, tmp_path: Path, value: str) -> None:
    """`backup.recipients` may hold one by mistake: no error and no part of its traceback says it."""
    toml = home / "clinic.toml"
    toml.write_text(f"{toml.read_text()}\n[backup]\nrecipients = {value}\n")
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    arguments = ["backup", "create", "--to", str(disk), "--new-disk", "--home", str(home)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert not holds_a_piece(done.output)
    with pytest.raises(ClinicError) as caught:
        recipients_of(home)
    assert not holds_a_piece("".join(traceback.format_exception(caught.value)))
