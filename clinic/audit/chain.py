"""Following the chain of entries while the Merkle tree over them grows: for what is about to be signed.

Rules kept here:

* A row is added only if it is the next one, follows the one before, and has the hash of its own content.
* Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from clinic.audit.entry import GENESIS, RawEntry, entry_hash
from clinic.audit.tree import CompactTree
from clinic.errors import AuditError


def followed(rows: Iterable[RawEntry], *, size: int = 0, last_hash: bytes = GENESIS) -> Iterator[bytes]:
    """Yield the hash of each row, behind so many entries of which the last one has this hash.

    Raises:
        AuditError: `audit_damaged`.
    """
    for seq, row in enumerate(rows, size + 1):
        if row.seq != seq or row.prev_hash != last_hash or entry_hash(row) != row.hash:
            raise damaged(f"the audit log is not whole at entry `{seq}`")
        last_hash = row.hash
        yield last_hash


def extend(
    tree: CompactTree, last_hash: bytes, rows: Iterable[RawEntry], size: int | None = None
) -> tuple[CompactTree, bytes]:
    """Add rows to a tree; return it with the hash of its last entry.  With `size` it must have that size then.

    Raises:
        AuditError: `audit_damaged`; `entry_unknown` where there are not so many.
    """
    for leaf in followed(rows, size=tree.size, last_hash=last_hash):
        tree.append(leaf)
        last_hash = leaf
    if size is not None and tree.size != size:
        raise unknown_size(size, tree.size)
    return tree, last_hash


def unknown_size(size: int, found: int) -> AuditError:
    """Return the error for a log that is not so long."""
    return AuditError(f"the audit log has no {size} entries", code="entry_unknown", hint=f"it has {found}")


def damaged(message: str) -> AuditError:
    """Return the error for a log that is not what it was."""
    return AuditError(
        message, code="audit_damaged", hint="stop and run `clinic audit verify` with your last checkpoint"
    )
