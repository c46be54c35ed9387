"""Verification: believe nothing, derive everything again from the raw rows, and name the first entry that is wrong.

Rules kept here:

* Pure and streaming: rows come in order from anywhere (database, export), memory stays constant.
* Shares the written format with `entry.py`, not its code: the hash of an entry is computed here a second time.
* A chain alone cannot show a missing tail or a history rewritten from some point on; an earlier checkpoint does.
* Every kept checkpoint is derived again on the way: one walk shows that each tree is a beginning of the next.
* Nothing at all is not a log: no entries means not verified.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from clinic.audit.checkpoint import Checkpoint, open_checkpoint
from clinic.audit.entry import GENESIS, MAX_SEALED, MIN_SEALED, RawEntry
from clinic.audit.events import from_canonical, is_canonical
from clinic.audit.kept import Kept
from clinic.audit.links import follow
from clinic.audit.tree import EMPTY_ROOT, HASH_BYTES, CompactTree
from clinic.domain import Role
from clinic.errors import AuditError

_PREFIX: Final = b"\x00clinic-audit-entry-v1\n"
_PREFIX_SEALED: Final = b"\x00clinic-audit-entry-v2\n"
_ACTOR: Final = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_AT: Final = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_ROLES: Final = frozenset(role.value.encode() for role in Role)
_MAX_SEQ: Final = 2**63 - 1
_NAMES: Final = 512
_SHORT: Final = 512
_LENGTHS: Final = tuple(size.to_bytes(4, "big") for size in range(_SHORT))
_SEARCH: Final = 128
"""How far around an entry to look for the place that its content was written for."""


class Problem(StrEnum):
    """What is wrong with a log."""

    CHANGED = "changed"  # an entry's content does not match its hash
    REORDERED = "reordered"  # an entry stands where another was written: swapped, moved or repeated
    GAP = "gap"  # an entry is missing
    CHAIN_BROKEN = "chain_broken"  # an entry does not follow the one before: replaced, inserted, from another log
    MALFORMED = "malformed"  # an entry is none of those that this program writes
    UNKNOWN_EVENT = "unknown_event"
    EMPTY = "empty"
    TRUNCATED = "truncated"  # shorter than the checkpoint says: tail removed, or an older copy
    FORKED = "forked"  # as long as the checkpoint says, but not the same entries
    CHECKPOINT_MALFORMED = "checkpoint_malformed"
    CHECKPOINT_SIGNATURE = "checkpoint_signature"
    CHECKPOINT_NOT_COVERED = "checkpoint_not_covered"  # before the range at hand, and no proof leads from it
    PROOF_INVALID = "proof_invalid"  # an export's proof that the log grew from an earlier checkpoint does not hold
    MANIFEST = "manifest"  # an export's manifest does not fit its entries


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What verification found.

    Attributes:
        entries: how many entries were verified before the first problem.
        first_bad: `seq` of the first entry that is wrong, changed or missing; None where no single one can be named.
        bad_checkpoint: size of the first checkpoint that does not hold, or that the log does not fit.
        head_hash, root: hash of the last verified entry, and Merkle root of the log up to it.
        clock_regressions: how often the clock stood earlier than at the entry before (suspicious, but no damage).
    """

    ok: bool
    entries: int
    first_bad: int | None
    problem: Problem | None
    message: str
    head_hash: bytes
    root: bytes
    clock_regressions: int
    kept_checkpoints: int = 0
    bad_checkpoint: int | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Where the rows begin: at the first entry, or (exports of a range) behind a known state."""

    seq: int = 1
    prev_hash: bytes = GENESIS
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a start that no log can have."""
        CompactTree(self.seq - 1, self.peaks)
        if len(self.prev_hash) != HASH_BYTES or (self.seq == 1 and self.prev_hash != GENESIS):
            raise ValueError("the first entry follows 32 zero bytes")


@dataclass(frozen=True, slots=True)
class _Finding:
    problem: Problem
    first_bad: int | None
    message: str
    bad_checkpoint: int | None = None


