"""When a backup and a drill are due, and what the worker does then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clinic.backup.history import Drilled, Failed, History, Kept, history
from clinic.backup.manifest import DATA
from clinic.backup.schedule import Schedule, Task, health
from clinic.backup.site import Site
from clinic.config import BackupConfig, Config
from clinic.domain import OPERATOR, utc_now
from clinic.errors import AuditError
from tests.unit.backup.backup_world import Clinic

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that a test moves."""

    now: datetime

    def __call__(self) -> datetime:
        """Return the set time."""
        return self.now


def made(hours: float) -> Kept:
    """Return a backup that was made so many hours ago."""
    return Kept("b", "d", NOW - timedelta(hours=hours), 5, 100, 5)


def drilled(days: float, result: str = "ok") -> Drilled:
    """Return a drill that was so many days ago."""
    return Drilled("b", NOW - timedelta(days=days), result, 1)


@pytest.mark.parametrize(
    ("hours", "late", "due"),
    [(None, True, True), (1, False, False), (24, False, True), (47, False, True), (49, True, True)],
)
def test_a_backup_is_due_after_a_day_and_overdue_after_two(
    config: Config, hours: float | None, *, late: bool, due: bool
) -> None:
    """From the log and the clock alone; the first one at once."""
    known = History() if hours is None else History(kept={"b": made(hours)}, last=made(hours))
    state = health(with_destination(config, Path("/mnt")), known, NOW)
    assert state.late is late
    assert state.next_backup is not None
    assert (state.next_backup <= NOW) is due


def test_nothing_is_made_by_itself_without_a_destination(config: Config) -> None:
    """No destination, no next backup; that none was ever made is said all the same."""
    state = health(config, History(), NOW)
    assert state.next_backup is None
    assert state.late


@pytest.mark.parametrize(
    ("last", "late", "due"),
    [
        (None, True, True),
        (drilled(1), False, False),
        (drilled(31), False, True),
        (drilled(61), True, True),
        (drilled(0.01, "backup_damaged"), True, False),
        (drilled(1, "backup_damaged"), True, True),
    ],
)
def test_a_drill_is_due_monthly_and_after_a_bad_one_with_the_next_backup(
    config: Config, last: Drilled | None, *, late: bool, due: bool
) -> None:
    """A bad one counts as overdue at once; it is tried again when there is a newer backup."""
    known = History(kept={"b": made(2)}, last=made(2), drill=last)
    state = health(config, known, NOW)
    assert state.drill_late is late
    assert state.next_drill is not None
    assert (state.next_drill <= NOW) is due


def test_a_failure_is_waited_out(config: Config) -> None:
    """An hour passes before the next try, however overdue it is."""
    failures = (Failed("create", "destination_missing", NOW - timedelta(minutes=30)),)
    state = health(with_destination(config, Path("/mnt")), History(failures=failures), NOW)
    assert state.next_backup == NOW + timedelta(minutes=30)


def with_destination(config: Config, folder: Path) -> Config:
    """Return the settings with a destination, as `clinic.toml` would give it."""
    return config.model_copy(update={"backup": BackupConfig(destination=folder, keep=2)})


def scheduled(clinic: Clinic, usb: Path) -> tuple[Schedule, Clock]:
    """Return the schedule of a clinic with a destination, and its clock."""
    clock, site = Clock(utc_now()), clinic.site
    clinic.site = Site(with_destination(site.config, usb), site.keyring, site.records, clock)
    return Schedule(clinic.site), clock


def test_the_worker_backs_up_and_drills_by_itself(clinic: Clinic, usb: Path) -> None:
    """First the backup, then the drill of it, then nothing for a day; a new process sees the same in the log."""
    schedule, clock = scheduled(clinic, usb)
    assert schedule.due() == ("create",)
    assert schedule.run("create", OPERATOR) == "ok"
    assert schedule.due() == ("drill",)
    assert schedule.run("drill", OPERATOR) == "ok"
    assert schedule.due() == ()
    assert Schedule(clinic.site).due() == ()
    clock.now += timedelta(hours=25)
    assert schedule.due() == Schedule(clinic.site).due() == ("create",)


def test_retention_is_kept_by_the_schedule(clinic: Clinic, usb: Path) -> None:
    """Five days, two are kept: the oldest go, each with its entry."""
    schedule, clock = scheduled(clinic, usb)
    for _ in range(5):
        assert schedule.run("create", OPERATOR) == "ok"
        clock.now += timedelta(days=1)
    assert len(history(clinic.site.records.audit).kept) == 2
    assert clinic.events().count("backup.removed") == 3


def test_a_missing_disk_is_one_failure_an_hour(clinic: Clinic, usb: Path) -> None:
    """It says so in the log once, waits, and works again when the disk is back."""
    schedule, clock = scheduled(clinic, usb / "absent")
    assert schedule.run("create", OPERATOR) == "destination_missing"
    assert schedule.due() == ()
    (usb / "absent").mkdir(mode=0o700)
    clock.now += timedelta(minutes=61)
    assert schedule.due() == ("create",)
    assert schedule.run("create", OPERATOR) == "ok"
    assert history(clinic.site.records.audit).failures == ()


def test_a_log_that_takes_nothing_is_waited_for_too(clinic: Clinic, usb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure cannot be written down: it is not tried again every few seconds for that."""
    schedule, clock = scheduled(clinic, usb)

    def refuse(*_: object, **__: object) -> None:
        raise AuditError("latched", code="audit_latched")

    monkeypatch.setattr(type(clinic.site.records.audit), "append", refuse)
    assert schedule.run(Task.CREATE.value, OPERATOR) == "audit_latched"
    assert schedule.due() == ()
    clock.now += timedelta(minutes=61)
    assert schedule.due() == ("create",)


def test_a_bad_drill_is_seen(clinic: Clinic, usb: Path) -> None:
    """The data of the backup are gone: the drill's code comes back, and the health says it at once."""
    schedule, _ = scheduled(clinic, usb)
    schedule.run("create", OPERATOR)
    next(usb.rglob(DATA)).write_bytes(b"")
    assert schedule.run("drill", OPERATOR) == "backup_damaged"
    assert health(clinic.site.config, history(clinic.site.records.audit), utc_now()).drill_late
