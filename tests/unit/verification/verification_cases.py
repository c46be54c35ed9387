"""Transcripts and notes for the tests of verification, in as few words as they need."""

from __future__ import annotations

from collections.abc import Iterable

from clinic.domain import DraftStatement, Note, Segment, Statement, Transcript, Word
from clinic.verification import verify
from clinic.verification.checks import CHECKS, Check


def transcript(*lines: str) -> Transcript:
    """Return segments `s1`, `s2`, ... ; `D:` and `P:` before a line name the speaker."""
    speakers = {"D": "doctor", "P": "patient"}
    segments = []
    for number, line in enumerate(lines, start=1):
        mark, separated, text = line.partition(": ")
        known = bool(separated) and mark in speakers
        segments.append(
            Segment(id=f"s{number}", speaker=speakers[mark] if known else None, text=text if known else line)
        )
    return Transcript(segments=tuple(segments))


def timed(text: str, *, start: float = 10.0, words: bool = True) -> Transcript:
    """Return one segment in which each word takes half a second."""
    pieces = text.split()
    spoken = tuple(
        Word(text=f" {piece}", start=start + i / 2, end=start + (i + 1) / 2, probability=0.9)
        for i, piece in enumerate(pieces)
    )
    segment = Segment(id="s1", text=text, start=start, end=start + len(pieces) / 2, words=spoken if words else ())
    return Transcript(segments=(segment,))


def note(said: Transcript, *texts: str, section: str = "", checks: Iterable[Check] = CHECKS) -> Note:
    """Verify statements against `said`."""
    drafts = [DraftStatement(section=section, text=text) for text in texts]
    return verify(drafts, said, template="soap", model="test", checks=checks)


def one(
    said: Transcript, text: str, *, section: str = "", cited: tuple[str, ...] = (), checks: Iterable[Check] = CHECKS
) -> Statement:
    """Verify one statement against `said`."""
    draft = DraftStatement(section=section, text=text, cited=cited)
    return verify([draft], said, template="soap", model="test", checks=checks).statements[0]


def codes(statement: Statement) -> list[str]:
    """Return the codes of a statement's reasons."""
    return [reason.code for reason in statement.reasons]