def verify_log(
    rows: Iterable[RawEntry],
    *,
    vkey: str | None = None,
    checkpoints: Sequence[str] = (),
    kept: Sequence[Kept] = (),
    start: Start | None = None,
    links: Iterable[bytes] = (),
) -> VerifyReport:
    """Verify rows in order of `seq`, against checkpoints that the owner of `vkey` signed earlier.

    `kept` are those that the log keeps of itself.  `links` are lines (`links.py`) that end with the first of
    `checkpoints`: with them one that lies before `start` can be compared, too.

    Example:
        >>> verify_log([]).problem
        <Problem.EMPTY: 'empty'>
    """
    walk = _Walk(start or Start(), kept=len(kept))
    try:
        marks = [open_checkpoint(note, vkey=vkey or "") for note in checkpoints]
        proved = follow(links, vkey=vkey or "")
    except AuditError as error:
        return walk.report(_Finding(Problem(error.code), None, str(error)))
    if proved and proved[-1:] != tuple(marks[:1]):
        return walk.report(_Finding(Problem.PROOF_INVALID, None, "the proofs do not lead to the checkpoint"))
    for each in kept:
        try:
            marks.append(each.open(vkey=vkey or ""))
        except AuditError as error:
            text = f"the kept checkpoint over {each.size} entries does not hold: {error}"
            return walk.report(_Finding(Problem(error.code), None, text, each.size))
    finding = walk.start_at(marks, proved)
    if finding is not None:
        return walk.report(finding)
    for row in rows:
        finding = walk.step(row)
        if finding is not None:
            return walk.report(finding)
    return walk.report(walk.finish())


class _Walk:
    """The state between two rows: what has been verified so far."""

    def __init__(self, start: Start, *, kept: int = 0) -> None:
        self._kept = kept
        self._first = start.seq
        self._next = start.seq
        self._prev = start.prev_hash
        self._tree = CompactTree(start.seq - 1, start.peaks)
        self._marks: dict[int, list[Checkpoint]] = {}
        self._undecided: Checkpoint | None = None
        self._at = b""
        self._clock_regressions = 0

    def start_at(self, marks: Iterable[Checkpoint], proved: Iterable[Checkpoint]) -> _Finding | None:
        """Take the marks; those before the range are compared with what was proved of the log there."""
        before, known = self._first - 1, {0: EMPTY_ROOT} | {each.size: each.root for each in proved}
        for mark in marks:
            if mark.size >= before:
                self._marks.setdefault(mark.size, []).append(mark)
            elif mark.size not in known:
                self._undecided = mark
            elif mark.root != known[mark.size]:
                return _forked(mark)
        return self._compare_marks()

    def step(self, row: RawEntry) -> _Finding | None:
        """Verify one row and go on to the next; a finding ends the walk."""
        finding = self._place(row) or _content(row)
        if finding is not None:
            return finding
        if row.at < self._at:
            self._clock_regressions += 1
        self._at = row.at
        self._prev = row.hash
        self._next += 1
        self._tree.append(row.hash)
        return self._compare_marks() if self._tree.size in self._marks else None

    def finish(self) -> _Finding | None:
        size = self._tree.size
        beyond = [mark for mark in self._marks if mark > size]
        if beyond:
            text = f"the log ends after entry `{size}`, but the checkpoint was signed over {max(beyond)} entries"
            return _Finding(Problem.TRUNCATED, size + 1, text, min(beyond))
        if self._next == self._first:
            return _Finding(Problem.EMPTY, None, "the log holds no entries")
        if self._undecided is not None:
            text = f"it cannot be decided whether this continues the checkpoint over {self._undecided.size} entries: "
            text += f"the range at hand starts at entry `{self._first}`, and no proof leads from there"
            return _Finding(Problem.CHECKPOINT_NOT_COVERED, None, text, self._undecided.size)
        return None

    def report(self, finding: _Finding | None) -> VerifyReport:
        verified = self._next - self._first
        noun = "entry" if verified == 1 else "entries"
        return VerifyReport(
            ok=finding is None,
            entries=verified,
            first_bad=finding.first_bad if finding else None,
            problem=finding.problem if finding else None,
            message=finding.message if finding else f"{verified} {noun} verified, none changed, missing or moved",
            head_hash=self._prev,
            root=self._tree.root(),
            clock_regressions=self._clock_regressions,
            kept_checkpoints=self._kept,
            bad_checkpoint=finding.bad_checkpoint if finding else None,
        )

    def _place(self, row: RawEntry) -> _Finding | None:
        """Check that this row is whole and belongs exactly here."""
        seq = self._next
        if not _is_well_typed(row):
            return _Finding(Problem.MALFORMED, seq, f"entry `{seq}` is not an audit entry")
        if row.seq > seq:
            return _Finding(Problem.GAP, seq, f"entry `{seq}` is missing: entry `{row.seq}` stands in its place")
        if row.seq < seq:
            return _Finding(
                Problem.REORDERED, row.seq, f"entry `{row.seq}` comes a second time, after entry `{seq - 1}`"
            )
        if _rehash(row, seq) != row.hash:
            return _misplaced(row, seq)
        if row.prev_hash != self._prev:
            text = f"entry `{seq}` does not follow the entry before it: one of the two was replaced or inserted"
            return _Finding(Problem.CHAIN_BROKEN, seq, text)
        return None

    def _compare_marks(self) -> _Finding | None:
        size = self._tree.size
        for mark in self._marks.get(size, ()):
            if mark.root != self._tree.root():
                return _forked(mark)
        return None


