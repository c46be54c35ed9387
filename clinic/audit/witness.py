"""What witnesses have seen: checkpoints of this log that came back from other devices, kept in the data folder.

Rules kept here:

* A checkpoint is kept once its signature holds, also (and above all) one that this log does not fit: then the clinic
  does not start any more, until an auditor has looked.
* Nothing that speaks against the log is ever removed; what a newer checkpoint of the same witness says again is.
* A loss that `clinic backup restore` recorded, with its reason, is no rollback: see `backup.restored`.
* Start compares stored hashes with what was seen, which is quick; that content fits the hashes is for `verify`.

Whoever can write the whole folder can also remove what is kept here: the witness's own copy is the one that counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clinic.audit.checkpoint import Checkpoint, open_checkpoint, open_given
from clinic.audit.consistency import note_in, rolled_back
from clinic.audit.events import BackupRestored, from_canonical
from clinic.audit.log import AuditLog
from clinic.audit.tree import HASH_BYTES, CompactTree
from clinic.audit.verify import VerifyReport, verify_log
from clinic.crypto.durable import exclusive, replace_private
from clinic.errors import AuditError, InputError

FOLDER: Final = "witness"
_PATTERN: Final = "*.checkpoint"
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_FILE: Final = re.compile(r"(?P<name>.+)-[0-9]+-[0-9a-f]{16}", re.ASCII)
_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Witnessed:
    """A checkpoint as a witness of this name saw it, and the file that holds it."""

    name: str
    checkpoint: Checkpoint
    note: str
    path: Path


def witnessed(home: Path, *, vkey: str) -> tuple[Witnessed, ...]:
    """Return what is kept, the longest log first.

    Raises:
        AuditError: `witness_damaged` for a file that is no checkpoint of this log.
    """
    found = [_read(path, vkey) for path in sorted((home / FOLDER).glob(_PATTERN))]
    return tuple(sorted(found, key=lambda each: each.checkpoint.size, reverse=True))


def add(home: Path, audit: AuditLog, *, name: str, text: str) -> Witnessed:
    """Keep a checkpoint that a witness gives back, then hold the log against everything that is kept.

    Raises:
        InputError: `witness_name_invalid`, `checkpoint_malformed`; nothing is kept.
        AuditError: `checkpoint_signature`: nothing is kept; `audit_rolled_back`, `audit_forked`: it is kept.
    """
    if not _NAME.fullmatch(name):
        hint = "small letters, digits and hyphens, at most 40: front-desk"
        raise InputError("not a name for a witness", code="witness_name_invalid", hint=hint)
    note = note_in(text)
    checkpoint = open_given(note, vkey=audit.vkey)
    folder = home / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}-{checkpoint.size}-{checkpoint.root.hex()[:16]}.checkpoint"
    with exclusive(folder):
        replace_private(path, note.encode())
        require_current(home, audit)
        for other in witnessed(home, vkey=audit.vkey):
            if other.name == name and other.checkpoint.size < checkpoint.size:
                other.path.unlink()
    return Witnessed(name, checkpoint, note, path)


def require_current(home: Path, audit: AuditLog) -> None:
    """Refuse a log that is older than a witness saw it, or another one.

    Raises:
        AuditError: `audit_rolled_back`, `audit_forked`, `witness_damaged`.
    """
    for each in _against(audit, witnessed(home, vkey=audit.vkey)):
        size = audit.size()
        if each.checkpoint.size > size:
            raise rolled_back(each.checkpoint.size, size)
        raise AuditError(
            f"the first {each.checkpoint.size} entries are not those that the witness `{each.name}` saw",
            code="audit_forked",
            hint="keep everything as it is and call the auditor: two histories of this clinic exist",
        )


def verify_witnessed(home: Path, audit: AuditLog, *, checkpoint: str | None = None) -> VerifyReport:
    """Verify all entries against what witnesses saw, every kept checkpoint and, if given, one checkpoint more."""
    kept = witnessed(home, vkey=audit.vkey)
    accepted = {each.path for each in _misfits(audit, kept)} - {each.path for each in _against(audit, kept)}
    notes = [each.note for each in kept if each.path not in accepted]
    if checkpoint is not None:
        notes.append(checkpoint)
    return verify_log(audit.raw_entries(), vkey=audit.vkey, checkpoints=notes, kept=audit.kept_checkpoints())


def _read(path: Path, vkey: str) -> Witnessed:
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _MAX_BYTES:
            raise _damaged(path)
        note = path.read_text(encoding="utf-8")
        checkpoint = open_checkpoint(note, vkey=vkey)
    except (OSError, UnicodeDecodeError, AuditError):
        raise _damaged(path) from None
    match = _FILE.fullmatch(path.stem)
    return Witnessed(match["name"] if match else path.stem, checkpoint, note, path)


def _against(audit: AuditLog, kept: Iterable[Witnessed]) -> list[Witnessed]:
    """Return what speaks against the log: what it does not fit, except for recorded losses."""
    misfits = _misfits(audit, kept)
    losses = _losses(audit) if misfits else []
    return [each for each in misfits if not any(each.checkpoint.size in loss for loss in losses)]


def _misfits(audit: AuditLog, kept: Iterable[Witnessed]) -> list[Witnessed]:
    """Go over the log once, as far as the longest checkpoint, for those that it does not fit."""
    waiting = {each.path: each for each in kept if each.checkpoint.size}
    longest = max((each.checkpoint.size for each in waiting.values()), default=0)
    sizes = {each.checkpoint.size for each in waiting.values()}
    tree = CompactTree()
    for raw in audit.raw_entries(first=1, last=longest):
        digest: object = raw.hash
        if not isinstance(digest, bytes) or len(digest) != HASH_BYTES:
            break  # SQLite stores anything; behind such a row nothing fits
        tree.append(digest)
        if tree.size in sizes:
            seen = (tree.size, tree.root())
            waiting = {p: w for p, w in waiting.items() if (w.checkpoint.size, w.checkpoint.root) != seen}
    return list(waiting.values())


def _losses(audit: AuditLog) -> list[range]:
    """Return the entries that were knowingly lost when a backup was restored."""
    events = (from_canonical(entry.event, entry.body) for entry in audit.named(BackupRestored.name))
    return [range(each.entries + 1, each.witnessed + 1) for each in events if isinstance(each, BackupRestored)]


def _damaged(path: Path) -> AuditError:
    return AuditError(
        f"`{FOLDER}/{path.name}` is not a checkpoint of this clinic's log",
        code="witness_damaged",
        hint="call the auditor; fetch the checkpoint from the witness again, then move this file away",
    )
