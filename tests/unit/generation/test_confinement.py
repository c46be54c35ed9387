"""The keeper: no network, no life beyond its owner's, and a refusal where the system cannot confine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clinic.generation import confinement
from clinic.generation.confinement import EXIT_NOT_CONFINED, network_evidence
from clinic.generation.launcher import _descendants
from tests.unit.generation.generation_world import wait_for

KEEPER = [sys.executable, "-I", str(Path(confinement.__file__))]
WITHOUT_UNSHARE = """
import ctypes, os, platform, struct, sys
number = {"x86_64": 272, "aarch64": 97}[platform.machine()]
code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.byref(Filter(len(code), ctypes.addressof(program))), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a program under a seccomp filter in which unshare(2) is not permitted, as in many containers."""


def gone(pid: int) -> bool:
    """Say whether a process has ended (a zombie nobody has waited for counts)."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def kept(network: str, *command: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Yield the keeper and the process it keeps."""
    with subprocess.Popen([*KEEPER, network, "--", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        try:
            assert wait_for(lambda: bool(_descendants(keeper.pid)))
            pid, *_ = _descendants(keeper.pid)
            assert wait_for(lambda: b"confinement" not in command_line(pid))
            yield keeper, pid
        finally:
            keeper.kill()


def command_line(pid: int) -> bytes:
    """Return the arguments of a process."""
    return (Path("/proc") / str(pid) / "cmdline").read_bytes()


def test_a_kept_process_has_no_network() -> None:
    """The process is in a namespace of its own that holds nothing but loopback and no route."""
    with kept("none", "sleep", "60") as (_, pid):
        evidence = network_evidence(pid)
        limits = (Path("/proc") / str(pid) / "limits").read_text()
        status = (Path("/proc") / str(pid) / "status").read_text()
    assert evidence.confined
    assert evidence.interfaces == ("lo",)
    assert "Max core file size        0                    0" in limits
    assert "NoNewPrivs:\t1" in status
    assert "Umask:\t0077" in status


def test_the_evidence_sees_a_process_that_is_not_confined() -> None:
    """Negative control: with `host-unsafe` the same evidence says that the process is not confined."""
    with kept("host-unsafe", "sleep", "60") as (_, pid):
        assert not network_evidence(pid).confined
    assert not network_evidence(os.getpid()).confined


def test_a_confined_process_reaches_nothing() -> None:
    """Connecting anywhere but loopback fails at once, and loopback works, as vLLM needs it to."""
    probe = (
        "import socket\n"
        "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); socket.create_connection(s.getsockname())\n"
        "try: socket.create_connection(('192.0.2.1', 443), 3)\n"
        "except OSError as error: print(error.errno)\n"
    )
    done = _run_with_open_input([*KEEPER, "none", "--", sys.executable, "-c", probe])
    assert done == (0, b"101\n")  # ENETUNREACH


def _run_with_open_input(command: list[str]) -> tuple[int, bytes]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        return process.wait(), output


def test_without_namespaces_nothing_is_started(tmp_path: Path) -> None:
    """Where the system refuses the namespace, the keeper ends with its code and the command never runs."""
    witness = tmp_path / "ran"
    blocked = [sys.executable, "-c", WITHOUT_UNSHARE, *KEEPER]
    assert _run_with_open_input([*blocked, "none", "--", "touch", str(witness)])[0] == EXIT_NOT_CONFINED
    assert not witness.exists()
    # negative control: the filter alone does not stop the command
    assert _run_with_open_input([*blocked, "host-unsafe", "--", "touch", str(witness)])[0] == 0
    assert witness.exists()


def test_the_keeper_hands_on_the_exit_code() -> None:
    """A program's own exit code comes through; one that does not exist gives 127."""
    assert _run_with_open_input([*KEEPER, "none", "--", "sh", "-c", "exit 7"])[0] == 7
    assert _run_with_open_input([*KEEPER, "none", "--", "no-such-program"])[0] == 127
    assert _run_with_open_input([*KEEPER, "elsewhere", "--", "true"])[0] == 2


def test_the_server_ends_with_its_owner() -> None:
    """When the owner is killed outright, keeper and server end by themselves."""
    owner_code = (
        "import subprocess, sys, time\n"
        f"keeper = subprocess.Popen({[*KEEPER, 'none', '--', 'sleep', '60']!r}, stdin=subprocess.PIPE)\n"
        "print(keeper.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", owner_code], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        keeper = int(owner.stdout.readline())
        assert wait_for(lambda: bool(_descendants(keeper)))
        (server,) = _descendants(keeper)
        owner.send_signal(signal.SIGKILL)
    assert wait_for(lambda: gone(server) and gone(keeper))


def test_the_server_ends_with_its_keeper() -> None:
    """When the keeper itself is killed outright, the kernel ends the server."""
    with kept("none", "sleep", "60") as (keeper, pid):
        keeper.kill()
        assert wait_for(lambda: gone(pid))


def test_a_server_that_will_not_stop_is_killed() -> None:
    """SIGTERM is followed by SIGKILL after a few seconds, for the server's whole group."""
    script = "trap '' TERM; sleep 60 & echo $!; wait; sleep 60"
    with kept("none", "sh", "-c", script) as (keeper, pid):
        assert keeper.stdout is not None
        grandchild = int(keeper.stdout.readline())
        started = time.monotonic()
        keeper.terminate()
        keeper.wait(20)
        assert 4 < time.monotonic() - started < 15
        assert wait_for(lambda: gone(pid) and gone(grandchild))
