"""Write the vectors of clinic/audit/FORMAT.md, section 6, from that page alone: nothing of `clinic` is imported here.

Run `python tests/vectors/audit/generate.py` to write the files anew; a test compares them with what this gives.  Tree
and paths are the definitions of RFC 6962, section 2.1, word for word, and slow.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).parent
SEED = bytes(range(32))
KEPT = (2, 3, 6)
EVENTS: tuple[tuple[str, dict[str, Any], bytes | None], ...] = (
    ("log.opened", {"format_version": 1}, None),
    ("login.succeeded", {"user_id": "u-1"}, None),
    ("patient.viewed", {"patient": "ab" * 16}, bytes(range(33))),
    ("login.ended", {"user_id": "u-1"}, None),
    ("login.failed", {"reason": "login_failed", "user_id": "unknown"}, None),
    ("login.succeeded", {"user_id": "u-2"}, None),
    ("key.sealed", {}, None),
)
OTHERS = (*EVENTS[:1], ("login.succeeded", {"user_id": "u-9"}, None), *EVENTS[2:])  # another history, from entry 2 on
Lines = tuple[str, ...]


def canonical(value: Any) -> str:
    """Section 3: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def b64(data: bytes) -> str:
    """Return base64 as text."""
    return base64.b64encode(data).decode()


def field(data: bytes) -> bytes:
    """Section 2."""
    return len(data).to_bytes(4, "big") + data


def entries(events: tuple[tuple[str, dict[str, Any], bytes | None], ...]) -> list[dict[str, Any]]:
    """Section 2, as lines of section 6."""
    made: list[dict[str, Any]] = []
    previous = bytes(32)
    for seq, (event, body, sealed) in enumerate(events, start=1):
        at = f"2026-01-02T03:04:{5 + seq:02}.678Z"
        texts = (at, "operator", "clinician", event, canonical(body))
        plain = field(seq.to_bytes(8, "big")) + field(previous) + b"".join(field(text.encode()) for text in texts)
        version = b"clinic-audit-entry-v1\n" if sealed is None else b"clinic-audit-entry-v2\n"
        digest = hashlib.sha256(b"\x00" + version + plain + (b"" if sealed is None else field(sealed))).digest()
        named = {"at": at, "actor": "operator", "role": "clinician", "event": event, "body": body, "seq": seq}
        hashes = {"prev_hash": previous.hex(), "hash": digest.hex()}
        made.append(named | hashes | ({} if sealed is None else {"sealed": b64(sealed)}))
        previous = digest
    return made


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    split = largest_power_below(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:split]) + mth(leaves[split:])).digest()