def _rehash(row: RawEntry, seq: int) -> bytes:
    """Compute the hash that this row would carry as entry `seq` (FORMAT.md, section 2)."""
    _, at, actor, role, event, body, prev_hash, _, sealed = row
    names = _framed_names(actor, role, event)
    number, size, when = seq.to_bytes(8, "big"), _length(body), _length(at)
    if sealed is None:
        plain = (_PREFIX, _LENGTHS[8], number, _length(prev_hash), prev_hash, when, at, names, size, body)
        return hashlib.sha256(b"".join(plain)).digest()
    whole = (_PREFIX_SEALED, _LENGTHS[8], number, _length(prev_hash), prev_hash, when, at, names, size, body)
    return hashlib.sha256(b"".join((*whole, _length(sealed), sealed))).digest()


# Few different ones come again and again; what no writer uses ends the walk, so that at most one such is ever held.
@lru_cache(maxsize=_NAMES)
def _framed_names(actor: bytes, role: bytes, event: bytes) -> bytes:
    return b"".join((_length(actor), actor, _length(role), role, _length(event), event))


@lru_cache(maxsize=_NAMES)
def _is_somebody(actor: bytes, role: bytes) -> bool:
    return role in _ROLES and _ACTOR.fullmatch(actor) is not None


def _length(field: bytes) -> bytes:
    size = len(field)
    return _LENGTHS[size] if size < _SHORT else size.to_bytes(4, "big")


def _misplaced(row: RawEntry, seq: int) -> _Finding:
    """Tell an entry that was moved here from one that was changed: moved content has the hash of its old place."""
    for other in range(max(1, seq - _SEARCH), seq + _SEARCH + 1):
        if _rehash(row, other) == row.hash:
            text = f"entry `{seq}` holds what was written as entry `{other}`"
            return _Finding(Problem.REORDERED, seq, text)
    return _Finding(Problem.CHANGED, seq, f"entry `{seq}` was changed after it was written")


def _forked(mark: Checkpoint) -> _Finding:
    text = f"the first {mark.size} entries are not those that the checkpoint was signed over: the log was rewritten"
    return _Finding(Problem.FORKED, None, text, mark.size)


def _is_well_typed(row: RawEntry) -> bool:
    # SQLite stores any type in any column, so what the annotations promise is checked here.
    seq, at, actor, role, event, body, prev_hash, digest, sealed = row
    if sealed is not None and not (type(sealed) is bytes and MIN_SEALED <= len(sealed) <= MAX_SEALED):
        return False
    texts = type(at) is type(actor) is type(role) is type(event) is type(body) is bytes
    hashes = type(prev_hash) is type(digest) is bytes
    if not (texts and hashes and type(seq) is int and 0 < seq <= _MAX_SEQ):
        return False
    return len(prev_hash) == HASH_BYTES == len(digest)


def _content(row: RawEntry) -> _Finding | None:
    """Check that a well-hashed row says something that this program could have said."""
    seq = row.seq
    if not _AT.fullmatch(row.at) or not _is_somebody(row.actor, row.role):
        return _Finding(Problem.MALFORMED, seq, f"entry `{seq}` is not an audit entry")
    if is_canonical(row.event, row.body):
        return None
    try:
        from_canonical(row.event.decode("ascii", "replace"), row.body)
    except AuditError as error:
        problem = Problem.UNKNOWN_EVENT if error.code == "event_unknown" else Problem.MALFORMED
        return _Finding(problem, seq, f"entry `{seq}`: {error}")
    return None
