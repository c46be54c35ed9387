"""A witness: keeps the checkpoints of a clinic's audit log on another machine, and refuses what contradicts them.

Standard library and `cryptography` only; shares no code with the clinic.  Read it, copy it, run it anywhere:

    python3 witness.py see FOLDER FILE --vkey KEY   the first time; KEY is the clinic's audit key, from the clinic
    python3 witness.py see FOLDER FILE              from then on; FILE is `-` for standard input
    python3 witness.py last FOLDER                  print the newest checkpoint, to give it back to the clinic

FILE is what the auditor's page shows (also as a QR code), or what `clinic audit checkpoint --since N` prints: a signed
checkpoint, behind a proof that the log still begins with the N entries that were kept here last.

Exit status: 0 kept, 1 REFUSED (signature, rollback, fork, no proof), 2 wrong use.  Nothing kept is ever overwritten; a
checkpoint that is rightly signed and refused is kept, too, as `refused-...`: it is the evidence.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import os
import re
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_BYTES = 64 * 1024
HASH_BYTES = 32
NOTE_LINES = 4  # origin, size, root, and nothing behind the last newline
KEPT = re.compile(r"([1-9][0-9]*)-([0-9a-f]{64})\.checkpoint")


class Refused(Exception):  # noqa: N818 - it is what the program says
    """What is at hand does not agree with what was kept."""


def decode(text: str) -> bytes:
    """Read base64 in its only form."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused("not base64") from None
    if base64.b64encode(data).decode() != text:
        raise Refused("not base64 in its only form")
    return data


def open_note(note: str, vkey: str) -> tuple[int, bytes]:
    """Return size and root of a checkpoint that the owner of `vkey` signed."""
    name, _, rest = vkey.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    material = decode(encoded)
    expected = hashlib.sha256(name.encode() + b"\n" + material).hexdigest()[:8]
    if not name or len(material) != 1 + HASH_BYTES or material[0] != 1 or key_id != expected:
        raise Refused("the key is not an Ed25519 verifier key")
    text, blank, tail = note.rpartition("\n\n")
    lines = (text + "\n").split("\n")
    if (
        not blank
        or not tail.endswith("\n")
        or len(lines) != NOTE_LINES
        or not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1])
    ):
        raise Refused("not a signed checkpoint")
    public = Ed25519PublicKey.from_public_bytes(material[1:])
    for line in tail.removesuffix("\n").split("\n"):
        mark, signer, signature = [*line.split(" "), "", ""][:3]
        if (mark, signer) != ("\N{EM DASH}", name) or decode(signature)[:4].hex() != key_id:
            continue
        try:
            public.verify(decode(signature)[4:], (text + "\n").encode())
        except InvalidSignature:
            raise Refused("the signature does not hold") from None
        root = decode(lines[2])
        if lines[0] != name or len(root) != HASH_BYTES:
            raise Refused("the checkpoint is about another log")
        return int(lines[1]), root
    raise Refused("the checkpoint is not signed by this key")


def node(left: bytes, right: bytes) -> bytes:
    """Hash an inner node (RFC 6962)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def has_grown(old: int, old_root: bytes, new: int, new_root: bytes, proof: list[bytes]) -> bool:
    """Verify a consistency proof (RFC 9162, section 2.1.4.2) between two different sizes."""
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not 0 < old < new or not path or any(len(each) != HASH_BYTES for each in path):
        return False
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            before, after = node(sibling, before), node(sibling, after)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            after = node(after, sibling)
        first, last = first >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root


def newest(folder: Path) -> tuple[int, bytes, str] | None:
    """Return size, root and text of the longest checkpoint that is kept, verified again."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := KEPT.fullmatch(path.name))]
    if not found:
        return None
    note = max(found)[1].read_text(encoding="utf-8")
    return *open_note(note, (folder / "vkey").read_text(encoding="utf-8")), note


def write(path: Path, text: str) -> None:
    """Write a new file, durably; one that is there already says the same, for its name is its content."""
    if path.exists():
        return
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def compare(kept: tuple[int, bytes, str] | None, size: int, root: bytes, head: str) -> None:
    """Refuse a checkpoint that does not continue the one that was kept last."""
    if kept is None:
        return
    old, old_root, _ = kept
    if size < old:
        raise Refused(f"ROLLBACK: the log was seen with {old} entries, now it has {size}")
    if size == old:
        if root != old_root:
            raise Refused(f"FORK: two different logs of {size} entries are signed")
        return
    lines = head.split("\n")
    if lines[0] != f"old {old}":
        raise Refused(f"NO PROOF that the log still begins with the {old} entries seen before: ask for one since {old}")
    if not has_grown(old, old_root, size, root, [decode(line) for line in lines[1:]]):
        raise Refused(f"FORK: the log no longer begins with the {old} entries seen before")


def last(folder: Path) -> str:
    """Return the newest checkpoint."""
    kept = newest(folder)
    if kept is None:
        raise ValueError("nothing is kept there")
    return kept[2]


def see(folder: Path, data: bytes, vkey: str | None) -> str:
    """Compare what is at hand with what was kept, and keep it."""
    if len(data) > MAX_BYTES:
        raise Refused("far too long for a checkpoint")
    text = data.decode("utf-8")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pinned = folder / "vkey"
    known = pinned.read_text(encoding="utf-8").strip() if pinned.exists() else None
    if known is None and vkey is None:
        raise ValueError("give the clinic's key the first time: --vkey KEY")
    if known is not None and vkey is not None and vkey.strip() != known:
        raise Refused("this folder belongs to another key")
    key = known or (vkey or "").strip()
    head, _, rest = text.partition("\n\n")
    note, head = (rest, head) if text.startswith("old ") else (text, "")
    size, root = open_note(note, key)
    if size == 0:
        raise Refused("an empty log is none")
    name = f"{size}-{root.hex()}.checkpoint"
    try:
        compare(newest(folder), size, root, head)
    except Refused:
        write(folder / f"refused-{name}", note)
        raise
    write(pinned, key + "\n")
    write(folder / name, note)
    return f"kept: {size} entries, root {root.hex()}"


def main(arguments: list[str] | None = None) -> int:
    """Run."""
    parser = argparse.ArgumentParser(description="Keep and compare checkpoints of a clinic's audit log.")
    commands = parser.add_subparsers(dest="command", required=True)
    keep = commands.add_parser("see", help="compare a checkpoint with what was kept, and keep it")
    keep.add_argument("folder", type=Path)
    keep.add_argument("file")
    keep.add_argument("--vkey", help="the clinic's audit key; needed the first time")
    commands.add_parser("last", help="print the newest checkpoint").add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.command == "last":
            sys.stdout.write(last(given.folder))
        else:
            data = sys.stdin.buffer.read(MAX_BYTES + 1) if given.file == "-" else Path(given.file).read_bytes()
            print(see(given.folder, data, given.vkey))
    except Refused as error:
        print(f"REFUSED: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
