"""docs/recover.md, followed to the letter: each section's commands mend the data folder that was broken in its way."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pyotp
import pytest
from click.testing import CliRunner

from clinic import home
from clinic.audit.latch import Reason
from clinic.box import Finding
from clinic.cli import main
from clinic.config import Config
from clinic.crypto import local_ca
from clinic.crypto.keys import Passphrase, unlock
from clinic.crypto.local_ca import expires_in, fingerprint
from clinic.domain import OPERATOR, Role, utc_now
from clinic.errors import AuditLatchedError, AuthenticationError, ConfigError, SealedError
from clinic.handover import PASSPHRASE_VARIABLE
from clinic.home import HomeOptions, create, guard_of, open_records, renew_certificate, unlock_home
from clinic.records.engine import open_engine
from clinic.records.records import Records
from tests.conftest import MODELS, ROOT
from tests.functional.web_world import HASHER

PAGE = ROOT / "docs" / "recover.md"
OLD, NEW, PASSWORD = "the first passphrase of all", "quite another passphrase now", "correct horse battery"
NOT_OURS = frozenset({"mount", "chown", "systemctl", "df", "journalctl", "apt-get", "timedatectl", "hwclock"})
"""Debian's commands: they are not run here."""


def sections() -> dict[str, list[str]]:
    """Return the commands of each section, by its heading."""
    found: dict[str, list[str]] = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        lines = [line for block in re.findall(r"```sh\n(.*?)```", body, re.DOTALL) for line in block.splitlines()]
        if lines:
            found[heading] = lines
    return found


@dataclass
class Box:
    """A clinic with accounts, and a disk with its backup."""

    config: Config
    disk: Path
    shares: tuple[str, str, str]
    monkeypatch: pytest.MonkeyPatch
    passphrase: str = OLD
    typed: dict[str, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)

    def run(self, line: str) -> None:
        """Run one line of the page, with the paths of this test; Debian's are passed over."""
        program, *arguments = shlex.split(line)
        if program in NOT_OURS:
            return
        assert program == "clinic", line
        places = {"/mnt/backup": str(self.disk), "/var/lib/clinic": str(self.config.home)}
        here = [places.get(argument, argument) for argument in arguments]
        if "--home" not in here:
            here += ["--home", str(self.config.home)]
        self.monkeypatch.setenv(PASSPHRASE_VARIABLE, self.passphrase)
        typed = self.typed.get(" ".join(arguments), self.typed.get(" ".join(arguments[:2])))
        result = CliRunner().invoke(main, here, input=typed)
        self.said.append(result.output)
        if arguments[0] != "doctor":  # its red lines are looked at by the test of the section
            assert result.exit_code == 0, f"{line}: {result.output}{result.exception}"

    def follow(self, heading: str) -> None:
        """Run the section."""
        for line in sections()[heading]:
            self.run(line)

    def red(self) -> set[str]:
        """Return the names of the doctor's red lines, in its last report."""
        return set(re.findall(r"^FAIL ([^:]+):", self.said[-1], re.MULTILINE))

    def records(self) -> Records:
        """Return the records as somebody opens them now."""
        return open_records(self.config, unlock_home(self.config, passphrase=self.passphrase))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, tuple[str, str, str]]:
    """A data folder with two accounts and a backup, made once."""
    base = tmp_path_factory.mktemp("r")
    new = create(base / "home", HomeOptions(passphrase=OLD, models=MODELS))
    keyring = unlock_home(new.config, passphrase=OLD)
    engine = open_engine(new.config.database)
    records = Records(engine, keyring=keyring, hasher=HASHER)
    for name, role in (("admin", Role.ADMINISTRATOR), ("ada", Role.CLINICIAN)):
        with records.write() as tx:
            tx.users.create(name, display_name=name, role=role, password=PASSWORD, actor=OPERATOR)
    engine.dispose()
    disk = base / "disk"
    disk.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSPHRASE_VARIABLE, OLD)
        result = CliRunner().invoke(main, ["backup", "create", "--to", str(disk), "--home", str(new.config.home)])
    assert result.exit_code == 0, result.output
    return new.config.home, disk, new.shares


