"""What a disk may hold after a power cut: from a record of every write and sync that the program made.

The record is taken by strace from the real process (real `Records`, Python's own SQLite, the real kernel calls), so
nothing stands between the program and what is recorded, as a file system or a VFS of our own would.

What the model of the disk promises, and no more:

* What was written before an `fdatasync` of a file that has returned is in that file.
* Writes since then may be there or not, whole or torn at any 512-byte sector, in any order; so may a change of length.
* A new name, or a removed one, may be lost until its folder was synced.

Rebuilt images are opened by SQLite and read whole; each must be a state that the program committed, and none older
than the last one that it acknowledged.
"""

from __future__ import annotations

import hashlib
import random  # noqa: TID251 - faults are drawn from a fixed seed, so that they can be drawn again
import re
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

TRACED: Final = (
    "trace=pwrite64,pwritev,pwritev2,write,writev,fdatasync,fsync,ftruncate,fallocate,unlink,unlinkat,rename"
)
"""Every call by which SQLite changes a file, and `write`, by which the child acknowledges."""
_SECTOR: Final = 512
_CALL: Final = re.compile(
    r'^(?:\d+ +)?(\w+)\((?:(\d+)<([^>]*)>|"([^"]*)")(?:, "([^"]*)"(\.\.\.)?)?(?:, (\d+))?(?:, (\d+))?\) = (-?\d+)'
)
_FRAME_HEADER: Final = 24


@dataclass(frozen=True, slots=True)
class Op:
    """One recorded call: `write`, `truncate`, `sync`, `sync_folder`, `unlink` of a file, or `ack`."""

    kind: str
    file: str
    offset: int = 0
    data: bytes = b""


@dataclass
class Recording:
    """What lay on the disk before, and what was done then."""

    base: dict[str, bytes]
    ops: list[Op]

    @property
    def acks(self) -> int:
        """How many acknowledgements there were."""
        return sum(op.kind == "ack" for op in self.ops)


def read_trace(trace: str, folder: Path, base: dict[str, bytes]) -> Recording:
    """Read what strace (`-xx -y`) wrote; what is not understood about our files is an error, never left out."""
    ops = []
    for line in trace.splitlines():
        if "(" not in line.split('"')[0] or "+++" in line or "---" in line:
            continue
        found = _CALL.match(line)
        if found is None:
            raise ValueError(f"a call that is not understood: {line[:200]}")
        op = _op(found, folder, set(base))
        if op is not None:
            ops.append(op)
    return Recording(base, ops)


def _op(found: re.Match[str], folder: Path, files: set[str]) -> Op | None:
    name, _, fd_path, path, data, cut, size, offset, result = found.groups()
    where = Path(_text(fd_path if fd_path is not None else path).decode())
    if name == "write" and re.match(r"(pipe|socket|UNIX)", where.name):
        return Op("ack", "") if _text(data)[4:].startswith(b'["') else None
    if where == folder and name in ("fdatasync", "fsync"):
        return Op("sync_folder", "")
    if where.parent != folder or where.name not in files or int(result) < 0:
        return None
    if name == "pwrite64" and cut is None and int(result) == int(size):
        return Op("write", where.name, int(offset), _text(data))
    kinds = {"fdatasync": "sync", "fsync": "sync", "ftruncate": "truncate", "unlink": "unlink"}
    if name not in kinds:
        raise ValueError(f"a call that is not understood: {name} on {where.name}")
    return Op(kinds[name], where.name, int(size or 0))


def _text(shown: str | None) -> bytes:
    return bytes.fromhex((shown or "").replace("\\x", ""))


# --- the disk -----------------------------------------------------------------------------------------


@dataclass
class _File:
    """One file: what is surely there, and what was done to it since."""

    durable: bytearray
    pending: list[Op] = field(default_factory=list)
    removed: bool = False
    named: bool = True  # its name in the folder is durable

    def sync(self) -> None:
        for op in self.pending:
            _apply(self.durable, op)
        self.pending.clear()

    def after_cut(self, chance: random.Random) -> bytes:
        content = bytearray(self.durable)
        for op in _survivors(self.pending, chance):
            _apply(content, op)
        return bytes(content)

    def is_there(self, chance: random.Random) -> bool:
        if self.named is not self.removed:  # nothing about its name is open
            return self.named
        return chance.random() < 0.5

    def now(self) -> bytes:
        content = bytearray(self.durable)
        for op in self.pending:
            _apply(content, op)
        return bytes(content)


def _apply(content: bytearray, op: Op) -> None:
    if op.kind == "truncate":
        del content[op.offset :]
        content.extend(bytes(op.offset - len(content)))
        return
    if len(content) < op.offset:
        content.extend(bytes(op.offset - len(content)))
    content[op.offset : op.offset + len(op.data)] = op.data


def _survivors(pending: list[Op], chance: random.Random) -> list[Op]:
    """Choose what of the unsynced calls has reached the disk."""
    how = chance.choice(("none", "prefix", "any", "any", "all but one", "all"))
    count = len(pending)
    if how == "none" or not pending:
        return []
    if how == "all":
        return list(pending)
    if how == "all but one":
        lost = chance.randrange(count)
        return [op for number, op in enumerate(pending) if number != lost]
    if how == "prefix":
        kept = pending[: chance.randrange(count) + 1]
        return [*kept[:-1], *_torn(kept[-1], chance)]
    likely = chance.random()
    kept = [torn for op in pending if chance.random() < likely for torn in _torn(op, chance)]
    chance.shuffle(kept)
    return kept