def largest_power_below(size: int) -> int:
    """Return k of RFC 6962, section 2.1: the largest power of two smaller than the size."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def subproof(old: int, leaves: list[bytes], *, whole: bool) -> list[bytes]:
    """RFC 6962, section 2.1.2."""
    if old == len(leaves):
        return [] if whole else [mth(leaves)]
    split = largest_power_below(len(leaves))
    if old <= split:
        return [*subproof(old, leaves[:split], whole=whole), mth(leaves[split:])]
    return [*subproof(old - split, leaves[split:], whole=False), mth(leaves[:split])]


def peaks(leaves: list[bytes]) -> list[bytes]:
    """Section 6: one hash for each bit set in the number of leaves, largest subtree first."""
    found, start = [], 0
    for bit in reversed(range(len(leaves).bit_length())):
        if len(leaves) >> bit & 1:
            found.append(mth(leaves[start : start + (1 << bit)]))
            start += 1 << bit
    return found


KEY = Ed25519PrivateKey.from_private_bytes(SEED)
MATERIAL = b"\x01" + KEY.public_key().public_bytes_raw()
ORIGIN = "clinic.local/audit/" + hashlib.sha256(MATERIAL[1:]).hexdigest()[:16]
KEY_ID = hashlib.sha256(ORIGIN.encode() + b"\n" + MATERIAL).digest()[:4]
VKEY = f"{ORIGIN}+{KEY_ID.hex()}+{b64(MATERIAL)}"


def note(leaves: list[bytes]) -> str:
    """Section 4."""
    text = f"{ORIGIN}\n{len(leaves)}\n{b64(mth(leaves))}\n"
    return f"{text}\n\N{EM DASH} {ORIGIN} {b64(KEY_ID + KEY.sign(text.encode()))}\n"


@dataclass(frozen=True, slots=True)
class Vector:
    """An archive, what the auditor saw before, and what a reader must say of both."""

    expect: str
    comment: str
    manifest: dict[str, Any]
    entries: Lines
    proofs: Lines | None
    seen: Lines = ()

    def text(self) -> str:
        """Return the file."""
        heads = [f"expect: {self.expect}", f"comment: {self.comment}", f"vkey: {VKEY}"]
        heads += [f"seen: {b64(each.encode())}" for each in self.seen]
        proofs = [] if self.proofs is None else ["== proofs.jsonl", *self.proofs]
        body = ["== manifest.json", canonical(self.manifest), *proofs, "== entries.jsonl", *self.entries]
        return "\n".join([*heads, "", *body]) + "\n"


def exported(first: int = 6, last: int = 7, version: int = 3, seen: tuple[int, ...] = ()) -> Vector:
    """Section 6."""
    log = entries(EVENTS)
    leaves = [bytes.fromhex(entry["hash"]) for entry in log]
    lines = [canonical(entry) for entry in log[first - 1 : last]]
    content = "".join(f"{line}\n" for line in lines).encode()
    sizes = sorted({*(size for size in (*KEPT, *seen) if size < last), last})
    manifest = {
        "format": f"clinic-audit-export-v{version}",
        "origin": ORIGIN,
        "vkey": VKEY,
        "created_at": "2026-01-02T03:04:06.678Z",
        "first": first,
        "last": last,
        "count": last - first + 1,
        "before": [peak.hex() for peak in peaks(leaves[: first - 1])],
        "prev_hash": log[first - 1]["prev_hash"],
        "head_hash": log[last - 1]["hash"],
        "entries_bytes": len(content),
        "entries_sha256": hashlib.sha256(content).hexdigest(),
        "checkpoint": note(leaves[:last]),
    }
    if version < 3:
        return Vector("verified", "", manifest, tuple(lines), None)
    return Vector("verified", "", manifest | {"proofs": len(sizes)}, tuple(lines), links(leaves, sizes))


def links(leaves: list[bytes], sizes: list[int]) -> Lines:
    """Section 6: each checkpoint, with the path to it from the one before."""
    made, old = [], 0
    for size in sizes:
        path = subproof(old, leaves[:size], whole=True) if old else []
        made.append(canonical({"note": note(leaves[:size]), "path": [b64(each) for each in path]}))
        old = size
    return tuple(made)


def vectors() -> dict[str, str]:
    """Return every vector: name to file content."""
    ours, theirs = ([bytes.fromhex(entry["hash"]) for entry in entries(each)] for each in (EVENTS, OTHERS))
    range_, whole = exported(), exported(first=1)
    proofs = range_.proofs or ()
    second = json.loads(proofs[1])
    wrong = bytearray(base64.b64decode(second["path"][0]))
    wrong[31] ^= 1
    made = {
        "export_v3": replace(whole, comment="the whole log"),
        "export_v3_range": replace(range_, comment="the last two entries"),
        "export_v3_seen_proved": replace(range_, comment="a proof leads from there", seen=(note(ours[:3]),)),
        "export_v3_seen_asked_for": replace(
            exported(seen=(4,)), comment="no kept checkpoint, proved because it was asked for", seen=(note(ours[:4]),)
        ),
        "export_v3_seen_at_the_range": replace(range_, comment="its root is that of `before`", seen=(note(ours[:5]),)),
        "export_v3_seen_from_entry_1": replace(whole, comment="the reader derives the root", seen=(note(ours[:4]),)),
        "export_v3_seen_undecided": replace(
            range_,
            expect="undecided",
            comment="before the range, and no proof leads from there",
            seen=(note(ours[:4]),),
        ),
        "export_v3_seen_forked": replace(
            range_, expect="forked", comment="proved, but of another history", seen=(note(ours[:3]), note(theirs[:3]))
        ),
        "export_v3_seen_forked_range": replace(
            range_, expect="forked", comment="derived, but of another history", seen=(note(theirs[:6]),)
        ),
        "export_v3_seen_longer": replace(
            exported(last=6), expect="truncated 7", comment="seen with more entries", seen=(note(ours),)
        ),
        "export_v3_node_changed": replace(
            range_,
            expect="proof",
            comment="one bit of one hash of a path",
            proofs=(proofs[0], canonical(second | {"path": [b64(bytes(wrong)), *second["path"][1:]]}), *proofs[2:]),
        ),
        "export_v3_path_too_long": replace(
            range_,
            expect="proof",
            comment="one hash more than the path has",
            proofs=(proofs[0], canonical(second | {"path": [*second["path"], b64(bytes(32))]}), *proofs[2:]),
        ),
        "export_v3_left_out": replace(
            range_,
            expect="proof",
            comment="one left out in the middle",
            manifest=range_.manifest | {"proofs": 3},
            proofs=(proofs[0], *proofs[2:]),
        ),
        "export_v3_order": replace(
            range_, expect="proof", comment="two exchanged", proofs=(proofs[1], proofs[0], *proofs[2:])
        ),
        "export_v3_other_log": replace(
            range_, expect="proof", comment="of another history", proofs=links(theirs, [*KEPT, 7])
        ),
        "export_v3_form": replace(
            range_, expect="proof", comment="a blank more", proofs=(proofs[0].replace(",", ", ", 1), *proofs[1:])
        ),
        "export_v3_unsigned": replace(
            range_,
            expect="checkpoint",
            comment="a note that says more than was signed",
            proofs=(proofs[0].replace("\\n2\\n", "\\n1\\n"), *proofs[1:]),
        ),
        "export_v3_counted": replace(
            range_, expect="proof", comment="fewer than counted", manifest=range_.manifest | {"proofs": 5}
        ),
        "export_v3_entry_changed": replace(
            range_,
            expect="changed 6",
            comment="u-2 to u-3",
            entries=(range_.entries[0].replace("u-2", "u-3"), range_.entries[1]),
        ),
        "export_v2": replace(exported(first=1, version=2), comment="the whole log, before there were proofs"),
        "export_v2_range": replace(exported(version=2), comment="a range"),
        "export_v2_seen_undecided": replace(
            exported(version=2), expect="undecided", comment="before the range", seen=(note(ours[:3]),)
        ),
        "export_v2_with_proofs": replace(
            range_,
            expect="manifest",
            comment="proofs are of version 3",
            manifest=range_.manifest | {"format": "clinic-audit-export-v2"},
        ),
        "export_v3_without_proofs": replace(
            exported(version=2),
            expect="manifest",
            comment="no proofs",
            manifest=exported(version=2).manifest | {"format": "clinic-audit-export-v3"},
        ),
    }
    return {name: vector.text() for name, vector in made.items()}


if __name__ == "__main__":
    for name, content in vectors().items():
        (HERE / f"{name}.txt").write_text(content, encoding="utf-8")