@pytest.fixture
def box(made: tuple[Path, Path, tuple[str, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Return a copy of it."""
    folder, disk, shares = made
    shutil.copytree(folder, tmp_path / "home")
    shutil.copytree(disk, tmp_path / "disk")
    monkeypatch.setattr("clinic.doctor.assemble", lambda weights, models: models / weights.name)  # read by others
    monkeypatch.setattr("clinic.box.located_weights", lambda _profile, models: models)
    for slow in ("_policies", "_in_force"):  # have tests of their own
        monkeypatch.setattr(f"clinic.doctor.{slow}", lambda *_: Finding("policies", ok=True, detail="not run here"))
    return Box(Config.load(tmp_path / "home"), tmp_path / "disk", shares, monkeypatch)


def sheets_and(box: Box, passphrase: str) -> str:
    """Return what is typed into `keys recover`."""
    return f"{box.shares[2]}\n{box.shares[0]}\n{passphrase}\n"


def test_the_passphrase_is_lost(box: Box) -> None:
    """Afterwards the new one opens clinic and backup, the old one neither."""
    box.typed["keys recover"] = sheets_and(box, NEW)
    lines = sections()["The passphrase is lost"]
    box.run(lines[0])
    box.passphrase = NEW
    for line in lines[1:]:
        box.run(line)
    for keys in (box.config.keys_file, *box.disk.rglob("keys.json")):
        with pytest.raises(SealedError):
            unlock(keys, Passphrase(OLD))
    unlock(box.config.keys_file, Passphrase(NEW))
    box.config = Config.load(box.config.home)
    restore = ["backup", "restore", str(box.disk), "--home", str(box.config.home.parent / "other")]
    box.monkeypatch.setenv(PASSPHRASE_VARIABLE, OLD)
    assert "key_wrong" in CliRunner().invoke(main, restore).output


def test_the_disk_is_dead(box: Box) -> None:
    """The records come back, the log verifies, and a new backup is there."""
    shutil.rmtree(box.config.home)
    before = len(list(box.disk.rglob("keys-*")))
    box.follow("The disk is dead")
    assert box.records().authenticate("ada", PASSWORD).username == "ada"
    assert len(list(box.disk.rglob("keys-*"))) > before
    assert any("verified" in said for said in box.said)


def test_the_box_is_stolen(box: Box) -> None:
    """The thief's passphrase, sheets, password and authority are useless from then on."""
    authority = fingerprint((box.config.tls_dir / "ca.crt").read_bytes())
    box.typed |= {"keys recover": sheets_and(box, NEW), "user reset": "an entirely new password\n"}
    heading = "The box is stolen"
    box.run(sections()[heading][0])
    box.passphrase = NEW
    for line in sections()[heading][1:]:
        box.run(line)
    assert fingerprint((box.config.tls_dir / "ca.crt").read_bytes()) != authority
    with pytest.raises(SealedError):
        unlock(box.config.keys_file, Passphrase(OLD))
    recover = ["keys", "recover", "--home", str(box.config.home)]
    assert "key_wrong" in CliRunner().invoke(main, recover, input=sheets_and(box, "the thief's own passphrase")).output
    with pytest.raises(AuthenticationError):
        box.records().authenticate("ada", PASSWORD)
    assert "certificate" not in box.red()
    events = [entry.event for entry in box.records().audit.entries()]
    assert {"authority.renewed", "rotation.finished", "shares.renewed"} <= set(events)


def test_the_certificate_has_expired(box: Box) -> None:
    """The doctor sees it, and no longer afterwards."""
    long_ago = utc_now() - timedelta(days=400)
    issue_at(box, long_ago)
    box.run("clinic doctor")
    assert "certificate" in box.red()
    box.follow("The certificate has expired")
    assert "certificate" not in box.red()
    assert expires_in((box.config.tls_dir / "server.pem").read_bytes()) > timedelta(days=390)


def issue_at(box: Box, moment: datetime) -> None:
    """Issue the server's certificate as on another day."""
    real = local_ca.issue_server_certificate
    box.monkeypatch.setattr(
        home, "issue_server_certificate", lambda *args, **rest: real(*args, **rest, clock=lambda: moment)
    )
    renew_certificate(box.config, unlock_home(box.config, passphrase=OLD))
    box.monkeypatch.setattr(home, "issue_server_certificate", real)


def test_an_interrupted_new_authority_is_said_and_mended(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between key and certificate: `renew` refuses to issue what no browser believes; the same command ends it."""

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    keyring = unlock_home(box.config, passphrase=OLD)
    with monkeypatch.context() as then:
        then.setattr(home, "_issue", cut)
        with pytest.raises(KeyboardInterrupt):
            home.renew_authority(box.config, keyring)
    with pytest.raises(ConfigError) as refused:
        renew_certificate(box.config, keyring)
    assert refused.value.code == "authority_incomplete"
    home.renew_authority(box.config, keyring)
    renew_certificate(box.config, keyring)


@pytest.mark.parametrize(
    ("heading", "reason"),
    [
        ("The log is latched", Reason.SYNC_FAILED),
        ("The disk is full", Reason.DISK_FULL),
        ("The clock is wrong", Reason.CLOCK_REGRESS),
    ],
)
def test_everything_has_stopped(box: Box, heading: str, reason: Reason) -> None:
    """The section lets work go on; before it nothing is written."""
    if reason is Reason.CLOCK_REGRESS:
        ahead = Records(
            open_engine(box.config.database),
            keyring=unlock_home(box.config, passphrase=OLD),
            clock=lambda: utc_now() + timedelta(hours=3),
        )
        with ahead.write() as tx:
            tx.patients.list(actor=OPERATOR)
    else:
        guard_of(box.config).latch(reason)
    with pytest.raises(AuditLatchedError), box.records().write() as tx:
        tx.patients.list(actor=OPERATOR)
    box.follow(heading)
    assert "audit latch" not in box.red()
    with box.records().write() as tx:
        tx.patients.list(actor=OPERATOR)


def test_the_administrators_password_is_forgotten(box: Box) -> None:
    """The new one signs in, the old one does not."""
    box.typed["user reset"] = "an entirely new password\n"
    box.follow("The administrator's password is forgotten")
    records = box.records()
    assert records.authenticate("admin", "an entirely new password").username == "admin"
    with pytest.raises(AuthenticationError):
        records.authenticate("admin", PASSWORD)


def test_a_phone_is_lost(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The factor of before is gone, the new phone's is enrolled."""
    secrets: list[str] = []
    real = Records.enrol_factor

    def enrol(records: Records, code: str, **rest: object) -> object:
        assert code == "code"
        return real(records, pyotp.TOTP(secrets[-1]).now(), **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Records, "enrol_factor", enrol)
    monkeypatch.setattr("clinic.cli.accounts.segno.make", lambda uri, **_: _Shown(secrets, uri))
    monkeypatch.setattr("clinic.cli.accounts.factor_code", lambda: "code")
    box.run("clinic user totp ada")
    box.follow("A phone with the second factor is lost")
    assert "removed the second factor of ada" in box.said[-2]
    assert len(set(secrets)) == 2


class _Shown:
    """A code on the screen, seen by the phone."""

    def __init__(self, secrets: list[str], uri: str) -> None:
        match = re.search(r"secret=([A-Z2-7]+)", uri)
        assert match is not None
        secrets.append(match[1])

    def terminal(self, **_: object) -> None:
        """Show nothing."""


def test_a_sheet_is_lost(box: Box) -> None:
    """Two sheets of before open neither the clinic nor the backup."""
    box.follow("A recovery sheet is lost or was seen")
    recover = ["keys", "recover", "--home", str(box.config.home)]
    assert "key_wrong" in CliRunner().invoke(main, recover, input=sheets_and(box, NEW)).output
    restore = ["backup", "restore", str(box.disk), "--recovery", "--home", str(box.config.home.parent / "other")]
    typed = f"{box.shares[0]}\n{box.shares[1]}\n"
    assert "key_wrong" in CliRunner().invoke(main, restore, input=typed).output


TESTED: dict[str, Callable[..., None]] = {
    "The passphrase is lost": test_the_passphrase_is_lost,
    "The disk is dead": test_the_disk_is_dead,
    "The box is stolen": test_the_box_is_stolen,
    "The certificate has expired": test_the_certificate_has_expired,
    "The log is latched": test_everything_has_stopped,
    "The disk is full": test_everything_has_stopped,
    "The clock is wrong": test_everything_has_stopped,
    "The administrator's password is forgotten": test_the_administrators_password_is_forgotten,
    "A phone with the second factor is lost": test_a_phone_is_lost,
    "A recovery sheet is lost or was seen": test_a_sheet_is_lost,
}


def test_every_section_with_commands_is_tested() -> None:
    """Nothing on that page is untried; and all that is not ours is named above."""
    assert set(sections()) == set(TESTED)
    used = {shlex.split(line)[0] for lines in sections().values() for line in lines}
    assert used - {"clinic"} <= NOT_OURS


def test_a_command_that_does_not_exist_fails_the_page(box: Box) -> None:
    """Negative control: the harness believes no line."""
    for line in ("clinic keys mend", "clinic audit verify --forgive", "sudo clinic doctor"):
        with pytest.raises(AssertionError):
            box.run(line)
