"""Proof that a log has only grown since an earlier size, in the form of C2SP `tlog-witness` (`add-checkpoint`).

Rules kept here:

* A few hashes and a signed checkpoint: a witness that kept the earlier checkpoint needs nothing else, and learns
  nothing about any entry.
* Written here, read by `deploy/witness.py`, which shares no code with this.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from clinic.audit.checkpoint import Checkpoint, open_given
from clinic.audit.log import AuditLog
from clinic.errors import AuditError, InputError


@dataclass(frozen=True, slots=True)
class Grown:
    """Two checkpoints of one log, and the path from the older to the newer; empty if both are the same, or from 0."""

    older: Checkpoint
    newer: Checkpoint
    path: tuple[bytes, ...]
    note: str

    def text(self) -> str:
        """Return the path and the newer note as a witness takes them."""
        return _text(self.older.size, self.path, self.note)


def growth(audit: AuditLog, seen: int) -> str:
    """Return what convinces a witness that saw `seen` entries that this log still begins with them.

    Raises:
        AuditError: `audit_rolled_back` where the log is shorter than that.
        InputError: `range_invalid` for a size below 1.
    """
    size = audit.head().size
    if seen < 1:
        raise InputError("a witness has seen at least one entry", code="range_invalid", hint="give its number")
    if seen > size:
        raise rolled_back(seen, size)
    return _text(seen, _path(audit, seen, size), audit.checkpoint(size=size))


def compare(audit: AuditLog, older: str, newer: str) -> Grown:
    """Show with the entries of the log that the newer of two checkpoints of it continues the older one.

    Raises:
        AuditError: `checkpoint_signature`; `audit_rolled_back`, `audit_forked`: the log does not hold what was signed.
        InputError: `checkpoint_malformed`; `range_invalid` where the older one is the longer one.
    """
    old, new = (open_given(note, vkey=audit.vkey) for note in (older, newer))
    if old.size > new.size:
        hint = "name the older checkpoint first"
        raise InputError("the first checkpoint is over more entries than the second", code="range_invalid", hint=hint)
    for checkpoint in (new, old):
        _require_held(audit, checkpoint)
    return Grown(old, new, _path(audit, old.size, new.size), newer)


def held(audit: AuditLog, note: str) -> int:
    """Return over how many entries somebody holds this checkpoint, once the log is shown to begin with them.

    Raises:
        AuditError, InputError: as `compare`.
    """
    checkpoint = open_given(note, vkey=audit.vkey)
    _require_held(audit, checkpoint)
    return checkpoint.size


def _require_held(audit: AuditLog, checkpoint: Checkpoint) -> None:
    size = audit.head().size
    if checkpoint.size > size:
        raise rolled_back(checkpoint.size, size)
    if audit.tree(checkpoint.size).root() != checkpoint.root:
        raise AuditError(
            f"the first {checkpoint.size} entries are not those that the checkpoint was signed over",
            code="audit_forked",
            hint="keep everything as it is and call the auditor: two histories of this clinic exist",
        )


def note_in(text: str) -> str:
    """Return the signed checkpoint of a text that is one, or that `growth` wrote."""
    return text.partition("\n\n")[2] if text.startswith("old ") else text


def rolled_back(seen: int, size: int) -> AuditError:
    """Return the error for a log that is shorter than it is known to have been."""
    return AuditError(
        f"the audit log ends after entry {size}, but it was seen with {seen}: it was cut, or an older copy put back",
        code="audit_rolled_back",
        hint="keep everything as it is and call the auditor; a wanted restore goes through `clinic backup restore`",
    )


def _path(audit: AuditLog, older: int, newer: int) -> tuple[bytes, ...]:
    sizes = (older, newer) if 0 < older < newer else (newer,)
    return [link.path for link in audit.links(sizes)][-1]


def _text(older: int, path: Sequence[bytes], note: str) -> str:
    lines = [base64.b64encode(node).decode("ascii") for node in path]
    return "\n".join((f"old {older}", *lines, "", note))
