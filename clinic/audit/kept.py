"""Checkpoints that the log keeps of itself, in a table beside its entries: what it said of itself stays said.

Rules kept here:

* One is kept after so many entries, once the oldest entry without one is so old, and when the clinic stops (`Rhythm`).
* Each continues the one before: the tree goes on from its signed root, never from what stands in the rows since.  So
  a log that was rewritten is not signed as if nothing had been: it does not lead to what was kept.
* Rows are only ever added, each longer than all before and no longer than the log.
* A row is believed only once its signature holds and its peaks lead to the signed root.

Whoever can write the file can also remove rows here: only what lies elsewhere (`witness.py`) shows that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from clinic.audit.chain import damaged, extend
from clinic.audit.checkpoint import Checkpoint, NoteSigner, open_checkpoint
from clinic.audit.entry import GENESIS, RawEntry, entry_hash
from clinic.audit.tables import audit_checkpoints
from clinic.audit.tree import HASH_BYTES, CompactTree
from clinic.errors import AuditError

# As BLOBs, because a text that is no UTF-8 any more must reach verification, not stop the driver.
_COLUMNS: Final = "size, CAST(note AS BLOB) AS note, CAST(peaks AS BLOB) AS peaks"
_ALL: Final = text(f"SELECT {_COLUMNS} FROM audit_checkpoints ORDER BY size")  # noqa: S608 - constants only
_NEWEST: Final = text(
    f"SELECT {_COLUMNS} FROM audit_checkpoints ORDER BY size DESC LIMIT 1"  # noqa: S608 - constants only
)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """A checkpoint is kept after `entries` entries, and once one without it is `minutes` old; 0: not for that."""

    entries: int = 500
    minutes: int = 15


@dataclass(frozen=True, slots=True)
class Kept:
    """A row as it stands in the table, not yet believed."""

    size: int
    note: bytes
    peaks: bytes

    def open(self, *, vkey: str) -> Checkpoint:
        """Return the checkpoint.

        Raises:
            AuditError: `checkpoint_malformed`, `checkpoint_signature`: it was changed since it was kept.
        """
        try:
            checkpoint = open_checkpoint(self.note.decode(), vkey=vkey)
        except UnicodeDecodeError:
            raise _malformed("not a signed note") from None
        if checkpoint.size != self.size or self._tree().root() != checkpoint.root:
            raise _malformed("its row does not fit what was signed")
        return checkpoint

    def resume(self, rows: Iterator[RawEntry], *, vkey: str) -> tuple[CompactTree, bytes]:
        """Return the tree and last hash of this checkpoint, which `rows` must begin with the last entry of.

        Raises:
            AuditError: `audit_damaged`, or as `open`.
        """
        self.open(vkey=vkey)
        tree, row = self._tree(), next(rows, None)
        odd_leaf = tree.peaks[-1] if tree.size & 1 else None
        if row is None or row.seq != self.size or entry_hash(row) != row.hash or odd_leaf not in {None, row.hash}:
            raise damaged(f"the audit log no longer holds entry `{self.size}`, over which a checkpoint was kept")
        return tree, row.hash

    def _tree(self) -> CompactTree:
        peaks = [self.peaks[at : at + HASH_BYTES] for at in range(0, len(self.peaks), HASH_BYTES)]
        try:
            return CompactTree(self.size, peaks)
        except ValueError:
            raise _malformed("its peaks are none of a tree of this size") from None


def all_kept(connection: Connection) -> tuple[Kept, ...]:
    """Return what is kept, the shortest log first."""
    return tuple(Kept(*row) for row in connection.execute(_ALL))


def newest(connection: Connection) -> Kept | None:
    """Return the longest."""
    row = connection.execute(_NEWEST).one_or_none()
    return None if row is None else Kept(*row)


def sign_on(last: Kept | None, rows: Iterator[RawEntry], signer: NoteSigner) -> Kept:
    """Return the checkpoint over the log that goes on from the last one kept with these rows, its last entry first.

    Raises:
        AuditError: `audit_damaged`: the rows do not lead on from it; nothing is signed.
    """
    tree, last_hash = (CompactTree(), GENESIS) if last is None else last.resume(rows, vkey=str(signer.key))
    tree, _ = extend(tree, last_hash, rows)
    note = signer.sign(Checkpoint(origin=signer.name, size=tree.size, root=tree.root()).text())
    return Kept(tree.size, note.encode(), b"".join(tree.peaks))


def add(connection: Connection, kept: Kept) -> bool:
    """Keep it, in a write transaction; False if one as long is there."""
    there = newest(connection)
    if kept.size <= (there.size if there is not None else 0):
        return False
    values = {"size": kept.size, "note": kept.note.decode(), "peaks": kept.peaks}
    connection.execute(audit_checkpoints.insert(), values)
    return True


def _malformed(what: str) -> AuditError:
    return AuditError(what, code="checkpoint_malformed", hint="keep everything as it is and call the auditor")
