"""The installer's own Ed25519, against published vectors and against `cryptography`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cryptography_vectors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.conftest import ROOT
from tests.unit.bundle.bundle_world import load

WYCHEPROOF = ROOT / "tests" / "vectors" / "published" / "wycheproof" / "ed25519.json"
REFERENCE = Path(cryptography_vectors.__file__).parent / "asymmetric" / "Ed25519" / "sign.input"
OF_THE_REFERENCE = 64

is_signed = load().is_signed


def test_wycheproof() -> None:
    """Every valid vector of Project Wycheproof is believed, no invalid one; "acceptable" ones may be either."""
    cases = json.loads(WYCHEPROOF.read_text(encoding="utf-8"))["cases"]
    answers = Counter(
        (case["result"], is_signed(*(bytes.fromhex(case[part]) for part in ("pk", "msg", "sig")))) for case in cases
    )
    assert answers["valid", True] == 117
    assert answers["invalid", False] == 64
    assert answers["valid", False] == answers["invalid", True] == 0


def test_reference_vectors() -> None:
    """The vectors of the authors of Ed25519 hold, and none of them with a changed message, key or signature."""
    lines = REFERENCE.read_text(encoding="ascii").splitlines()[:OF_THE_REFERENCE]
    for line in lines:
        _, public, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        signature = signed[:64]
        assert is_signed(public, message, signature)
        assert not is_signed(public, message + b"x", signature)
        assert not is_signed(public, message, signature[:-1] + bytes([signature[-1] ^ 1]))
        assert not is_signed(bytes([public[0] ^ 1]) + public[1:], message, signature)
    assert len(lines) == OF_THE_REFERENCE


def test_agrees_with_the_library() -> None:
    """What `cryptography` signs is accepted, whatever the length."""
    for length in (0, 1, 63, 64, 1000):
        key = Ed25519PrivateKey.from_private_bytes(bytes([length % 251] * 32))
        message = b"m" * length
        assert is_signed(key.public_key().public_bytes_raw(), message, key.sign(message))
