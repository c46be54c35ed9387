"""`clinic serve`: web, worker and model server as children of one process.

Rules kept here:

* One clinic for one data folder: a lock on `run/clinic.lock` is held for as long as this process lives.
* Sealed start: without the key only the web's sealed page runs.  The key arrives from its configured source, from the
  terminal, or through the control socket (`clinic keys unlock`), is recorded in the audit log, and goes on to the
  children through a pipe.
* `clinic keys seal` ends the processes that hold the key, drops it here, and brings the sealed page back.  Sealing is
  never refused: where the audit log cannot be written, the clinic seals all the same and says so.
* While the audit log is latched (`audit.guard`) and does not verify, no child gets the key: a page says what to do.
* Children are started by the main thread only: the kernel ends them with the thread that started them.
* A child that dies is started again, with growing pauses; one that keeps dying is reported, not hidden; a port that
  somebody else uses is named.
* On SIGTERM everything stops, children first; what they acknowledged is on disk already.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from clinic.audit.latch import Latch
from clinic.config import Config, KeySource
from clinic.control import ControlSocket, already_running
from clinic.crypto.keys import Keyring
from clinic.errors import ClinicError, ConfigError, SealedError
from clinic.generation.launcher import ModelServer
from clinic.handover import start, start_with_key
from clinic.home import guard_of, keep_checkpoint, record_sealing, record_unlock, settle_log

_STOP_S: Final = 10.0
_POLL_S: Final = 0.5
_SEAL_S: Final = 45.0  # both children take ten seconds at most
_LONGEST_PAUSE_S: Final = 30.0
_HEALTHY_S: Final = 60.0
_PORT_PATIENCE_S: Final = 12.0  # a killed clinic's web form finishes its requests first

Say = Callable[[str], None]


@dataclass(slots=True)
class _Child:
    """One supervised process and its restart clock."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    trouble: Callable[[], str | None] = lambda: None
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    started_at: float = 0.0
    not_before: float = field(default=0.0)

    def tend(self, say: Say) -> None:
        """Start the child if it does not run and its pause is over."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            say(f"{self.name} stopped (exit {self.process.returncode})")
            if (trouble := self.trouble()) is not None:
                say(trouble)
            self.failures = 1 if now - self.started_at > _HEALTHY_S else self.failures + 1
            pause = min(2.0 ** (self.failures - 1), _LONGEST_PAUSE_S)
            self.not_before = now + pause
            say(f"{self.name} starts again in {pause:.0f} s")
            self.process = None
        if self.process is None and now >= self.not_before:
            self.process = self.start()
            self.started_at = now

    def stop(self) -> None:
        """SIGTERM to the child's whole session, SIGKILL after ten seconds."""
        if self.process is None or self.process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Supervisor:
    """Runs one data folder until it is told to stop.  As a context manager it is the only one there.

    Raises:
        ConfigError: on entering: `clinic_running`, `port_in_use`.
    """

    def __init__(self, config: Config, *, say: Say, model_server: Callable[[], ModelServer | None]) -> None:
        self._config = config
        self._say = say
        self._make_model_server = model_server
        self._model_server: ModelServer | None = None
        self._children: list[_Child] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._keyring: Keyring | None = None
        self._open = False
        self._unrecorded: KeySource | None = None
        self._stopped = False
        self._sealed = threading.Event()
        self._held: int | None = None

    def __enter__(self) -> Self:
        self._held = _hold(self._config.run_dir)
        try:
            self._await_port()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def run(self) -> None:
        """Supervise until SIGTERM or SIGINT; without `unseal` before, the clinic starts sealed."""
        if self._held is None:
            raise RuntimeError("enter the supervisor first: it holds the data folder's lock")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop.set())
        with self._control():
            try:
                if self._keyring is None:
                    self._show_sealed_page()
                self._tend()
                while not self._stop.wait(_POLL_S):
                    self._tend()
            finally:
                self._shut_down()

    def unseal(self, keyring: Keyring, source: KeySource) -> None:
        """Record that the clinic was unlocked, and have the main thread replace the sealed page by the whole clinic.

        While the audit log is latched and does not verify, the key stays here and a page says that all is stopped.

        Raises:
            ClinicError: the audit log cannot be written; the clinic stays sealed.
        """
        with self._lock:
            if self._keyring is not None:
                return
            if settle_log(self._config, keyring) is None:
                record_unlock(self._config, keyring, source=source)
            else:
                self._unrecorded = source
            self._keyring = keyring

    def seal(self) -> None:
        """Give the key up, have the main thread end the processes that hold it, and wait until that is done.

        Raises:
            SealedError: `seal_unfinished` if they have not ended in time; the main thread goes on ending them.
        """
        with self._lock:
            keyring, self._keyring = self._keyring, None
            if keyring is None:
                return
            self._sealed.clear()
            try:
                record_sealing(self._config, keyring)
            except ClinicError as error:
                self._say(f"sealed without an entry in the audit log ({error.code}): {error}; {error.hint}")
        if not self._sealed.wait(_SEAL_S):
            raise SealedError(
                "the processes with the key have not ended yet",
                code="seal_unfinished",
                hint="look again with `clinic keys status`; stop `clinic serve` if they do not end",
            )

    def _control(self) -> ControlSocket:
        return ControlSocket(
            self._config,
            unsealed=lambda: self._keyring is not None,
            on_key=self.unseal,
            on_seal=self.seal,
        )

    def _show_sealed_page(self) -> None:
        self._say("sealed: unlock with `clinic keys unlock`")
        self._children = [_Child("sealed page", self._start_sealed_page, self._port_trouble)]

    def _open_up(self, keyring: Keyring) -> None:
        self._open = True
        self._stop_children()
        self._children = [
            _Child("worker", lambda: self._start("worker", keyring)),
            _Child("web", lambda: self._start("web", keyring), self._port_trouble),
        ]
        for child in self._children:
            child.tend(self._say)
        self._say("unsealed")
        self._start_model_server()

    def _close_up(self) -> None:
        self._open = False
        self._stop_children()
        gc.collect()  # whatever still refers to the keyring in a cycle goes now, and with it the lock on the keys
        self._show_sealed_page()
        self._sealed.set()

    def _may_open(self, keyring: Keyring) -> bool:
        """Say whether the unlocking is recorded; until the log takes that, show that all is stopped."""
        if self._unrecorded is None:
            return True
        latch = guard_of(self._config).current()
        if latch is not None:
            if not self._stopped:
                self._show_stopped_page(latch)
            return False
        try:
            record_unlock(self._config, keyring, source=self._unrecorded)
        except ClinicError:
            return False  # it latched again, or will be asked again
        self._unrecorded, self._stopped = None, False
        return True

    def _show_stopped_page(self, latch: Latch) -> None:
        self._stopped = True
        refusal = latch.refusal()
        self._say(f"stopped: {refusal}; {refusal.hint}")
        self._stop_children()
        self._children = [_Child("stopped page", self._start_stopped_page, self._port_trouble)]

    def _tend(self) -> None:
        keyring = self._keyring
        if keyring is not None and not self._open:
            if self._may_open(keyring):
                self._open_up(keyring)
        elif keyring is None and self._stopped:
            self._unrecorded, self._stopped = None, False
            self._close_up()
        elif keyring is None and self._open:
            self._close_up()
        elif keyring is None:
            self._sealed.set()  # sealed again before anything was opened
        for child in self._children:
            child.tend(self._say)

    def _start(self, name: str, keyring: Keyring) -> subprocess.Popen[bytes]:
        with self._log(name).open("ab") as log:
            return start_with_key([name, "--home", str(self._config.home)], keyring, log=log)

    def _start_sealed_page(self) -> subprocess.Popen[bytes]:
        with self._log("web").open("ab") as log:
            return start(["web", "--sealed", "--home", str(self._config.home)], log=log)

    def _start_stopped_page(self) -> subprocess.Popen[bytes]:
        with self._log("web").open("ab") as log:
            return start(["web", "--stopped", "--home", str(self._config.home)], log=log)

    def _log(self, name: str) -> Path:
        path = self._config.logs_dir / f"{name}.log"
        path.touch(mode=0o600)
        return path

    def _start_model_server(self) -> None:
        if self._model_server is not None:
            return
        try:
            self._model_server = self._make_model_server()
            if self._model_server is not None:
                self._model_server.start()
        except ClinicError as error:
            self._say(f"the model server does not run ({error.code}): {error}; {error.hint}")

    def _stop_children(self) -> None:
        for child in reversed(self._children):
            child.stop()
        self._children = []

    def _shut_down(self) -> None:
        self._say("stopping")
        self._stop_children()
        if self._model_server is not None:
            self._model_server.stop()
        self._keep_last_checkpoint()

    def _keep_last_checkpoint(self) -> None:
        """Sign what the children wrote last."""
        if self._keyring is None:
            return  # sealed: the entry of the sealing is covered at the next start
        try:
            keep_checkpoint(self._config, self._keyring)
        except ClinicError as error:
            self._say(f"stopped without a last checkpoint of the audit log ({error.code}): {error}; {error.hint}")

    def _release(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _await_port(self) -> None:
        """Give a web form that is just ending a little time, and say so; then refuse."""
        trouble = self._port_trouble()
        if trouble is None:
            return
        self._say(f"{trouble}; waiting {_PORT_PATIENCE_S:.0f} s for it")
        deadline = time.monotonic() + _PORT_PATIENCE_S
        while self._port_trouble() is not None:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"port {self._config.web.port} is in use by another program",
                    code="port_in_use",
                    hint="stop that program (`ss -ltnp` names it), or set another `web.port` in clinic.toml",
                )
            time.sleep(_POLL_S)

    def _port_trouble(self) -> str | None:
        port = self._config.web.port
        return f"port {port} is in use (port_in_use)" if _is_taken(self._config.web.host, port) else None


def _hold(folder: Path) -> int:
    """Lock the data folder for this process and return the lock's descriptor; the kernel frees it when we end."""
    folder.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(folder / "clinic.lock", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise already_running() from None
    return descriptor


def _is_taken(host: str, port: int) -> bool:
    """Say whether somebody else listens there; any other hindrance is the web form's to report."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the web form does
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
