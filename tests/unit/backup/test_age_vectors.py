"""The age testkit, one fault a file, through every place of ours that opens age files, and through the age tool.

Source and licence: `tests/vectors/published/README.md`.  Every file is tried.  99 of the 143 are for X25519 keys, the
only kind that we make or take; 25 are for passphrases and 19 for post-quantum keys: those must be refused, whole.
"""

from __future__ import annotations

import hashlib
import subprocess
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyrage
import pytest

from clinic.audit import opened_export
from clinic.backup import ageio, manifest
from clinic.errors import BackupError, ClinicError, InputError

FOLDER: Final = Path(__file__).resolve().parents[2] / "vectors" / "published" / "age"
HEADERS: Final = {"expect", "payload", "file key", "identity", "passphrase", "armored", "compressed", "comment"}
X25519: Final = {
    "success": 19,
    "no match": 4,
    "HMAC failure": 1,
    "header failure": 34,
    "payload failure": 19,
    "armor failure": 22,
}
OTHER_KEYS: Final = {"passphrase": 25, "post-quantum": 19}

OTHERWISE: Final = {
    # pyrage takes a stanza without its closing short line, as the first age files had.  The header's MAC holds all the
    # same, so nothing opens that was not sealed for us.
    "stanza_missing_body": "success",
    "stanza_missing_final_line": "success",
    # Armor is text for mail.  We write none, so refusing blank lines in front of it costs nothing.
    "armor_whitespace_outside": "refused",
}
"""Where pyrage's answer is not the testkit's, and why that harms nobody here."""

TOOL_OTHERWISE: Final = {"armor_empty_last_line": "success", "armor_whitespace_outside": "refused"}
"""The same of the tool, age 1.1.1: both are about armor."""


@dataclass(frozen=True, slots=True)
class Vector:
    """One file: what should come of it, the keys, and the age file itself."""

    name: str
    expect: str
    payload: str
    keys: tuple[str, ...]
    kind: str
    data: bytes

    @property
    def identities(self) -> list[pyrage.x25519.Identity]:
        """The keys, or one that fits nothing where there is none of our kind."""
        if self.kind != "X25519" or not self.keys:
            return [pyrage.x25519.Identity.generate()]
        return [pyrage.x25519.Identity.from_str(key) for key in self.keys]


def read_vector(path: Path) -> Vector:
    """Read a file of the testkit; an unknown header is fatal."""
    head, _, data = path.read_bytes().partition(b"\n\n")
    pairs = [line.split(": ", 1) for line in head.decode().splitlines()]
    headers = dict(pairs)
    if not set(headers) <= HEADERS:
        raise ValueError(f"headers: {sorted(headers)}")
    keys = tuple(value for name, value in pairs if name == "identity")
    kind = "passphrase" if "passphrase" in headers and not keys else "X25519"
    if any(key.startswith("AGE-SECRET-KEY-PQ-") for key in keys):
        kind = "post-quantum"
    if "compressed" in headers:
        data = zlib.decompress(data)
    return Vector(path.name, headers["expect"], headers.get("payload", ""), keys, kind, data)


Reader = Callable[[Vector, Path], bytes]
VECTORS: Final = [read_vector(path) for path in sorted(FOLDER.iterdir())]
OURS: Final = [vector for vector in VECTORS if vector.kind == "X25519"]
each_file = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)


def answer_of(vector: Vector) -> str:
    """Return what our readers must say: `success` or `refused`."""
    published = "success" if vector.expect == "success" and vector.kind == "X25519" else "refused"
    return OTHERWISE.get(vector.name, published)


def as_part_of_a_backup(vector: Vector, path: Path) -> bytes:
    """Read it as a backup's data are read, piece by piece."""
    pieces: list[bytes] = []
    written = ageio.read(path, vector.identities[0], pieces.append)
    assert written.sha256 == hashlib.sha256(vector.data).hexdigest()
    return b"".join(pieces)


