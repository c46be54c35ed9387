"""The real worker with its real job store: what is due happens by itself, what the administrator asks for as well."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clinic.backup.history import history
from clinic.config import Config
from clinic.domain import Actor, Role, UserId
from clinic.jobs.queue import JobQueue
from clinic.records.records import Records

ADMINISTRATOR = Actor(user_id=UserId("a" * 32), role=Role.ADMINISTRATOR)
DEADLINE_S = 60.0


@contextmanager
def worker(config: Config) -> Iterator[None]:
    """Run `clinic worker` until the block ends."""
    with (config.logs_dir / "worker.log").open("ab") as log:
        command = [sys.executable, "-m", "clinic", "worker", "--home", str(config.home)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
        assert process.poll() is None, "the worker ended by itself"
    finally:
        process.terminate()
        process.wait(30)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.1)


def events(records: Records, name: str) -> list[str]:
    """Return who acted in all entries of an event."""
    return [entry.actor for entry in records.audit.named(name)]


def test_the_worker_backs_up_drills_and_obeys(config: Config, records: Records, tmp_path: Path) -> None:
    """One backup and one drill by itself, as the program; one more backup for the administrator, in their name."""
    usb = tmp_path / "usb"
    usb.mkdir(mode=0o700)
    settings = config.home / "clinic.toml"
    settings.write_text(f'{settings.read_text()}\n[backup]\ndestination = "{usb}"\n', encoding="utf-8")
    queue = JobQueue(Config.load(config.home))
    with worker(config):
        wait_for(lambda: bool(events(records, "backup.drilled")))
        assert history(records.audit).drill is not None
        assert len(events(records, "backup.created")) == 1
        first = queue.enqueue_upkeep("create", actor=ADMINISTRATOR)
        assert queue.enqueue_upkeep("create", actor=ADMINISTRATOR) == first
        wait_for(lambda: len(events(records, "backup.created")) == 2)
        wait_for(lambda: not queue.pending_upkeep("create"))
    assert events(records, "backup.created")[1] == ADMINISTRATOR.user_id
    drill = history(records.audit).drill
    assert drill is not None
    assert drill.ok
    assert "Traceback" not in (config.logs_dir / "worker.log").read_text(encoding="utf-8")
