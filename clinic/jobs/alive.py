"""Whether the worker runs, seen from outside, without touching its lock.

Rules kept here:

* The lock is not tried: whoever tries it could keep a worker that starts just now from starting.
* What the kernel lists is believed; where it lists nothing (a confined process), the answer is None: not known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_LOCKS: Final = Path("/proc/locks")


def worker_runs(run_dir: Path, *, locks: Path = _LOCKS) -> bool | None:
    """Return whether a process holds `run/worker.lock`; None if that cannot be seen."""
    try:
        inode = (run_dir / "worker.lock").stat().st_ino
    except OSError:
        return False
    try:
        lines = locks.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    held = (line.split() for line in lines)
    return any(len(words) > 5 and words[1] == "FLOCK" and words[5].endswith(f":{inode}") for words in held)  # noqa: PLR2004 - "1: FLOCK ADVISORY WRITE 42 fd:01:99 0 EOF"
