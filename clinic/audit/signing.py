"""The Merkle tree over the log, and what is signed and proved with it.

Rules kept here:

* The tree is not stored: what was added since it was last asked for is hashed (the compact tree is kept in memory), so
  there is no second truth in the database that could be forged.
* What this process has seen once must stay: a log that is shorter or other than before is reported, never signed.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from clinic.audit.chain import damaged, extend, followed, unknown_size
from clinic.audit.checkpoint import Checkpoint, NoteSigner
from clinic.audit.entry import GENESIS
from clinic.audit.links import Link
from clinic.audit.paths import TreeWalk, consistency_spans, inclusion_spans, roots_in
from clinic.audit.proof import Proof
from clinic.audit.reading import LogReader
from clinic.audit.tree import CompactTree
from clinic.errors import AuditError


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log stands: number of entries, hash of the last one (zeros if none), Merkle root."""

    size: int
    hash: bytes
    root: bytes


class SignedTree:
    """The tree over what `reader` reads, as `signer` vouches for it."""

    def __init__(self, reader: LogReader, signer: NoteSigner) -> None:
        self._reader = reader
        self._signer = signer
        self._lock = threading.Lock()
        self._seen = CompactTree()
        self._seen_hash = GENESIS

    def head(self) -> Head:
        """Return where the committed log stands now."""
        tree, last_hash = self._refresh()
        return Head(size=tree.size, hash=last_hash, root=tree.root())

    def tree(self, size: int) -> CompactTree:
        """Return the Merkle tree over the first `size` entries."""
        tree, _ = self._refresh()
        if tree.size == size:
            return tree
        return extend(CompactTree(), GENESIS, self._reader.raw_entries(last=size), size)[0]

    def checkpoint(self, size: int | None) -> str:
        """Return a signed note over the log as it is, or was at an earlier size."""
        tree = self._refresh()[0] if size is None else self.tree(size)
        return self._sign(tree.size, tree.root())

    def prove(self, seq: int) -> str:
        """Return a C2SP `tlog-proof` that entry `seq` is in the log."""
        tree, _ = self._refresh()
        if not 1 <= seq <= tree.size:
            raise AuditError(f"there is no audit entry `{seq}`", code="entry_unknown", hint=f"1 to {tree.size}")
        spans = inclusion_spans(seq - 1, tree.size)
        found = roots_in(followed(self._reader.raw_entries(last=tree.size)), {*spans, (seq - 1, seq), (0, tree.size)})
        if found[0, tree.size] != tree.root():
            raise damaged("the audit log is not what it was when it was signed")
        return Proof(seq - 1, tuple(found[span] for span in spans), self._sign(tree.size, tree.root())).text()

    def links(self, sizes: Iterable[int]) -> Iterator[Link]:
        """Yield, for each of these ascending sizes, the checkpoint over it and the path to it from the one before.

        Raises:
            AuditError: `audit_damaged`; `entry_unknown` where the log is not so long.
        """
        leaves, walk = followed(self._reader.raw_entries()), TreeWalk()
        for size in sizes:
            spans = consistency_spans(walk.size, size) if walk.size else ()
            walk.want(spans)
            for leaf in islice(leaves, size - walk.size):
                walk.append(leaf)
            if walk.size != size:
                raise unknown_size(size, walk.size)
            found = walk.roots()
            yield Link(self._sign(size, walk.root()), tuple(found[span] for span in spans))

    def _sign(self, size: int, root: bytes) -> str:
        return self._signer.sign(Checkpoint(origin=self._signer.name, size=size, root=root).text())

    def _refresh(self) -> tuple[CompactTree, bytes]:
        """Hash what was added since the last time; the lock keeps two threads from adding it twice."""
        with self._lock:
            seen, seen_hash = self._seen, self._seen_hash
            rows = self._reader.raw_entries(first=seen.size or None)
            if seen.size:
                known = next(rows, None)
                if known is None or known.seq != seen.size or known.hash != seen_hash:
                    raise damaged(f"the audit log no longer holds entry `{seen.size}` as it was seen before")
            self._seen, self._seen_hash = extend(seen.copy(), seen_hash, rows, None)
            return self._seen.copy(), self._seen_hash


def signer_of(seed: bytes) -> NoteSigner:
    """Name the log after its key: unique without asking anybody, and it says nothing about the clinic."""
    prefix = "clinic.local/audit"
    fingerprint = hashlib.sha256(NoteSigner(name=prefix, seed=seed).key.public).hexdigest()
    return NoteSigner(name=f"{prefix}/{fingerprint[:16]}", seed=seed)
