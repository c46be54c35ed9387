"""The web server as a clinic runs it, cheap to start and to kill, and a program that uploads to it for ever."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from clinic import capture
from clinic.app import create_app
from clinic.config import Config
from clinic.domain import Actor, RecordingId
from clinic.home import unlock_home
from clinic.records.recordings import ChunkAck
from clinic.records.records import Records, Transaction
from clinic.services import build_services
from clinic.web.server import serve
from tests.campaigns.processes import fork_server

LATE_S = 0.05
_LONGEST_WAIT_S = 60
_PATH = "/api/v1/recordings/{recording}/chunks/{number}"


def run_server(home: Path, hasty: bool) -> None:  # noqa: FBT001 - crosses a process
    """Run in a child, in a group of its own: gunicorn, TLS, one worker."""
    os.setsid()
    config = Config.load(home)
    keyring = unlock_home(config)

    def application() -> object:
        services = build_services(config, keyring)
        if hasty:
            vars(capture)["take_chunk"] = acknowledge_first(services.records)
        return create_app(services)

    serve(application, config)  # type: ignore[arg-type]  # it is the Flask application that it wants


def acknowledge_first(records: Records) -> Callable[..., ChunkAck]:
    """Return the mutant: a chunk is acknowledged at once, and written a moment later."""
    take = capture.take_chunk

    def take_later(tx: Transaction, recording_id: RecordingId, index: int, data: bytes, *, actor: Actor) -> ChunkAck:
        del tx

        def write() -> None:
            with records.write() as later:
                take(later, recording_id, index, data, actor=actor)

        threading.Timer(LATE_S, write).start()
        return ChunkAck(index, hashlib.sha256(data).hexdigest(), len(data))

    return take_later


class Server:
    """One life of the web server."""

    def __init__(self, config: Config, *, hasty: bool = False) -> None:
        self._process: ForkServerProcess = fork_server().Process(target=run_server, args=(config.home, hasty))
        self._process.start()

    def kill(self) -> None:
        """Kill master and worker at once, as the loss of power would."""
        assert self._process.pid is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.join(_LONGEST_WAIT_S)
        self._process.close()


@dataclass
class Upload:
    """A program that sends one chunk after the other, and again until it is acknowledged.

    Attributes:
        acknowledged: the digests of what was acknowledged, by number.
        tries: how often a chunk was sent.
    """

    config: Config
    recording: str
    token: str
    chunks: Sequence[bytes]
    acknowledged: dict[int, str] = field(default_factory=dict)
    tries: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sending."""
        self._stop.set()
        assert self._thread is not None
        self._thread.join(_LONGEST_WAIT_S)

    def wait_for_more(self) -> None:
        """Wait until the server has come up and acknowledged something."""
        known, deadline = len(self.acknowledged), time.monotonic() + _LONGEST_WAIT_S
        while len(self.acknowledged) == known:
            assert time.monotonic() < deadline, "the web server does not answer"
            time.sleep(0.005)

    def _run(self) -> None:
        context = ssl.create_default_context(cafile=str(self.config.tls_dir / "ca.crt"))
        connection: http.client.HTTPSConnection | None = None
        number = 0
        while not self._stop.is_set():
            if connection is None:
                connection = http.client.HTTPSConnection("localhost", self.config.web.port, timeout=5, context=context)
            try:
                self._put(connection, number)
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = None
                time.sleep(0.02)
                continue
            number += 1

    def _put(self, connection: http.client.HTTPSConnection, number: int) -> None:
        data = self.chunks[number % len(self.chunks)]
        digest = hashlib.sha256(data)
        self.tries += 1
        connection.request(
            "PUT",
            _PATH.format(recording=self.recording, number=number),
            body=data,
            headers={
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/octet-stream",
                "Content-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
            },
        )
        answer = connection.getresponse()
        body = answer.read()
        if answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise http.client.HTTPException
        assert answer.status == http.HTTPStatus.OK, (answer.status, body[:200])
        self.acknowledged[number] = digest.hexdigest()


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
