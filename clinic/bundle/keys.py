"""The builder's key: what signs bundles, and what a clinic compares by hand.

Rules kept here:

* The file is its owner's alone; with a passphrase it is useless without it (Argon2id, as the clinic's own keys).
* It signs bundles and nothing else: its name says so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from clinic.audit.checkpoint import NoteSigner
from clinic.crypto.aead import new_key
from clinic.crypto.durable import create_private, exclusive, read_private
from clinic.crypto.keyfile import KeyFile, Slot
from clinic.crypto.secret import Passphrase
from clinic.crypto.slots import unwrap_file_key, wrap_file_key
from clinic.domain import Clock, new_id, utc_now
from clinic.errors import SealedError

_PREFIX: Final = "clinic.local/bundle"
_LARGEST: Final = 16 * 1024


class _Stored(BaseModel):
    """The file: `seed` in the clear, or `slot`, which gives it for the passphrase."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["clinic-bundle-key-v1"] = "clinic-bundle-key-v1"
    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    vkey: str
    seed: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    slot: Slot | None = None


def signer_of(seed: bytes) -> NoteSigner:
    """Return the signer with this seed, named after its key."""
    fingerprint = hashlib.sha256(NoteSigner(name=_PREFIX, seed=seed).key.public).hexdigest()
    return NoteSigner(name=f"{_PREFIX}/{fingerprint[:16]}", seed=seed)


def create_key(path: Path, passphrase: Passphrase | None, *, clock: Clock = utc_now) -> NoteSigner:
    """Write a new key.

    Raises:
        ConfigError: `keys_exist`, `home_missing`.
        InputError: `weak_passphrase`.
    """
    seed, file_id = new_key(), new_id()
    signer = signer_of(seed)
    stored = _Stored(
        id=file_id,
        vkey=str(signer.key),
        seed=seed.hex() if passphrase is None else None,
        slot=None if passphrase is None else wrap_file_key(seed, passphrase, file_id=file_id, at=clock()),
    )
    with exclusive(path.parent):
        create_private(path, stored.model_dump_json(indent=1, exclude_none=True).encode() + b"\n")
    return signer


def needs_passphrase(path: Path) -> bool:
    """Tell whether the key in this file is sealed."""
    return _read(path).slot is not None


def load_key(path: Path, passphrase: Passphrase | None) -> NoteSigner:
    """Return the signer.

    Raises:
        SealedError: `key_missing`, `key_wrong`, `key_file_exposed`, `key_file_unreadable`, `key_malformed`.
    """
    stored = _read(path)
    if stored.slot is None and stored.seed is not None:
        return signer_of(bytes.fromhex(stored.seed))
    if stored.slot is None or passphrase is None:
        raise SealedError("the key is sealed", code="sealed", hint="give its passphrase at the terminal, or pipe it in")
    try:
        # The slot is one of a key file's; `keyring` stays empty, for the seed itself is what it wraps.
        seed, _ = unwrap_file_key(KeyFile(id=stored.id, slots=(stored.slot,), keyring="00"), passphrase)
    except SealedError:
        raise SealedError(
            "the passphrase does not open the builder's key",
            code="key_wrong",
            hint="check Caps Lock; there is no way back",
        ) from None
    return signer_of(seed)


def _read(path: Path) -> _Stored:
    try:
        return _Stored.model_validate_json(read_private(path, max_bytes=_LARGEST))
    except ValidationError:
        raise SealedError(
            f"`{path}` is no builder's key", code="key_malformed", hint="`clinic bundle key` makes one"
        ) from None
