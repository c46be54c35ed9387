"""The control socket: how `clinic keys unlock` and `clinic keys seal` reach a running clinic.

Rules kept here:

* A Unix socket in the data folder's `run/` (mode 0700): whoever may open it may read the data folder anyway.
* A socket on which somebody listens is never taken over; at the end only the socket made here is removed.
* One request, one line: `unlock <passphrase as JSON string>`, `unlock` (with the configured source), `seal` or
  `status`.  The answer is `ok` or an error code.
* Unlocking what is unlocked already checks the secret and changes nothing.  Sealing needs no secret: whoever may open
  the socket may also end the process, and giving a key up is never the dangerous direction.
* A wrong passphrase costs the Argon2id work and a second more, and a growing pause (up to a minute) in which no other
  is tried; nothing is logged but the fact.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from clinic.config import Config, KeySource
from clinic.crypto.keys import Keyring
from clinic.errors import ClinicError, ConfigError, SealedError
from clinic.home import unlock_home

_WRONG_PAUSE_S: Final = 1.0
_LONGEST_BACK_OFF_S: Final = 60.0
_LONGEST_LINE: Final = 4096
_TIMEOUT_S: Final = 60.0


class ControlSocket:
    """Listens in a thread while the supervisor runs.

    Args:
        config: names the socket and the keys.
        unsealed: whether the clinic has its key.
        on_key: gets the key once it was unlocked, and whether by passphrase or by the configured source; raises
            `ClinicError` if the clinic stays sealed all the same.
        on_seal: gives the key up; raises `ClinicError` if that took too long.
        clock: seconds that only go forward; tests set it.
    """

    def __init__(
        self,
        config: Config,
        *,
        unsealed: Callable[[], bool],
        on_key: Callable[[Keyring, KeySource], None],
        on_seal: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._unsealed = unsealed
        self._on_key = on_key
        self._on_seal = on_seal
        self._clock = clock
        self._failures = 0
        self._not_before = 0.0
        self._server: socketserver.UnixStreamServer | None = None
        self._made: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        path = socket_path(self._config)
        if is_listening(path):
            raise already_running()
        path.unlink(missing_ok=True)
        control = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = _TIMEOUT_S

            def handle(self) -> None:
                line = self.rfile.readline(_LONGEST_LINE)
                self.wfile.write(control.answer(line).encode() + b"\n")

        self._server = socketserver.UnixStreamServer(str(path), Handler)
        path.chmod(0o600)
        self._made = _identity(path)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        path = socket_path(self._config)
        if self._made is not None and _identity(path) == self._made:
            path.unlink(missing_ok=True)

    def answer(self, line: bytes) -> str:
        """Return the answer to one request line."""
        verb, _, argument = line.decode("utf-8", errors="replace").strip().partition(" ")
        if verb == "status":
            return "unsealed" if self._unsealed() else "sealed"
        try:
            if verb == "seal":
                self._on_seal()
            elif verb == "unlock":
                self._unlock(str(json.loads(argument)) if argument else None)
            else:
                return "request_unknown"
        except json.JSONDecodeError:
            return "request_unknown"
        except ClinicError as error:
            return error.code
        return "ok"

    def _unlock(self, passphrase: str | None) -> None:
        if self._clock() < self._not_before:
            raise SealedError(
                "too soon after a wrong secret", code="unlock_locked", hint="wait a minute, then try again"
            )
        try:
            keyring = unlock_home(self._config, passphrase=passphrase)
        except ClinicError:
            self._failures += 1
            time.sleep(_WRONG_PAUSE_S)
            pause = min(2.0 ** (self._failures - 1), _LONGEST_BACK_OFF_S) if self._failures > 1 else 0.0
            self._not_before = self._clock() + pause
            raise
        self._failures = 0
        if not self._unsealed():
            self._on_key(keyring, self._config.key_source if passphrase is None else KeySource.PASSPHRASE)


def socket_path(config: Config) -> Path:
    """Return where the control socket of this data folder lies."""
    return config.run_dir / "control.sock"


def is_listening(path: Path) -> bool:
    """Say whether some process listens on this Unix socket."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        probe.settimeout(_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def already_running() -> ConfigError:
    """Return the refusal to run two clinics on one data folder."""
    return ConfigError(
        "a clinic runs on this data folder already",
        code="clinic_running",
        hint="see `clinic keys status`; stop the running one first, or name another folder with --home",
    )


def ask(config: Config, verb: str, argument: str | None = None) -> str:
    """Send one request to the running clinic and return its answer.

    Raises:
        SealedError: `not_running` if no clinic runs on this data folder.
    """
    line = verb if argument is None else f"{verb} {json.dumps(argument)}"
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(str(socket_path(config)))
            connection.sendall(line.encode() + b"\n")
            return connection.makefile("r", encoding="utf-8").readline().strip()
    except OSError:
        raise SealedError(
            "no clinic runs on this data folder", code="not_running", hint="start it with `clinic serve`"
        ) from None


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from any other under the same name."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
