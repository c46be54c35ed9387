"""An export of any size, killed at any step: no half file under the name that was asked for, and memory that stays."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from clinic.audit.export import export, open_export
from clinic.audit.export_file import line_of
from clinic.domain import OPERATOR
from tests.unit.audit.audit_store import Store, make_store, some_events
from tests.unit.audit.export_parts import IDENTITY, RECIPIENT

_CHILD = """
import sys
from pathlib import Path
from clinic.audit import export as module
from clinic.domain import OPERATOR
from tests.unit.audit.audit_store import Store, open_engine

path, out, recipient, step = sys.argv[1:]
done = 0

def pause():
    print("at", flush=True)
    sys.stdin.read()

class Slow(module.OutFile):
    def write(self, data):
        global done
        written = super().write(data)
        done += written
        if step == "writing" and done > 100_000:
            pause()
        return written

    def publish(self):
        if step == "recorded":
            pause()
        super().publish()
        if step == "named":
            pause()

module.OutFile = Slow
log = Store(path=Path(path), engine=open_engine(Path(path))).log()
module.export(log, [recipient], Path(out), actor=OPERATOR)
"""


def filled_store(path: Path, count: int) -> Store:
    """Return a log of so many entries."""
    store = make_store(path)
    log = store.log()
    with store.begin() as connection:
        for event in some_events(count):
            log.append(event, actor=OPERATOR, connection=connection)
    return store


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A log of which the export is longer than several parts of the age format."""
    return filled_store(tmp_path_factory.mktemp("long") / "clinic.db", 1500)


@pytest.mark.parametrize("step", ["writing", "recorded", "named"])
def test_a_killed_export_leaves_no_half_file(long: Store, tmp_path: Path, step: str) -> None:
    """`kill -9` while it writes, when it is recorded but has no name yet, and after: whole under its name, or not."""
    out = tmp_path / "audit.age"
    before = long.log().size()
    command = [sys.executable, "-c", _CHILD, str(long.path), str(out), RECIPIENT, step]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "at\n"
        child.kill()
    assert list(tmp_path.iterdir()) == ([out] if step == "named" else []), "not even a hidden part is left"
    assert out.exists() is (step == "named")
    assert long.log().size() - before == (0 if step == "writing" else 1), "recorded before it has its name"
    assert long.log().verify().ok
    if step != "named":
        export(long.log(), [RECIPIENT], out, actor=OPERATOR)
    assert open_export(out, IDENTITY).report.ok


def peak(action: Callable[[], object]) -> int:
    """Return how many bytes Python held at most while it did this."""
    gc.collect()
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """Four times the entries, the same memory; the control, which holds what it yields, does not."""
    log = filled_store(tmp_path / "clinic.db", 2400).log()
    log.head()

    def write(last: int) -> int:
        out = tmp_path / f"{last}.age"
        return peak(lambda: export(log, [RECIPIENT], out, actor=OPERATOR, last=last))

    def hold(last: int) -> int:
        return peak(lambda: [line_of(raw) for raw in log.raw_entries(last=last)])

    write(1)  # what is imported and cached at the first time
    assert write(2400) < 1.2 * write(600)
    assert hold(2400) > 1.7 * hold(600)
