"""The unlocked keys, in memory only.

Rules kept here:

* A keyring never shows, compares or pickles its keys; `handover` is the one way out, for a pipe to a child process.
* Every patient's data key (DEK) is random and wrapped by a versioned key-encryption key (KEK) for that patient only.
* Derived keys come from a root of their own: rotating the KEK changes none of them; no two purposes share a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from clinic.crypto.aead import (
    KEY_BYTES,
    VERSION,
    frame,
    header,
    key_id_bytes,
    key_id_of,
    new_key,
    open_blob,
    refusal,
    seal_blob,
)
from clinic.errors import SealedError

MAX_VERSIONS = 256
_HANDOVER = b"clinic-handover/1\n"
_WRAPPED = "a patient's wrapped key"
_ENTRY = 4 + KEY_BYTES


class Purpose(StrEnum):
    """What a derived key is for.  The values are part of the format."""

    AUDIT_PSEUDONYM = "audit-pseudonym"
    AUDIT_SIGNING = "audit-signing"
    BLIND_INDEX = "blind-index"
    SESSION = "session"
    LOCAL_CA = "local-ca"
    STAFF = "staff"
    BACKUP_IDENTITY = "backup-identity"
    BACKUP_SIGNING = "backup-signing"
    POLICY_SIGNING = "policy-signing"


class Keyring:
    """The clinic's keys, unlocked.  `key_id` is the KEK version that wraps new data keys."""

    __slots__ = ("__weakref__", "_keks", "_root", "key_id")

    def __init__(self, root: bytes, keks: Mapping[int, bytes], *, key_id: int) -> None:
        self._root = root
        self._keks = dict(keks)
        self.key_id = key_id

    def __repr__(self) -> str:
        return f"Keyring(key_id={self.key_id}, versions={self.versions})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a keyring is neither copied nor pickled; hand it over through a pipe")

    @property
    def versions(self) -> tuple[int, ...]:
        """The KEK versions that can still unwrap, oldest first."""
        return tuple(sorted(self._keks))

    @classmethod
    def generate(cls) -> Keyring:
        """Return a keyring of fresh random keys."""
        return cls(new_key(), {1: new_key()}, key_id=1)

    @property
    def wrapped_header(self) -> bytes:
        """The first bytes of every data key that is wrapped under the active KEK."""
        return header(self.key_id)

    def without_old_keks(self) -> Keyring:
        """Return a keyring with the active KEK only: what is wrapped under another one is lost for good."""
        return Keyring(self._root, {self.key_id: self._keks[self.key_id]}, key_id=self.key_id)

    def with_new_kek(self) -> Keyring:
        """Return a keyring that wraps under a fresh KEK and still unwraps under the old ones."""
        newest = max(self._keks) + 1
        return Keyring(self._root, {**self._keks, newest: new_key()}, key_id=newest)

    def new_dek(self, patient_id: str) -> tuple[bytes, bytes]:
        """Return a fresh data key for one patient, and its wrapped form for the database."""
        dek = new_key()
        return dek, self._wrap(patient_id, dek)

    def unwrap_dek(self, patient_id: str, wrapped: bytes) -> bytes:
        """Return the data key of `patient_id`.

        Raises:
            DecryptionError: damaged, another patient's, or wrapped under a KEK that this keyring does not hold.
        """
        key_id = key_id_of(wrapped, what=_WRAPPED)
        kek = self._keks.get(key_id)
        if kek is None:
            raise refusal(_WRAPPED)
        dek = open_blob(kek, wrapped, aad=_dek_context(patient_id, key_id), key_id=key_id, what=_WRAPPED)
        if len(dek) != KEY_BYTES:
            raise refusal(_WRAPPED)
        return dek

    def rewrap_dek(self, patient_id: str, wrapped: bytes) -> bytes:
        """Return the same data key wrapped under the active KEK (after a rotation)."""
        return self._wrap(patient_id, self.unwrap_dek(patient_id, wrapped))

    def derive(self, purpose: Purpose) -> bytes:
        """Return the 32-byte key for a purpose: always the same for the same clinic."""
        info = frame(b"clinic.derive", VERSION.to_bytes(1, "big"), purpose.value.encode())
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._root)

    def pack(self) -> bytes:
        """Return the keys as bytes, to be sealed; see FORMAT.md."""
        entries = [key_id_bytes(key_id) + self._keks[key_id] for key_id in self.versions]
        return b"".join([key_id_bytes(self.key_id), self._root, len(entries).to_bytes(4, "big"), *entries])

    @classmethod
    def unpack(cls, data: bytes) -> Keyring:
        """Read what `pack` wrote; ValueError (without the data) for anything else."""
        start = 4 + KEY_BYTES + 4
        active, root = int.from_bytes(data[:4], "big"), data[4 : 4 + KEY_BYTES]
        count = int.from_bytes(data[start - 4 : start], "big")
        if not 1 <= count <= MAX_VERSIONS or len(data) != start + count * _ENTRY:
            raise ValueError("not a keyring: wrong length")
        entries = [data[at : at + _ENTRY] for at in range(start, len(data), _ENTRY)]
        ids = [int.from_bytes(entry[:4], "big") for entry in entries]
        if ids != sorted(set(ids)) or active not in ids:
            raise ValueError("not a keyring: versions out of order")
        return cls(root, {key_id: entry[4:] for key_id, entry in zip(ids, entries, strict=True)}, key_id=active)

    def handover(self) -> bytes:
        """Return the keys in the clear, for an inherited pipe to a child process.  Never write them anywhere else."""
        return _HANDOVER + self.pack()

    @classmethod
    def from_handover(cls, data: bytes) -> Keyring:
        """Take over the keys that a parent process wrote into the pipe.

        Raises:
            SealedError: `handover_broken`.
        """
        try:
            return cls.unpack(data.removeprefix(_HANDOVER) if data.startswith(_HANDOVER) else b"")
        except ValueError:
            raise SealedError(
                "the keys did not arrive whole from the parent process",
                code="handover_broken",
                hint="start through `clinic serve`, or unlock this process itself",
            ) from None

    def _wrap(self, patient_id: str, dek: bytes) -> bytes:
        aad = _dek_context(patient_id, self.key_id)
        return seal_blob(self._keks[self.key_id], dek, aad=aad, key_id=self.key_id)


def _dek_context(patient_id: str, key_id: int) -> bytes:
    if not patient_id:
        raise ValueError("a data key needs a patient id")
    return frame(b"clinic.dek", VERSION.to_bytes(1, "big"), patient_id.encode(), key_id_bytes(key_id))
