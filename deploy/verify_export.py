#!/usr/bin/env python3
"""Verify an export of a clinic's audit log, alone: read this first, then run it on a machine of your own.

    python3 verify_export.py audit.age --identity auditor.key --vkey 'clinic.local/...' [--seen FILE]...

It needs Python 3.11 and the `cryptography` package, and shares no code with the clinic's program: the formats are those
of `clinic/audit/FORMAT.md`, age (age-encryption.org/v1), RFC 6962 and C2SP signed notes.  It writes nothing; what it
verified is then read with `age -d -i auditor.key audit.age | tar xO entries.jsonl`.

`--vkey` is the clinic's audit key as you got it in another way: without it an export vouches only for itself.
`--seen` is a checkpoint that you kept from another day, or got from a witness: the export must continue it.
Exit: 0 verified; 1 refused; 2 usage; 3 whole, but no key was given; 4 whole, but it cannot be decided against FILE.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import io
import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from functools import reduce
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

FIELDS = {"at", "actor", "role", "event", "body", "prev_hash", "hash", "seq"}
TEXTS = ("format", "origin", "vkey", "created_at", "prev_hash", "head_hash", "entries_sha256", "checkpoint")
MANIFEST = dict.fromkeys(TEXTS, str) | {"first": int, "last": int, "count": int, "entries_bytes": int, "before": list}
FORMATS = {f"clinic-audit-export-v{n}": MANIFEST | ({"proofs": int} if n > 2 else {}) for n in (1, 2, 3)}  # noqa: PLR2004
AGE_HEADER = rb"(age-encryption\.org/v1\n(?:-> [!-~ ]+\n(?:[A-Za-z0-9+/]*\n)+)+---) ([A-Za-z0-9+/]{43})\n"
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
CHUNK, LONGEST = 1 << 16, 1 << 20  # of age; of a header, a manifest, a line: more is none of ours


class Refused(Exception):  # noqa: N818 - it is a verdict
    """The export is not what it must be: problem, message, and the first bad entry where one can be named."""


def require(right: object, problem: str, message: str, entry: int | None = None) -> None:
    """Refuse what is not right."""
    if not right:
        raise Refused(problem, message, entry)


def read_identity(text: str) -> bytes:
    """Return the secret key of an `age-keygen` file (bech32, BIP 173)."""
    prefix, _, data = "".join(re.sub("(?m)^#.*", "", text).split()).lower().rpartition("1")
    values, check = ["qpzry9x8gf2tvdw0s3jn54khce6mua7l".find(letter) for letter in data], 1
    for value in [*(ord(c) >> 5 for c in prefix), 0, *(ord(c) & 31 for c in prefix), *values]:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term if top >> bit & 1 else 0
    number = sum(value << 5 * place for place, value in enumerate(reversed(values[:-6])))
    right = (prefix, len(values), check) == ("age-secret-key-", 52 + 6, 1) and -1 not in values
    require(right, "identity", "the identity file must hold one AGE-SECRET-KEY-1..., and it is mistyped or missing")
    return (number >> 4).to_bytes(32, "big")


def unbase64(text: str) -> bytes:
    """Read base64 in its only form."""
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data) != text.encode():
        raise ValueError
    return data


def derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Return 32 bytes of HKDF-SHA-256 (RFC 5869)."""
    return hmac.digest(hmac.digest(salt or bytes(32), secret, "sha256"), info + b"\x01", "sha256")


