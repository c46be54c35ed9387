"""The launcher with servers that do not start, or do not stay: small programs in place of `vllm`, for these faults."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clinic.errors import ConfigError, GenerationError
from clinic.generation import launcher
from clinic.generation.profiles import Engine, Profile, VllmSettings
from clinic.weights import file_sha256
from tests.unit.generation.generation_world import chat_profile, server, wait_for

SHORT_LIVED = """#!{python}
import socket, sys, time
path = sys.argv[sys.argv.index("--uds") + 1]
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(path)
    listener.listen(8)
    listener.settimeout(1)
    end = time.monotonic() + {seconds}
    while time.monotonic() < end:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        with connection:
            connection.settimeout(1)
            if connection.recv(4096):
                connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
sys.exit(3)
"""


def profile_of(folder: Path, program: str, *, timeout_s: int = 20) -> Profile:
    """Return a vLLM profile that runs `program`."""
    weights = folder / "weights.bin"
    weights.write_bytes(b"weights")
    profile = chat_profile(Engine.VLLM)
    pinned = profile.weights.model_copy(update={"path": weights, "sha256": file_sha256(weights)})
    settings = VllmSettings(program=program)
    return profile.model_copy(update={"weights": pinned, "vllm": settings, "ready_timeout_s": timeout_s})


def short_lived(folder: Path, seconds: float) -> str:
    """Write a server that answers for a while and then dies."""
    program = folder / "server"
    program.write_text(SHORT_LIVED.format(python=sys.executable, seconds=seconds))
    program.chmod(0o700)
    return str(program)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        pytest.param("/bin/false", "exit 1", id="ends at once"),
        pytest.param("/no/such/vllm", "not installed", id="not there"),
    ],
)
def test_a_server_that_does_not_start(tmp_path: Path, program: str, message: str) -> None:
    """A server that ends while it starts is a plain error that says why, and nothing is left running."""
    failing = server(tmp_path, profile_of(tmp_path, program))
    with pytest.raises(GenerationError, match=message) as caught:
        failing.start()
    assert caught.value.code == "model_unavailable"
    assert not failing.alive


def test_a_server_that_is_never_ready(tmp_path: Path) -> None:
    """A server that does not answer in time is stopped."""
    slow = server(tmp_path, profile_of(tmp_path, "/bin/cat", timeout_s=1))
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o700)
    slow = server(tmp_path, profile_of(tmp_path, str(sleeper), timeout_s=1))
    with pytest.raises(GenerationError, match="not ready within 1 seconds"):
        slow.start()
    assert not slow.alive


def test_a_server_that_keeps_dying_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After five deaths in ten minutes no further start is tried, and that is said once."""
    monkeypatch.setattr(launcher, "_FIRST_PAUSE_S", 0.01)
    said: list[str] = []
    dying = server(tmp_path, profile_of(tmp_path, short_lived(tmp_path, 0.3)), say=said.append)
    dying.start()
    try:
        assert wait_for(lambda: dying.gave_up, 60)
        assert not dying.alive
        assert sum("left alone" in line for line in said) == 1
        assert sum("starts again" in line for line in said) == 4
    finally:
        dying.stop()


def test_a_stale_socket_is_removed(tmp_path: Path) -> None:
    """A socket that a crash left behind does not keep the next server from starting."""
    import socket

    ready = server(tmp_path, profile_of(tmp_path, short_lived(tmp_path, 30)))
    ready.socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(ready.socket))
    ready.start()
    assert ready.alive
    ready.stop()
    assert not ready.socket.exists()


def test_a_socket_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A server that never started removes nothing, nor does one that was refused because somebody listens there."""
    import socket

    for name in ("m.sock", "m.starting.sock"):
        folder = tmp_path / name
        folder.mkdir()
        refused = server(folder, profile_of(folder, short_lived(folder, 30)))
        path = refused.socket.with_name(name)
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()
            refused.stop()
            assert path.exists()
            with pytest.raises(GenerationError) as caught:
                refused.start()
            assert caught.value.code == "model_running"
            refused.stop()
            assert path.exists()


def test_folder_and_socket_have_the_modes_that_the_administrator_chose(tmp_path: Path) -> None:
    """A folder that systemd made keeps its mode; the socket is its owner's alone, or its group's, too."""
    for mode in (0o600, 0o660):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir()
        ready = server(folder, profile_of(folder, short_lived(folder, 30)), socket_mode=mode)
        ready.socket.parent.mkdir()
        ready.socket.parent.chmod(0o750)
        ready.start()
        try:
            assert ready.socket.parent.stat().st_mode & 0o777 == 0o750
            assert ready.socket.stat().st_mode & 0o777 == mode
        finally:
            ready.stop()


def test_a_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    """A path that the kernel would not take is refused with words, not with a puzzle."""
    with pytest.raises(ConfigError) as caught:
        server(tmp_path / ("x" * 100), profile_of(tmp_path, "/bin/false")).start()
    assert caught.value.code == "socket_path_too_long"
