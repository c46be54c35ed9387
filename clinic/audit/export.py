"""Exports: the log as one encrypted file that an auditor opens and verifies without us.

Rules kept here:

* Verified first: a log that does not verify is not exported.
* Recorded first: `log.exported` is committed before the file gets its name; no export exists that the log misses.
* The file appears whole or not at all (temporary name, fsync, rename; mode 0600); nothing is ever overwritten.
* Plain bytes never touch the disk: they stream into age (X25519 recipients).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from pathlib import Path

import pyrage

from clinic.audit.entry import Entry, RawEntry, timestamp
from clinic.audit.events import AuditExported
from clinic.audit.export_file import ENTRIES, FORMAT, MANIFEST, TAR_END, Manifest, line_of, tar_header, tar_padding
from clinic.audit.fhir import audit_event_line
from clinic.audit.log import AuditLog
from clinic.audit.opened_export import OpenedExport, open_export
from clinic.domain import Actor, Clock, canonical_json, new_id, utc_now
from clinic.errors import AuditError, InputError, StorageError

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
    keys = _recipients(recipients)
    if out.exists() or out.is_symlink():
        raise InputError("there is a file of that name already", code="output_exists", hint="choose another name")
    size = _verified_size(audit)
    end = size if last is None else last
    if not 1 <= first <= end <= size:
        raise InputError("no such range of entries", code="range_invalid", hint=f"the log holds entries 1 to {size}")
    manifest = _survey(audit, first, end, created_at=timestamp(clock()))
    part = out.with_name(f".{out.name}.{new_id()}.part")
    try:
        content = _fhir_lines(manifest, audit) if as_fhir else _archive(manifest, audit)
        digest = _write(part, content, keys)
        event = AuditExported(first=first, last=end, sha256=digest, recipients=len(keys))
        entry = audit.append(event, actor=actor)
        audit.confirm(entry)
        _publish(part, out)
    finally:
        part.unlink(missing_ok=True)
    return Exported(path=out, manifest=manifest, sha256=digest, entry=entry)


def _recipients(recipients: Sequence[str]) -> list[pyrage.x25519.Recipient]:
    unique = dict.fromkeys(recipient.strip() for recipient in recipients)
    hint = "an age recipient starts with `age1`; the auditor makes one with `age-keygen`"
    if not unique:
        raise InputError("an export needs at least one recipient", code="recipient_invalid", hint=hint)
    try:
        return [pyrage.x25519.Recipient.from_str(recipient) for recipient in unique]
    except pyrage.RecipientError:
        raise InputError("not an age recipient", code="recipient_invalid", hint=hint) from None


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


# --- files: age flattens the errors of what it reads from and writes to, so both ends keep them ------


class _Reader:
    """What age reads from: an iterator as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""
        self.failure: AuditError | None = None

    def read(self, size: int) -> bytes:
        try:
            while len(self._rest) < size:
                self._rest += next(self._pieces)
        except StopIteration:
            pass  # the rest is all there is
        except AuditError as error:
            self.failure = error
            raise
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


class _Writer:
    """What age writes to: a new file, and its SHA-256 on the way."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._digest = hashlib.sha256()
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self.failure = error
            raise
        self._digest.update(data[:written])
        return written

    def flush(self) -> None:
        """Nothing is held back."""

    def finish(self) -> str:
        """Make the file durable and return its SHA-256."""
        os.fsync(self._fd)
        return self._digest.hexdigest()

    def close(self) -> None:
        os.close(self._fd)


def _write(part: Path, archive: Iterator[bytes], keys: list[pyrage.x25519.Recipient]) -> str:
    reader = _Reader(archive)
    try:
        writer = _Writer(part)
    except OSError as error:
        raise _unwritable(error) from error
    try:
        pyrage.encrypt_io(reader, writer, keys)
        # pyrage 1.4.0 loses an error met while it writes the last chunk: the export would be cut off, silently.
        if writer.failure is not None:
            raise writer.failure
        return writer.finish()
    except pyrage.EncryptError:
        raise reader.failure or _unwritable(writer.failure) from None
    except OSError as error:
        raise _unwritable(error) from error
    finally:
        writer.close()


def _publish(part: Path, out: Path) -> None:
    """Give the finished file its name, durably."""
    try:
        part.rename(out)
        folder = os.open(out.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(cause: OSError | None) -> StorageError | InputError:
    if cause is not None and cause.errno in {ENOSPC, EDQUOT}:
        return StorageError("there is no room for the export", hint="free some space, or choose another disk")
    hint = "does the folder exist, and may you write to it?"
    return InputError("the export cannot be written there", code="output_unwritable", hint=hint)