def open_header(file: BinaryIO, secret: bytes) -> bytes:
    """Return the file key that a stanza of the header holds for this identity, once the header's MAC is right."""
    header, keys = re.match(AGE_HEADER, file.read(LONGEST)), []
    if header is None:
        raise Refused("age", "not an age file, or cut off in its header", None)
    file.seek(header.end())
    private = X25519PrivateKey.from_private_bytes(secret)
    for encoded, body in re.findall(r"-> X25519 (\S{43})\n(\S{43})\n", header[1].decode()):
        share = unbase64(encoded + "=")  # age leaves the padding away
        shared = private.exchange(X25519PublicKey.from_public_bytes(share))
        wrap = derive(shared, share + private.public_key().public_bytes_raw(), b"age-encryption.org/v1/X25519")
        with suppress(InvalidTag):  # it is another recipient's
            keys.append(ChaCha20Poly1305(wrap).decrypt(bytes(12), unbase64(body + "="), None))
    require(keys, "age", "none of its recipients is this identity")
    mac = hmac.digest(derive(keys[0], b"", b"header"), header[1], "sha256")
    require(hmac.compare_digest(mac, unbase64(header[2].decode() + "=")), "age", "its header was changed")
    return keys[0]


class Plaintext(io.RawIOBase):
    """The decrypted archive as a file; one that is changed, cut off or continued ends in a refusal."""

    def __init__(self, file: BinaryIO, file_key: bytes) -> None:
        self.file, self.cipher = file, ChaCha20Poly1305(derive(file_key, file.read(16), b"payload"))
        self.rest, self.chunk, self.number = b"", file.read(CHUNK + 16), 0

    def read(self, size: int = -1) -> bytes:
        """Return that many bytes, or fewer at the end."""
        while len(self.rest) < size and self.chunk:
            following = self.file.read(CHUNK + 16)
            plain = self.cipher.decrypt(self.number.to_bytes(11, "big") + bytes([not following]), self.chunk, None)
            self.rest, self.chunk, self.number = self.rest + plain, following, self.number + 1
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken


def open_checkpoint(note: str, vkey: str) -> tuple[str, int, bytes]:
    """Return origin, size and root of a note that the owner of this verifier key signed about its own log."""
    name, key_id, key = vkey.strip().split("+", 2)
    material = unbase64(key)
    expected = hashlib.sha256(name.encode() + b"\n" + material).digest()[:4]
    require(material[:1] == b"\x01" and key_id == expected.hex(), "key", "the verifier key is mistyped")
    text, blank, signatures = note.rpartition("\n\n")
    for line in signatures.removesuffix("\n").split("\n"):
        dash, signer, encoded = line.split(" ")
        signature = unbase64(encoded)
        if blank and dash == "\N{EM DASH}" and signer == name and signature[:4] == expected:
            Ed25519PublicKey.from_public_bytes(material[1:]).verify(signature[4:], f"{text}\n".encode())
            origin, size, root = text.split("\n")
            require(origin == name and re.fullmatch("0|[1-9][0-9]*", size), "checkpoint", "it is about another log")
            return origin, int(size), unbase64(root)
    raise Refused("checkpoint", "the checkpoint is not signed with this key", None)


