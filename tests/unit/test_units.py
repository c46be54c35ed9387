"""deploy/systemd: units that systemd understands, confined enough, naming commands that exist.

Nothing is started here: `systemd-analyze` reads files, with no systemd running.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from clinic.cli import main

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
SERVICES = sorted(path.name for path in FOLDER.glob("*.service"))
TIMERS = sorted(path.name for path in FOLDER.glob("*.timer"))
PROGRAM = "/opt/clinic/current/.venv/bin/clinic"
MOST = 3.0
"""Exposure that a unit may have, of 10 (`systemd-analyze security`)."""

ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="needs Debian's systemd, installed, not running")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `systemd-analyze`, which asks no running systemd here."""
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, check=False, timeout=60)


def exposure(path: Path) -> float:
    """Return how exposed a unit is, from 0 (not) to 10."""
    said = analyze("security", "--offline=true", "--no-pager", str(path)).stdout
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", said)
    assert found is not None, said
    return float(found[1])


def copied(folder: Path, *changes: tuple[str, str]) -> list[Path]:
    """Copy all units, with a program that exists here, and with changes."""
    paths = []
    for name in (*SERVICES, *TIMERS):
        text = (FOLDER / name).read_text(encoding="utf-8").replace(PROGRAM, sys.executable)
        for old, new in changes:
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")
        paths.append(folder / name)
    return paths


def settings(name: str) -> dict[str, list[str]]:
    """Return the settings of a unit, by key."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if re.match(r"[A-Z]\w+=", line):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(" ".join(value.split()))
    return found


def test_the_units_are_there() -> None:
    """Three that run, two that timers start, and their timers."""
    assert [f"clinic-{name}.service" for name in ("backup", "checkpoint", "model", "web", "worker")] == SERVICES
    assert TIMERS == ["clinic-backup.timer", "clinic-checkpoint.timer"]


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say; a misspelt key and an unknown call group are the control."""
    said = analyze("verify", *map(str, copied(tmp_path)))
    assert (said.returncode, said.stderr) == (0, "")
    wrong = analyze("verify", *map(str, copied(tmp_path, ("ProtectHome=", "ProtectHouse="), ("@obsolete", "@nothing"))))
    assert "ProtectHouse" in wrong.stderr
    assert "@nothing" in wrong.stderr


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_each_unit_is_confined_enough(name: str) -> None:
    """At most 3.0 of 10."""
    assert exposure(FOLDER / name) <= MOST


@needs_systemd
def test_a_unit_without_its_confinement_is_seen(tmp_path: Path) -> None:
    """Negative control: without the calls' filter, capabilities and file system rules a unit is over the limit."""
    changes = [(key, f"# {key}") for key in ("SystemCall", "Protect", "CapabilityBoundingSet", "Restrict", "IPAddress")]
    for path in copied(tmp_path, *changes):
        if path.suffix == ".service":
            assert exposure(path) > MOST, path.name


def test_who_needs_no_network_has_none() -> None:
    """All but the web form; that one listens on one port and may reach private addresses only."""
    for name in SERVICES:
        found = settings(name)
        if name == "clinic-web.service":
            assert found["SocketBindAllow"] == ["tcp:8443"]
            assert found["SocketBindDeny"] == found["IPAddressDeny"] == ["any"]
            assert found["IPAddressAllow"] == ["localhost 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"]
        else:
            assert found["PrivateNetwork"] == ["yes"], name


def test_the_model_server_has_no_key_and_no_data_folder() -> None:
    """Its own user, no credential, no look into the records; every other unit is the clinic's and gets the key."""
    for name in SERVICES:
        found = settings(name)
        own = name == "clinic-model.service"
        assert found["User"] == found["Group"] == ["clinic-model" if own else "clinic"]
        assert ("LoadCredentialEncrypted" in found) is not own
        assert found["LimitCORE"] == ["0"]
        assert found["MemorySwapMax"] == ["0"]
    assert "-/var/lib/clinic" in settings("clinic-model.service")["InaccessiblePaths"][0].split()


@pytest.mark.parametrize("name", SERVICES)
def test_each_unit_starts_a_command_that_exists(name: str) -> None:
    """With options that it knows."""
    (line,) = settings(name)["ExecStart"]
    program, *arguments = line.split()
    assert program == PROGRAM
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments.pop(0))
        assert found is not None, line
        command = found
    command.make_context("x", arguments)


def test_each_timer_has_its_service_and_catches_up() -> None:
    """A box that was off at noon makes its backup when it is on again."""
    for name in TIMERS:
        assert name.replace(".timer", ".service") in SERVICES
        assert settings(name)["Persistent"] == ["yes"]
        assert settings(name)["WantedBy"] == ["timers.target"]
