"""Answering a question about a patient's record: decide, record, look it up, keep the answer sealed.

Rules kept here:

* The policy is asked for every question (`ask_record`, with the model `none`), and its answer is committed before a
  note is opened for it.  The question's own words are what its detectors look at.
* It is asked from an encounter of one's own with the patient's consent: that is the care relationship.
* Signed notes of this patient only, the newest 100; how many there are is said.
* Question and answer are sealed under the patient's key with the entry that says so, in one transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from clinic.documents import ending
from clinic.documents.questions import Found, Quoted, find
from clinic.documents.source import source_of
from clinic.domain import (
    NO_MODEL,
    Action,
    Actor,
    Completion,
    EncounterId,
    EncounterState,
    Evidence,
    Note,
    Prompt,
    PromptField,
    SectionText,
    Segment,
    Statement,
    StatementStatus,
    Transcript,
    canonical_sha256,
)
from clinic.errors import ClinicError, InputError
from clinic.facts import Case
from clinic.policy.gate import ReleasedPrompt
from clinic.policy.load import PolicySet
from clinic.records.records import Records, Transaction
from clinic.releasing import Releasing, obligations_of, require_consent

_MOST_NOTES: Final = 100
_LONGEST: Final = 2000


@dataclass(frozen=True, slots=True)
class Lookup:
    """The way in which questions are answered, as the policies pin it; `version` is raised when it changes."""

    id: str = "record_quotes"
    version: int = 2

    @property
    def sha256(self) -> str:
        """Digest of name and version."""
        return canonical_sha256({"id": self.id, "version": self.version})


LOOKUP: Final = Lookup()


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found, when each note was signed, how many notes were read, and how many there are."""

    question: str = field(repr=False)
    found: Found = field(repr=False)
    signed_at: dict[str, datetime]
    read: int
    signed: int


class Answering:
    """Answers questions over one data folder.  `policy_set` gives the active set; where it raises, the answer is no."""

    def __init__(self, records: Records, policy_set: Callable[[], PolicySet]) -> None:
        self._records = records
        self._releasing = Releasing(records, policy_set)

    def ask(self, encounter_id: EncounterId, question: str, *, actor: Actor) -> Answer:
        """Look a question up in the signed notes of an encounter's patient.

        Raises:
            InputError: `question_empty` if it holds no word, or more than 2,000 characters.
            PolicyDeniedError: a policy said no; the denial is recorded.
            GenerationError: `output_forbidden`.
        """
        words = " ".join(question.split())
        if not any(map(str.isalnum, words)) or len(words) > _LONGEST:
            raise InputError(
                "there is no question, or a very long one", code="question_empty", hint="ask in a sentence or two"
            )
        ending.close_interrupted(self._records, encounter_id, actor)
        salt = secrets.token_hex(16)  # a question is short: without it, its digest in the log could be guessed
        case = self._case(encounter_id, words, salt)
        released = self._release(case, actor)
        try:
            released.claim()  # used once, within its time, and still what was recorded
            with self._records.read() as tx:
                record, signed_at, signed = _record(tx, case)
            answer = Answer(words, find(words, record), signed_at, len(signed_at), signed)
            self._keep(case, released, answer, salt, actor)
        except ClinicError as error:
            ending.fail(self._records, case.encounter, released, error, actor)
            raise
        return answer

    def _case(self, encounter_id: EncounterId, question: str, salt: str) -> Case:
        with self._records.read() as tx:
            encounter = tx.encounters.get(encounter_id)
            return Case(
                encounter=encounter,
                patient=tx.patients.data(encounter.patient_id),
                pseudonym=self._records.audit.pseudonym(encounter.patient_id),
                transcript=Transcript(segments=(Segment(id="question", text=question),)),
                transcript_sha256=canonical_sha256({"question": question, "salt": salt}),
                instruction=question,
            )

    def _release(self, case: Case, actor: Actor) -> ReleasedPrompt:
        def nothing(*, redact: bool) -> Prompt:
            del redact  # it holds no text of the record, and goes to nobody
            return Prompt(
                action=Action.ASK_RECORD,
                template=LOOKUP.id,
                template_sha256=LOOKUP.sha256,
                model=NO_MODEL,
                parts=(),
                fields=(PromptField.RECORD, PromptField.INSTRUCTION),
            )

        return self._releasing.release(case, nothing, LOOKUP, actor, model_verified=True)

    def _keep(self, case: Case, released: ReleasedPrompt, answer: Answer, salt: str, actor: Actor) -> None:
        obligations = obligations_of(released.authorized)
        quotes = tuple(
            SectionText(section=f"{q.encounter_id}:{q.id}", text=q.text, finish_reason="quoted")
            for q in answer.found.quotes
        )
        obligations.check_answer(Completion(sections=quotes, tokens_in=0, tokens_out=0, attempts=0), released.prompt)
        obligations.check_note(_as_note(answer.found.quotes))
        asked = SectionText(section=f"question:{salt}", text=answer.question, finish_reason="asked")
        completion = Completion(sections=(asked, *quotes), tokens_in=0, tokens_out=0, attempts=0)
        with self._records.write(closing=True) as tx:
            require_consent(tx, case.encounter.id)
            ending.complete(tx, case.encounter, released, completion, actor)


def _record(tx: Transaction, case: Case) -> tuple[list[Quoted], dict[str, datetime], int]:
    """Return the sentences of the patient's newest signed notes, when each was signed, and how many notes there are."""
    encounters = [e for e in tx.encounters.for_patient(case.encounter.patient_id) if e.state is EncounterState.SIGNED]
    notes = [note for e in encounters[:_MOST_NOTES] if (note := tx.notes.get(e.id)) is not None]
    notes.sort(key=lambda note: (note.signed_at is not None, note.signed_at, note.id))
    record, signed_at = [], {}
    for order, note in enumerate(notes):
        assert note.signed_at is not None  # noqa: S101 - the encounter is signed, and its note with it
        signed_at[note.encounter_id] = note.signed_at
        record += [Quoted(note.encounter_id, order, s.id, s.section, s.text) for s in source_of(note).sentences]
    return record, {str(key): value for key, value in signed_at.items()}, len(encounters)


def _as_note(quotes: tuple[Quoted, ...]) -> Note:
    statements = tuple(
        Statement(
            id=f"q{number}",
            section=quote.section,
            text=quote.text,
            evidence=(Evidence(segment=f"{quote.encounter_id}:{quote.id}"),),
            status=StatementStatus.SUPPORTED,
        )
        for number, quote in enumerate(quotes, start=1)
    )
    return Note(template=LOOKUP.id, model=NO_MODEL.id, statements=statements)
