"""The container of an export: a tar archive of a manifest, proofs, and one line an entry (`FORMAT.md`, section 6).

Rules kept here:

* Manifest and lines have a closed set of keys; only the exact bytes that `line_of` writes are read back by `raw_of`.
* Reading gives raw entries, still to be verified; a line that is none is an AuditError, without its content.
* No I/O: encryption, files and verification are the business of `export.py` and `opened_export.py`.
"""

from __future__ import annotations

import base64
import json
import tarfile
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from clinic.audit.entry import RawEntry
from clinic.domain import canonical_json
from clinic.errors import AuditError

FORMAT: Final = "clinic-audit-export-v3"
MANIFEST: Final = "manifest.json"
PROOFS: Final = "proofs.jsonl"
ENTRIES: Final = "entries.jsonl"
TAR_END: Final = bytes(2 * tarfile.BLOCKSIZE)

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\z")]
Number = Annotated[int, Field(ge=1)]


class Manifest(BaseModel):
    """What an export holds: `before` is the compact Merkle tree in front of its first entry.

    `proofs` is the number of checkpoints that are shown to continue each other, its own the last of them; there were
    none before version 3.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["clinic-audit-export-v1", "clinic-audit-export-v2", "clinic-audit-export-v3"]
    origin: str
    vkey: str
    created_at: str
    first: Number
    last: Number
    count: Number
    before: tuple[Hash, ...]
    prev_hash: Hash
    head_hash: Hash
    entries_bytes: Number
    entries_sha256: Hash
    checkpoint: str
    proofs: Number | None = None

    @model_validator(mode="after")
    def _has_proofs_since_version_3(self) -> Self:
        if (self.proofs is None) == (self.format == FORMAT):
            raise ValueError("proofs are of version 3")
        return self

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the files of the archive, in their order."""
        return (MANIFEST, ENTRIES) if self.proofs is None else (MANIFEST, PROOFS, ENTRIES)

    def encoded(self) -> bytes:
        """Return the manifest as it stands in the archive."""
        return canonical_json(self.model_dump(mode="json", exclude_none=True)) + b"\n"


def tar_header(name: str, size: int) -> bytes:
    """Return the block(s) that stand before a file of the archive."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o600
    return info.tobuf(format=tarfile.PAX_FORMAT)


def tar_padding(size: int) -> bytes:
    """Return the zeros that fill a file's last block."""
    return bytes(-size % tarfile.BLOCKSIZE)


def line_of(raw: RawEntry) -> bytes:
    """Return the line for a verified entry; its body stands in the line as JSON, not as text."""
    texts = {"at": raw.at, "actor": raw.actor, "role": raw.role, "event": raw.event}
    values: dict[str, Any] = {name: value.decode() for name, value in texts.items()}
    values |= {"seq": raw.seq, "body": json.loads(raw.body), "prev_hash": raw.prev_hash.hex(), "hash": raw.hash.hex()}
    if raw.sealed is not None:
        values["sealed"] = base64.b64encode(raw.sealed).decode("ascii")
    return canonical_json(values) + b"\n"


def raw_of(line: bytes) -> RawEntry:
    """Read a line back."""
    try:
        raw = _parse(json.loads(line))
        same = line_of(raw) == line
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _not_an_entry() from None
    if not same:
        raise _not_an_entry()
    return raw


def _parse(values: Any) -> RawEntry:
    return RawEntry(
        seq=values["seq"],
        at=values["at"].encode(),
        actor=values["actor"].encode(),
        role=values["role"].encode(),
        event=values["event"].encode(),
        body=canonical_json(values["body"]),
        prev_hash=bytes.fromhex(values["prev_hash"]),
        hash=bytes.fromhex(values["hash"]),
        sealed=base64.b64decode(values["sealed"], validate=True) if "sealed" in values else None,
    )


def _not_an_entry() -> AuditError:
    return AuditError("a line of the export is not an audit entry", code="export_damaged")
