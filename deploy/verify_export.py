#!/usr/bin/env python3
"""Verify an export of a clinic's audit log, alone: read this first, then run it on a machine of your own.

    python3 verify_export.py audit.age --identity auditor.key --vkey 'clinic.local/...' [--checkpoint FILE]...

It needs Python 3.11 and the `cryptography` package, and shares no code with the clinic's program: the formats are those
of `clinic/audit/FORMAT.md`, age (age-encryption.org/v1), RFC 6962 and C2SP signed notes.  It writes nothing; what it
verified is then read with `age -d -i auditor.key audit.age | tar xO entries.jsonl`.

`--vkey` is the clinic's audit key as you got it in another way: without it an export vouches only for itself.
Exit: 0 verified; 1 refused, with the first bad entry where one can be named; 2 usage; 3 whole, but no key was given.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import io
import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

FIELDS = {"at", "actor", "role", "event", "body", "prev_hash", "hash", "seq"}
MANIFEST = {"format", "origin", "vkey", "created_at", "first", "last", "count", "before", "prev_hash", "head_hash"}
MANIFEST |= {"entries_bytes", "entries_sha256", "checkpoint"}
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
CHUNK = 64 * 1024
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
LONGEST = 1 << 20  # of a header, a manifest, a line: more is none of ours


class Refused(Exception):  # noqa: N818 - it is a verdict
    """The export is not what it must be; `entry` is the first bad one, where one can be named."""

    def __init__(self, problem: str, message: str, entry: int | None = None) -> None:
        super().__init__(message)
        self.problem, self.entry = problem, entry


def read_identity(text: str) -> bytes:
    """Return the secret key of an `age-keygen` file (bech32, BIP 173)."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    key = lines[0].lower() if len(lines) == 1 else ""
    prefix, _, data = key.rpartition("1")
    values = [BECH32.find(letter) for letter in data]
    check, number = 1, 0
    for value in [*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix), *values]:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term if top >> bit & 1 else 0
    for value in values[:-6]:
        number = number << 5 | value
    if prefix != "age-secret-key-" or -1 in values or check != 1 or len(values) != 58:  # noqa: PLR2004 - 52 fives and 6
        raise Refused("identity", "the identity file must hold one AGE-SECRET-KEY-1..., and it is mistyped or missing")
    return (number >> 4).to_bytes(32, "big")


def unbase64(text: str, *, padded: bool = True) -> bytes:
    """Read base64 in its only form; age leaves the padding away."""
    data = base64.b64decode(text + ("" if padded else "=" * (-len(text) % 4)), validate=True)
    again = base64.b64encode(data).decode()
    if (again if padded else again.rstrip("=")) != text:
        raise ValueError
    return data


def derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Return 32 bytes of HKDF-SHA-256 (RFC 5869)."""
    return hmac.digest(hmac.digest(salt or bytes(32), secret, "sha256"), info + b"\x01", "sha256")


def open_header(file: BinaryIO, secret: bytes) -> bytes:
    """Return the file key that a stanza of the header holds for this identity, once the header's MAC is right."""
    header, line = b"", b""
    while not line.startswith(b"--- "):
        line = file.readline(LONGEST)
        header += line
        if not line or len(header) > LONGEST:
            raise Refused("age", "not an age file, or cut off in its header")
    found = re.fullmatch(
        r"age-encryption\.org/v1\n((-> .+\n([A-Za-z0-9+/]*\n)+)+)--- (.{43})\n", header.decode("ascii")
    )
    stanzas = re.findall(r"-> X25519 ([A-Za-z0-9+/]{43})\n([A-Za-z0-9+/]{43})\n", found[1] if found else "")
    keys = [key for share, body in stanzas if (key := open_stanza(share, body, secret))]
    if found is None or not keys:
        raise Refused("age", "this is no age file, or none of its recipients is this identity")
    mac = hmac.digest(derive(keys[0], b"", b"header"), header[: -len(line)] + b"---", "sha256")
    if not hmac.compare_digest(mac, unbase64(found[4], padded=False)):
        raise Refused("age", "the header of the age file was changed")
    return keys[0]


def open_stanza(encoded: str, body: str, secret: bytes) -> bytes | None:
    """Return the file key of an X25519 stanza, or None if it is another recipient's."""
    share, private = unbase64(encoded, padded=False), X25519PrivateKey.from_private_bytes(secret)
    shared = private.exchange(X25519PublicKey.from_public_bytes(share))
    wrap = derive(shared, share + private.public_key().public_bytes_raw(), b"age-encryption.org/v1/X25519")
    try:
        return ChaCha20Poly1305(wrap).decrypt(bytes(12), unbase64(body, padded=False), None)
    except InvalidTag:
        return None


