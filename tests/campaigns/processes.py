"""Processes that are cheap to start and to kill: forked from a server that has imported everything already."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from clinic.config import Config
from clinic.errors import ClinicError
from clinic.home import open_records, unlock_home
from clinic.records import engine
from clinic.services import PolicySource
from tests.campaigns.audited_requests import PROFILE, Acknowledged, Order, new_word, open_flow, request
from tests.campaigns.recording_model import serve

_LONGEST_WAIT_S = 60
_EMBEDDED_SHA256 = "f56f51e31872605b7877e134a0ce74629ffc86b4f232324dace9f40272b2a9cf"


def fork_server() -> ForkServerContext:
    """Return the fork server, which imports the program once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.campaigns.processes"])
    return context


@dataclass
class Model:
    """The recording model: where it listens, and what it has been asked."""

    socket: Path
    journal: Path

    def seen(self) -> list[str]:
        """Return the digests of all questions so far."""
        return self.journal.read_text().split() if self.journal.exists() else []


@contextmanager
def recording_model(folder: Path) -> Iterator[Model]:
    """Run the recording model until the block ends."""
    model = Model(folder / "m.sock", folder / "asked.txt")
    process = fork_server().Process(target=serve, args=(model.socket, model.journal))
    process.start()
    try:
        deadline = time.monotonic() + _LONGEST_WAIT_S
        while not model.socket.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield model
    finally:
        process.kill()
        process.join()
        process.close()


def copy_home(template: Config, folder: Path) -> Config:
    """Return a copy of a data folder that nobody has open."""
    shutil.copytree(template.home, folder)
    pin_recording_model(folder)
    return Config.load(folder)


def pin_recording_model(home: Path) -> None:
    """Let the policies of a data folder pin the recording model in place of the real one; activate them."""
    config = Config.load(home)
    if config.policies_dir.exists():
        return
    policies = Path(shutil.copytree(config.policy.directory, home / "pinned"))
    for path in [*policies.rglob("*.cedar"), *policies.rglob("*.toml")]:
        path.write_text(path.read_text(encoding="utf-8").replace(_EMBEDDED_SHA256, PROFILE.sha256), encoding="utf-8")
    toml = home / "clinic.toml"
    toml.write_text(f'{toml.read_text(encoding="utf-8")}\n[policy]\ndirectory = "{policies}"\n', encoding="utf-8")
    config = Config.load(home)
    records = open_records(config, unlock_home(config))
    PolicySource(config, records)
    records._engine.dispose()  # the last connection takes the WAL back into the file


@dataclass(frozen=True, slots=True)
class Work:
    """What a child is to do.

    Attributes:
        order: as the program does it, or as the mutant does.
        count: how many requests; by default more than anybody waits for.
        audio: bytes of audio in each.
        synchronous: SQLite's setting: the program's own, or (a control) `NORMAL`, which does not wait for the disk.
    """

    order: Order = Order.RECORD_FIRST
    count: int = 1000
    audio: int = 3000
    synchronous: str = "FULL"


def make_requests(home: Path, socket: Path, pipe: Connection, work: Work) -> None:
    """Run in a child: say that we are ready, wait for the word, make requests, acknowledge."""

    def acknowledge(kind: str, name: str, digest: str) -> None:
        pipe.send_bytes(json.dumps([kind, name, digest]).encode())

    if work.synchronous == "NORMAL":
        _weaken()
    records, flow = open_flow(Config.load(home), socket, work.order)
    pipe.send_bytes(b"ready")
    pipe.recv_bytes()
    try:
        for _ in range(work.count):
            request(records, flow, new_word(), acknowledge, audio=work.audio)
    except ClinicError as error:
        acknowledge("refused", error.code, "")
    records._engine.dispose()  # the last one to close the file moves its write-ahead log into it


def _weaken() -> None:
    """Replace the program's `synchronous=FULL` in this process: the negative control of the power cuts."""
    changed = tuple(
        ("synchronous", "NORMAL", 1) if name == "synchronous" else (name, to, read) for name, to, read in engine.PRAGMAS
    )
    assert changed != engine.PRAGMAS
    vars(engine)["PRAGMAS"] = changed


class Requests:
    """A child that makes requests, and what it has acknowledged."""

    def __init__(self, home: Path, model: Model, work: Work) -> None:
        self.acknowledged = Acknowledged()
        self._pipe, theirs = multiprocessing.Pipe()
        self.process: ForkServerProcess = fork_server().Process(
            target=make_requests, args=(home, model.socket, theirs, work)
        )
        self.process.start()
        theirs.close()
        assert self._pipe.recv_bytes() == b"ready"

    @property
    def pid(self) -> int:
        """The child's process id."""
        assert self.process.pid is not None
        return self.process.pid

    def go(self) -> None:
        """Let it begin."""
        self._pipe.send_bytes(b"go")

    def kill(self) -> None:
        """Send SIGKILL, and take in what was acknowledged before it."""
        self.process.kill()
        self.finish()

    def finish(self) -> int | None:
        """Wait for the end, take in what was acknowledged, return the exit code."""
        while True:
            try:
                message = self._pipe.recv_bytes()
            except (EOFError, ConnectionResetError):
                break
            self.acknowledged.add(message)
        self.process.join(_LONGEST_WAIT_S)
        code = self.process.exitcode
        self.process.close()
        self._pipe.close()
        return code
