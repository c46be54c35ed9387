"""Killing what changes keys at any point of its run, and putting back the files it changed."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from clinic.config import Config


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; return its exit code, or minus the signal that killed it."""
    gc.collect()
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def calls(reached: Callable[[int], None]) -> Iterator[None]:
    """Call `reached` with a running number at each call and return of our functions, and of C by SQLAlchemy."""
    count = 0

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        ours = "/clinic/" in frame.f_code.co_filename
        if ours or (event.startswith("c_") and "sqlalchemy" in frame.f_code.co_filename):
            count += 1
            reached(count)

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def points(config: Config, work: Callable[[], object], folder: Path) -> int:
    """Return how many points `work` has, by letting a child run it to its end."""
    report = folder / "points"

    def counted() -> None:
        total = 0

        def reached(count: int) -> None:
            nonlocal total
            total = count

        with calls(reached):
            work()
        report.write_text(str(total), encoding="ascii")

    copy = Snapshot(config)
    assert in_child(counted) == 0
    copy.restore()
    return int(report.read_text(encoding="ascii"))


class Snapshot:
    """The files that change when keys do, to be put back."""

    def __init__(self, config: Config) -> None:
        self._home = config.home
        self._files = {path: path.read_bytes() for path in self._changing()}

    def _changing(self) -> list[Path]:
        return [*self._home.glob("clinic.db*"), *self._home.glob("*keys.json*")]

    def restore(self) -> None:
        """Put them back."""
        for path in self._changing():
            path.unlink()
        for path, data in self._files.items():
            path.touch(mode=0o600)
            path.write_bytes(data)
