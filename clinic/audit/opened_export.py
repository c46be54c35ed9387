"""Opening an export: decrypt, then believe nothing until it is verified.

Rules kept here:

* Plain bytes stay in memory; a file that is cut off or changed anywhere gives an error, never a part of its entries.
* What was decrypted is verified as `verify.py` does, against the checkpoint inside and any that the auditor holds.
* Without the clinic's public key from elsewhere, an export only vouches for itself: `key_known` says which it is.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyrage
from pydantic import ValidationError

from clinic.audit.entry import Entry, RawEntry
from clinic.audit.export_file import Manifest, raw_of
from clinic.audit.verify import Problem, Start, VerifyReport, verify_log
from clinic.errors import AuditError, InputError


class ExportedEntries:
    """The entries of an opened export, decoded one by one as they are asked for."""

    def __init__(self, lines: bytes, count: int) -> None:
        self._lines = lines
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        return map(Entry.from_raw, _rows(self._lines))


@dataclass(frozen=True, slots=True)
class OpenedExport:
    """A decrypted export.  `entries` is empty unless the report is ok.

    `key_known` says whether whoever opened it gave the signing key; otherwise only the export itself vouches for it,
    and `manifest.vkey` must be compared with the key that the clinic handed out.
    """

    manifest: Manifest
    entries: ExportedEntries
    report: VerifyReport
    key_known: bool


def open_export(path: Path, identity: str, *, vkey: str | None = None, seen: Sequence[str] = ()) -> OpenedExport:
    """Decrypt an export with the text of an age identity file and verify it, without any database.

    `vkey` is the clinic's public key as the auditor knows it; `seen` are earlier checkpoints of the same log: it must
    continue each of them, which its entries or its proofs show.
    """
    manifest, proofs, lines = _unpack(_decrypt(path, _identities(identity)))
    report = _verify(manifest, proofs, lines, vkey=manifest.vkey if vkey is None else vkey, seen=seen)
    entries = ExportedEntries(lines, manifest.count) if report.ok else ExportedEntries(b"", 0)
    return OpenedExport(manifest=manifest, entries=entries, report=report, key_known=vkey is not None)


def _identities(text: str) -> list[pyrage.x25519.Identity]:
    lines = (line.strip() for line in text.splitlines())
    try:
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except pyrage.IdentityError:
        found = []
    if not found:
        hint = "give the file that `age-keygen` wrote; its key line starts with `AGE-SECRET-KEY-1`"
        raise InputError("not an age identity file", code="identity_invalid", hint=hint)
    return found


def _decrypt(path: Path, identities: list[pyrage.x25519.Identity]) -> io.BytesIO:
    plain = io.BytesIO()
    try:
        source = path.open("rb")
    except OSError:
        raise InputError("the export cannot be read", code="export_unreadable", hint="does the file exist?") from None
    with source:
        try:
            # age hands out plaintext before it has seen the end; nothing of `plain` is used unless this call returns.
            pyrage.decrypt_io(source, plain, identities)
        except pyrage.DecryptError:
            hint = "is this the identity of one of its recipients, and the file complete?"
            raise InputError("this identity does not open the export", code="export_unreadable", hint=hint) from None
        except OSError:
            raise _damaged("the export is damaged or cut off") from None
    return plain


def _unpack(plain: io.BytesIO) -> tuple[Manifest, bytes, bytes]:
    """Return manifest, proofs and entries of the archive, which holds nothing else."""
    plain.seek(0)
    try:
        with tarfile.open(fileobj=plain, mode="r:") as archive:
            described, *rest = ((member.name, _content(archive, member)) for member in archive.getmembers())
            end = archive.offset
        manifest = Manifest.model_validate_json(described[1])
    except (tarfile.TarError, ValidationError, ValueError, OSError):
        raise _damaged("the file is not an audit export, or of another version") from None
    names = (described[0], *(name for name, _ in rest))
    is_canonical = described[1] in {manifest.encoded(), manifest.encoded().removesuffix(b"\n")}
    if names != manifest.members or not is_canonical or bytes(plain.getbuffer()[end:]).strip(b"\0"):
        raise _damaged("the file is not an audit export")
    return manifest, b"" if manifest.proofs is None else rest[0][1], rest[-1][1]


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = archive.extractfile(member)
    return source.read() if source is not None else b""


def _rows(lines: bytes) -> Iterator[RawEntry]:
    return map(raw_of, io.BytesIO(lines))


def _verify(manifest: Manifest, proofs: bytes, lines: bytes, *, vkey: str, seen: Sequence[str]) -> VerifyReport:
    before = tuple(bytes.fromhex(peak) for peak in manifest.before)
    try:
        start = Start(seq=manifest.first, prev_hash=bytes.fromhex(manifest.prev_hash), peaks=before)
    except ValueError:
        raise _damaged("the manifest of the export contradicts itself") from None
    checkpoints, links = (manifest.checkpoint, *seen), proofs.splitlines(keepends=True)
    report = verify_log(_rows(lines), vkey=vkey, checkpoints=checkpoints, start=start, links=links)
    fits = manifest.vkey == vkey.strip() and len(links) == (manifest.proofs or 0) and _fits(manifest, lines, report)
    if not report.ok or fits:
        return report
    message = "the manifest of the export does not fit what it describes"
    return replace(report, ok=False, problem=Problem.MANIFEST, message=message)


def _fits(manifest: Manifest, lines: bytes, report: VerifyReport) -> bool:
    """Compare everything that the manifest says of the entries with what was found."""
    return (
        manifest.count == report.entries == manifest.last - manifest.first + 1
        and manifest.head_hash == report.head_hash.hex()
        and manifest.entries_bytes == len(lines)
        and manifest.entries_sha256 == hashlib.sha256(lines).hexdigest()
        # The checkpoint inside must be about exactly these entries: an older one would leave the tail unsigned.
        and manifest.checkpoint.startswith(f"{manifest.origin}\n{manifest.last}\n")
    )


def _damaged(message: str) -> AuditError:
    hint = "fetch the file again and compare its SHA-256 with the one in the clinic's log"
    return AuditError(message, code="export_damaged", hint=hint)
