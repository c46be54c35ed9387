"""The decoding child: what it cannot do, each with the proof that an unconfined process could."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clinic.speech import decode_child
from clinic.speech.decode import decode
from tests.unit.speech.sound import encoded

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import os, socket, subprocess, resource
import decode_child
kept = open({kept!r}, "wb", buffering=0)
if {confined!r}:
    decode_child.detach_from_network()
    used = decode_child.used_memory()
    decode_child.confine(cpu_s=2)
    decode_child.limit_memory(used + (64 << 20))
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    {action}
except (OSError, MemoryError):
    os._exit(77)
os._exit(0)
"""

ACTIONS = {
    "create a file": "open({path!r}, 'w')",
    "read a file": "open('/etc/hostname')",
    "write to a file that is open already": "os.write(kept.fileno(), b'patient')",
    "open an internet socket": "socket.socket(socket.AF_INET)",
    "open a Unix socket": "socket.socket(socket.AF_UNIX)",
    "make anonymous memory": "os.memfd_create('x')",
    "start a program": "subprocess.Popen(['true'], stdout=subprocess.PIPE).wait()",
    "take a lot of memory": "bytearray(256 << 20)",
}


def attempt(action: str, folder: Path, *, confined: bool) -> int:
    """Return the exit status of a process that tries `action`: 0 done, 77 refused."""
    program = PROGRAM.format(
        folder=str(Path(decode_child.__file__).parent),
        kept=str(folder / "kept"),
        confined=confined,
        action=action.format(path=str(folder / "new")),
    )
    return subprocess.run(
        [sys.executable, "-I", "-c", program], check=False, timeout=60, capture_output=True
    ).returncode


@pytest.mark.parametrize("name", ACTIONS)
def test_confined_process_is_refused(name: str, tmp_path: Path) -> None:
    """After `confine` the child gets no file, no socket, no process and no more memory than it needs."""
    assert attempt(ACTIONS[name], tmp_path, confined=True) == 77


@pytest.mark.parametrize("name", ACTIONS)
def test_unconfined_process_is_not(name: str, tmp_path: Path) -> None:
    """Negative control: without `confine` each of these works, so the refusals above are its doing."""
    assert attempt(ACTIONS[name], tmp_path, confined=False) == 0


def test_endless_loop_is_ended_by_the_kernel(tmp_path: Path) -> None:
    """Processor time is limited."""
    assert attempt("exec('while True: pass')", tmp_path, confined=True) < 0


def test_decoding_happens_behind_these_limits() -> None:
    """The child that `decode` starts is confined before the whole recording has reached it."""
    data = encoded("flac", 2.0)
    seen: dict[str, str] = {}

    def chunks() -> Iterator[bytes]:
        yield data[:1000]
        seen.update(look_at_child())
        yield data[1000:]

    assert decode(chunks(), max_duration_s=60).duration_s == 2.0
    assert seen["files"].split()[:2] == ["0", "0"]
    assert seen["size"].split()[:2] == ["0", "0"]
    assert seen["core"].split()[:2] == ["0", "0"]
    assert seen["privileges"] == "1"
    assert seen["environment"] == "" or "CLINIC" not in seen["environment"]


def look_at_child() -> dict[str, str]:
    """Wait until the decoding child has given up its rights; return what the kernel says about it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for process in Path("/proc").iterdir():
            try:
                if b"decode_child" not in (process / "cmdline").read_bytes():
                    continue
                status = dict(
                    line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line
                )
                if status["PPid"] != str(os.getpid()):
                    continue
                limits = (process / "limits").read_text()
            except (OSError, KeyError):
                continue
            found = {row[:25].strip(): row[25:] for row in limits.splitlines()}
            if found["Max open files"].split()[0] == "0":
                return {
                    "files": found["Max open files"],
                    "size": found["Max file size"],
                    "core": found["Max core file size"],
                    "privileges": status["NoNewPrivs"].strip(),
                    "environment": environment(process),
                }
        time.sleep(0.02)
    pytest.fail("the child did not confine itself")


def environment(process: Path) -> str:
    """Return the child's environment where this account may read it (it is not dumpable)."""
    try:
        return (process / "environ").read_bytes().replace(b"\0", b"\n").decode()
    except PermissionError:
        return ""


def test_child_has_no_network_where_the_kernel_allows_it() -> None:
    """After `detach_from_network` not even the loopback address answers; before, it does."""
    program = (
        f"import sys; sys.path.insert(0, {str(Path(decode_child.__file__).parent)!r})\n"
        "import socket, decode_child\n"
        "before = socket.if_nameindex()\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 9)); s.close()\n"
        "if not decode_child.detach_from_network(): sys.exit(3)\n"
        "try:\n"
        "    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))\n"
        "except OSError:\n"
        "    sys.exit(0)\n"
        "sys.exit(1)\n"
    )
    status = subprocess.run([sys.executable, "-I", "-c", program], check=False, timeout=60).returncode
    if status == 3:
        pytest.skip("this kernel allows no network namespace; that no socket can be opened is tested above")
    assert status == 0
