"""The paths of RFC 6962, section 2.1: what a proof is made of, made in one walk over the leaves, and what it leads to.

Rules kept here:

* Which subtrees make up a path depends on the sizes alone.  Their roots are met in one walk over the leaves, which
  holds one hash for each level of the tree and for each subtree that is wanted: memory does not grow with the log.
* A path is believed only with exactly its length, and only if it leads to the signed roots.
* Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from clinic.audit.tree import EMPTY_ROOT, HASH_BYTES, node_hash

Span = tuple[int, int]
"""A subtree, as its first leaf and the one behind its last, counted from 0."""


def inclusion_spans(index: int, size: int) -> tuple[Span, ...]:
    """Return the subtrees of PATH(index, D[size]), section 2.1.1, in its order."""
    if not 0 <= index < size:
        raise ValueError("no leaf with this index")
    first, last = 0, size
    spans: list[Span] = []
    while last - first > 1:
        middle = first + _half(last - first)
        if index < middle:
            spans.append((middle, last))
            last = middle
        else:
            spans.append((first, middle))
            first = middle
    return tuple(reversed(spans))


def consistency_spans(old: int, size: int) -> tuple[Span, ...]:
    """Return the subtrees of PROOF(old, D[size]), section 2.1.2, in its order."""
    if not 0 < old <= size:
        raise ValueError("a tree grows from one of its own sizes")
    first, last = 0, size
    spans: list[Span] = []
    while last != old:
        middle = first + _half(last - first)
        if old <= middle:
            spans.append((middle, last))
            last = middle
        else:
            spans.append((first, middle))
            first = middle
    # A subtree that was the whole earlier tree is left out: whoever verifies holds its root.
    inner = () if first == 0 else ((first, last),)
    return (*inner, *reversed(spans))


def _half(size: int) -> int:
    """Return how many leaves the left one of two subtrees has: the largest power of two below the size."""
    return 1 << (size - 1).bit_length() - 1


class TreeWalk:
    """A walk over the leaves of a tree that remembers the roots of those subtrees that are wanted."""

    __slots__ = ("_found", "_peaks", "_wanted", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[tuple[int, bytes]] = []
        self._wanted: frozenset[Span] = frozenset()
        self._found: dict[Span, bytes] = {}

    def want(self, spans: Iterable[Span]) -> None:
        """From here on remember these and no others; one that is met already must be the root of a peak."""
        self._wanted, self._found = frozenset(spans), {}
        last = self.size
        for first, root in reversed(self._peaks):
            self._meet(first, last, root)
            last = first

    def append(self, leaf: bytes) -> None:
        """Go on to the next leaf."""
        node, first, rest = leaf, self.size, self.size + 1
        self.size = rest
        self._meet(first, self.size, node)
        while not rest & 1:
            first, left = self._peaks.pop()
            node, rest = node_hash(left, node), rest >> 1
            self._meet(first, self.size, node)
        self._peaks.append((first, node))

    def roots(self) -> dict[Span, bytes]:
        """Return the roots that were wanted, of a tree that ends here; KeyError for a subtree that was not met."""
        self._fold()
        return {span: self._found[span] for span in self._wanted}

    def root(self) -> bytes:
        """Return the root of the tree that ends here."""
        return self._fold()

    def _fold(self) -> bytes:
        """Meet the subtrees that end with the tree, which need not be perfect; the last of them is the whole."""
        node = b""
        for first, peak in reversed(self._peaks):
            node = node_hash(peak, node) if node else peak
            self._meet(first, self.size, node)
        return node or EMPTY_ROOT

    def _meet(self, first: int, last: int, root: bytes) -> None:
        if (first, last) in self._wanted:
            self._found[first, last] = root


def roots_in(leaves: Iterable[bytes], spans: Collection[Span]) -> dict[Span, bytes]:
    """Return the roots of subtrees of the tree over these leaf hashes; KeyError for one that it does not have."""
    walk = TreeWalk()
    walk.want(spans)
    for leaf in leaves:
        walk.append(leaf)
    return walk.roots()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return PATH(index, leaves): the siblings from the leaf up to the root."""
    spans = inclusion_spans(index, len(leaves))
    return tuple(map(roots_in(leaves, spans).__getitem__, spans))


def consistency_proof(leaves: Sequence[bytes], old: int) -> tuple[bytes, ...]:
    """Return PROOF(old, leaves)."""
    spans = consistency_spans(old, len(leaves))
    return tuple(map(roots_in(leaves, spans).__getitem__, spans))


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that this path leads to, or None where its length cannot be right (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return None
    node, last, root = index, size - 1, leaf
    for sibling in path:
        if last == 0 or len(sibling) != HASH_BYTES:
            return None
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    return root if last == 0 else None


def is_consistent(old: int, old_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> bool:
    """Say whether the path shows that a tree of `size` leaves begins with the earlier one (RFC 9162, 2.1.4.2)."""
    if old == size:
        return old > 0 and not path and old_root == root
    path = (old_root, *path) if old.bit_count() == 1 else path
    if not 0 < old < size or not path or any(len(each) != HASH_BYTES for each in path):
        return False
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and before == old_root and after == root
