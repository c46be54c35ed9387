"""The model server's life: started, proven, watched, stopped.

Rules kept here:

* Nothing is started whose weights or adapter are not the ones that the profile pins.
* The server runs without network, and that is checked on every one of its processes after it came up; where it cannot
  be had, the server does not run.  Only `network = "host-unsafe"` in the profile lifts this.
* vLLM listens beside its socket until it is proven, and is moved there then; our llama.cpp child moves itself.
* Its socket is its owner's alone (0600) unless told otherwise.  A folder made for it gets 0700; one that is there keeps
  the mode that the administrator, or systemd, gave it.
* A stale socket is removed before, and ours after; one on which somebody else listens is never touched.
* Its log (0600) gets errors only, and is never shipped: engines may print parts of a request when
  they crash.
* A server that dies is started again with growing pauses; one that keeps dying is left, and `gave_up` says so.
"""

from __future__ import annotations

import os
import signal
import socket as socketlib
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from clinic.config import Config
from clinic.errors import ClinicError, ConfigError, GenerationError
from clinic.generation.client import adapter_changes_answer, is_healthy
from clinic.generation.commands import keeper_command, server_command, server_environment
from clinic.generation.confinement import (
    EXIT_NOT_CONFINED,
    EXIT_NOT_FOUND,
    STOP_GRACE_S,
    NetworkEvidence,
    network_evidence,
)
from clinic.generation.llama_child import EXIT_ADAPTER_WITHOUT_EFFECT, EXIT_NOT_LOADED
from clinic.generation.profiles import Engine, Profile, folder_sha256, load_profile
from clinic.weights import GEMMA_3_270M, WeightSet, assemble, file_sha256

_PACKAGED: Final = {GEMMA_3_270M.name: GEMMA_3_270M}
_POLL_S: Final = 0.1
_STOP_S: Final = STOP_GRACE_S + 3
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0
_MAX_DEATHS: Final = 5
_DEATHS_WINDOW_S: Final = 600.0
_MAX_LOG_BYTES: Final = 4 << 20
_LONGEST_SOCKET_PATH: Final = 90  # the kernel takes 107 bytes; while starting, the name is longer

Say = Callable[[str], None]


def is_answering(socket: Path) -> bool:
    """Say whether a model server answers at `socket`."""
    return is_healthy(socket)


def model_server(config: Config, *, say: Say | None = None) -> ModelServer | None:
    """Return the configured server, not started; None if somebody else runs it."""
    profile = load_profile(config.generation.profile, config.profiles_dir)
    if config.generation.socket is not None or profile.engine is Engine.EXTERNAL:
        return None
    return ModelServer(
        profile,
        models_dir=config.models_dir,
        socket=config.model_socket,
        log=config.logs_dir / "model.log",
        cache=config.run_dir / "model-cache",
        say=say,
    )


