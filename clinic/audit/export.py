"""Exports: the log as one encrypted file that an auditor opens and verifies without us.

Rules kept here:

* Verified first: a log that does not verify is not exported.
* Proved: it leads to its checkpoint from every earlier one that somebody may hold, as far as the log knows.
* Recorded first: `log.exported` is committed before the file gets its name; no export exists that the log misses.
* The file appears whole or not at all, and nothing is ever overwritten (`export_out.py`).
* Plain bytes never touch the disk, and memory does not grow with the log: entries stream into age.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from clinic.audit.checkpoint import open_checkpoint
from clinic.audit.consistency import rolled_back
from clinic.audit.entry import Entry, RawEntry, timestamp
from clinic.audit.events import AuditExported, WitnessAdded, from_canonical
from clinic.audit.export_file import (
    ENTRIES,
    FORMAT,
    MANIFEST,
    PROOFS,
    TAR_END,
    Manifest,
    line_of,
    tar_header,
    tar_padding,
)
from clinic.audit.export_out import OutFile, parse_recipients, require_free
from clinic.audit.fhir import audit_event_line
from clinic.audit.links import Followed, Link
from clinic.audit.log import AuditLog
from clinic.audit.opened_export import OpenedExport, open_export
from clinic.audit.paths import consistency_spans
from clinic.audit.tree import HASH_BYTES
from clinic.domain import Actor, Clock, utc_now
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
    seen: Sequence[int] = (),
    as_fhir: bool = False,
    clock: Clock = utc_now,
) -> Exported:
    """Verify the log, write entries `first` to `last` for these age recipients, record the export, then name the file.

    Proofs lead to its checkpoint from each that the log keeps, that went out with an export or came back from a
    witness, and from those over `seen` entries.

    With `as_fhir` the encrypted content is a line of FHIR R4 AuditEvent for each entry, instead of the archive.

    The entry `log.exported` is appended and confirmed here; it is never part of the export that it records.
    """
    keys = parse_recipients(recipients)
    require_free(out)
    size = _verified_size(audit)
    end = size if last is None else last
    if not 1 <= first <= end <= size:
        raise InputError("no such range of entries", code="range_invalid", hint=f"the log holds entries 1 to {size}")
    seen_by = _seen_by(end, size, seen)
    sizes = (end,) if as_fhir else _provable(audit, end, seen_by)
    manifest = _survey(audit, first, end, created_at=timestamp(clock()), proofs=len(sizes))
    content = _fhir_lines(manifest, audit) if as_fhir else _archive(manifest, audit, sizes)
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


def _seen_by(last: int, size: int, seen: Sequence[int]) -> set[int]:
    """Return what was seen; what was seen of a longer log than this cannot be proved."""
    longest, shortest = max(seen, default=1), min(seen, default=1)
    if longest > size:
        raise rolled_back(longest, size)
    if not 1 <= shortest <= longest <= last:
        hint = f"of the {last} entries that it covers, or fewer"
        raise InputError("an export proves growth from an earlier checkpoint", code="range_invalid", hint=hint)
    return set(seen)


def _provable(audit: AuditLog, last: int, seen: set[int]) -> tuple[int, ...]:
    """Return the sizes of the checkpoints over up to `last` entries that are known to be somewhere."""
    sizes = {last} | seen | {kept.size for kept in audit.kept_checkpoints()}
    for entry in audit.named(AuditExported.name, WitnessAdded.name):
        event = from_canonical(entry.event, entry.body)
        sizes |= {event.last} if isinstance(event, AuditExported) else set()
        sizes |= {event.entries} if isinstance(event, WitnessAdded) else set()
    return tuple(sorted(size for size in sizes if 0 < size <= last))


def _survey(audit: AuditLog, first: int, last: int, *, created_at: str, proofs: int) -> Manifest:
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
        proofs=proofs,
    )


def _archive(manifest: Manifest, audit: AuditLog, sizes: Sequence[int]) -> Iterator[bytes]:
    """Yield the tar archive piece by piece, without ever holding the entries."""
    yield from _member(MANIFEST, len(manifest.encoded()), [manifest.encoded()])
    yield from _member(PROOFS, _length_of_proofs(manifest, sizes), _proofs(manifest, audit, sizes))
    yield from _member(ENTRIES, manifest.entries_bytes, (line for _, line in _unchanged(manifest, audit)))
    yield TAR_END


def _member(name: str, size: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield tar_header(name, size)
    yield from pieces
    yield tar_padding(size)


def _length_of_proofs(manifest: Manifest, sizes: Sequence[int]) -> int:
    """Return how long the proofs will be: their notes are as long as the last one but for the number in it."""
    total = 0
    for older, newer in pairwise((0, *sizes)):
        note = manifest.checkpoint.replace(f"\n{manifest.last}\n", f"\n{newer}\n", 1)
        path = len(consistency_spans(older, newer)) if older else 0
        total += len(Link(note, (bytes(HASH_BYTES),) * path).line())
    return total


def _proofs(manifest: Manifest, audit: AuditLog, sizes: Sequence[int]) -> Iterator[bytes]:
    """Yield the proofs, each believed as a reader will believe it."""
    followed = Followed(manifest.vkey)
    for link in audit.links(sizes):
        followed.add(link)
        yield link.line()
    if followed.newest != open_checkpoint(manifest.checkpoint, vkey=manifest.vkey):
        raise _changed()


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
        raise _changed()


def _changed() -> AuditError:
    return AuditError("the audit log changed while it was exported", code="audit_damaged", hint="verify it")
