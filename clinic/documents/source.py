"""A signed note as what a document is held against: its statements and the sentences of its addenda, one a segment.

Rules kept here:

* Signed notes only; what a clinician removed is no part of the note.
* A statement keeps its id (`n3`); the second sentence of the first addendum is `a1.2`.  Ids never change, for a signed
  note is locked and addenda are only added.
* The digest covers content and addenda, so a new addendum is a new source.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from clinic.domain import Segment, StatementStatus, Transcript, canonical_sha256
from clinic.errors import RecordError
from clinic.records.notes import StoredNote
from clinic.verification.notes import split_sentences

ADDENDUM = "addendum"
"""Section of a sentence that stands in an addendum."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a signed note, with the section in which it stands there."""

    id: str
    section: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Source:
    """A signed note, sentence by sentence."""

    sentences: tuple[Sentence, ...]
    sha256: str

    @property
    def transcript(self) -> Transcript:
        """The sentences in the form in which verification reads what was said."""
        return Transcript(segments=tuple(Segment(id=s.id, text=s.text) for s in self.sentences))

    def quoted(self, text: str) -> Sentence | None:
        """Return the sentence that stands in the note word for word, if it does."""
        words = text.split()
        return next((s for s in self.sentences if s.text.split() == words), None)


def source_of(stored: StoredNote) -> Source:
    """Read a signed note.

    Raises:
        RecordError: `note_unsigned`.
    """
    if not stored.signed:
        raise RecordError("the note is not signed", code="note_unsigned", hint="read and sign the note first")
    kept = [s for s in stored.note.statements if s.status is not StatementStatus.REMOVED]
    sentences = [Sentence(s.id, s.section, s.text) for s in kept]
    for number, addendum in enumerate(stored.addenda, start=1):
        for place, text in enumerate(split_sentences(" ".join(addendum.text.split())), start=1):
            sentences.append(Sentence(f"a{number}.{place}", ADDENDUM, text))
    digest = canonical_sha256({"note": stored.content_sha256, "addenda": [a.text for a in stored.addenda]})
    return Source(tuple(sentences), digest)
