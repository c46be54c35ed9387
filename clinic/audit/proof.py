"""Proof that one entry is in the log, in C2SP `tlog-proof` form: one entry, a few hashes, a checkpoint.

Rules kept here:

* Whoever holds the entry, the proof and the public key needs nothing else, and learns nothing about other entries.
* A proof is believed only if its checkpoint is signed and the path from the entry's hash leads to the signed root.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from clinic.audit.checkpoint import Checkpoint, open_checkpoint
from clinic.audit.paths import root_from_inclusion
from clinic.errors import AuditError

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)
_MAX_PATH: Final = 64


def _invalid(message: str) -> AuditError:
    return AuditError(message, code="proof_invalid", hint="is it the proof for this entry, of this clinic's log?")


@dataclass(frozen=True, slots=True)
class Proof:
    """`index` counts from 0 (entry `seq` minus one); `path` goes from the leaf's sibling up."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: str

    def text(self) -> str:
        """Return the proof as a file."""
        hashes = [base64.b64encode(node).decode("ascii") for node in self.path]
        return "\n".join((_HEADER, f"index {self.index}", *hashes, "", self.checkpoint))

    @classmethod
    def parse(cls, text: str) -> Proof:
        """Read a proof file."""
        head, _, checkpoint = text.partition("\n\n")
        header, *lines = head.split("\n")
        index = _INDEX.fullmatch(lines[0]) if lines else None
        if header != _HEADER or index is None or len(lines) > _MAX_PATH:
            raise _invalid("not a proof")
        try:
            path = tuple(base64.b64decode(line, validate=True) for line in lines[1:])
        except (binascii.Error, ValueError):
            raise _invalid("not a proof") from None
        return cls(index=int(index[1]), path=path, checkpoint=checkpoint)


def verify_proof(text: str, *, entry_hash: bytes, vkey: str) -> Checkpoint:
    """Return the signed checkpoint that holds the entry with this hash; AuditError otherwise."""
    proof = Proof.parse(text)
    checkpoint = open_checkpoint(proof.checkpoint, vkey=vkey)
    if root_from_inclusion(entry_hash, proof.index, checkpoint.size, proof.path) != checkpoint.root:
        raise _invalid("the proof does not lead from this entry to the signed root")
    return checkpoint
