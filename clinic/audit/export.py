"""Exports: the log as one encrypted file that an auditor opens and verifies without us.

Rules kept here:

* Verified first: a log that does not verify is not exported.
* Recorded first: `log.exported` is committed before the file gets its name; no export exists that the log misses.
* The file appears whole or not at all, and nothing is ever overwritten (`export_out.py`).
* Plain bytes never touch the disk, and memory does not grow with the log: entries stream into age.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clinic.audit.entry import Entry, RawEntry, timestamp
from clinic.audit.events import AuditExported
from clinic.audit.export_file import ENTRIES, FORMAT, MANIFEST, TAR_END, Manifest, line_of, tar_header, tar_padding
from clinic.audit.export_out import OutFile, parse_recipients, require_free
from clinic.audit.fhir import audit_event_line
from clinic.audit.log import AuditLog
from clinic.audit.opened_export import OpenedExport, open_export
from clinic.domain import Actor, Clock, canonical_json, utc_now
from clinic.errors import AuditError, InputError

__all__ = ["Exported", "Manifest", "OpenedExport", "export", "open_export"]


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished export: where it lies, what it holds, its SHA-256, and the entry that records it."""

    path: Path
    manifest: Manifest
    sha256: str
    entry: Entry


def export(
    audit: AuditLog,
    recipients: Sequence[str],
    out: Path,
    *,
    actor: Actor,
    first: int = 1,
    last: int | None = None,
    as_fhir: bool = False,
    clock: Clock = utc_now,
) -> Exported:
    """Verify the log, write entries `first` to `last` for these age recipients, record the export, then name the file.

    With `as_fhir` the encrypted content is a line of FHIR R4 AuditEvent for each entry, instead of the archive.

    The entry `log.exported` is appended and confirmed here; it is never part of the export that it records.
    """
    keys = parse_recipients(recipients)
    require_free(out)
    size = _verified_size(audit)
    end = size if last is None else last
    if not 1 <= first <= end <= size:
        raise InputError("no such range of entries", code="range_invalid", hint=f"the log holds entries 1 to {size}")
    manifest = _survey(audit, first, end, created_at=timestamp(clock()))
    content = _fhir_lines(manifest, audit) if as_fhir else _archive(manifest, audit)
    with OutFile(out) as file:
        digest = file.fill(content, keys)
        event = AuditExported(first=first, last=end, sha256=digest, recipients=len(keys))
        entry = audit.append(event, actor=actor)
        audit.confirm(entry)
        file.publish()
    return Exported(path=out, manifest=manifest, sha256=digest, entry=entry)


def _verified_size(audit: AuditLog) -> int:
    report = audit.verify()
    if report.ok:
        return report.entries
    raise AuditError(
        f"the audit log does not verify, so it is not exported: {report.message}",
        code="audit_damaged",
        hint="keep the data folder as it is and run `clinic audit verify` with your last checkpoint",
    )


def _survey(audit: AuditLog, first: int, last: int, *, created_at: str) -> Manifest:
    """Go over the range once, for everything that must stand in front of the entries."""
    digest, size = hashlib.sha256(), 0
    prev_hash, head_hash = b"", b""
    for raw in audit.raw_entries(first=first, last=last):
        line = line_of(raw)
        digest.update(line)
        size += len(line)
        prev_hash = prev_hash or raw.prev_hash
        head_hash = raw.hash
    return Manifest(
        format=FORMAT,
        origin=audit.origin,
        vkey=audit.vkey,
        created_at=created_at,
        first=first,
        last=last,
        count=last - first + 1,
        before=tuple(peak.hex() for peak in audit.tree(first - 1).peaks),
        prev_hash=prev_hash.hex(),
        head_hash=head_hash.hex(),
        entries_bytes=size,
        entries_sha256=digest.hexdigest(),
        checkpoint=audit.checkpoint(size=last),
    )


def _archive(manifest: Manifest, audit: AuditLog) -> Iterator[bytes]:
    """Yield the tar archive piece by piece, without ever holding the entries."""
    described = canonical_json(manifest.model_dump(mode="json")) + b"\n"
    yield tar_header(MANIFEST, len(described)) + described + tar_padding(len(described))
    yield tar_header(ENTRIES, manifest.entries_bytes)
    for _, line in _unchanged(manifest, audit):
        yield line
    yield tar_padding(manifest.entries_bytes) + TAR_END


def _fhir_lines(manifest: Manifest, audit: AuditLog) -> Iterator[bytes]:
    for raw, _ in _unchanged(manifest, audit):
        yield audit_event_line(Entry.from_raw(raw), origin=audit.origin)


def _unchanged(manifest: Manifest, audit: AuditLog) -> Iterator[tuple[RawEntry, bytes]]:
    """Yield the rows with their lines; AuditError at the end unless they are those that were surveyed."""
    digest = hashlib.sha256()
    for raw in audit.raw_entries(first=manifest.first, last=manifest.last):
        line = line_of(raw)
        digest.update(line)
        yield raw, line
    if digest.hexdigest() != manifest.entries_sha256:
        raise AuditError("the audit log changed while it was exported", code="audit_damaged", hint="verify it")
