"""The keeper: runs one server without network, and never longer than the process that asked for it.

Run as a program of its own (`python -I confinement.py NETWORK -- COMMAND...`), standard library only.

Rules kept here:

* The network namespace is made first, holds nothing but loopback, and is shared by everything the server starts.
  Where the system refuses it, the keeper ends with `EXIT_NOT_CONFINED` and the server is never started.
* Standard input is a pipe that the owner holds open: when the owner ends, however it ends, the pipe closes and the
  server is stopped.  (The kernel's own parent-death signal follows the *thread* that started a child, so it is used
  only below the keeper, which has one.)
* No core dumps, no new privileges, files are created for the owner only.
* Stopping is SIGTERM, a pause, SIGKILL, to the server's whole process group.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

EXIT_NOT_CONFINED = 78
EXIT_NOT_FOUND = 127
STOP_GRACE_S = 5.0

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


@dataclass(frozen=True, slots=True)
class NetworkEvidence:
    """What the kernel says about one process: its interfaces, its routes, and whether the namespace is not ours."""

    pid: int
    separate: bool
    interfaces: tuple[str, ...]
    routes: int

    @property
    def confined(self) -> bool:
        """True if the process cannot reach any network."""
        return self.separate and set(self.interfaces) <= {"lo"} and self.routes == 0


def network_evidence(pid: int) -> NetworkEvidence:
    """Read the evidence from /proc; OSError if the process is gone."""
    process = Path("/proc") / str(pid)
    devices = (process / "net" / "dev").read_text().splitlines()[2:]
    routes = (process / "net" / "route").read_text().splitlines()[1:]
    return NetworkEvidence(
        pid=pid,
        separate=(process / "ns" / "net").readlink() != Path("/proc/self/ns/net").readlink(),
        interfaces=tuple(line.split(":", 1)[0].strip() for line in devices),
        routes=len(routes),
    )


def leave_network() -> None:
    """Move this process into a fresh network namespace with loopback up; OSError where the system refuses.

    Without the right to do so directly, a user namespace is made first, in which only this account exists.
    """
    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        if libc.unshare(_CLONE_NEWNET | _CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # vLLM's workers meet on loopback
        answer = fcntl.ioctl(probe, _SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        (flags,) = struct.unpack_from("16xh", answer)
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))


def keep(command: list[str]) -> int:
    """Run `command` until it ends, SIGTERM arrives or standard input closes; return its exit code."""
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pid = _start(command)
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        while (code := _reap(pid)) is None and not stopping.is_set():
            for key, _ in selector.select():
                if key.fd == 0 and not os.read(0, 64):
                    stopping.set()
                elif key.fd == wake_read:
                    os.read(wake_read, 64)
    if code is None:
        code = _stop(pid)
    _signal_group(pid, signal.SIGKILL)  # whatever the server left behind
    return code


def _start(command: list[str]) -> int:
    keeper = os.getpid()
    pid = os.fork()
    if pid:
        with suppress(OSError):  # parent and child both do it: whoever comes first
            os.setpgid(pid, pid)
        return pid
    os.setpgid(0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != keeper:  # the keeper ended in between
        os._exit(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command comes from our own launcher, no shell
    except OSError:
        os._exit(EXIT_NOT_FOUND)


def _reap(pid: int) -> int | None:
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def _stop(pid: int) -> int:
    _signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_GRACE_S
    while time.monotonic() < deadline:
        if (code := _reap(pid)) is not None:
            return code
        time.sleep(0.02)
    _signal_group(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def main(arguments: list[str]) -> int:
    """Confine, then keep.  `arguments`: NETWORK (`none` or `host-unsafe`), `--`, the command."""
    network, dashes, *command = arguments
    if network not in {"none", "host-unsafe"} or dashes != "--" or not command:
        return 2
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if network == "none":
        try:
            leave_network()
        except OSError as error:
            sys.stderr.write(f"no network namespace: {os.strerror(error.errno or 0)}\n")
            return EXIT_NOT_CONFINED
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    code = keep(command)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
