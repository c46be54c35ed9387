"""Changes: what became of a draft, statement by statement and word by word.

Rules kept here:

* Statements are matched by their ids, which never change and are never used again; nothing is guessed.
* Words are what stands between white space, case and punctuation included.
* The edit distance is the least number of words that are put in, taken out or replaced to come from the draft to the
  final text (Levenshtein over words), summed over the statements: a removed or added one counts with all its words.
* Pure: the same versions give the same answer.

Example:
    >>> from clinic.domain import Note, Statement, StatementStatus
    >>> draft = Statement(id="n1", section="plan", text="Rest for two days.", status=StatementStatus.SUPPORTED)
    >>> final = draft.model_copy(update={"text": "Rest for three days.", "status": StatementStatus.EDITED})
    >>> changes = compare([Note(template="soap", model="m", statements=(s,)) for s in (draft, final)])
    >>> changes.distance, [(span.kind.value, span.text) for span in changes.statements[0].spans]
    (1, [('same', 'Rest for'), ('out', 'two'), ('in', 'three'), ('same', 'days.')])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from enum import StrEnum
from itertools import pairwise
from typing import Final

from pydantic import BaseModel, ConfigDict

from clinic.domain import Note, Statement, StatementStatus

_MOST_PAIRS: Final = 1_000_000
"""Pairs of words that are compared; in the worst case that takes a second."""


class Change(StrEnum):
    """What became of a statement."""

    KEPT = "kept"  # as it was drafted, and nothing spoke against it
    CONFIRMED = "confirmed"  # as it was drafted, flagged, and a clinician answers for it
    EDITED = "edited"
    REMOVED = "removed"
    ADDED = "added"


class SpanKind(StrEnum):
    """Whether words stand in both texts, only in the draft, or only in the final one."""

    SAME = "same"
    OUT = "out"
    IN = "in"


@dataclass(frozen=True, slots=True)
class Span:
    """Some words in a row."""

    kind: SpanKind
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StatementChange:
    """One statement: its text in the draft and in the end, and the version that made it so.

    `before` is None if it was added, `after` if it was removed; `status` is how it stands in the end.
    """

    id: str
    section: str
    change: Change
    before: str | None = field(repr=False)
    after: str | None = field(repr=False)
    status: StatementStatus
    version: int

    @property
    def distance(self) -> int:
        """Words put in, taken out or replaced, at least."""
        return distance(_words(self.before), _words(self.after))

    @property
    def spans(self) -> tuple[Span, ...]:
        """The words of both texts in one row; what is replaced stands before what replaces it.

        Texts of more than a thousand words each are not compared word by word: one is replaced by the other.
        """
        return tuple(_spans(_words(self.before), _words(self.after)))


@dataclass(frozen=True, slots=True)
class Decision:
    """What one version did to one statement."""

    version: int
    what: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Changes:
    """A draft and what became of it; statements in the order of the note, those removed in their old place."""

    statements: tuple[StatementChange, ...]

    def count(self, change: Change) -> int:
        """Return how many statements ended so."""
        return sum(s.change is change for s in self.statements)

    @property
    def distance(self) -> int:
        """The edit distance, in words."""
        return sum(s.distance for s in self.statements)

    @property
    def words_drafted(self) -> int:
        """Words of the draft."""
        return sum(len(_words(s.before)) for s in self.statements)

    @property
    def words_final(self) -> int:
        """Words of the final text."""
        return sum(len(_words(s.after)) for s in self.statements)


class ReviewCounts(BaseModel):
    """What became of the draft, as it is sealed with a signature: statements by how they ended, words, distance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kept: int
    confirmed: int
    edited: int
    removed: int
    added: int
    edit_distance: int
    words_drafted: int
    words_signed: int

    @classmethod
    def of(cls, changes: Changes) -> ReviewCounts:
        """Count."""
        return cls(
            **{change.value: changes.count(change) for change in Change},
            edit_distance=changes.distance,
            words_drafted=changes.words_drafted,
            words_signed=changes.words_final,
        )


def compare(versions: Sequence[Note]) -> Changes:
    """Say what became of the first of `versions` (oldest first) in the last one.

    A statement that was added and removed again stands in neither text, and is left out.  One of the draft that is not
    in the last version at all is removed, too.
    """
    drafted = {s.id: s for s in versions[0].statements}
    last = {s.id: s for s in versions[-1].statements}
    lost = (_with_status(s, StatementStatus.REMOVED) for s in drafted.values() if s.id not in last)
    found = (_changed(drafted.get(s.id), s, _since(s.id, versions)) for s in (*last.values(), *lost))
    return Changes(tuple(change for change in found if change is not None))


def decisions(versions: Sequence[Note]) -> tuple[Decision, ...]:
    """Say what each version after the first did, oldest first."""
    return tuple(
        Decision(number, what, statement.text)
        for number, (old, new) in enumerate(pairwise(versions), start=2)
        for statement in new.statements
        if (what := _decided({s.id: s for s in old.statements}.get(statement.id), statement)) is not None
    )


def distance(before: Sequence[str], after: Sequence[str]) -> int:
    """Return the least number of words to put in, take out or replace (Levenshtein)."""
    row = list(range(len(after) + 1))
    for i, old in enumerate(before, start=1):
        diagonal, row[0] = row[0], i
        for j, new in enumerate(after, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (old != new))
    return row[-1]


def _with_status(statement: Statement, status: StatementStatus) -> Statement:
    return statement.model_copy(update={"status": status})


def _changed(before: Statement | None, after: Statement, version: int) -> StatementChange | None:
    removed = after.status is StatementStatus.REMOVED
    if before is None and removed:
        return None
    change = Change.REMOVED if removed else Change.ADDED if before is None else _kept(before, after)
    return StatementChange(
        id=after.id,
        section=after.section,
        change=change,
        before=None if before is None else before.text,
        after=None if removed else after.text,
        status=after.status,
        version=version,
    )


def _kept(before: Statement, after: Statement) -> Change:
    if before.text != after.text:
        return Change.EDITED
    return Change.CONFIRMED if after.status is StatementStatus.CONFIRMED else Change.KEPT


def _since(statement_id: str, versions: Sequence[Note]) -> int:
    """Return the number of the version since which the statement is as it is in the end."""
    states = [next(((s.text, s.status) for s in note.statements if s.id == statement_id), None) for note in versions]
    return max((n for n in range(1, len(states)) if states[n] != states[n - 1]), default=0) + 1


def _decided(before: Statement | None, after: Statement) -> str | None:
    if before is None:
        return "added"
    if (before.text, before.status) == (after.text, after.status):
        return None
    if before.text != after.text:
        return "edited"
    if before.status is StatementStatus.REMOVED:
        return "put back"
    return after.status.value


def _words(text: str | None) -> list[str]:
    return [] if text is None else text.split()


def _spans(before: Sequence[str], after: Sequence[str]) -> Iterator[Span]:
    if len(before) * len(after) > _MOST_PAIRS:
        pieces = [("replace", 0, len(before), 0, len(after))]
    else:
        pieces = list(SequenceMatcher(None, before, after, autojunk=False).get_opcodes())
    for kind, first, last, start, end in pieces:
        if kind == "equal":
            yield Span(SpanKind.SAME, " ".join(before[first:last]))
            continue
        if last > first:
            yield Span(SpanKind.OUT, " ".join(before[first:last]))
        if end > start:
            yield Span(SpanKind.IN, " ".join(after[start:end]))
