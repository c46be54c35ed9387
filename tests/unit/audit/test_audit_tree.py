"""The Merkle tree against the published vectors of RFC 6962."""

from __future__ import annotations

import hashlib

import pytest

from clinic.audit.paths import inclusion_proof, root_from_inclusion
from clinic.audit.tree import CompactTree, leaf_hash, node_hash, root_of

# Leaves, roots and proofs: the test data of Certificate Transparency's reference implementation, as they stand in
# github.com/transparency-dev/merkle (Apache-2.0), proof/verify_test.go at 02194e9afb6c1d95b5381350007963aa70fff472.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PROOFS = [
    pytest.param(0, 1, [], id="only leaf"),
    pytest.param(
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
        id="1 of 8",
    ),
    pytest.param(
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
        id="6 of 8",
    ),
    pytest.param(2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"], id="3 of 3"),
    pytest.param(
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
        id="2 of 5",
    ),
]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_reference(size: int) -> None:
    """The root over the first leaves is the published one."""
    assert root_of(HASHES[:size]).hex() == ROOTS[size - 1]


def test_the_empty_tree_has_the_hash_of_nothing() -> None:
    """MTH({}) = SHA-256() (RFC 6962, section 2.1)."""
    assert CompactTree().root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_leaf_and_node_hashes_are_those_of_the_reference() -> None:
    """Single hashes are the published ones (transparency-dev/merkle, rfc6962/rfc6962_test.go)."""
    assert leaf_hash(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert node_hash(b"N123", b"N456").hex() == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"


@pytest.mark.parametrize(("index", "size", "proof"), PROOFS)
def test_inclusion_proofs_are_those_of_the_reference(index: int, size: int, proof: list[str]) -> None:
    """The published proofs are made, and lead to the published roots."""
    path = [bytes.fromhex(node) for node in proof]
    assert list(inclusion_proof(HASHES[:size], index)) == path
    root = root_from_inclusion(HASHES[index], index, size, path)
    assert root is not None
    assert root.hex() == ROOTS[size - 1]


def _mth(leaves: list[bytes]) -> bytes:
    """Compute the root by the definition in RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + _mth(leaves[:split]) + _mth(leaves[split:])).digest()


def test_the_compact_tree_agrees_with_the_definition() -> None:
    """At every size up to 130 root and all proofs agree with the recursive definition."""
    leaves = [leaf_hash(bytes([number])) for number in range(130)]
    tree = CompactTree()
    for size, leaf in enumerate(leaves, 1):
        tree.append(leaf)
        root = _mth(leaves[:size])
        assert tree.root() == root
        assert CompactTree(size, tree.peaks).root() == root
        for index in {0, size // 2, size - 1}:
            assert root_from_inclusion(leaves[index], index, size, inclusion_proof(leaves[:size], index)) == root


@pytest.mark.parametrize(("index", "size", "proof"), PROOFS[1:])
def test_wrong_proofs_lead_to_no_root(index: int, size: int, proof: list[str]) -> None:
    """Another leaf, place or length, or one changed bit, never leads to the root."""
    root = bytes.fromhex(ROOTS[size - 1])
    path = [bytes.fromhex(node) for node in proof]
    attempts = [
        (HASHES[index], index + 1, size, path),
        (HASHES[index], index - 1, size, path),
        (HASHES[index], index, size * 2, path),
        (HASHES[index - 1], index, size, path),
        (HASHES[index], index, size, path[:-1]),
        (HASHES[index], index, size, [*path, root]),
        (HASHES[index], index, size, [path[0], *path]),
        (HASHES[index], index, size, [bytes([path[0][0] ^ 8]) + path[0][1:], *path[1:]]),
        (HASHES[index], -1, size, path),
        (HASHES[index], 0, 0, path),
    ]
    assert all(root_from_inclusion(*attempt) != root for attempt in attempts)


@pytest.mark.parametrize(
    ("size", "peaks"), [(1, ()), (3, (b"x" * 32,)), (0, (b"x" * 32,)), (1, (b"short",)), (-1, (b"x" * 32,))]
)
def test_impossible_trees_are_refused(size: int, peaks: tuple[bytes, ...]) -> None:
    """A tree needs exactly one peak for each bit set in its size."""
    with pytest.raises(ValueError, match="peak"):
        CompactTree(size, peaks)


def test_no_proof_for_a_leaf_that_is_not_there() -> None:
    """Asking beyond the leaves is an error."""
    with pytest.raises(ValueError, match="index"):
        inclusion_proof(HASHES, 8)
