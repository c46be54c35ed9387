"""Unlock slots: each wraps the same file key, each under another secret.

Rules kept here:

* Pure; everything that a slot says about itself (kind, date, derivation and its costs) is authenticated with it.
* A wrong secret and a slot that was tampered with give the same answer; a passphrase costs the same work even when the
  file holds no passphrase slot.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from clinic.crypto.aead import KEY_BYTES, VERSION, frame, open_blob, seal_blob
from clinic.crypto.keyfile import Argon2idKdf, HkdfKdf, KeyFile, Slot
from clinic.crypto.secret import Passphrase, SlotKind, UnlockSecret
from clinic.domain import canonical_json, new_id
from clinic.errors import DecryptionError, SealedError

_SALT_BYTES = 32
_HINT_TYPED = "check Caps Lock and the keyboard layout; two of the three recovery sheets open it as well"
_HINT_HELD = "it belongs to another keyring or was replaced; try another key that you have for this one"
_UNSET = "00" * (KEY_BYTES + 33)


def wrap_file_key(file_key: bytes, secret: UnlockSecret, *, file_id: str, at: datetime) -> Slot:
    """Return a new slot that gives `file_key` back to whoever holds `secret`."""
    if isinstance(secret, Passphrase):
        secret.require_strength()
    salt = os.urandom(_SALT_BYTES).hex()
    slot = Slot(
        id=new_id(),
        kind=SlotKind(secret.kind),
        created_at=at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        kdf=Argon2idKdf(salt=salt) if isinstance(secret, Passphrase) else HkdfKdf(salt=salt),
        wrapped=_UNSET,
    )
    wrapping_key = _derive(secret, slot.kdf)
    wrapped = seal_blob(wrapping_key, file_key, aad=_slot_context(slot, file_id), key_id=0)
    return slot.model_copy(update={"wrapped": wrapped.hex()})


def unwrap_file_key(file: KeyFile, secret: UnlockSecret) -> tuple[bytes, Slot]:
    """Return the file key and the slot that gave it.

    Raises:
        SealedError: `key_wrong`.
    """
    candidates = [slot for slot in file.slots if slot.kind == secret.kind]
    if isinstance(secret, Passphrase) and not candidates:
        _derive(secret, Argon2idKdf(salt="00" * _SALT_BYTES))  # the same wait as for a wrong passphrase
    for slot in candidates:
        wrapping_key = _derive(secret, slot.kdf)
        try:
            aad = _slot_context(slot, file.id)
            return open_blob(wrapping_key, bytes.fromhex(slot.wrapped), aad=aad, key_id=0, what="the slot"), slot
        except DecryptionError:
            continue
    raise SealedError(
        "this key does not open the clinic's keyring",
        code="key_wrong",
        hint=_HINT_TYPED if isinstance(secret, Passphrase) else _HINT_HELD,
    )


def _derive(secret: UnlockSecret, kdf: Argon2idKdf | HkdfKdf) -> bytes:
    salt = bytes.fromhex(kdf.salt)
    if isinstance(kdf, Argon2idKdf):
        return Argon2id(
            salt=salt, length=KEY_BYTES, iterations=kdf.iterations, lanes=kdf.lanes, memory_cost=kdf.memory_kib
        ).derive(secret.material)
    info = frame(b"clinic.slot-key", VERSION.to_bytes(1, "big"), secret.kind.encode())
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret.material)


def _slot_context(slot: Slot, file_id: str) -> bytes:
    described = canonical_json(slot.model_dump(mode="json", exclude={"wrapped"}))
    return frame(b"clinic.slot", VERSION.to_bytes(1, "big"), file_id.encode(), described)
