"""Proof that a log has only grown since an earlier size, in the form of C2SP `tlog-witness` (`add-checkpoint`).

Rules kept here:

* A few hashes and a signed checkpoint: a witness that kept the earlier checkpoint needs nothing else, and learns
  nothing about any entry.
* Written here, read by `deploy/witness.py`, which shares no code with this.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from clinic.audit.log import AuditLog
from clinic.audit.tree import root_of
from clinic.errors import AuditError, InputError


def growth(audit: AuditLog, seen: int) -> str:
    """Return what convinces a witness that saw `seen` entries that this log still begins with them.

    Raises:
        AuditError: `audit_rolled_back` where the log is shorter than that.
        InputError: `range_invalid` for a size below 1.
    """
    leaves = [raw.hash for raw in audit.raw_entries()]
    if seen < 1:
        raise InputError("a witness has seen at least one entry", code="range_invalid", hint="give its number")
    if seen > len(leaves):
        raise rolled_back(seen, len(leaves))
    lines = [base64.b64encode(node).decode("ascii") for node in consistency_proof(leaves, seen)]
    return "\n".join((f"old {seen}", *lines, "", audit.checkpoint(size=len(leaves))))


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


def consistency_proof(leaves: Sequence[bytes], old: int) -> tuple[bytes, ...]:
    """Return PROOF(old, leaves) of RFC 6962, section 2.1.2."""
    if not 0 < old <= len(leaves):
        raise ValueError("a tree grows from one of its own sizes")
    return tuple(_subproof(leaves, 0, len(leaves), old, whole=True))


def _subproof(leaves: Sequence[bytes], first: int, last: int, old: int, *, whole: bool) -> list[bytes]:
    """Return SUBPROOF for the leaves `first` to `last`, of which `old` are of the earlier tree."""
    if old == last - first:
        return [] if whole else [root_of(leaves[first:last])]
    middle = first + (1 << (last - first - 1).bit_length() - 1)
    if old <= middle - first:
        return [*_subproof(leaves, first, middle, old, whole=whole), root_of(leaves[middle:last])]
    return [*_subproof(leaves, middle, last, old - (middle - first), whole=False), root_of(leaves[first:middle])]