def as_small_part_of_a_backup(vector: Vector, _path: Path) -> bytes:
    """Read it as a backup's manifest and keys are read, at once."""
    return manifest._decrypt(vector.data, vector.identities[0], "manifest.age")


def as_an_export(vector: Vector, path: Path) -> bytes:
    """Read it as an audit export is read."""
    return opened_export._decrypt(path, vector.identities).getvalue()


READERS: Final[list[Reader]] = [as_part_of_a_backup, as_small_part_of_a_backup, as_an_export]


def test_every_kind_of_file_is_there() -> None:
    """The numbers that stand in `docs/assurance.md`."""
    assert Counter(vector.expect for vector in OURS) == X25519
    assert Counter(vector.kind for vector in VECTORS if vector.kind != "X25519") == OTHER_KEYS
    assert len(VECTORS) == 143


@each_file
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_a_file_opens_whole_or_is_refused(vector: Vector, reader: Reader, tmp_path: Path) -> None:
    """What opens has the published content; what does not is an error of ours, with a code."""
    path = tmp_path / vector.name
    path.write_bytes(vector.data)
    if answer_of(vector) == "success":
        plain = reader(vector, path)
        assert not vector.payload or hashlib.sha256(plain).hexdigest() == vector.payload
    else:
        with pytest.raises(ClinicError) as caught:
            reader(vector, path)
        assert caught.value.code in {"backup_damaged", "backup_foreign", "export_unreadable", "export_damaged"}


@pytest.mark.parametrize("vector", [each for each in OURS if each.expect == "no match"], ids=lambda vector: vector.name)
def test_a_file_for_somebody_else_is_told_from_a_damaged_one(vector: Vector, tmp_path: Path) -> None:
    """The operator is told to look for another key, not for another disk."""
    path = tmp_path / vector.name
    path.write_bytes(vector.data)
    for reader in (as_part_of_a_backup, as_small_part_of_a_backup):
        with pytest.raises(BackupError) as caught:
            reader(vector, path)
        assert caught.value.code == "backup_foreign"


@each_file
def test_identity_files_hold_our_kind_of_key_only(vector: Vector) -> None:
    """The auditor's identity file is read to the last line, or refused whole."""
    if not vector.keys:
        return
    text = "\n".join(vector.keys)
    if vector.kind == "X25519":
        assert [str(found) for found in opened_export._identities(text)] == list(vector.keys)
    else:
        with pytest.raises(InputError) as caught:
            opened_export._identities(text)
        assert not any(key in repr(caught.value) + caught.value.hint for key in vector.keys)


def test_a_reader_that_keeps_what_age_hands_out_early_is_caught(tmp_path: Path) -> None:
    """Negative control: age gives out chunks before it has seen the end, so the error alone protects."""
    early = 0
    for vector in (each for each in OURS if each.expect == "payload failure"):
        path, pieces = tmp_path / vector.name, list[bytes]()
        path.write_bytes(vector.data)
        with pytest.raises(BackupError):
            ageio.read(path, vector.identities[0], pieces.append)
        early += bool(b"".join(pieces))
    assert early == 13


def test_the_age_tool_agrees(tmp_path: Path) -> None:
    """Debian's age, the tool that an auditor has, answers every file for X25519 keys alike but two."""
    otherwise = {}
    for vector in OURS:
        identity, path = tmp_path / "identity", tmp_path / vector.name
        identity.write_text("\n".join(vector.keys) + "\n")
        path.write_bytes(vector.data)
        command = ["age", "--decrypt", "-i", str(identity), str(path)]
        done = subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
        said = "refused" if done.returncode else "success"
        if said != ("success" if vector.expect == "success" else "refused"):
            otherwise[vector.name] = said
        elif said == "success":
            assert hashlib.sha256(done.stdout).hexdigest() == vector.payload
    assert otherwise == TOOL_OTHERWISE
