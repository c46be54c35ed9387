"""Killed at every step: what was there stays, and the log never claims more than was done.

A step is a file that is opened, made, renamed or removed, or an entry that is committed.  A copy of the clinic and its
disk is made for each step, a child works on it and is killed with SIGKILL there, and another one goes on afterwards.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clinic.audit.events import BackupRekeyed
from clinic.audit.log import AuditLog
from clinic.backup import medium
from clinic.backup import rekey as rekeying
from clinic.backup.create import create
from clinic.backup.drill import drill
from clinic.backup.history import history
from clinic.backup.manifest import KEYS
from clinic.backup.opened import Opened, open_backup
from clinic.backup.rekey import rekey
from clinic.backup.site import Site
from clinic.config import Config
from clinic.home import open_records, unlock_home
from tests.unit.backup.backup_world import Clinic
from tests.unit.backup.shreds import shred

_FORK = multiprocessing.get_context("fork")
_STEPS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"})
_END = 10_000
Operation = Callable[[Site, Path], object]


def backing_up(site: Site, usb: Path) -> None:
    """Make a backup; the oldest expires with it."""
    create(site, to=usb)


def rekeying_all(site: Site, usb: Path) -> None:
    """Take the shredded patient out."""
    rekey(site, to=usb)


def claiming_first(site: Site, usb: Path) -> None:
    """Do the same with the entry before the deed: the control, which must be caught."""
    real = rekeying._present

    def claim(work: rekeying._Work, opened: Opened, stay: dict[str, bytes]) -> tuple[object, bytes]:
        kept = work.known.kept[opened.manifest.backup]
        event = BackupRekeyed(opened.manifest.backup, kept.destination, 2, work.through, 1)
        work.site.records.audit.append(event, actor=work.actor)
        return real(work, opened, stay)

    rekeying._present = claim  # type: ignore[assignment]  # in a child that ends with this
    rekey(site, to=usb)


def opened_site(home: Path) -> Site:
    """Open a copy of the clinic; two backups are kept."""
    config = Config.load(home)
    config = config.model_copy(update={"backup": config.backup.model_copy(update={"keep": 2})})
    keyring = unlock_home(config)
    return Site(config, keyring, open_records(config, keyring))


def work_until_killed(operation: Operation, folder: Path, kill_at: int) -> None:
    """Work on a copy of the clinic and kill this process at a step."""
    site, count = opened_site(folder / "home"), 0
    real = AuditLog.append

    def step() -> None:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _STEPS and isinstance(arguments[0], str | os.PathLike) and str(folder) in str(arguments[0]):
            step()

    def append(self: AuditLog, *args: object, **kwargs: object) -> object:
        entry = real(self, *args, **kwargs)  # type: ignore[arg-type]
        step()
        return entry

    sys.addaudithook(hook)
    AuditLog.append = append  # type: ignore[method-assign,assignment]
    operation(site, folder / "usb")


def holds_a_forgotten_key(site: Site, folder: Path, gone: str) -> bool:
    """Whether a backup from before the entry of the shred (all that there is of it here) holds the patient's key."""
    opened = open_backup(folder, site.keys)
    before = opened.manifest.entries < history(site.records.audit).shredded[site.pseudonym(gone)]
    return before and gone in opened.deks.keys


def look_after_the_kill(folder: Path, gone: str) -> None:
    """Nothing is lost, nothing is claimed that was not done, and the next attempt brings everything in order."""
    site, usb = opened_site(folder / "home"), folder / "usb"
    report = site.records.audit.verify()
    assert report.ok, report.message
    store = medium.find(usb)
    assert store is not None
    known = history(site.records.audit)
    outstanding = {item.backup for item in known.outstanding()}
    for backup in store.backups():  # what has its name is whole, at every moment
        holds = holds_a_forgotten_key(site, backup, gone)
        assert not holds or backup.name in outstanding or backup.name not in known.kept, "claimed, not done"
    create(site, to=usb)
    rekey(site, to=usb)
    known = history(site.records.audit)
    assert known.outstanding() == ()
    assert {path.name for path in store.backups()} == set(known.kept)
    assert len(known.kept) == 2
    for backup in store.backups():
        assert not holds_a_forgotten_key(site, backup, gone)
        assert len(medium.generations(backup)) == 1
        assert drill(site, backup=backup).findings == ()
    assert [path.name for path in usb.rglob("*") if ".partial" in path.name or path.name.startswith(".keys")] == []
    assert not (site.config.backup_dir / "scratch").exists()
    assert len(list(usb.rglob(KEYS))) == 2


def run(target: Callable[..., None], *arguments: object) -> int:
    """Run something in a child; return how it ended."""

    def guarded() -> None:
        try:
            target(*arguments)
        except BaseException:  # noqa: BLE001 - the child's own end
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    child = _FORK.Process(target=guarded)
    child.start()
    child.join(120)
    assert child.exitcode is not None
    return child.exitcode


def killed(
    operation: Operation, original: Path, gone: str, steps: Iterator[int], *, until_caught: bool = False
) -> tuple[int, int]:
    """Kill at these steps until one is past the end; return how often it was killed and how often it was not well."""
    kills = bad = 0
    for number in steps:
        folder = original.with_name("copy")
        shutil.copytree(original, folder, symlinks=True)
        end = run(work_until_killed, operation, folder, number)
        assert end in {0, -signal.SIGKILL}
        if end:
            kills += 1
            bad += run(look_after_the_kill, folder, gone) != 0
        shutil.rmtree(folder)
        if not end or (until_caught and bad):
            break
    return kills, bad


@pytest.fixture
def prepared(clinic: Clinic, tmp_path: Path) -> tuple[Path, str]:
    """A clinic with two backups, of whose patients one was shredded since."""
    original = tmp_path / "original"
    (original / "usb").mkdir(parents=True, mode=0o700)
    for _ in range(2):
        clinic.back_up(original / "usb")
    shred(clinic.site, clinic.patients[0])
    clinic.site.records._engine.dispose()
    clinic.site.config.home.rename(original / "home")
    return original, clinic.patients[0]


def spread(count: int, seed: int, every: int) -> Iterator[int]:
    """Yield steps spread over an operation."""
    return iter(range(seed, count, every))


def test_killed_while_backing_up(prepared: tuple[Path, str]) -> None:
    """A few steps of a backup with expiry and re-key."""
    kills, bad = killed(backing_up, *prepared, spread(_END, 3, 19))
    assert kills >= 5
    assert bad == 0


def test_killed_while_rekeying(prepared: tuple[Path, str]) -> None:
    """A few steps of a re-key; the control, which claims before it does, is caught."""
    kills, bad = killed(rekeying_all, *prepared, spread(_END, 2, 9))
    assert kills >= 4
    assert bad == 0


def test_a_claim_before_the_deed_is_caught(prepared: tuple[Path, str], capfd: pytest.CaptureFixture[str]) -> None:
    """The control: with entry and deed exchanged, some kill leaves a claim that is not true."""
    _, bad = killed(claiming_first, *prepared, spread(_END, 1, 2), until_caught=True)
    assert bad == 1
    assert "AssertionError: claimed, not done" in capfd.readouterr().err


@pytest.mark.campaign
@pytest.mark.parametrize("operation", [backing_up, rekeying_all])
def test_killed_at_every_step(prepared: tuple[Path, str], operation: Operation) -> None:
    """Every single step."""
    kills, bad = killed(operation, *prepared, spread(_END, 1, 1))
    print(f"{operation.__name__}: killed at {kills} steps, {bad} not well")  # noqa: T201 - the campaign's count
    assert kills > 20
    assert bad == 0
