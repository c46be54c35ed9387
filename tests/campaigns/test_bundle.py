"""The real thing from a bundle: built with all wheels, installed without a network, demonstrated, upgraded, killed.

The wheels (about 0.6 GB) are fetched once into `.cache/wheels`; everything else happens without a route to anywhere.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from clinic.bundle.build import Wish, build
from clinic.bundle.manifest import Manifest, Target
from tests.conftest import ROOT
from tests.unit.bundle.bundle_world import BASE_PYTHON, PYTHON, SIGNER, TARGET, VKEY, git

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(1800)]

BOX = Target(python=PYTHON, machine=TARGET.machine, glibc="2.36")
KILLED_INSTALLING = (1.0, 4.0, 8.0, 14.0)
"""Seconds after which an upgrade is killed; then every half a second more of one that has only the data to settle."""
MOST_SETTLING = 60
MIGRATION = '''"""One more table, for the test."""

from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE TABLE one_more (id TEXT NOT NULL PRIMARY KEY) STRICT")


def downgrade() -> None:
    op.execute("DROP TABLE one_more")
'''


@dataclass(frozen=True)
class World:
    """Two bundles, the second with a newer schema, and an empty box."""

    first: Path
    second: Path
    made: Manifest
    root: Path
    home: Path
    scratch: Path

    def alone(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command without a network and with an empty environment."""
        clean = {"PATH": os.defpath, "HOME": str(self.scratch)}
        arguments = ["unshare", "--net", "--map-root-user", *map(str, command)]
        return subprocess.run(arguments, env=clean, capture_output=True, text=True, cwd="/", timeout=900, check=False)

    def installer(self, *arguments: object) -> list[object]:
        """Return the command that runs the installer as it lies in the first bundle."""
        return [BASE_PYTHON, "-I", self.first / "install_bundle.py", *arguments]

    def clinic(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run the program that is in force on the data folder."""
        return self.alone(self.root / "current/.venv/bin/clinic", *arguments, "--home", self.home)

    def in_force(self) -> str:
        """Return the version in force, which must be whole and run."""
        assert (self.root / "current" / "installed.json").is_file()
        return self.alone(self.root / "current/.venv/bin/clinic", "--version").stdout.split()[-1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Build both."""
    place = tmp_path_factory.mktemp("w")
    wheels = ROOT / ".cache" / "wheels"
    started = time.monotonic()
    for name in ("one", "two"):
        git(place, "clone", "--quiet", "--no-hardlinks", str(ROOT), name)
    made = build(Wish(source=place / "one", target=BOX, wheels=wheels), place / "first", SIGNER)
    tell(
        f"\nbuilt in {time.monotonic() - started:.1f} s: {len(made.files)} files, {size_of(place / 'first') >> 20} MiB"
    )
    newer(place / "two")
    build(Wish(source=place / "two", target=BOX, wheels=wheels, offline=True), place / "second.tar", SIGNER)
    (place / "scratch").mkdir()
    return World(place / "first", place / "second.tar", made, place / "opt", place / "h", place / "scratch")


def newer(source: Path) -> None:
    """Give a clone another version and one more migration."""
    about = source / "clinic" / "__init__.py"
    about.write_text(re.sub('__version__ = ".*"', '__version__ = "9.9.9"', about.read_text("utf-8")), encoding="utf-8")
    versions = source / "migrations" / "versions"
    before = max(path.name[:4] for path in versions.glob("0*.py"))
    text = MIGRATION.format(before=before, revision=f"{int(before) + 1:04}")
    (versions / f"{int(before) + 1:04}_one_more.py").write_text(text, encoding="utf-8")
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message", "newer")


def tell(numbers: str) -> None:
    """Print what docs/assurance.md reports."""
    print(numbers)  # noqa: T201 - the numbers are what a campaign is for


def size_of(folder: Path) -> int:
    """Return the bytes in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def test_from_nothing_to_a_verified_note(world: World) -> None:
    """Without a route: verified, installed, the demonstration runs, its log verifies, and the log knows the bundle."""
    probe = "import socket; socket.create_connection(('9.9.9.9', 53), 2)"
    assert "Network is unreachable" in world.alone(BASE_PYTHON, "-c", probe).stderr

    started = time.monotonic()
    verified = world.alone(*world.installer(world.first, "--vkey", VKEY, "--verify"))
    assert verified.stdout.startswith("VERIFIED: "), verified.stderr
    tell(f"\nverified in {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    done = world.alone(*world.installer(world.first, "--vkey", VKEY, "--root", world.root, "--accept-licences"))
    assert done.returncode == 0, done.stderr
    tell(f"installed in {time.monotonic() - started:.1f} s, {size_of(world.root) >> 20} MiB")
    started = time.monotonic()
    demo = world.clinic("demo")
    assert demo.returncode == 0, demo.stderr
    assert re.search(r"audit log: \d+ entries, verified", demo.stdout)
    tell(f"demonstration in {time.monotonic() - started:.1f} s")
    assert world.clinic("bundle", "record").stdout.startswith("3 new entries")
    assert world.clinic("doctor").returncode == 0


def test_upgrade_with_data_and_what_comes_in_between(world: World) -> None:
    """Killed at any time, and when the backup fails, the old version stays whole; then backup, migration, switch."""
    usb = world.scratch / "usb"
    usb.mkdir()
    common = [world.second, "--vkey", VKEY, "--root", world.root, "--data", world.home]
    old = world.in_force()
    found = [kill_after(world, seconds, *common, "--backup-to", usb) for seconds in KILLED_INSTALLING]
    failed = world.alone(*world.installer(*common, "--backup-to", world.scratch / "not-there"))
    assert failed.returncode == 1
    assert "data_backup_failed" in failed.stderr
    assert world.in_force() == old
    assert world.clinic("audit", "verify").returncode == 0
    for number in range(1, MOST_SETTLING):  # the new version is whole now: backup, migration, entry, switch
        if found[-1][0] != old:
            break
        found.append(kill_after(world, number / 2, *common, "--backup-to", usb))
    tell(f"\nkilled {len(found)} times; in force and schema each time: {Counter(found)}")

    done = world.alone(*world.installer(*common, "--backup-to", usb))
    assert done.returncode == 0, done.stderr
    assert world.in_force() == "9.9.9"
    assert list((usb / "clinic-backups").glob("2*"))
    log = world.clinic("audit", "tail", "--json").stdout
    assert {"backup.created", "program.installed"} <= set(re.findall(r'"event": "([a-z.]+)"', log))
    assert world.clinic("backup", "drill").returncode == 0
    doctor = world.clinic("doctor")
    assert doctor.returncode == 0, doctor.stdout
    again = world.alone(*world.installer(*common))
    assert again.stdout.endswith("nothing to do\n")


def kill_after(world: World, seconds: float, *arguments: object) -> tuple[str, str]:
    """Kill an installation and all it started after so long; return version in force, which is whole, and schema."""
    clean = {"PATH": os.defpath, "HOME": str(world.scratch)}
    command = [str(part) for part in world.installer(*arguments)]
    running = subprocess.Popen(
        command, env=clean, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    with closing(sqlite3.connect(world.home / "clinic.db")) as database:
        ((schema,),) = database.execute("SELECT version_num FROM alembic_version")
    return world.in_force(), schema


def test_back_after_a_migration(world: World) -> None:
    """The older version is refused the newer data; put in force without it, it refuses to open it."""
    refused = world.alone(*world.installer("--rollback", "--root", world.root, "--data", world.home))
    assert refused.returncode == 1
    assert "schema_newer" in refused.stderr
    assert world.in_force() == "9.9.9"
    assert world.alone(*world.installer("--rollback", "--root", world.root)).returncode == 0
    assert world.in_force() != "9.9.9"
    assert "schema_newer" in world.clinic("audit", "verify").stderr
    forth = world.alone(*world.installer(world.second, "--vkey", VKEY, "--root", world.root, "--data", world.home))
    assert forth.returncode == 0, forth.stderr
    assert world.clinic("audit", "verify").returncode == 0
    about = json.loads((world.root / "current" / "installed.json").read_text(encoding="utf-8"))
    assert about["program"]["version"] == "9.9.9"
