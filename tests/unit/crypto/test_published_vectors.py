"""Known answers that others published, through our own wrappers: AES-256-GCM, HKDF-SHA256, Ed25519.

Source: the package `cryptography-vectors` (NIST CAVS 14.0 for GCM, RFC 5869 for HKDF, `sign.input` of the Ed25519
authors).  SLIP-39 has its own in `test_recovery_key.py`, Wycheproof in `test_wycheproof.py`, age in
`tests/unit/backup/test_age_vectors.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import cryptography_vectors
import pytest

from clinic.audit import checkpoint
from clinic.audit.checkpoint import NoteSigner, VerifierKey
from clinic.crypto import aead
from clinic.crypto.aead import header, open_blob
from clinic.errors import AuditError, DecryptionError
from tests.unit.crypto.published import Believer, Message, derived

FOLDER = Path(cryptography_vectors.__file__).parent
GCM_DECRYPT = (184, 191)  # good ones, damaged ones
GCM_ENCRYPT = 375
HKDF = 6  # four published cases, two of them (without a salt) also as keys of a purpose
ED25519 = 1024


def cases(name: str) -> Iterator[dict[str, str]]:
    """Yield the cases of a file of `name = value` lines; a parameter in brackets holds for what follows."""
    general: dict[str, str] = {}
    case: dict[str, str] | None = None
    for line in [*(FOLDER / name).read_text(encoding="ascii").splitlines(), "Count = end"]:
        text = line.strip()
        key, _, value = (part.strip() for part in text.strip("[]").partition("="))
        if text.startswith("["):
            general[key] = value
        elif key.lower() == "count":
            if case is not None:
                yield case
            case = dict(general)
        elif case is not None and text and not text.startswith("#"):
            case[key] = value


def gcm_cases(name: str) -> list[dict[str, str]]:
    """Return the cases with our sizes: a nonce of 96 bits and a tag of 128."""
    return [case for case in cases(f"ciphers/AES/GCM/{name}") if (case["IVlen"], case["Taglen"]) == ("96", "128")]


def opened(case: dict[str, str]) -> bytes:
    """Open a published ciphertext as one of our blobs."""
    blob = header(7) + b"".join(bytes.fromhex(case[part]) for part in ("IV", "CT", "Tag"))
    return open_blob(bytes.fromhex(case["Key"]), blob, aad=bytes.fromhex(case["AAD"]), key_id=7, what="x")


def test_aes_256_gcm_opens_what_nist_sealed_and_refuses_what_it_damaged() -> None:
    """Every case with our sizes; refused ones with our one error."""
    good = bad = 0
    for case in gcm_cases("gcmDecrypt256.rsp"):
        if "FAIL" in case:
            with pytest.raises(DecryptionError):
                opened(case)
            bad += 1
        else:
            assert opened(case) == bytes.fromhex(case["PT"])
            good += 1
    assert (good, bad) == GCM_DECRYPT


def test_aes_256_gcm_seals_as_nist_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the published nonce in place of a random one, the bytes after our header are the published ones."""
    count = 0
    for case in gcm_cases("gcmEncryptExtIV256.rsp"):
        nonce = bytes.fromhex(case["IV"])
        monkeypatch.setattr("os.urandom", lambda _size, nonce=nonce: nonce)
        key, aad = bytes.fromhex(case["Key"]), bytes.fromhex(case["AAD"])
        blob = aead.seal_blob(key, bytes.fromhex(case["PT"]), aad=aad, key_id=7)
        assert blob == header(7) + nonce + bytes.fromhex(case["CT"]) + bytes.fromhex(case["Tag"])
        count += 1
    assert count == GCM_ENCRYPT


def test_a_cipher_that_believes_every_tag_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: without the check of the tag, every damaged case opens."""
    monkeypatch.setattr(aead, "AESGCM", Believer)
    damaged = [case for case in gcm_cases("gcmDecrypt256.rsp") if "FAIL" in case]
    assert sum(isinstance(opened(case), bytes) for case in damaged) == GCM_DECRYPT[1]


def hkdf_cases() -> list[dict[str, str]]:
    """Return all published cases of HKDF-SHA256."""
    return [*cases("KDF/rfc-5869-HKDF-SHA256.txt"), *cases("KDF/hkdf-generated.txt")]


def test_hkdf_derives_what_rfc_5869_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both places where keys are derived, with the published info in place of ours: the first 32 bytes agree."""
    count = 0
    for case in hkdf_cases():
        info, salt, material = (bytes.fromhex(case[name]) for name in ("info", "salt", "IKM"))
        for key in derived(monkeypatch, material=material, salt=salt, info=info):
            assert key == bytes.fromhex(case["OKM"])[:32]
            count += 1
    assert count == HKDF


def test_ed25519_signs_and_verifies_as_its_authors_do() -> None:
    """Each published signature is the one we make and one that we believe; with one bit changed we do not."""
    lines = (FOLDER / "asymmetric/Ed25519/sign.input").read_text(encoding="ascii").splitlines()
    for line in lines:
        secret, public, text, signed, _ = line.split(":")
        signer, signature = NoteSigner("published", bytes.fromhex(secret)[:32]), bytes.fromhex(signed)[:64]
        key = VerifierKey("published", bytes.fromhex(public))
        assert signer.key == key
        made = signer.sign(Message(text + "\n")).splitlines()[-1].split(" ")[-1]
        assert base64.b64decode(made)[4:] == signature
        checkpoint._check(Message(text + "\n"), signature, key)
        with pytest.raises(AuditError):
            checkpoint._check(Message(text + "\n"), signature[:-1] + bytes([signature[-1] ^ 1]), key)
    assert len(lines) == ED25519
