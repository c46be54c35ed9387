"""Wycheproof's cases, each aimed at a mistake that somebody made, through our own wrappers.

Source and licence: `tests/vectors/published/README.md`.  What does not apply, and why:

* AES-GCM: our key has 256 bits, our nonce 96, our tag 128.  250 of 316 cases have other sizes, which no wrapper takes.
* HKDF: our keys have 32 bytes.  3 of 86 cases ask for more than HKDF can give; no wrapper asks for a length.
* Ed25519: all 210 apply to the check of a note's signature.  The programs under `deploy/` take whole notes only.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from clinic.audit import checkpoint
from clinic.audit.checkpoint import VerifierKey
from clinic.crypto import aead
from clinic.crypto.aead import header, open_blob, seal_blob
from clinic.errors import AuditError, DecryptionError
from tests.unit.crypto.published import Believer, Message, derived

FOLDER: Final = Path(__file__).resolve().parents[2] / "vectors" / "published" / "wycheproof"
GCM: Final = {"valid": 39, "invalid": 27}
GCM_LEFT_OUT: Final = 250
HKDF: Final = 83
HKDF_WITHOUT_SALT: Final = 23
ED25519: Final = {"valid": 117, "invalid": 64, "acceptable": 29}
ORDER: Final = 2**252 + 27742317777372353535851937790883648493


def document(name: str) -> dict[str, Any]:
    """Return one file of cases."""
    found: dict[str, Any] = json.loads((FOLDER / name).read_text("utf-8"))
    return found


def cases(name: str, *results: str) -> list[dict[str, Any]]:
    """Return the cases with one of these results."""
    return [case for case in document(name)["cases"] if case["result"] in results]


def parts(case: dict[str, Any], *names: str) -> tuple[bytes, ...]:
    """Return values of a case as bytes."""
    return tuple(bytes.fromhex(case[name]) for name in names)


def opened(case: dict[str, Any]) -> bytes:
    """Open a ciphertext as one of our blobs."""
    key, nonce, text, tag, aad = parts(case, "key", "iv", "ct", "tag", "aad")
    return open_blob(key, header(7) + nonce + text + tag, aad=aad, key_id=7, what="x")


def believed(case: dict[str, Any]) -> bool:
    """Tell whether the check of a note's signature believes it."""
    public, signature = parts(case, "pk", "sig")
    try:
        checkpoint._check(Message(case["msg"] + "\n"), signature, VerifierKey("published", public))
    except AuditError:
        return False
    return True


def test_aes_gcm_opens_the_good_and_refuses_the_bad() -> None:
    """Every case of our sizes; the bad ones are refused with our one error."""
    assert Counter(case["result"] for case in document("aes_gcm.json")["cases"]) == GCM
    assert document("aes_gcm.json")["left_out"] == GCM_LEFT_OUT
    for case in cases("aes_gcm.json", "valid"):
        assert opened(case).hex() == case["msg"]
    for case in cases("aes_gcm.json", "invalid"):
        with pytest.raises(DecryptionError):
            opened(case)


def test_aes_gcm_seals_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the published nonce in place of a random one, every good case is sealed to the published bytes."""
    for case in cases("aes_gcm.json", "valid"):
        key, nonce, message, aad, text, tag = parts(case, "key", "iv", "msg", "aad", "ct", "tag")
        monkeypatch.setattr("os.urandom", lambda _size, nonce=nonce: nonce)
        assert seal_blob(key, message, aad=aad, key_id=7) == header(7) + nonce + text + tag


def test_a_cipher_that_skips_the_tag_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: it opens every bad case."""
    monkeypatch.setattr(aead, "AESGCM", Believer)
    assert sum(isinstance(opened(case), bytes) for case in cases("aes_gcm.json", "invalid")) == GCM["invalid"]


def test_hkdf_derives_what_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both places where keys are derived give the first 32 bytes of every answer, or begin with a shorter one."""
    count = 0
    for case in cases("hkdf_sha256.json", "valid"):
        material, salt, info, answer = parts(case, "ikm", "salt", "info", "okm")
        for key in derived(monkeypatch, material=material, salt=salt, info=info):
            assert key[: len(answer)] == answer[:32]
            count += 1
    assert count == HKDF + HKDF_WITHOUT_SALT


def test_a_derivation_that_drops_the_salt_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: without its salt, every case that has one (zeros count as none) is answered otherwise."""
    for case in cases("hkdf_sha256.json", "valid"):
        material, salt, info, answer = parts(case, "ikm", "salt", "info", "okm")
        first, *_ = derived(monkeypatch, material=material, salt=b"", info=info)
        assert (first[: len(answer)] == answer[:32]) is not any(salt)


def test_ed25519_believes_the_good_and_refuses_the_bad() -> None:
    """Every signature, those of wrong length and with bits beyond the group's order included.

    "Acceptable" ones are under keys of small or mixed order, which nobody who makes a key gets: either answer is
    right; what ours is stands here, so that a change of the library is noticed.
    """
    assert Counter(case["result"] for case in document("ed25519.json")["cases"]) == ED25519
    assert [case["tcId"] for case in cases("ed25519.json", "valid") if not believed(case)] == []
    assert [case["tcId"] for case in cases("ed25519.json", "invalid") if believed(case)] == []
    assert sum(map(believed, cases("ed25519.json", "acceptable"))) == ED25519["acceptable"]


def test_a_check_that_reduces_the_signature_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: taking S modulo the order, as old libraries did, lets malleable signatures through."""

    class Lax:
        def __init__(self, key: Ed25519PublicKey) -> None:
            self._key = key

        @classmethod
        def from_public_bytes(cls, data: bytes) -> Lax:
            return cls(Ed25519PublicKey.from_public_bytes(data))

        def verify(self, signature: bytes, data: bytes) -> None:
            reduced = int.from_bytes(signature[32:], "little") % ORDER
            self._key.verify(signature[:32] + reduced.to_bytes(32, "little"), data)

    monkeypatch.setattr(checkpoint, "Ed25519PublicKey", Lax)
    flags = Counter(case["flags"][0] for case in cases("ed25519.json", "invalid") if believed(case))
    assert flags["SignatureMalleability"] == 4
