"""Putting a document together from a signed note, and holding it against that note while it is edited.

Rules kept here:

* Pure and deterministic.  Every sentence of a fresh document is one of the note, word for word, and cites it.
* A sentence is taken once.  What names a drug or an allergy, or has a cue, is taken by the section that asks for that
  before sections of the note are copied; what is left goes to the section that takes the rest, if there is one.
* Every sentence is checked (`clinic.verification`), quotes too.  Of a quote only an allergy against a drug counts:
  against itself, word for word, it cannot have another number, drug, side or negation.
* What is in the note and not in the document is listed, never hidden.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from clinic.documents.source import Sentence, Source
from clinic.documents.template import DocumentTemplate, Section
from clinic.domain import (
    NO_MODEL,
    Completion,
    Document,
    DraftStatement,
    Evidence,
    Note,
    SectionText,
    Statement,
    StatementStatus,
    Transcript,
)
from clinic.generation.passages import has_cue
from clinic.verification import review, verify
from clinic.verification.carried import carried
from clinic.verification.notes import claims_nothing

_COUNTS_FOR_QUOTES: Final = frozenset({"allergy_conflict"})
_DATED: Final = re.compile(
    r"\b(?:back|return|visit|appointment|seen?|review|recheck|follow(?:ed|[ -]?up)?)\b(?:(?!\b(?:if|when)\b).)*?"
    r"\b(?:tomorrow|next (?:week|month|year)"
    r"|(?:in|after|within) [\w-]+(?: (?:to|or) [\w-]+)? (?:day|week|month|year)s?)\b",
    re.IGNORECASE,
)
"""When to come back, said before any condition: `come back in one week if ...`."""
_SOONER: Final = re.compile(
    r"\b(?:sooner|earlier|at once|immediately|(?:right|straight) away|emergency)\b", re.IGNORECASE
)

Edit = Callable[[Note, Transcript], Note]
"""A function of `verification.review`, its other arguments given."""


class Origin(StrEnum):
    """Where the words of a sentence come from."""

    QUOTED = "quoted"
    """They stand in the note, word for word."""
    OWN = "own"
    """A clinician wrote or changed them."""


def assemble(template: DocumentTemplate, source: Source) -> Completion:
    """Return what the sections quote, in the form of an answer: its digest goes into the audit log like one."""
    taken = _taken(template, source)
    sections = (
        SectionText(section=section.id, text="\n".join(s.text for s in taken[section.id]), finish_reason="quoted")
        for section in template.sections
        if taken[section.id]
    )
    return Completion(sections=tuple(sections), tokens_in=0, tokens_out=0, attempts=0)


def document_of(template: DocumentTemplate, source: Source, *, recipient: str = "") -> Document:
    """Return a fresh document: the quotes of every section, checked, with the sentences that they are."""
    taken = _taken(template, source)
    drafts = [
        DraftStatement(section=section.id, text=sentence.text, cited=(sentence.id,))
        for section in template.sections
        for sentence in taken[section.id]
    ]
    text = verify(drafts, source.transcript, template=template.id, model=NO_MODEL.id)
    return Document(
        template=template.id,
        template_sha256=template.sha256,
        title=template.title,
        opening=template.opening,
        closing=template.closing,
        headings=tuple((section.id, section.title, section.absent) for section in template.sections),
        for_patient=template.for_patient,
        source_sha256=source.sha256,
        recipient=recipient,
        text=_settled(text, source),
    )


def edited(document: Document, source: Source, change: Edit) -> Document:
    """Return the document after an edit; what is a quote afterwards counts as one."""
    before = {statement.id: statement for statement in document.text.statements}
    changed = change(document.text, source.transcript)
    text = changed.model_copy(
        update={"statements": tuple(s if before.get(s.id) == s else _as_quote(s, source) for s in changed.statements)}
    )
    return document.model_copy(update={"text": text.model_copy(update={"omissions": ()})})


def checked_again(document: Document, source: Source) -> Document:
    """Hold every sentence against the note as it is now; a decision stays, unless there is a new reason against it."""
    statements = tuple(_again(s, document.text, source) for s in document.text.statements)
    text = document.text.model_copy(update={"statements": statements})
    return document.model_copy(update={"text": text, "source_sha256": source.sha256})


def origin(statement: Statement, source: Source) -> Origin:
    """Say where the words of a sentence come from."""
    return Origin.OWN if source.quoted(statement.text) is None else Origin.QUOTED


def left_out(document: Document, source: Source) -> tuple[Sentence, ...]:
    """Return the sentences of the note that support nothing in the document."""
    used = {evidence.segment for s in document.kept for evidence in s.evidence}
    words = {tuple(s.text.split()) for s in document.kept}
    return tuple(
        s
        for s in source.sentences
        if s.id not in used and tuple(s.text.split()) not in words and not claims_nothing(s.text)
    )


def _taken(template: DocumentTemplate, source: Source) -> dict[str, list[Sentence]]:
    taken: dict[str, list[Sentence]] = {section.id: [] for section in template.sections}
    picking = [s for s in template.sections if s.carried or s.cues]
    copying = [s for s in template.sections if s.sections and s not in picking]
    for sentence in source.sentences:
        section = next((s for s in (*picking, *copying) if _takes(s, sentence)), None)
        section = section or next((s for s in template.sections if s.rest), None)
        if section is not None and not claims_nothing(sentence.text):
            taken[section.id].append(sentence)
    return taken


def _takes(section: Section, sentence: Sentence) -> bool:
    if section.sections and sentence.section not in section.sections:
        return False
    if section.cues and not has_cue(section.cues, sentence.text):
        return False
    if section.undated and _DATED.search(sentence.text) and not _SOONER.search(sentence.text):
        return False
    return section.carried is None or any(
        found.kind is section.carried for found in carried(sentence.section, sentence.text)
    )


def _settled(text: Note, source: Source) -> Note:
    statements = tuple(_as_quote(statement, source) for statement in text.statements)
    return text.model_copy(update={"statements": statements, "omissions": ()})


def _as_quote(statement: Statement, source: Source) -> Statement:
    """Return a statement that stands in the note word for word with that sentence as its evidence."""
    sentence = source.quoted(statement.text)
    if sentence is None or statement.status not in (
        StatementStatus.SUPPORTED,
        StatementStatus.FLAGGED,
        StatementStatus.EDITED,
    ):
        return statement
    reasons = tuple(reason for reason in statement.reasons if reason.code in _COUNTS_FOR_QUOTES)
    status = StatementStatus.FLAGGED if reasons else StatementStatus.SUPPORTED
    if statement.status is StatementStatus.EDITED and not reasons:
        status = StatementStatus.EDITED
    evidence = (Evidence(segment=sentence.id),)
    return statement.model_copy(update={"evidence": evidence, "reasons": reasons, "status": status})


def _again(old: Statement, text: Note, source: Source) -> Statement:
    if old.status is StatementStatus.REMOVED:
        return old
    changed = review.edit(text, old.id, old.text, source.transcript)
    new = _as_quote(next(s for s in changed.statements if s.id == old.id), source)
    known = {reason.code for reason in old.reasons}
    if old.status is StatementStatus.FLAGGED and new.status is StatementStatus.EDITED:
        return new.model_copy(update={"status": StatementStatus.SUPPORTED})
    if old.status is StatementStatus.FLAGGED or any(reason.code not in known for reason in new.reasons):
        return new
    return old.model_copy(update={"evidence": new.evidence})
