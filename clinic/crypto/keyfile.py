"""`keys.json`: the sealed keyring and the slots that open it, as a value.

Rules kept here:

* Pure: bytes to value and back; unknown keys, unknown versions and wrong types are refused.
* Costs of the key derivation are bounded on both sides before any work is done, so a tampered file can neither weaken
  the passphrase nor exhaust the machine.
* A message names the key of the file that is wrong, never its content.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from clinic.crypto.aead import OVERHEAD
from clinic.crypto.secret import SlotKind
from clinic.errors import SealedError

MAX_FILE_BYTES = 64 * 1024
MAX_SLOTS = 8

_Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
_Salt = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_Wrapped = Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{2 * (OVERHEAD + 32)}}}$")]
_Sealed = Annotated[str, StringConstraints(pattern=r"^(?:[0-9a-f][0-9a-f])+$", max_length=32 * 1024)]
_Time = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Argon2idKdf(_Part):
    """How a passphrase becomes a wrapping key.  The lower bounds are the costs this program writes."""

    name: Literal["argon2id"] = "argon2id"
    memory_kib: Annotated[int, Field(ge=64 * 1024, le=1024 * 1024)] = 64 * 1024
    iterations: Annotated[int, Field(ge=3, le=10)] = 3
    lanes: Annotated[int, Field(ge=1, le=16)] = 4
    salt: _Salt


class HkdfKdf(_Part):
    """How 32 random bytes become a wrapping key."""

    name: Literal["hkdf-sha256"] = "hkdf-sha256"
    salt: _Salt


class Slot(_Part):
    """One way to open the keyring."""

    id: _Id
    kind: SlotKind
    created_at: _Time
    kdf: Annotated[Argon2idKdf | HkdfKdf, Field(discriminator="name")]
    wrapped: _Wrapped

    @model_validator(mode="after")
    def _kind_fits_kdf(self) -> Slot:
        if (self.kind is SlotKind.PASSPHRASE) is not isinstance(self.kdf, Argon2idKdf):
            raise ValueError("kind and kdf do not fit")
        datetime.fromisoformat(self.created_at)
        return self


class KeyFile(_Part):
    """The whole file."""

    format: Literal["clinic-keys"] = "clinic-keys"
    version: Literal[2] = 2
    id: _Id
    slots: Annotated[tuple[Slot, ...], Field(min_length=1, max_length=MAX_SLOTS)]
    keyring: _Sealed

    @model_validator(mode="after")
    def _slot_ids_are_unique(self) -> KeyFile:
        if len({slot.id for slot in self.slots}) != len(self.slots):
            raise ValueError("two slots have the same id")
        return self


def parse(data: bytes) -> KeyFile:
    """Read the file's bytes.

    Raises:
        SealedError: `key_file_damaged`, naming the first key that is wrong.
    """
    try:
        return KeyFile.model_validate_json(data)
    except ValidationError as exc:
        # Only the place: pydantic's own words may quote what stands there.
        where = ".".join(str(part) for part in exc.errors(include_input=False, include_url=False)[0]["loc"])
        raise damaged(
            f"key `{where}` is not valid" if where else "it is not the JSON that this program writes"
        ) from None


def render(file: KeyFile) -> bytes:
    """Return the bytes to write: indented, so that a person can see which slots there are."""
    return json.dumps(file.model_dump(mode="json"), indent=2).encode() + b"\n"


def damaged(problem: str) -> SealedError:
    """Return the error for a key file that cannot be trusted."""
    return SealedError(
        f"`keys.json` is damaged: {problem}",
        code="key_file_damaged",
        hint="restore `keys.json` from the last backup; nothing was changed",
    )