class ModelServer:
    """One model server and its keeper process.

    Args:
        profile: what to serve.
        models_dir: where packaged weights are assembled.
        socket: where it shall answer.
        log: the file for what the engine prints.
        cache: a private folder for what the engine compiles.
        socket_mode: who may open the socket.
        say: told in one line when the server died, was started again or was given up.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        models_dir: Path,
        socket: Path,
        log: Path,
        cache: Path,
        socket_mode: int = 0o600,
        say: Say | None = None,
    ) -> None:
        self.profile = profile
        self.socket = socket.absolute()
        self.gave_up = False
        self._models_dir = models_dir
        self._log = log
        self._cache = cache.absolute()
        self._socket_mode = socket_mode
        self._owns_socket = False
        self._say = say or (lambda _line: None)
        self._weights: Path | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._stopping = threading.Event()
        self._deaths: deque[float] = deque(maxlen=_MAX_DEATHS)

    @property
    def alive(self) -> bool:
        """True while the server's keeper runs."""
        return self._keeper is not None and self._keeper.poll() is None

    def start(self) -> None:
        """Check the weights, start the server, wait until it is ready and proven confined, and watch it from then on.

        Raises:
            ConfigError: `model_unpinned`, `weights_missing`, `weights_damaged`, `socket_path_too_long`.
            GenerationError: `model_running`, `model_not_confined`, `adapter_without_effect`, `model_unavailable`.
        """
        if self.alive:
            return
        if len(os.fsencode(self.socket)) > _LONGEST_SOCKET_PATH:
            raise ConfigError(
                "the path of the model socket is too long",
                code="socket_path_too_long",
                hint="use a shorter data folder",
            )
        self._refuse_a_taken_socket()
        self._weights = checked_weights(self.profile, self._models_dir).resolve()  # the server's folder is `/`
        self._stopping.clear()
        self.gave_up = False
        self._launch()
        self._watcher = threading.Thread(target=self._watch, name="model-server-watch", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stop the server, whatever it is doing, in eight seconds at most, and remove its socket."""
        self._stopping.set()
        self._end_keeper()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        self._end_keeper()  # the watcher may have started one meanwhile
        self._remove_sockets()

    def processes(self) -> tuple[int, ...]:
        """Return the ids of the server's own processes, without the keeper's."""
        return () if self._keeper is None else _descendants(self._keeper.pid)

    def evidence(self) -> tuple[NetworkEvidence, ...]:
        """Return what the kernel says about the network of each of the server's processes."""
        found = []
        for pid in self.processes():
            with suppress(OSError):  # ended in between
                found.append(network_evidence(pid))
        return tuple(found)

    # --- one start ------------------------------------------------------------------------------------

    def _launch(self) -> None:
        self._end_keeper()  # one that died: waited for, its pipe closed
        self._prepare_folders()
        self._owns_socket = False
        self._refuse_a_taken_socket()
        self._owns_socket = True
        self._remove_sockets()
        self._keeper = self._start_keeper()
        try:
            self._wait_until_ready(self._keeper)
            self._require_confinement()
            self._require_adapter()
            listening = self._listening()
            listening.chmod(self._socket_mode)
            listening.rename(self.socket)
        except ClinicError:
            self._end_keeper()
            self._remove_sockets()
            raise

    def _prepare_folders(self) -> None:
        for folder in (self.socket.parent, self._log.parent, self._cache):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self._log.parent, self._cache):
            folder.chmod(0o700)

    def _refuse_a_taken_socket(self) -> None:
        if any(_is_taken(path) for path in self._sockets()):
            raise GenerationError(
                "another model server answers on this socket already", code="model_running", hint="stop it first"
            )

    def _sockets(self) -> tuple[Path, Path]:
        return self.socket, self.socket.with_name(f"{self.socket.stem}.starting.sock")

    def _listening(self) -> Path:
        """Return where the server listens while it starts."""
        final, starting = self._sockets()
        return starting if self.profile.engine is Engine.VLLM else final

    def _start_keeper(self) -> subprocess.Popen[bytes]:
        if self._weights is None:
            raise RuntimeError("start() checks the weights first")
        command = server_command(self.profile, weights=self._weights, socket=self._listening())
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            if os.fstat(descriptor).st_size > _MAX_LOG_BYTES:
                os.ftruncate(descriptor, 0)
            return subprocess.Popen(
                keeper_command(self.profile, command),
                stdin=subprocess.PIPE,  # held open: the keeper stops the server when we end
                stdout=descriptor,
                stderr=descriptor,
                env=server_environment(self.profile, inherited=os.environ, cache=self._cache),
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    def _wait_until_ready(self, keeper: subprocess.Popen[bytes]) -> None:
        listening = self._listening()
        deadline = time.monotonic() + self.profile.ready_timeout_s
        while time.monotonic() < deadline:
            if (code := keeper.poll()) is not None:
                raise _start_failure(code)
            if self._stopping.is_set():
                raise GenerationError("the model server was told to stop while it started")
            if listening.exists() and is_healthy(listening):
                return
            time.sleep(_POLL_S)
        raise GenerationError(
            f"the model server was not ready within {self.profile.ready_timeout_s} seconds",
            hint="raise `ready_timeout_s` in the profile, or see logs/model.log",
        )

    def _require_confinement(self) -> None:
        if self.profile.network != "none":
            return
        evidence = self.evidence()
        if not evidence or not all(item.confined for item in evidence):
            raise _not_confined()

    def _require_adapter(self) -> None:
        if self.profile.engine is not Engine.VLLM or self.profile.adapter is None:
            return  # llama.cpp's child has asked the canary itself
        if not adapter_changes_answer(self._listening(), self.profile):
            raise _without_effect()

    def _end_keeper(self) -> None:
        keeper = self._keeper
        if keeper is None:
            return
        with suppress(ProcessLookupError):
            keeper.send_signal(signal.SIGTERM)
        try:
            keeper.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()
        if keeper.stdin is not None:
            keeper.stdin.close()

    def _remove_sockets(self) -> None:
        if self._owns_socket:
            for path in self._sockets():
                path.unlink(missing_ok=True)

    # --- watching ----------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopping.is_set():
            keeper = self._keeper
            if keeper is not None:
                keeper.wait()
            if self._stopping.is_set():
                return
            if not self._may_start_again():
                self._remove_sockets()
                self._owns_socket = False
                self.gave_up = True
                self._say(
                    "the model server keeps dying and is left alone; see logs/model.log, then `clinic serve` again"
                )
                return
            self._start_again()

    def _may_start_again(self) -> bool:
        now = time.monotonic()
        self._deaths.append(now)
        return len(self._deaths) < _MAX_DEATHS or now - self._deaths[0] > _DEATHS_WINDOW_S

    def _start_again(self) -> None:
        pause = min(_FIRST_PAUSE_S * 2 ** (len(self._deaths) - 1), _LONGEST_PAUSE_S)
        self._say(f"the model server stopped; it starts again in {pause:.0f} s")
        if self._stopping.wait(pause):
            return
        try:
            self._launch()
        except ClinicError as error:
            self._say(f"the model server did not start again (`{error.code}`)")
        else:
            self._say("the model server runs again")


def _is_taken(path: Path) -> bool:
    """Say whether any process listens there, healthy or not."""
    with socketlib.socket(socketlib.AF_UNIX, socketlib.SOCK_STREAM) as probe:
        probe.settimeout(0)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:  # its queue is full
            return True
        except OSError:
            return False
    return True


def checked_weights(profile: Profile, models_dir: Path) -> Path:
    """Return the file or folder of the weights, after checking them, and the adapter, against the profile's digests.

    Raises:
        ConfigError: `model_unpinned`, `weights_missing`, `weights_damaged`.
    """
    weights = profile.weights
    if weights.sha256 is None:
        raise ConfigError(
            f"profile `{profile.id}` does not pin its weights",
            code="model_unpinned",
            hint="`clinic models verify` prints the SHA-256 to write into the profile",
        )
    if profile.adapter is not None:
        _require_digest(profile.adapter.file, profile.adapter.sha256)
    path = located_weights(profile, models_dir)
    if weights.package is None:
        _require_digest(path, weights.sha256)
    elif _packaged(weights.package).sha256 != weights.sha256:
        raise _damaged(Path(weights.package))
    return path


def located_weights(profile: Profile, models_dir: Path) -> Path:
    """Return where the weights of a profile lie, a packaged set put together and checked; nothing else is compared.

    Raises:
        ConfigError: `weights_missing`, `weights_damaged`.
    """
    weights = profile.weights
    if weights.package is not None:
        packaged = _packaged(weights.package)
        return assemble(packaged, models_dir) / packaged.files[0].name  # checks every file
    if weights.path is None:
        raise ConfigError("the profile names no weights", code="weights_missing")
    return weights.path


def _packaged(name: str) -> WeightSet:
    packaged = _PACKAGED.get(name)
    if packaged is None:
        raise ConfigError(
            f"there is no packaged model `{name}`", code="weights_missing", hint=f"known: {', '.join(_PACKAGED)}"
        )
    return packaged


def _require_digest(path: Path, sha256: str) -> None:
    if not path.exists():
        raise ConfigError(
            f"`{path}` is not there", code="weights_missing", hint="copy it there, or correct the profile"
        )
    if (folder_sha256(path) if path.is_dir() else file_sha256(path)) != sha256:
        raise _damaged(path)


def _damaged(path: Path) -> ConfigError:
    return ConfigError(
        f"`{path}` is not what the profile pins", code="weights_damaged", hint="restore it from its source"
    )


def _start_failure(code: int) -> GenerationError:
    if code == EXIT_NOT_CONFINED:
        return _not_confined()
    if code == EXIT_ADAPTER_WITHOUT_EFFECT:
        return _without_effect()
    reason = {EXIT_NOT_FOUND: "its program is not installed", EXIT_NOT_LOADED: "it could not load the model"}
    return GenerationError(
        f"the model server did not start: {reason.get(code, f'exit {code}')}", hint="see logs/model.log"
    )


def _without_effect() -> GenerationError:
    return GenerationError(
        "the adapter does not change the model's answer",
        code="adapter_without_effect",
        hint="it belongs to other weights: restore both files that the profile names",
    )


def _not_confined() -> GenerationError:
    return GenerationError(
        "the model server cannot be shut off from the network here, so it does not run",
        code="model_not_confined",
        hint="allow user namespaces, or use the systemd unit (PrivateNetwork) or a container without network, and set "
        '`network = "host-unsafe"` in the profile',
    )


def _descendants(pid: int) -> tuple[int, ...]:
    found: list[int] = []
    pending = [pid]
    while pending:
        tasks = Path("/proc") / str(pending.pop()) / "task"
        with suppress(OSError):
            for task in tasks.iterdir():
                children = [int(child) for child in (task / "children").read_text().split()]
                found += children
                pending += children
    return tuple(found)
