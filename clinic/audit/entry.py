"""One entry of the audit log: the record, its bytes and its hash.

Rules kept here (the layout is specified in `FORMAT.md`, section 2):

* The bytes of an entry are length-framed, so no two different entries have the same bytes.
* The hash of an entry is its RFC 6962 leaf hash: hash chain and Merkle tree are made of the same hashes.
* Every column except the hash itself goes into the hash, the previous entry's hash included.
* An entry with a sealed part is of version 2, one without of version 1: the hash says which, so that a sealed part can
  be neither taken away nor added afterwards.  Its plaintext is never needed to verify.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from clinic.audit.tree import leaf_hash

MAGIC: Final = b"clinic-audit-entry-v1\n"
MAGIC_SEALED: Final = b"clinic-audit-entry-v2\n"
MIN_SEALED: Final = 33
MAX_SEALED: Final = 65536
"""How long a sealed part is; the shortest blob (`crypto/FORMAT.md`, section 2) holds nothing."""
GENESIS: Final = bytes(32)
"""What the first entry names as the hash before it."""


class RawEntry(NamedTuple):
    """An entry exactly as stored, not yet believed: texts are still bytes, and nothing has been checked."""

    seq: int
    at: bytes
    actor: bytes
    role: bytes
    event: bytes
    body: bytes
    prev_hash: bytes
    hash: bytes
    sealed: bytes | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: `seq` counts from 1 without gaps, `at` is UTC with milliseconds, `body` the event's canonical JSON.

    `sealed` is what the entry says of a patient, under the patient's own key (`details.py`), or None.
    """

    seq: int
    at: str
    actor: str
    role: str
    event: str
    body: bytes
    prev_hash: bytes
    hash: bytes
    sealed: bytes | None = None

    def raw(self) -> RawEntry:
        """Return the entry as it is stored."""
        texts = (self.at.encode(), self.actor.encode(), self.role.encode(), self.event.encode())
        return RawEntry(self.seq, *texts, self.body, self.prev_hash, self.hash, self.sealed)

    @classmethod
    def from_raw(cls, raw: RawEntry) -> Entry:
        """Decode a stored entry; raises UnicodeDecodeError where a text is not UTF-8."""
        texts = (raw.at.decode(), raw.actor.decode(), raw.role.decode(), raw.event.decode())
        return cls(raw.seq, *texts, raw.body, raw.prev_hash, raw.hash, raw.sealed)


def entry_bytes(raw: RawEntry) -> bytes:
    """Return the bytes that are hashed: magic, then each field behind its length (4 bytes, big-endian)."""
    plain = (raw.seq.to_bytes(8, "big"), raw.prev_hash, raw.at, raw.actor, raw.role, raw.event, raw.body)
    magic, fields = (MAGIC, plain) if raw.sealed is None else (MAGIC_SEALED, (*plain, raw.sealed))
    return magic + b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def entry_hash(raw: RawEntry) -> bytes:
    """Return the hash that an entry with this content must carry."""
    return leaf_hash(entry_bytes(raw))


def timestamp(moment: datetime) -> str:
    """Return `2026-01-02T03:04:05.678Z` for a moment that knows its time zone."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
