"""Checkpoints of a log, each with the path that shows that it continues the one before: it has only ever grown.

Rules kept here:

* Shortest log first, each longer than the one before; the first one stands for itself, without a path.
* One is believed only if all are: rightly signed, in their one form, each path leading to both roots.
* Pure: no I/O.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass

from clinic.audit.checkpoint import Checkpoint, open_checkpoint
from clinic.audit.paths import is_consistent
from clinic.domain import canonical_json
from clinic.errors import AuditError


@dataclass(frozen=True, slots=True)
class Link:
    """A signed checkpoint, and PROOF(size of the one before, D[its size]) of RFC 6962, section 2.1.2."""

    note: str
    path: tuple[bytes, ...]

    def line(self) -> bytes:
        """Return the link as a line of JSON."""
        path = [base64.b64encode(node).decode("ascii") for node in self.path]
        return canonical_json({"note": self.note, "path": path}) + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Link:
        """Read a line back; only the exact bytes that `line` writes are taken."""
        try:
            values = json.loads(line)
            link = cls(str(values["note"]), tuple(base64.b64decode(node, validate=True) for node in values["path"]))
            if link.line() == line:
                return link
        except (ValueError, LookupError, TypeError, RecursionError):
            pass
        raise _broken("a proof of the export is in no form that a writer gives it")


class Followed:
    """Links taken one after the other, as signed by the owner of `vkey`."""

    def __init__(self, vkey: str) -> None:
        self._vkey = vkey
        self.newest: Checkpoint | None = None

    def add(self, link: Link) -> Checkpoint:
        """Return the checkpoint of the next link.

        Raises:
            AuditError: `proof_invalid`, `checkpoint_malformed`, `checkpoint_signature`.
        """
        old, new = self.newest, open_checkpoint(link.note, vkey=self._vkey)
        if old is None:
            grown = new.size > 0 and not link.path
        else:
            grown = old.size < new.size and is_consistent(old.size, old.root, new.size, new.root, link.path)
        if not grown:
            raise _broken(f"it is not shown that the log grew from {old.size if old else 0} entries to {new.size}")
        self.newest = new
        return new


def follow(lines: Iterable[bytes], *, vkey: str) -> tuple[Checkpoint, ...]:
    """Return the checkpoints of these lines.

    Raises:
        AuditError: as `Followed`.
    """
    followed = Followed(vkey)
    return tuple(followed.add(Link.parse(line)) for line in lines)


def _broken(message: str) -> AuditError:
    return AuditError(message, code="proof_invalid", hint="ask the clinic for the export again, and tell the auditor")
