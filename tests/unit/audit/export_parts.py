"""An auditor of the tests, with both verifiers; and a way to take an export apart and encrypt other content to it.

age proves nothing about who wrote a file: whoever knows the auditor's public key can do the same.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import pyrage

from clinic.audit.export import open_export
from clinic.audit.export_file import TAR_END, tar_header, tar_padding
from clinic.domain import canonical_json
from clinic.errors import ClinicError

PROGRAM = Path(__file__).resolve().parents[3] / "deploy" / "verify_export.py"
SCRIPT: dict[str, Any] = {"__name__": "verify_export"}
exec(compile(PROGRAM.read_text("utf-8"), str(PROGRAM), "exec"), SCRIPT)  # noqa: S102 - the script under test

KEY = pyrage.x25519.Identity.generate()
IDENTITY = f"# created: today\n# public key: {KEY.to_public()}\n{KEY}\n"
RECIPIENT = str(KEY.to_public())


@dataclass(frozen=True, slots=True)
class Parts:
    """Manifest, proofs (None before version 3) and entries; the last two as lines."""

    manifest: dict[str, Any]
    proofs: list[bytes] | None
    lines: list[bytes]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Take an export apart."""
        with tarfile.open(fileobj=io.BytesIO(pyrage.decrypt(path.read_bytes(), [KEY]))) as archive:
            files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
            found = {name: file.read() for name, file in files.items() if file is not None}
        proofs = found.get("proofs.jsonl")
        return cls(
            json.loads(found["manifest.json"]),
            None if proofs is None else proofs.splitlines(keepends=True),
            found["entries.jsonl"].splitlines(keepends=True),
        )

    def but(self, **changes: Any) -> Self:
        """Return it with other lines, or (`manifest=`) other values in the manifest."""
        manifest = self.manifest | changes.pop("manifest", {})
        return replace(self, manifest=manifest, **changes)

    def fitted(self, lines: list[bytes]) -> Self:
        """Return other entries with a manifest that fits them in all that needs no signing key."""
        entries, first, last = b"".join(lines), json.loads(lines[0]), json.loads(lines[-1])
        described = {
            "first": first["seq"],
            "last": last["seq"],
            "count": len(lines),
            "prev_hash": first["prev_hash"],
            "head_hash": last["hash"],
            "entries_bytes": len(entries),
            "entries_sha256": hashlib.sha256(entries).hexdigest(),
        }
        return self.but(manifest=described, lines=lines)

    def members(self) -> list[tuple[str, bytes]]:
        """Return the files of the archive."""
        described = ("manifest.json", canonical_json(self.manifest) + b"\n")
        proofs = [] if self.proofs is None else [("proofs.jsonl", b"".join(self.proofs))]
        return [described, *proofs, ("entries.jsonl", b"".join(self.lines))]

    def write(self, path: Path) -> Path:
        """Encrypt it to the auditor."""
        return write(path, self.members())


def write(path: Path, members: list[tuple[str, bytes]], *, end: bytes = TAR_END) -> Path:
    """Encrypt files to the auditor."""
    files = (tar_header(name, len(data)) + data + tar_padding(len(data)) for name, data in members)
    path.write_bytes(pyrage.encrypt(b"".join(files) + end, [KEY.to_public()]))
    return path


def verdict(path: Path, *, vkey: str | None, seen: Sequence[str] = ()) -> tuple[str, int | None]:
    """Return what the script says: `ok`, or problem and first bad entry."""
    identity, *notes = map(_Text, (IDENTITY, *seen))
    try:
        SCRIPT["run"](SCRIPT["argparse"].Namespace(file=path, identity=identity, vkey=vkey, seen=notes))
    except SCRIPT["Refused"] as refused:
        problem, _, entry = refused.args
        return problem, entry
    return "ok", None


@dataclass(frozen=True, slots=True)
class _Text:
    """What stands for a small file."""

    text: str

    def read_text(self) -> str:
        return self.text


def verdict_of_the_program(path: Path, *, vkey: str | None, seen: Sequence[str] = ()) -> tuple[str, int | None]:
    """Return what `clinic audit open` says: `ok`, or problem and first bad entry; or the code of an error."""
    try:
        report = open_export(path, IDENTITY, vkey=vkey, seen=seen).report
    except ClinicError as error:
        return error.code, None
    return ("ok" if report.problem is None else report.problem.value), report.first_bad


SAME = {
    "proof": {"proof_invalid", "manifest"},
    "undecided": {"checkpoint_not_covered"},
    "checkpoint": {"checkpoint_signature", "checkpoint_malformed"},
    "manifest": {"manifest", "export_damaged"},
    "key": {"checkpoint_malformed"},
}
"""What the one calls otherwise than the other; `export_damaged` is also what the program says where a form is wrong."""


def both(path: Path, *, vkey: str | None, seen: Sequence[str] = ()) -> str:
    """Return what the script says, once the program is found to say the same."""
    (problem, entry), theirs = (look(path, vkey=vkey, seen=seen) for look in (verdict, verdict_of_the_program))
    assert (problem == "ok") == (theirs[0] == "ok"), (problem, theirs)
    assert theirs[0] in SAME.get(problem, {problem}) | {"export_damaged"} or problem == "malformed", (problem, theirs)
    assert theirs[0] == "export_damaged" or theirs[1] == entry, (problem, entry, theirs)
    return problem


def flipped(data: bytes, place: int, bit: int = 0) -> bytes:
    """Change one bit."""
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
