"""A process that holds keys leaves no core dump and lets nobody look in."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from clinic.crypto import process
from clinic.errors import ConfigError

HARDEN = "from clinic.crypto.process import harden_process; harden_process()"
NOTHING = "pass"
RAISE_LIMIT = """
import resource
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
        timeout=60,
    )


def test_a_crash_leaves_no_core_dump(tmp_path: Path) -> None:
    """A hardened process that aborts is not dumped; an unhardened one is, where the machine dumps at all."""
    crash = "\nimport os; os.abort()"
    assert run(RAISE_LIMIT + HARDEN + crash, tmp_path).returncode == -signal.SIGABRT
    assert list(tmp_path.iterdir()) == []
    if Path("/proc/sys/kernel/core_pattern").read_text(encoding="ascii").strip() != "core":
        pytest.skip("the control needs a machine that writes core dumps into the working folder")
    run(RAISE_LIMIT + NOTHING + crash, tmp_path)  # negative control
    if list(tmp_path.iterdir()) == []:
        pytest.skip("this machine's hard limit forbids core dumps, so the control cannot show one")


def test_the_kernel_confirms_it(tmp_path: Path) -> None:
    """Core limit zero, hard and soft, and not dumpable; without the call the process is dumpable."""
    report = """
    import ctypes, resource
    print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
    """
    assert run(HARDEN + textwrap.dedent("\n" + report), tmp_path).stdout == "(0, 0) 0\n"
    assert run(report, tmp_path).stdout.endswith(" 1\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become an ordinary user")
@pytest.mark.parametrize(("step", "readable"), [(HARDEN, False), (NOTHING, True)], ids=["hardened", "control"])
def test_the_same_user_cannot_read_its_memory(step: str, tmp_path: Path, *, readable: bool) -> None:
    """Another program of the same user cannot open the memory of a hardened process."""
    code = f"""
    import os, sys
    import clinic.crypto.process
    os.setuid(65534)
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        import ctypes
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # setuid made it undumpable
        {step}
        os.write(go, b'x')
        os.pause() if hasattr(os, 'pause') else __import__('time').sleep(30)
    os.read(ready, 1)
    try:
        open(f'/proc/{{child}}/mem', 'rb').close()
        print('readable')
    except PermissionError:
        print('refused')
    os.kill(child, 9)
    """
    assert run(code, tmp_path).stdout == ("readable\n" if readable else "refused\n")


def test_what_cannot_be_protected_fails() -> None:
    """If the kernel refuses, the process does not go on to hold keys; what it takes goes through."""
    process._prctl(process._PR_SET_DUMPABLE, 1)
    with pytest.raises(ConfigError) as caught:
        process._prctl(process._PR_SET_DUMPABLE, 99)
    assert caught.value.code == "process_unprotected"


def test_it_runs_here() -> None:
    """The call goes through in a child of this very process."""
    child = os.fork()
    if child == 0:
        process.harden_process()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_both_protections_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core limit and the dumpable flag are both set."""
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda limit, values: asked.append((limit, *values)))
    monkeypatch.setattr(process, "_prctl", lambda option, value: asked.append((option, value)))
    process.harden_process()
    assert asked == [(resource.RLIMIT_CORE, 0, 0), (4, 0)]


def test_a_child_goes_with_its_parent(tmp_path: Path) -> None:
    """A child that asked for it gets SIGTERM when its parent is killed; the control goes on without its parent."""
    parent = """
    import os, signal, time
    from clinic.crypto.process import die_with_parent
    if os.fork():
        os.wait()
    signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"SIGTERM"), os._exit(0)))
    if {asked}:
        die_with_parent()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep({wait})
    os.write(1, b"went on")
    """
    assert run(parent.format(asked=True, wait=30), tmp_path).stdout == "SIGTERM"
    assert run(parent.format(asked=False, wait=0.3), tmp_path).stdout == "went on"


def test_the_signal_is_asked_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call is the one of prctl(2), with SIGTERM; made for real by the test before."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(process, "_prctl", lambda option, value: asked.append((option, value)))
    process.die_with_parent()
    assert asked == [(1, signal.SIGTERM)]
