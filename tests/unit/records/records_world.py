"""Values and steps that the tests of the records share."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST

from clinic.audit.events import GenerationAuthorized
from clinic.domain import (
    Actor,
    Completion,
    Document,
    EncounterKind,
    Evidence,
    GenerationId,
    Note,
    Omission,
    Reason,
    Role,
    SectionText,
    Segment,
    Statement,
    StatementStatus,
    Transcript,
    UserId,
    Word,
    new_id,
)
from clinic.records.encounters import Encounter
from clinic.records.patients import Patient
from clinic.records.records import Records, Transaction

HASHER = PasswordHasher.from_parameters(CHEAPEST)
CLINICIAN = Actor(user_id=UserId("clinician-1"), role=Role.CLINICIAN)
ADMINISTRATOR = Actor(user_id=UserId("administrator-1"), role=Role.ADMINISTRATOR)


@dataclass
class FrozenClock:
    """Stands still until it is told to go on."""

    moment: datetime = field(default_factory=lambda: datetime(2026, 11, 23, 9, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        """Return the same moment each time."""
        return self.moment

    def advance(self, **amount: float) -> None:
        """Let time pass."""
        self.moment += timedelta(**amount)


def open_encounter(tx: Transaction, patient: Patient) -> Encounter:
    """Open a consultation."""
    return tx.encounters.open(
        patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=CLINICIAN
    )


def make_transcript(text: str = "the canary cough began on monday") -> Transcript:
    """Return a transcript of one segment."""
    words = tuple(Word(text=w, start=float(i), end=i + 0.5, probability=0.9) for i, w in enumerate(text.split()))
    segment = Segment(id="s1", text=text, start=0.0, end=float(len(words)), confidence=0.9, words=words)
    return Transcript(segments=(segment,), language="en", duration_s=9.0, model="whisper-base", model_sha256="a" * 64)


def make_note(text: str = "Canary cough since Monday.", status: StatementStatus = StatementStatus.SUPPORTED) -> Note:
    """Return a note of one statement and one omission."""
    reasons = (Reason(code="number_missing", message="canary number"),) if status is StatementStatus.FLAGGED else ()
    statement = Statement(
        id="n1",
        section="subjective",
        text=text,
        evidence=(Evidence(segment="s1", start=0.0, end=1.0),),
        status=status,
        reasons=reasons,
    )
    omission = Omission(segment="s1", kind="symptom", text="canary omission")
    return Note(template="soap", model="gemma", statements=(statement,), omissions=(omission,))


def make_completion(text: str = "canary completion") -> Completion:
    """Return a model's answer."""
    section = SectionText(section="subjective", text=text, finish_reason="stop")
    return Completion(sections=(section,), tokens_in=10, tokens_out=3, attempts=1)


def begin_generation(
    tx: Transaction, records: Records, encounter: Encounter, *, transcript_sha256: str = "5" * 64, model: str = "gemma"
) -> GenerationId:
    """Authorise and begin a generation, as the gate does."""
    event = GenerationAuthorized(
        generation=new_id(),
        encounter=encounter.id,
        patient=records.audit.pseudonym(encounter.patient_id),
        action="draft_note",
        purpose="treatment",
        policy_set="1" * 64,
        policies=("consent-given",),
        obligations=(),
        prompt_sha256="2" * 64,
        model=model,
        model_sha256="3" * 64,
        template="soap",
        template_sha256="4" * 64,
        transcript_sha256=transcript_sha256,
    )
    entry = tx.append(event, actor=CLINICIAN)
    return tx.generations.begin(
        event.generation,
        encounter_id=encounter.id,
        audit_seq=entry.seq,
        prompt_sha256=event.prompt_sha256,
        model=event.model,
        model_sha256=event.model_sha256,
        template_sha256=event.template_sha256,
    ).id


def event_names(records: Records) -> list[str]:
    """Return the names of all audit events, in order."""
    return [entry.event for entry in records.audit.entries()]


def as_thief(path: Path, *statements: str) -> None:
    """Change the database as somebody would who holds the file: no triggers, no checks."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")  # only the test waits for a thief's disk
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, "the attack must hit a row"


def make_document(text: str = "Canary letter.", *, flagged: bool = False, section: str = "request") -> Document:
    """Return a document of one sentence."""
    statement = Statement(
        id="n1",
        section=section,
        text=text,
        status=StatementStatus.FLAGGED if flagged else StatementStatus.SUPPORTED,
        reasons=(Reason(code="unsupported", message="nothing said supports this"),) if flagged else (),
    )
    return Document(
        template="referral_letter",
        template_sha256="d" * 64,
        title="Referral letter",
        headings=(("request", "Reason for referral", ""),),
        source_sha256="c" * 64,
        recipient="Dr Canary",
        text=Note(template="referral_letter", model="none", statements=(statement,)),
    )