class Plaintext(io.RawIOBase):
    """The decrypted archive as a file; one that is changed, cut off or continued ends in a refusal."""

    def __init__(self, file: BinaryIO, file_key: bytes) -> None:
        self.file, self.cipher = file, ChaCha20Poly1305(derive(file_key, file.read(16), b"payload"))
        self.rest, self.chunk, self.number = b"", file.read(CHUNK + 16), 0

    def read(self, size: int = -1) -> bytes:
        """Return that many bytes, or fewer at the end."""
        while len(self.rest) < size and self.chunk:
            following = self.file.read(CHUNK + 16)
            try:
                plain = self.cipher.decrypt(self.number.to_bytes(11, "big") + bytes([not following]), self.chunk, None)
            except (InvalidTag, ValueError):
                raise Refused("age", "the encrypted file was changed or cut off") from None
            self.rest, self.chunk, self.number = self.rest + plain, following, self.number + 1
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken


def open_checkpoint(note: str, vkey: str) -> tuple[str, int, bytes]:
    """Return origin, size and root of a note that the owner of this verifier key signed about its own log."""
    name, key_id, key = vkey.strip().split("+", 2)
    material = unbase64(key)
    expected = hashlib.sha256(name.encode() + b"\n" + material).digest()[:4]
    if material[:1] != b"\x01" or key_id != expected.hex():
        raise Refused("key", "the verifier key is mistyped")
    text, blank, signatures = note.rpartition("\n\n")
    text += "\n"
    for line in signatures.removesuffix("\n").split("\n"):
        dash, signer, encoded = line.split(" ")
        signature = unbase64(encoded)
        if blank and dash == "\N{EM DASH}" and signer == name and signature[:4] == expected:
            Ed25519PublicKey.from_public_bytes(material[1:]).verify(signature[4:], text.encode())
            origin, size, root = text.removesuffix("\n").split("\n")
            if origin != name or not re.fullmatch("0|[1-9][0-9]*", size):
                raise Refused("checkpoint", "the checkpoint is about another log")
            return origin, int(size), unbase64(root)
    raise Refused("checkpoint", "the checkpoint is not signed with this key")


