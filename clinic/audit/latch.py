"""One latch: why it is set, in code and words, and the marker file by which every process of a data folder sees it.

Rules kept here:

* The marker appears whole (written beside, then linked) and never takes the place of another one.
* One that cannot be read latches all the same; where the disk takes no content, its name alone does.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from clinic.audit.entry import timestamp
from clinic.domain import utc_now
from clinic.errors import AuditLatchedError

MARKER: Final = "audit.latched"
"""Name of the marker in the data folder; backups leave it out."""

_MAX_MARKER: Final = 4096
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_AT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


class Reason(StrEnum):
    """Why the log is latched: what is recorded."""

    WRITE_FAILED = "write_failed"
    SYNC_FAILED = "sync_failed"
    READ_BACK_FAILED = "read_back_failed"
    FILE_REPLACED = "file_replaced"
    DAMAGED = "damaged"
    SEQUENCE_GAP = "sequence_gap"
    READ_ONLY = "read_only"
    DISK_FULL = "disk_full"
    RESERVE_REACHED = "reserve_reached"
    LOCK_HELD = "lock_held"
    CLOCK_REGRESS = "clock_regress"
    SINK_FAILED = "sink_failed"
    SINK_DIFFERS = "sink_differs"
    UNKNOWN = "unknown"  # the marker is there and cannot be read


_VERIFY: Final = "run `clinic audit verify --clear`, or start `clinic serve` again"
WORDS: Final[dict[Reason, tuple[str, str]]] = {
    Reason.WRITE_FAILED: ("the disk refused a write", f"check the health of the disk, then {_VERIFY}"),
    Reason.SYNC_FAILED: (
        "the disk did not confirm a write",
        f"the disk may be failing: {_VERIFY}, then make a backup at once and have the disk checked",
    ),
    Reason.READ_BACK_FAILED: ("an entry was not found as it was written", f"check the disk, then {_VERIFY}"),
    Reason.FILE_REPLACED: (
        "the database file was removed or replaced while in use",
        "stop the clinic service, put the right file in place, then start `clinic serve` again",
    ),
    Reason.DAMAGED: (
        "the database is damaged",
        "stop the clinic service, keep the damaged file, restore the data folder from your backup",
    ),
    Reason.SEQUENCE_GAP: (
        "entries that were there are gone",
        "keep the data folder as it is, run `clinic audit verify` with your last checkpoint, call the auditor",
    ),
    Reason.READ_ONLY: (
        "the disk or the database file is read-only",
        f"check how the disk is mounted and who owns the data folder, then {_VERIFY}",
    ),
    Reason.DISK_FULL: ("the disk is full", f"make room on the disk, then {_VERIFY}"),
    Reason.RESERVE_REACHED: ("the disk is nearly full", f"make room on the disk, then {_VERIFY}"),
    Reason.LOCK_HELD: (
        "another program holds the database",
        f"close the program that has the database open (`fuser clinic.db` names it), then {_VERIFY}",
    ),
    Reason.CLOCK_REGRESS: ("the clock of this box went back", f"set the right time, then {_VERIFY}"),
    Reason.SINK_FAILED: (
        "the second copy of the log cannot be written",
        f"put the device of `audit.second_sink` back, then {_VERIFY}",
    ),
    Reason.SINK_DIFFERS: (
        "the second copy of the log is not a copy of it",
        "keep both as they are, run `clinic audit verify`, call the auditor",
    ),
    Reason.UNKNOWN: ("it is latched for a reason that cannot be read", _VERIFY),
}
"""Reason -> what happened, and what to do."""


@dataclass(frozen=True, slots=True)
class Latch:
    """One latch: its id, why, and when (UTC, as in entries)."""

    id: str
    reason: Reason
    at: str

    def refusal(self) -> AuditLatchedError:
        """Return the error that everybody gets until it is cleared."""
        what, then = WORDS[self.reason]
        return AuditLatchedError(
            f"the audit log is stopped, because {what}",
            hint=f"nothing is recorded, generated or shown until it is verified; nothing acknowledged is lost: {then}",
        )


def read_marker(path: Path) -> Latch | None:
    """Return the latch that the marker names, None if there is no marker; one that cannot be read latches, too."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        return _unreadable(path)
    try:
        data = os.read(fd, _MAX_MARKER)
    except OSError:
        data = b""
    finally:
        os.close(fd)
    return _parse_marker(data) or _unreadable(path)


def _parse_marker(data: bytes) -> Latch | None:
    try:
        values = json.loads(data)
        latch = Latch(id=str(values["latch"]), reason=Reason(values["reason"]), at=str(values["at"]))
    except (ValueError, LookupError, TypeError):
        return None
    return latch if _ID.fullmatch(latch.id) and _AT.fullmatch(latch.at) else None


def _unreadable(path: Path) -> Latch:
    """Return a latch with an id that is the same in every process: derived from the file itself."""
    try:
        status = os.lstat(path)
        number = f"{status.st_ino:016x}{status.st_ctime_ns & (2**64 - 1):016x}"
    except OSError:
        number = "0" * 32
    return Latch(id=number, reason=Reason.UNKNOWN, at=timestamp(utc_now()))


def write_marker(path: Path, latch: Latch) -> bool:
    """Write the marker, durably, unless there is one; False where the disk refuses: memory has to hold then."""
    data = json.dumps({"latch": latch.id, "reason": latch.reason.value, "at": latch.at}).encode()
    beside = path.with_name(f".{path.name}.{latch.id}")
    try:
        _create(beside, data)
        try:
            os.link(beside, path)  # whole from its first moment, and never in place of another one
        finally:
            os.unlink(beside)  # noqa: PTH108 - beside `link`
        sync_folder(path.parent)
    except FileExistsError:
        return True
    except OSError:
        return _create_empty(path)
    return True


def _create(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except OSError:
        os.unlink(path)  # noqa: PTH108 - beside `open`
        raise
    finally:
        os.close(fd)


def _create_empty(path: Path) -> bool:
    """Make the marker without content, for its name alone latches: a full disk often still takes that."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        return True
    except OSError:
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
