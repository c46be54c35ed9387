"""The accounting of disclosures: what the log says was done with one patient's record, by whom, when and for what.

Rules kept here:

* An entry is about the patient if it names the pseudonym, or an encounter or a generation that an earlier entry tied to
  the pseudonym, or if its sealed part opens with the patient's key.  All entries are gone over, from the first one on:
  what ties a later entry to the patient may stand before the days that are asked for.
* Each line says what proves it: the sealed part, or the plain part alone, and then why (none was written; the key is
  destroyed).  A sealed part that contradicts the plain part is shown as that, never passed over.
* What the log does not hold is not made up: where no purpose was recorded, none is given.
* Entries that may concern every patient (lists, exports, backups) name nobody: they are counted, not attributed.
* Cells of the listing are no formulas to a spreadsheet.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any, Final

from clinic.audit.entry import Entry

Opens = Callable[[Entry], bool]
"""Says whether the sealed part of an entry opens with the patient's key, and names this patient."""


class Use(StrEnum):
    """What was done with the record."""

    READ = "read"
    DISCLOSED = "disclosed"
    CHANGED = "changed"
    GENERATED = "generated"
    REFUSED = "refused"
    DESTROYED = "destroyed"
    OTHER = "other"


class Proof(StrEnum):
    """What ties a line to the patient."""

    SEALED = "sealed"
    UNSEALED = "unsealed"
    DESTROYED = "destroyed"
    CONTRADICTED = "contradicted"


PROOFS: Final[dict[Proof, str]] = {
    Proof.SEALED: "link opened with the patient's key",
    Proof.UNSEALED: "no link was written; named by the plain entry alone",
    Proof.DESTROYED: "link gone with the patient's key; named by the plain entry alone",
    Proof.CONTRADICTED: "the link does not fit the plain entry: have the log examined",
}
"""What a reader is told."""

_USES: Final[dict[str, Use]] = {
    "patient.viewed": Use.READ,
    "patient.accounted": Use.READ,
    "encounter.viewed": Use.READ,
    "audio.played": Use.READ,
    "note.exported": Use.DISCLOSED,
    "note.copied": Use.DISCLOSED,
    "document.copied": Use.DISCLOSED,
    "patient.created": Use.CHANGED,
    "patient.updated": Use.CHANGED,
    "encounter.opened": Use.CHANGED,
    "encounter.transferred": Use.CHANGED,
    "consent.recorded": Use.CHANGED,
    "recording.started": Use.CHANGED,
    "recording.completed": Use.CHANGED,
    "text.submitted": Use.CHANGED,
    "moment.noted": Use.CHANGED,
    "note.edited": Use.CHANGED,
    "speakers.corrected": Use.CHANGED,
    "note.signed": Use.CHANGED,
    "note.amended": Use.CHANGED,
    "document.edited": Use.CHANGED,
    "document.signed": Use.CHANGED,
    "document.discarded": Use.CHANGED,
    "note.drafted": Use.GENERATED,
    "document.drafted": Use.GENERATED,
    "transcription.completed": Use.GENERATED,
    "transcription.failed": Use.GENERATED,
    "speakers.assigned": Use.GENERATED,
    "speakers.failed": Use.GENERATED,
    "generation.authorized": Use.GENERATED,
    "generation.completed": Use.GENERATED,
    "generation.failed": Use.GENERATED,
    "generation.interrupted": Use.GENERATED,
    "generation.denied": Use.REFUSED,
    "patient.shredded": Use.DESTROYED,
}
_COMMON: Final = ("patients.listed", "log.exported", "backup.created")
_PROGRAM_READS: Final = ("show_", "take_")
"""How the operations of the JSON API begin that give out a record."""
_TIES: Final = ("encounter", "generation")
_COLUMNS: Final = ("entry", "when_utc", "user_id", "user", "role", "use", "event", "encounter", "purpose", "proof")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Line:
    """One entry about the patient.  `purpose` is None where none was recorded."""

    seq: int
    at: str
    actor: str
    role: str
    event: str
    use: Use
    encounter: str | None
    purpose: str | None
    proof: Proof