def canonical(value: object) -> bytes:
    """Return the one form in which a value is written."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def entry_hash(line: bytes) -> tuple[dict[str, Any], str]:
    """Return the entry of a line and the hash that it must carry (FORMAT.md, section 2); ValueError if it is none."""
    entry = json.loads(line)
    sealed = [unbase64(entry["sealed"])] if "sealed" in entry else []  # it is never opened here: no key is needed
    right = set(entry) - {"sealed"} == FIELDS and all(33 <= len(part) <= 65536 for part in sealed)  # noqa: PLR2004
    if not right or canonical(entry) + b"\n" != line or type(entry["seq"]) is not int:
        raise ValueError
    texts = [entry[name].encode() for name in ("at", "actor", "role", "event")]
    fields = [entry["seq"].to_bytes(8, "big"), bytes.fromhex(entry["prev_hash"]), *texts, canonical(entry["body"])]
    framed = b"".join(len(field).to_bytes(4, "big") + field for field in fields + sealed)
    return entry, hashlib.sha256(b"\x00clinic-audit-entry-v%d\n" % (1 + ("sealed" in entry)) + framed).hexdigest()


def read_entry(line: bytes, seq: int, prev_hash: bytes) -> bytes:
    """Return the hash of a line that is exactly the entry expected here."""
    try:
        entry, digest = entry_hash(line)
    except MALFORMED:
        raise Refused("malformed", f"entry {seq} is not an audit entry", seq) from None
    if digest != entry["hash"]:
        raise Refused("changed", f"entry {seq} was changed: its content does not have its hash", seq)
    if entry["seq"] > seq:
        raise Refused("gap", f"entry {seq} is missing: entry {entry['seq']} stands in its place", seq)
    if entry["seq"] < seq:
        raise Refused("reordered", f"entry {entry['seq']} comes again after entry {seq - 1}", entry["seq"])
    if entry["prev_hash"] != prev_hash.hex():
        raise Refused("chain_broken", f"entry {seq} does not follow the entry before it", seq)
    return bytes.fromhex(digest)


def grow(peaks: list[bytes], size: int, leaf: bytes) -> None:
    """Add a leaf to a tree that is kept as the roots of its perfect subtrees, largest first."""
    while size & 1:
        leaf, size = hashlib.sha256(b"\x01" + peaks.pop() + leaf).digest(), size >> 1
    peaks.append(leaf)


def root_of(peaks: list[bytes]) -> bytes:
    """Return the root over all leaves (RFC 6962, section 2.1)."""
    *rest, root = peaks or [hashlib.sha256().digest()]
    for left in reversed(rest):
        root = hashlib.sha256(b"\x01" + left + root).digest()
    return root


def verify(archive: tarfile.TarFile, vkey: str | None, earlier: list[str]) -> dict[str, Any]:
    """Return the manifest of an archive that is whole; Refused otherwise."""
    described = member(archive, "manifest.json").read(LONGEST)
    manifest = json.loads(described)
    written = canonical(manifest) in {described, described.removesuffix(b"\n")}
    if not written or set(manifest) != MANIFEST or not re.fullmatch("clinic-audit-export-v[12]", manifest["format"]):
        raise Refused("manifest", "the manifest is not one of an audit export, or of a newer version of it")
    key = vkey or manifest["vkey"]
    checkpoint = open_checkpoint(manifest["checkpoint"], key)
    marks = [checkpoint, *(open_checkpoint(note, key) for note in earlier)]
    walk(member(archive, "entries.jsonl"), manifest, marks)
    said = (manifest["origin"], manifest["vkey"], manifest["last"])
    if said != (checkpoint[0], key.strip(), checkpoint[1]) or archive.next() is not None:
        raise Refused("manifest", "the manifest does not fit the checkpoint, or the archive holds more than it may")
    return dict(manifest)


def member(archive: tarfile.TarFile, name: str) -> BinaryIO:
    """Return the next file of the archive, which must have this name."""
    found = archive.next()
    if found is None or found.name != name or (file := archive.extractfile(found)) is None:
        raise Refused("manifest", f"the archive does not hold {name} where it must")
    return file  # type: ignore[return-value]


def walk(lines: BinaryIO, manifest: dict[str, Any], marks: list[tuple[str, int, bytes]]) -> None:
    """Go over the entries: each is the next one, and wherever a checkpoint was signed the root is the signed one."""
    first, head = manifest["first"], bytes.fromhex(manifest["prev_hash"])
    peaks = [bytes.fromhex(peak) for peak in manifest["before"]]
    size, digest, length = first - 1, hashlib.sha256(), 0
    if len(peaks) != size.bit_count() or any(len(peak) != 32 for peak in peaks) or (first == 1 and any(head)):  # noqa: PLR2004
        raise Refused("manifest", "the beginning of the range contradicts itself")
    if any(0 < mark[1] < size for mark in marks):
        raise Refused("not_covered", "a checkpoint ends before this range begins: ask for an export from entry 1")
    while True:
        if any(signed == size and root != root_of(peaks) for _, signed, root in marks):
            raise Refused("forked", f"the first {size} entries are not those that the checkpoint was signed over")
        if not (line := lines.readline(LONGEST)):
            break
        head = read_entry(line, size + 1, head)
        grow(peaks, size, head)
        size, length = size + 1, length + len(line)
        digest.update(line)
    if size < (longest := max(mark[1] for mark in marks)):
        raise Refused("truncated", f"it ends after entry {size}, a checkpoint was signed over {longest}", size + 1)
    found = (size, size - first + 1, head.hex(), length, digest.hexdigest())
    if found != tuple(manifest[name] for name in ("last", "count", "head_hash", "entries_bytes", "entries_sha256")):
        raise Refused("manifest", "the manifest does not fit the entries")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Decrypt and verify; every way of being malformed is a refusal."""
    try:
        secret = read_identity(options.identity.read_text())
        earlier = [path.read_text() for path in options.checkpoint]
        with options.file.open("rb") as file:
            plain = Plaintext(file, open_header(file, secret))
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                manifest = verify(archive, options.vkey, earlier)
            while chunk := plain.read(CHUNK):  # to the last tag: only then was the file whole
                if chunk.strip(b"\0"):
                    raise Refused("manifest", "the archive holds more than it may")
    except InvalidSignature:
        raise Refused("checkpoint", "the signature of a checkpoint does not hold") from None
    except (*MALFORMED, tarfile.TarError) as why:
        raise Refused("malformed", f"not an audit export, or changed ({type(why).__name__})") from None
    return manifest


def main() -> int:
    """Read the command line, print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--identity", type=Path, required=True)
    parser.add_argument("--vkey")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[])
    options = parser.parse_args()
    try:
        manifest = run(options)
    except Refused as verdict:
        place = "" if verdict.entry is None else f", first bad entry {verdict.entry}"
        print(f"REFUSED ({verdict.problem}{place}): {verdict}")
        return 1
    except OSError as error:
        print(f"cannot read {error.filename}", file=sys.stderr)
        return 2
    print(f"entries {manifest['first']} to {manifest['last']}: {manifest['count']}, none changed, missing or moved")
    if options.vkey is None:
        print(f"WHOLE IN ITSELF, but no --vkey was given.  Ask the clinic in another way: {manifest['vkey']}")
        return 3
    print(f"VERIFIED against the key of {manifest['origin']} and {len(options.checkpoint)} earlier checkpoint(s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
