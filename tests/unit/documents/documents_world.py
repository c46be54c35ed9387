"""A signed note, in the forms that the tests of documents need."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from clinic.documents.source import Source, source_of
from clinic.domain import EncounterId, Note, NoteId, Statement, StatementStatus, UserId
from clinic.records.notes import Addendum, StoredNote

AT = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)

SENTENCES = (
    ("subjective", "Cough for two weeks, with fever up to 38.5 degrees."),
    ("subjective", "No chest pain."),
    ("subjective", "She is allergic to penicillin, which gave her a rash."),
    ("medications", "Takes lisinopril 10 mg once daily."),
    ("objective", "Crackles at the base of the left lung."),
    ("assessment", "Probable pneumonia."),
    ("plan", "Start doxycycline 100 mg twice daily for 7 days."),
    ("plan", "Return if breathing gets worse."),
    ("plan", "Chest X-ray tomorrow."),
)


def stored(*addenda: str, sentences: tuple[tuple[str, str], ...] = SENTENCES) -> StoredNote:
    """Return a signed note; its last sentence was removed before it was signed."""
    texts = [*sentences, ("plan", "Removed before the signature.")]
    statements = tuple(
        Statement(id=f"n{i}", section=section, text=text, status=StatementStatus.SUPPORTED)
        for i, (section, text) in enumerate(texts, start=1)
    )
    gone = statements[-1].model_copy(update={"status": StatementStatus.REMOVED})
    return StoredNote(
        id=NoteId("n"),
        encounter_id=EncounterId("e"),
        version=2,
        note=Note(template="soap", model="gemma", statements=(*statements[:-1], gone)),
        generation_id=None,
        content_sha256="a" * 64,
        signed_by=UserId("clinician-1"),
        signed_at=AT,
        attestation="Read.",
        addenda=tuple(Addendum(f"a{i}", text, UserId("clinician-1"), AT) for i, text in enumerate(addenda, start=1)),
    )


def source(*addenda: str, sentences: tuple[tuple[str, str], ...] = SENTENCES) -> Source:
    """Return the signed note as a source."""
    return source_of(stored(*addenda, sentences=sentences))


def unsigned() -> StoredNote:
    """Return a draft."""
    return replace(stored(), signed_at=None, signed_by=None, attestation=None)
