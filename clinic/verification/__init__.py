"""Verification: every statement of a note held against what was said.

Rules kept here:

* Each statement is aligned to segments of the transcript and checked; one with no reason against it is supported,
  any other is flagged.  Nothing is dropped and nothing is reworded.
* A statement that something was not discussed is supported without evidence: it claims nothing.  If it was discussed
  after all, the omissions show it.
* Pure, offline and deterministic; total: any text gives a note, never an error.

Example:
    >>> from clinic.domain import DraftStatement, Segment, Transcript
    >>> said = Transcript(segments=(Segment(id="s1", text="Any fever?"), Segment(id="s2", text="No, none.")))
    >>> note = verify([DraftStatement(section="subjective", text="Reports fever.")], said, template="soap", model="m")
    >>> note.statements[0].reasons[0].code
    'negation_mismatch'
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from clinic.domain import DraftStatement, Note, Statement, StatementStatus, Transcript
from clinic.verification.align import align, claim, evidence
from clinic.verification.case import Elsewhere
from clinic.verification.checks import CHECKS, Check, case, run
from clinic.verification.notes import NoteText, claims_nothing, read_note, read_transcript
from clinic.verification.omissions import omissions
from clinic.verification.passages import Heard, hear

__all__ = ["NoteText", "read_note", "read_transcript", "result", "verify", "verify_statement"]


def verify(
    drafts: Sequence[DraftStatement],
    transcript: Transcript,
    *,
    template: str,
    model: str,
    ids: Sequence[str] | None = None,
    checks: Iterable[Check] = CHECKS,
) -> Note:
    """Hold `drafts` against `transcript`.  `ids` names the statements (`n1`, `n2`, ... otherwise)."""
    heard = hear(transcript)
    enabled = tuple(checks)
    names = ids if ids is not None else [f"n{i}" for i in range(1, len(drafts) + 1)]
    whole = Elsewhere(tuple(drafts))
    statements = tuple(
        verify_statement(draft, heard, statement_id=name, rest=whole.without(i), checks=enabled)
        for i, (draft, name) in enumerate(zip(drafts, names, strict=True))
    )
    return Note(template=template, model=model, statements=statements, omissions=omissions(heard, statements))


def verify_statement(
    draft: DraftStatement,
    heard: Heard,
    *,
    statement_id: str,
    rest: Iterable[DraftStatement] | Elsewhere = (),
    checks: Iterable[Check] = CHECKS,
) -> Statement:
    """Hold one statement against a transcript that has been read, and against the `rest` of its note."""
    if claims_nothing(draft.text):
        return _statement(draft, statement_id)
    elsewhere = rest if isinstance(rest, Elsewhere) else Elsewhere(tuple(rest))
    made = claim(draft.text, section=draft.section, cited=draft.cited, heard=heard)
    aligned = align(made, heard)
    found = case(made, aligned, heard, elsewhere)
    return _statement(draft, statement_id, evidence=evidence(made, aligned, heard), reasons=run(found, tuple(checks)))


def _statement(draft: DraftStatement, statement_id: str, **parts: Any) -> Statement:
    status = StatementStatus.FLAGGED if parts.get("reasons") else StatementStatus.SUPPORTED
    return Statement(id=statement_id, section=draft.section, text=draft.text, status=status, **parts)


def result(note: Note) -> dict[str, Any]:
    """Return a note in the JSON shape of `clinic note verify`."""
    return {
        "statements": [
            {
                "id": s.id,
                "status": s.status.value,
                "evidence": [e.segment for e in s.evidence],
                "reasons": [r.model_dump() for r in s.reasons],
            }
            for s in note.statements
        ],
        "omissions": [o.model_dump() for o in note.omissions],
    }
