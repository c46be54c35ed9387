"""What a backup says of itself: `manifest.age` and `deks.age` (`FORMAT.md`, sections 4 and 5).

Rules kept here:

* Both are signed by the clinic's backup key and name the backup that they belong to: a part of another backup does not
  fit.  `manifest.age` is never changed; `deks.age` is written anew when a patient is forgotten or a key changes.
* A patient whose key is not there is named under `forgotten`, by pseudonym: what is missing on purpose is told from
  what is lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import pyrage
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clinic.audit.checkpoint import NoteSigner, open_note
from clinic.backup.rows import damaged
from clinic.domain import canonical_json
from clinic.errors import AuditError, BackupError

MANIFEST: Final = "manifest.age"
DATA: Final = "data.age"
KEYS: Final = "keys.json"
DEKS: Final = "deks.age"
"""The last two lie in the folder of their generation (`keys_folder`), because they are only ever replaced together."""
FORMAT: Final = "clinic-backup-v1"
_DEKS_FORMAT: Final = "clinic-backup-deks-v1"
_HEX: Final = r"^[0-9a-f]{64}$"
_HEAD: Final = 4


class Manifest(BaseModel):
    """The unchanging part of what a backup says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    backup: str
    destination: str
    created_at: str
    program: str
    schema_revision: str
    origin: str
    entries: Annotated[int, Field(ge=1)]
    checkpoint: str
    patients: Annotated[int, Field(ge=0)]
    tables: Mapping[str, int]
    files: tuple[str, ...]
    plain_bytes: Annotated[int, Field(ge=0)]
    scratch_bytes: Annotated[int, Field(ge=0)]
    data_bytes: Annotated[int, Field(ge=0)]
    data_sha256: Annotated[str, Field(pattern=_HEX)]

    def pack(self, signer: NoteSigner) -> bytes:
        """Return it signed."""
        return signer.sign(canonical_json(self.model_dump(mode="json")).decode() + "\n").encode()


@dataclass(frozen=True, slots=True)
class Deks:
    """The wrapped keys of a backup's patients.

    Attributes:
        generation: counts how often the file was written, from 1.
        keys: patient id and wrapped key.
        forgotten: pseudonyms of the patients whose key was taken out.
        keys_sha256: of the `keys.json` beside it.
    """

    backup: str
    generation: int
    keys: Mapping[str, bytes] = field(repr=False)
    forgotten: frozenset[str]
    keys_sha256: str

    def pack(self, signer: NoteSigner) -> bytes:
        """Return it signed: the note says the digest of the body behind it."""
        body = canonical_json(
            {
                "keys": {patient: wrapped.hex() for patient, wrapped in self.keys.items()},
                "forgotten": sorted(self.forgotten),
                "keys_sha256": self.keys_sha256,
            }
        )
        text = f"{_DEKS_FORMAT}\n{self.backup}\n{self.generation}\n{hashlib.sha256(body).hexdigest()}\n"
        note = signer.sign(text).encode()
        return len(note).to_bytes(_HEAD, "big") + note + body


def keys_folder(generation: int) -> str:
    """Return the name of the folder of a generation of keys."""
    return f"keys-{generation:04d}"


def read_manifest(sealed: bytes, identity: pyrage.x25519.Identity, signer: NoteSigner) -> Manifest:
    """Open `manifest.age`.

    Raises:
        BackupError: `backup_foreign`, `backup_damaged`, `backup_newer`.
    """
    text = _note(_decrypt(sealed, identity, MANIFEST), signer, MANIFEST)
    try:
        document: Any = json.loads(text)
        if isinstance(document, dict) and document.get("format") != FORMAT:
            raise BackupError(
                "the backup is of a format that this program does not know",
                code="backup_newer",
                hint="it was made by a newer version: install that one to restore it",
            )
        return Manifest.model_validate(document)
    except (ValueError, ValidationError):
        raise damaged(MANIFEST, "it does not say what a manifest says") from None


def read_deks(sealed: bytes, identity: pyrage.x25519.Identity, signer: NoteSigner, *, backup: str) -> Deks:
    """Open `deks.age` of the backup with this id.

    Raises:
        BackupError: `backup_foreign`, `backup_damaged`.
    """
    plain = _decrypt(sealed, identity, DEKS)
    end = _HEAD + int.from_bytes(plain[:_HEAD], "big")
    text, body = _note(plain[_HEAD:end], signer, DEKS), plain[end:]
    try:
        name, owner, generation, digest = text.removesuffix("\n").split("\n")
        document: Any = json.loads(body)
        found = Deks(
            backup=owner,
            generation=int(generation),
            keys={str(patient): bytes.fromhex(wrapped) for patient, wrapped in document["keys"].items()},
            forgotten=frozenset(document["forgotten"]),
            keys_sha256=str(document["keys_sha256"]),
        )
    except (ValueError, LookupError, AttributeError, TypeError):
        raise damaged(DEKS, "it does not say what it should") from None
    if name != _DEKS_FORMAT or digest != hashlib.sha256(body).hexdigest():
        raise damaged(DEKS, "its signature is about something else")
    if owner != backup:
        raise damaged(DEKS, "it belongs to another backup")
    return found


def _decrypt(sealed: bytes, identity: pyrage.x25519.Identity, part: str) -> bytes:
    try:
        return bytes(pyrage.decrypt(sealed, [identity]))
    except pyrage.DecryptError as error:
        if "No matching keys" in str(error):
            raise foreign(part) from None
        raise damaged(part, "it was cut off or changed") from None


def foreign(part: str) -> BackupError:
    """Return the error for a part that this clinic's key does not open."""
    return BackupError(
        f"`{part}` of the backup is not for this clinic's key, or its beginning is damaged",
        code="backup_foreign",
        hint="is it another clinic's backup? Its own passphrase or recovery key opens it",
    )


def _note(note: bytes, signer: NoteSigner, part: str) -> str:
    try:
        return open_note(note.decode(), key=signer.key)
    except (AuditError, UnicodeDecodeError):
        raise damaged(part, "the clinic's signature on it does not hold") from None