@dataclass(frozen=True, slots=True)
class Accounting:
    """What the log says about one patient, as far as entry `through`.

    Attributes:
        shredded: the patient's key is destroyed: no link opens any more.
        start, end: the days (UTC) that were asked for, both included; None is open.
        common: how often, in these days and since the patient's first entry, something was done that names no patient.
    """

    pseudonym: str
    shredded: bool
    start: date | None
    end: date | None
    through: int
    lines: tuple[Line, ...]
    common: tuple[tuple[str, int], ...]

    def count(self, proof: Proof) -> int:
        """Return how many lines rest on this."""
        return sum(line.proof is proof for line in self.lines)


@dataclass(slots=True)
class _Walk:
    """What has been learned from the entries so far."""

    pseudonym: str
    opens: Opens | None
    ties: set[str] = field(default_factory=set)

    def proof(self, entry: Entry, body: dict[str, Any]) -> Proof | None:
        """Return what makes this entry one about the patient, None if it is not."""
        named = [body[key] for key in _TIES if key in body]
        patient = body.get("patient")
        plain = patient == self.pseudonym or (patient is None and not self.ties.isdisjoint(named))
        sealed = self.opens is not None and entry.sealed is not None and self.opens(entry)
        if not plain and not sealed:
            return None
        if sealed and patient not in {None, self.pseudonym}:
            return Proof.CONTRADICTED
        self.ties.update(named)
        if sealed:
            return Proof.SEALED
        if entry.sealed is None:
            return Proof.UNSEALED
        return Proof.DESTROYED if self.opens is None else Proof.CONTRADICTED


def account(
    entries: Iterable[Entry],
    *,
    pseudonym: str,
    opens: Opens | None,
    start: date | None = None,
    end: date | None = None,
) -> Accounting:
    """Go over the whole log and return what is about the patient with this pseudonym.

    Args:
        entries: all of them, in order.
        pseudonym: of the patient.
        opens: tells whether a sealed part is this patient's; None once the patient's key is destroyed.
        start: the first day (UTC) that is listed.
        end: the last one.
    """
    walk, lines, common, through = _Walk(pseudonym, opens), [], Counter[str](), 0
    known = False
    for entry in entries:
        through = entry.seq
        body: dict[str, Any] = json.loads(entry.body)
        proof = walk.proof(entry, body)
        known = known or proof is not None
        if not _within(entry, start, end):
            continue
        if proof is not None:
            lines.append(_line(entry, body, proof))
        elif known and entry.event in _COMMON:
            common[entry.event] += 1
    counted = tuple((name, common[name]) for name in _COMMON)
    return Accounting(pseudonym, opens is None, start, end, through, tuple(lines), counted)


def as_csv(accounting: Accounting, names: dict[str, str]) -> str:
    """Return the lines as a table for a spreadsheet; `names` gives the names of accounts."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for line in accounting.lines:
        who = (line.actor, names.get(line.actor, ""), line.role)
        cells = (str(line.seq), line.at, *who, line.use, line.event, line.encounter, line.purpose, PROOFS[line.proof])
        writer.writerow(_harmless(cell or "") for cell in cells)
    return buffer.getvalue()


def _line(entry: Entry, body: dict[str, Any], proof: Proof) -> Line:
    return Line(
        seq=entry.seq,
        at=entry.at,
        actor=entry.actor,
        role=entry.role,
        event=entry.event,
        use=_use(entry.event, body),
        encounter=body.get("encounter"),
        purpose=body.get("purpose") or body.get("reason") or body.get("operation"),
        proof=proof,
    )


def _use(event: str, body: dict[str, Any]) -> Use:
    if event == "token.used":  # what a program was given has left the box, in whatever name it asked
        return Use.DISCLOSED if str(body["operation"]).startswith(_PROGRAM_READS) else Use.OTHER
    return _USES.get(event, Use.OTHER)


def _within(entry: Entry, start: date | None, end: date | None) -> bool:
    day = entry.at[:10]
    return (start is None or day >= start.isoformat()) and (end is None or day <= end.isoformat())


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