def _torn(op: Op, chance: random.Random) -> list[Op]:
    """Return the sectors of a write that made it: mostly all, sometimes some."""
    if op.kind != "write" or chance.random() < 0.5:
        return [op]
    pieces = []
    start = op.offset
    while start < op.offset + len(op.data):
        end = min((start // _SECTOR + 1) * _SECTOR, op.offset + len(op.data))
        if chance.random() < 0.5:
            pieces.append(Op("write", op.file, start, op.data[start - op.offset : end - op.offset]))
        start = end
    return pieces


class Disk:
    """The files as they come to be, call by call."""

    def __init__(self, recording: Recording) -> None:
        self.files = {name: _File(bytearray(content)) for name, content in recording.base.items()}
        self.files["clinic.db-wal"].named = False  # made when the database was opened, just before the recording

    def step(self, op: Op) -> None:
        """Take one recorded call in."""
        match op.kind:
            case "sync":
                self.files[op.file].sync()
            case "sync_folder":
                for file in self.files.values():
                    file.named = not file.removed
            case "unlink":
                self.files[op.file].removed = True
            case "write" | "truncate":
                self.files[op.file].pending.append(op)

    def now(self) -> dict[str, bytes]:
        """Return the files as the running program sees them."""
        return {name: file.now() for name, file in self.files.items() if not file.removed}

    def after_cut(self, chance: random.Random) -> dict[str, bytes]:
        """Return the files as they may be after the power went away now."""
        return {name: file.after_cut(chance) for name, file in self.files.items() if file.is_there(chance)}


# --- what an image says -------------------------------------------------------------------------------


@dataclass
class States:
    """The committed states in order, and from which call on the last acknowledged one is due."""

    digests: list[str]
    due: list[tuple[int, int]]
    """Pairs: from this call on, a state of at least this number must be there."""

    def least(self, position: int) -> int:
        """Return the number of the oldest state that may be found after a cut at this call."""
        return max((number for call, number in self.due if call <= position), default=0)


def read_image(folder: Path, image: dict[str, bytes]) -> str:
    """Have SQLite open an image and return a digest over everything in it; `sqlite3.Error` if it is damaged."""
    for name in ("clinic.db", "clinic.db-wal", "clinic.db-shm"):
        (folder / name).unlink(missing_ok=True)
    for name, content in image.items():
        (folder / name).write_bytes(content)
    with closing(sqlite3.connect(folder / "clinic.db", isolation_level=None)) as db:
        found = [row[0] for row in db.execute("PRAGMA integrity_check")]
        if found != ["ok"]:
            raise sqlite3.DatabaseError("integrity check")
        digest = hashlib.sha256()
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
            for row in db.execute(f'SELECT * FROM "{table}" ORDER BY rowid'):  # noqa: S608 - names from the schema
                digest.update(repr((table, row)).encode())
    return digest.hexdigest()


def committed_states(recording: Recording, folder: Path) -> States:
    """Follow the recording without any fault and note every state that is committed, and when each was acknowledged."""
    disk = Disk(recording)
    digests = [read_image(folder, disk.now())]
    due = []
    header = b""
    for position, op in enumerate(recording.ops):
        disk.step(op)
        if op.kind == "write" and op.file.endswith("-wal"):
            if len(header) == _FRAME_HEADER and any(header[4:8]):  # the page of a frame that ends a transaction
                digest = read_image(folder, disk.now())
                if digest != digests[-1]:
                    digests.append(digest)
            header = op.data if len(op.data) == _FRAME_HEADER else b""
        elif op.kind == "ack":
            due.append((position, len(digests) - 1))
    if read_image(folder, disk.now()) != digests[-1]:
        raise ValueError("the end is not the last committed state")
    return States(digests, due)


@dataclass
class Cuts:
    """What the images of a campaign came to."""

    images: int = 0
    different: set[bytes] = field(default_factory=set)
    lost: int = 0
    corrupt: int = 0
    examples: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the numbers in one line."""
        return f"{self.images} images ({len(self.different)} different), {self.lost} lost, {self.corrupt} corrupt"


def cut_everywhere(recording: Recording, states: States, folder: Path, *, images: int, seed: int = 20) -> Cuts:
    """Cut the power at random calls; open every image and hold it against the committed states."""
    chance = random.Random(seed)
    positions = sorted(chance.randrange(len(recording.ops)) for _ in range(images))
    cuts = Cuts()
    disk = Disk(recording)
    done = 0
    for position in positions:
        for op in recording.ops[done : position + 1]:
            disk.step(op)
        done = position + 1
        _cut(disk.after_cut(chance), position, states, folder, cuts)
    return cuts


def _cut(image: dict[str, bytes], position: int, states: States, folder: Path, cuts: Cuts) -> None:
    cuts.images += 1
    cuts.different.add(hashlib.sha256(b"".join(name.encode() + image[name] for name in sorted(image))).digest()[:8])
    least = states.least(position)
    try:
        digest = read_image(folder, image)
    except sqlite3.Error as error:
        cuts.corrupt += 1
        cuts.examples.append(f"call {position}: {error}")
        return
    if digest in states.digests[least:]:
        return
    if digest in states.digests:
        cuts.lost += 1
        cuts.examples.append(f"call {position}: state {states.digests.index(digest)}, {least} was acknowledged")
    else:
        cuts.corrupt += 1
        cuts.examples.append(f"call {position}: a state that was never committed")


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return the database's files as they are."""
    found = {}
    for name in ("clinic.db", "clinic.db-wal"):
        with suppress(FileNotFoundError):
            found[name] = (folder / name).read_bytes()
    return found
