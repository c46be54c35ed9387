"""Paths of RFC 6962: made in one walk, with memory that does not grow, and believed only if they lead to both roots."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from clinic.audit.paths import (
    TreeWalk,
    consistency_proof,
    consistency_spans,
    inclusion_spans,
    is_consistent,
    roots_in,
)
from clinic.audit.tree import EMPTY_ROOT, CompactTree, leaf_hash, node_hash, root_of

LEAVES = [leaf_hash(bytes([number])) for number in range(70)]


def definition(old: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """Compute SUBPROOF by the definition in RFC 6962, section 2.1.2, word for word."""
    if old == len(leaves):
        return [] if whole else [root_of(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if old <= split:
        return [*definition(old, leaves[:split], whole=whole), root_of(leaves[split:])]
    return [*definition(old - split, leaves[split:], whole=False), root_of(leaves[:split])]


@pytest.mark.parametrize("size", [*range(1, 18), 31, 32, 33, 64, 70])
def test_every_path_of_growth_is_the_one_of_the_definition(size: int) -> None:
    """From each earlier size; it is believed, and no changed one is.

    Sizes are bound by signatures, not by paths: some of one size lead to the roots of another.
    """
    after = root_of(LEAVES[:size])
    for old in range(1, size + 1):
        before, path = root_of(LEAVES[:old]), consistency_proof(LEAVES[:size], old)
        assert list(path) == definition(old, LEAVES[:size])
        assert is_consistent(old, before, size, after, path)
        wrong = [
            (old, before, size, before, path),
            (old, after, size, after, path),
            (old, before, size, after, (*path, after)),
            (old, before, size, after, path[:-1]),
            (old, before, size, after, path[1:]),
            (old, before, size, after, tuple(reversed(path))),
            (old, before, size, after, (*path[:-1], path[-1][:-1] if path else b"")),
            (size, after, old, before, path),
        ]
        right = (old, before, size, after, path)
        assert [args for args in wrong if is_consistent(*args) and args != right] == []


def test_bytes_do_not_move_between_two_hashes_of_a_path() -> None:
    """The two first nodes of this path are hashed together as they stand: only their lengths tell them apart."""
    path = list(consistency_proof(LEAVES[:7], 5))
    inner, right = path[0], path[1]
    assert node_hash(inner, right) == node_hash(inner + right[:1], right[1:])
    before, after = root_of(LEAVES[:5]), root_of(LEAVES[:7])
    assert is_consistent(5, before, 7, after, path)
    assert not is_consistent(5, before, 7, after, [inner + right[:1], right[1:], *path[2:]])


def test_nothing_is_no_earlier_tree() -> None:
    """There is no path from nothing, nor to nothing, nor between two trees of one size."""
    assert not is_consistent(0, EMPTY_ROOT, 3, root_of(LEAVES[:3]), ())
    assert not is_consistent(0, EMPTY_ROOT, 0, EMPTY_ROOT, ())
    assert not is_consistent(3, root_of(LEAVES[:3]), 3, root_of(LEAVES[1:4]), ())
    assert not is_consistent(4, root_of(LEAVES[:4]), 5, root_of(LEAVES[:5]), ())


@pytest.mark.parametrize(("old", "size"), [(0, 4), (5, 4), (-1, 4), (1, 0)])
def test_a_tree_grows_from_one_of_its_own_sizes(old: int, size: int) -> None:
    """Other sizes are the caller's mistake."""
    with pytest.raises(ValueError, match="sizes"):
        consistency_spans(old, size)


@pytest.mark.parametrize(("index", "size"), [(-1, 4), (4, 4), (0, 0)])
def test_there_is_a_path_for_each_leaf_only(index: int, size: int) -> None:
    """So are other leaves."""
    with pytest.raises(ValueError, match="index"):
        inclusion_spans(index, size)


def test_what_is_no_subtree_is_not_found() -> None:
    """Neither leaves that are not there, nor ones that belong to two subtrees; a walk without a leaf has a root."""
    for span in ((0, 9), (1, 3), (2, 7)):
        with pytest.raises(KeyError):
            roots_in(LEAVES[:8], [span])
    assert roots_in(LEAVES[:7], [(0, 7), (4, 6), (4, 7), (6, 7)])[4, 6] == node_hash(LEAVES[4], LEAVES[5])
    assert TreeWalk().root() == EMPTY_ROOT


@pytest.mark.parametrize("sizes", [(1, 2, 3, 4, 5, 6, 7, 8), (3, 20, 33), (5, 6, 64, 70), (32, 64), (70,)])
def test_one_walk_gives_the_path_from_each_size_to_the_next(sizes: tuple[int, ...]) -> None:
    """What belongs to the older tree is still held when the walk comes there."""
    walk, leaves, older = TreeWalk(), iter(LEAVES), 0
    for size in sizes:
        spans = consistency_spans(older, size) if older else ()
        walk.want(spans)
        while walk.size < size:
            walk.append(next(leaves))
        found = walk.roots()
        assert [found[span] for span in spans] == (definition(older, LEAVES[:size]) if older else [])
        assert walk.root() == root_of(LEAVES[:size])
        older = size


def peak(action: Callable[[], object]) -> int:
    """Return how many bytes Python held at most while it did this."""
    gc.collect()
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_leaves() -> None:
    """Thirty times the leaves, a few hashes more; the control, which holds the leaves, does not stay."""

    def leaves(count: int) -> Iterator[bytes]:
        return (leaf_hash(number.to_bytes(4, "big")) for number in range(count))

    def path(count: int) -> int:
        spans = inclusion_spans(count // 3, count)
        return peak(lambda: roots_in(leaves(count), spans))

    path(10)
    assert path(30_000) < 2 * path(1_000)
    assert peak(lambda: list(leaves(30_000))) > 20 * peak(lambda: list(leaves(1_000)))


def test_the_walk_agrees_with_the_compact_tree() -> None:
    """Two ways to the same root."""
    walk, tree = TreeWalk(), CompactTree()
    for leaf in LEAVES:
        walk.append(leaf)
        tree.append(leaf)
        assert walk.root() == tree.root()
