"""One byte of the log changed: found, and the entry named, for every byte of a short log and for many of a long one."""

from __future__ import annotations

import hashlib
import random  # noqa: TID251 - bytes are drawn from a fixed seed
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clinic.audit import verify
from clinic.audit.entry import GENESIS, RawEntry
from clinic.audit.tree import CompactTree
from clinic.audit.verify import Start, verify_log
from clinic.domain import OPERATOR
from tests.unit.audit.audit_store import Store, make_store, some_events

_STEP = 1000


def written(store: Store, count: int) -> list[RawEntry]:
    """Have the log append so many entries, of version 2 where a patient is named; return them as they are stored."""
    log = store.log()
    with store.begin() as connection:
        for event in some_events(count):
            seal = _part if hasattr(event, "patient") else None
            log.append(event, actor=OPERATOR, connection=connection, seal=seal)
    return list(log.raw_entries())


def _part(seq: int) -> bytes:
    """Return what stands for a sealed part."""
    return hashlib.sha512(seq.to_bytes(8, "big")).digest()


@dataclass
class Log:
    """Stored rows, and every thousand of them what verification knows before the next: it need not begin at 1."""

    rows: list[RawEntry]
    starts: list[Start] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Verify once, from the first entry to the last, and keep the states on the way."""
        tree = CompactTree()
        for place, row in enumerate(self.rows):
            if place % _STEP == 0:
                before = self.rows[place - 1].hash if place else GENESIS
                self.starts.append(Start(place + 1, before, tree.peaks))
            tree.append(row.hash)
        report = verify_log(self.rows)
        assert (report.ok, report.root) == (True, tree.root())

    def found(self, place: int, changed: RawEntry) -> bool:
        """Put a changed row in the place of a good one; tell whether verification names it."""
        first = place // _STEP * _STEP
        rows = [*self.rows[first:place], changed, *self.rows[place + 1 : place + 2]]  # found at the next, or never
        report = verify_log(rows, start=self.starts[first // _STEP])
        return not report.ok and report.first_bad in (place + 1, changed.seq)


def flipped(row: RawEntry, column: str, offset: int, bit: int) -> RawEntry:
    """Return a row with one bit of one of its columns changed; `seq` counts as 8 bytes."""
    value = getattr(row, column)
    data = bytearray(value.to_bytes(8, "big", signed=True) if column == "seq" else value)
    data[offset] ^= 1 << bit
    changed = int.from_bytes(data, "big", signed=True) if column == "seq" else bytes(data)
    return row._replace(**{column: changed})  # type: ignore[arg-type] # the type of that column


def bytes_of(row: RawEntry) -> Iterator[tuple[str, int]]:
    """Yield all bytes of a row: column and offset."""
    for column, value in row._asdict().items():
        if value is not None:
            yield from ((column, offset) for offset in range(8 if column == "seq" else len(value)))


def everywhere(log: Log, chance: random.Random) -> Iterator[tuple[int, RawEntry]]:
    """Yield every row with each of its bytes changed in turn, by one bit."""
    for place, row in enumerate(log.rows):
        for column, offset in bytes_of(row):
            yield place, flipped(row, column, offset, chance.randrange(8))


def somewhere(log: Log, chance: random.Random, count: int) -> Iterator[tuple[int, RawEntry]]:
    """Yield so many rows with one byte changed somewhere."""
    for _ in range(count):
        place = chance.randrange(len(log.rows))
        column, offset = chance.choice(list(bytes_of(log.rows[place])))
        yield place, flipped(log.rows[place], column, offset, chance.randrange(8))


def tally(log: Log, changes: Iterator[tuple[int, RawEntry]]) -> tuple[int, int]:
    """Return how many changes there were, and how many of them were found and named."""
    results = [log.found(place, row) for place, row in changes]
    return len(results), sum(results)


def test_some_changed_bytes_are_found_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 bytes of 2,500 entries, and the control: a verifier that believes the stored hashes misses many of them."""
    log = Log(written(make_store(tmp_path / "log.db"), 2500))
    assert tally(log, somewhere(log, random.Random(20), 200)) == (200, 200)
    monkeypatch.setattr(verify, "_rehash", lambda row, _seq: row.hash)
    assert tally(log, somewhere(log, random.Random(20), 200))[1] < 150


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_every_changed_byte_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of 200 entries, 10,000 bytes of 100,000 entries: all found and named."""
    short = Log(written(make_store(tmp_path / "short.db"), 200))
    parts = sum(row.sealed is not None for row in short.rows)
    assert 0 < parts < 200, "both versions of entries"
    total, found = tally(short, everywhere(short, random.Random(20)))
    print(f"\nevery byte of 200 entries, {parts} with a sealed part: {total} changed, {found} found and named")  # noqa: T201
    assert total == found > 40_000
    long = Log(written(make_store(tmp_path / "long.db"), 100_000))
    numbers = tally(long, somewhere(long, random.Random(20), 10_000))
    print(f"100,000 entries: {numbers[0]} bytes changed, {numbers[1]} found and named")  # noqa: T201
    assert numbers == (10_000, 10_000)
    monkeypatch.setattr(verify, "_rehash", lambda row, _seq: row.hash)
    total, found = tally(short, everywhere(short, random.Random(20)))
    print(f"control, believing stored hashes: {total} changed, {total - found} missed")  # noqa: T201
    assert total - found > 10_000