def canonical(value: object) -> bytes:
    """Return the one form in which a value is written."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def read_entry(line: bytes, seq: int, prev_hash: bytes) -> bytes:
    """Return the hash of a line that is exactly the entry expected here (FORMAT.md, section 2)."""
    try:
        entry = json.loads(line)
        sealed = [unbase64(entry["sealed"])] if "sealed" in entry else []  # it is never opened here: no key is needed
        texts = [entry[name].encode() for name in ("at", "actor", "role", "event")]
        fields = [entry["seq"].to_bytes(8, "big"), bytes.fromhex(entry["prev_hash"]), *texts, canonical(entry["body"])]
        right = set(entry) - {"sealed"} == FIELDS and all(33 <= len(part) <= 65536 for part in sealed)  # noqa: PLR2004
        right = right and canonical(entry) + b"\n" == line and type(entry["seq"]) is int
    except MALFORMED:
        right = False
    require(right, "malformed", f"entry {seq} is not an audit entry", seq)
    framed = b"".join(len(field).to_bytes(4, "big") + field for field in fields + sealed)
    digest = hashlib.sha256(b"\x00clinic-audit-entry-v%d\n" % (1 + len(sealed)) + framed).digest()
    found, follows = entry["seq"], entry["prev_hash"] == prev_hash.hex()
    require(digest.hex() == entry["hash"], "changed", f"entry {seq} was changed: it is not what was hashed", seq)
    require(found <= seq, "gap", f"entry {seq} is missing: entry {found} stands in its place", seq)
    require(found == seq, "reordered", f"entry {found} comes again after entry {seq - 1}", found)
    require(follows, "chain_broken", f"entry {seq} does not follow the entry before it", seq)
    return digest


def node(left: bytes, right: bytes) -> bytes:
    """Hash an inner node of the tree (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def grow(peaks: list[bytes], size: int, leaf: bytes) -> None:
    """Add a leaf to a tree that is kept as the roots of its perfect subtrees, largest first."""
    while size & 1:
        leaf, size = node(peaks.pop(), leaf), size >> 1
    peaks.append(leaf)


def root_of(peaks: list[bytes]) -> bytes:
    """Return the root over all leaves."""
    return reduce(lambda right, left: node(left, right), reversed(peaks or [hashlib.sha256().digest()]))


def lead(old: int, new: int, path: Iterator[bytes], known: bytes) -> tuple[bytes, bytes]:
    """Return both roots to which a consistency path leads (SUBPROOF, 2.1.2); it leaves out the old one if a subtree."""
    if old == new:
        root = known or next(path, b"")
        return root, root
    half = 1 << (new - 1).bit_length() - 1
    if old <= half:
        before, after = lead(old, half, path, known)
        return before, node(after, next(path, b""))
    before, after = lead(old - half, new - half, path, b"")
    left = next(path, b"")
    return node(left, before), node(left, after)


def prove(lines: BinaryIO, key: str) -> dict[int, bytes]:
    """Return roots by size: of nothing, and of each checkpoint in these lines, shown to continue the one before."""
    proved = {0: root_of([])}
    while line := lines.readline(LONGEST):
        proof, old = json.loads(line), next(reversed(proved))
        (_, new, root), path = open_checkpoint(proof["note"], key), [unbase64(each) for each in proof["path"]]
        rest, right = iter(path), set(proof) == {"note", "path"} and canonical(proof) + b"\n" == line and old < new
        grown = not old or (right and lead(old, new, rest, proved[old]) == (proved[old], root))
        right = right and grown and {*map(len, path)} <= {32} and not next(rest, None)
        require(right, "proof", f"it is not shown that the log grew from {old} entries to {new}")
        proved[new] = root
    return proved


def verify(archive: tarfile.TarFile, vkey: str | None, seen: list[str]) -> dict[str, Any]:
    """Return the manifest of an archive that is whole and continues what was seen; Refused otherwise."""
    manifest = json.loads(described := member(archive, "manifest.json").read(LONGEST))
    types = {name: type(value) for name, value in manifest.items()}
    right = types == FORMATS.get(manifest["format"]) and canonical(manifest) == described.removesuffix(b"\n")
    require(right, "manifest", "the manifest is not one of an audit export, or of a newer version of it")
    key, first = manifest["vkey"] if vkey is None else vkey, manifest["first"]
    own, *marks = (open_checkpoint(note, key) for note in (manifest["checkpoint"], *seen))
    proved = prove(member(archive, "proofs.jsonl"), key) if "proofs" in manifest else {0: root_of([]), own[1]: own[2]}
    fits = [*proved.items()][-1] == own[1:] and len(proved) == 1 + manifest.get("proofs", 1)
    require(fits, "proof", "the proofs do not lead to the checkpoint, or are not as many as the manifest says")
    is_same = all(size >= first - 1 or proved.get(size, root) == root for _, size, root in marks)
    require(is_same, "forked", "the log is proved to have begun with other entries than those that were seen")
    found = walk(member(archive, "entries.jsonl"), manifest, [own, *marks])
    said = {"origin": own[0], "last": own[1], "vkey": key.strip()}
    fits = first <= own[1] and manifest | found == manifest == manifest | said
    require(fits, "manifest", "the manifest does not fit the entries and the checkpoint")
    while chunk := archive.fileobj.read(CHUNK):  # type: ignore[union-attr] # to the last tag: only then was it whole
        require(not chunk.strip(b"\0"), "manifest", "the archive holds more than it may")
    unknown = [size for _, size, _ in marks if size < first - 1 and size not in proved]
    require(not unknown, "undecided", f"cannot be decided: no proof leads here from {unknown} entries; ask for one")
    return dict(manifest)


def member(archive: tarfile.TarFile, name: str) -> BinaryIO:
    """Return the next file of the archive, which must have this name."""
    file = archive.extractfile(found) if (found := archive.next()) and found.name == name else None
    require(file, "manifest", f"the archive does not hold {name} where it must")
    return file  # type: ignore[return-value]


def walk(lines: BinaryIO, manifest: dict[str, Any], marks: list[tuple[str, int, bytes]]) -> dict[str, Any]:
    """Go over the entries: each is the next one, and wherever a checkpoint was signed the root is the signed one."""
    texts, first = [*manifest["before"], manifest["prev_hash"]], manifest["first"]
    *peaks, head = (bytes.fromhex(text) for text in texts)
    size, digest, length = first - 1, hashlib.sha256(), 0
    right = len(peaks) == size.bit_count() and all(re.fullmatch("[0-9a-f]{64}", text) for text in texts)
    require(right and (size or not any(head)), "manifest", "the beginning of the range contradicts itself")
    while True:
        is_same = all(signed != size or root == root_of(peaks) for _, signed, root in marks)
        require(is_same, "forked", f"the first {size} entries are not those that the checkpoint was signed over")
        if not (line := lines.readline(LONGEST)):
            break
        head = read_entry(line, size + 1, head)
        grow(peaks, size, head)
        size, length = size + 1, length + len(line)
        digest.update(line)
    longest = max(mark[1] for mark in marks)
    require(size >= longest, "truncated", f"it ends after entry {size}, a checkpoint is over {longest}", size + 1)
    found = {"last": size, "count": size - first + 1, "head_hash": head.hex()}
    return found | {"entries_bytes": length, "entries_sha256": digest.hexdigest()}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Decrypt and verify; every way of being malformed is a refusal."""
    try:
        with options.file.open("rb") as file:
            plain = Plaintext(file, open_header(file, read_identity(options.identity.read_text())))
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                return verify(archive, options.vkey, [path.read_text() for path in options.seen])
    except InvalidTag:
        raise Refused("age", "the encrypted file was changed or cut off", None) from None
    except InvalidSignature:
        raise Refused("checkpoint", "the signature of a checkpoint does not hold", None) from None
    except (*MALFORMED, tarfile.TarError) as why:
        raise Refused("malformed", f"not an audit export, or changed ({type(why).__name__})", None) from None


def main() -> int:
    """Read the command line, print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--identity", type=Path, required=True)
    parser.add_argument("--vkey")
    parser.add_argument("--seen", "--checkpoint", type=Path, action="append", default=[])
    options = parser.parse_args()
    try:
        manifest = run(options)
    except Refused as verdict:
        problem, message, entry = verdict.args
        print(f"REFUSED ({problem}{f', first bad entry {entry}' if entry else ''}): {message}")
        return 4 if problem == "undecided" else 1
    except OSError as error:
        parser.error(f"cannot read {error.filename}")
    print(f"entries {manifest['first']} to {manifest['last']}: {manifest['count']}, none changed, missing or moved")
    own = f"WHOLE IN ITSELF, but no --vkey was given.  Ask the clinic in another way: {manifest['vkey']}"
    known = f"VERIFIED against the key of {manifest['origin']} and {len(options.seen)} earlier checkpoint(s)"
    print(own if options.vkey is None else known)
    return 3 if options.vkey is None else 0


if __name__ == "__main__":
    raise SystemExit(main())
