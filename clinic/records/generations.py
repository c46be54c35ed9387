"""Generations: what was released to a model, and what came of it.

Rules kept here:

* A generation exists only with the audit entry that authorised exactly it: same id, same prompt (checked here and, as
  to the entry, by the database).
* It ends once: completed, failed or interrupted.  One that has not ended is the mark of a crash (`dangling`).
  A completed answer that turns out to be unusable is rejected: it fails after all.
* The model's answer is sealed; its error is a code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import Select, select

from clinic.audit.events import GenerationAuthorized, from_canonical
from clinic.audit.tables import audit_entries
from clinic.domain import NO_MODEL, Completion, EncounterId, GenerationId
from clinic.errors import RecordError
from clinic.records.models import EncounterRow, GenerationRow
from clinic.records.sealed import Place
from clinic.records.work import UnitOfWork

_COMPLETION = TypeAdapter(Completion)
_CODE: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)


class GenerationState(StrEnum):
    """Where a generation stands."""

    BEGUN = "begun"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class StoredGeneration:
    """One generation."""

    id: GenerationId
    encounter_id: EncounterId
    audit_seq: int
    prompt_sha256: str
    model: str
    model_sha256: str
    template_sha256: str
    state: GenerationState
    completion: Completion | None = field(repr=False)
    error_code: str | None
    created_at: datetime
    finished_at: datetime | None


class Generations:
    """The generations, within one transaction."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work

    def begin(
        self,
        generation_id: str,
        *,
        encounter_id: str,
        audit_seq: int,
        prompt_sha256: str,
        model: str,
        model_sha256: str,
        template_sha256: str,
    ) -> StoredGeneration:
        """Note that a prompt is released, in the transaction that authorises it.

        Raises:
            RuntimeError: entry `audit_seq` does not authorise this generation of this prompt.
        """
        encounter = self._work.require(EncounterRow, encounter_id, what="encounter")
        self._require_authorized(generation_id, encounter_id, audit_seq, prompt_sha256)
        if self._work.session.get(GenerationRow, generation_id) is not None:
            raise _ended("this generation has begun already")
        row = GenerationRow(
            id=generation_id,
            encounter_id=encounter.id,
            patient_id=encounter.patient_id,
            audit_seq=audit_seq,
            state=GenerationState.BEGUN.value,
            prompt_sha256=prompt_sha256,
            model=model,
            model_sha256=model_sha256,
            template_sha256=template_sha256,
            created_at=self._work.now(),
        )
        self._work.add(row)
        return self._generation(row)

    def complete(self, generation_id: str, completion: Completion) -> StoredGeneration:
        """Store the model's answer."""
        row = self._finish(generation_id, GenerationState.COMPLETED)
        content = completion.model_dump(mode="json")
        row.completion = self._work.vault.seal_json(GenerationRow.completion, content, _place(row))
        self._work.session.flush()
        return self._generation(row)

    def fail(self, generation_id: str, code: str) -> StoredGeneration:
        """Note that no usable answer came, and the code of why."""
        # INVARIANT: the clear column holds a code, so no answer's text can enter by an error message.
        if _CODE.fullmatch(code) is None:
            raise ValueError("an error code holds lower-case letters, digits, _ and - only")
        row = self._finish(generation_id, GenerationState.FAILED)
        row.error_code = code
        self._work.session.flush()
        return self._generation(row)

    def interrupt(self, generation_id: str) -> StoredGeneration:
        """Note that the program stopped between release and answer."""
        row = self._finish(generation_id, GenerationState.INTERRUPTED)
        self._work.session.flush()
        return self._generation(row)

    def reject(self, generation_id: str, code: str) -> StoredGeneration:
        """Note that a stored answer cannot be used, and the code of why; it is let go (the log keeps its digest)."""
        if _CODE.fullmatch(code) is None:
            raise ValueError("an error code holds lower-case letters, digits, _ and - only")
        row = self._work.require(GenerationRow, generation_id, what="generation")
        if row.state != GenerationState.COMPLETED.value:
            raise _ended("this generation has no answer to reject")
        row.state = GenerationState.FAILED.value
        row.error_code = code
        row.completion = None
        self._work.session.flush()
        return self._generation(row)

    def completed_for(self, encounter_id: str) -> StoredGeneration | None:
        """Return the newest completed generation of an encounter's note; those without a model are none of it."""
        found = [g for g in self._in_state(encounter_id, GenerationState.COMPLETED) if g.model != NO_MODEL.id]
        return found[-1] if found else None

    def get(self, generation_id: str) -> StoredGeneration:
        """Return one generation.

        Raises:
            RecordError: `record_unknown`.
        """
        return self._generation(self._work.require(GenerationRow, generation_id, what="generation"))

    def dangling(self, encounter_id: str) -> tuple[StoredGeneration, ...]:
        """Return the generations of an encounter that have begun and not ended."""
        return self._in_state(encounter_id, GenerationState.BEGUN)

    def _in_state(self, encounter_id: str, state: GenerationState) -> tuple[StoredGeneration, ...]:
        self._work.require(EncounterRow, encounter_id, what="encounter")
        query: Select[GenerationRow] = (
            select(GenerationRow)
            .where(GenerationRow.encounter_id == encounter_id, GenerationRow.state == state.value)
            .order_by(GenerationRow.audit_seq)
        )
        return tuple(self._generation(row) for row in self._work.session.scalars(query))

    def _finish(self, generation_id: str, state: GenerationState) -> GenerationRow:
        row = self._work.require(GenerationRow, generation_id, what="generation")
        self._work.require_living(row.patient_id)
        if row.state != GenerationState.BEGUN.value:
            raise _ended("this generation has ended already")
        row.state = state.value
        row.finished_at = self._work.now()
        return row

    def _require_authorized(self, generation_id: str, encounter_id: str, audit_seq: int, prompt_sha256: str) -> None:
        query = select(audit_entries.c.event, audit_entries.c.body).where(audit_entries.c.seq == audit_seq)
        entry = self._work.session.execute(query).one_or_none()
        event = None if entry is None else from_canonical(entry.event, entry.body)
        wanted = (generation_id, encounter_id, prompt_sha256)
        if (
            not isinstance(event, GenerationAuthorized)
            or (event.generation, event.encounter, event.prompt_sha256) != wanted
        ):
            raise RuntimeError("no audit entry authorises this generation; append and commit it first")

    def _generation(self, row: GenerationRow) -> StoredGeneration:
        completion = None
        if row.completion is not None:
            completion = self._work.vault.open_json(GenerationRow.completion, row.completion, _place(row), _COMPLETION)
        return StoredGeneration(
            id=GenerationId(row.id),
            encounter_id=EncounterId(row.encounter_id),
            audit_seq=row.audit_seq,
            prompt_sha256=row.prompt_sha256,
            model=row.model,
            model_sha256=row.model_sha256,
            template_sha256=row.template_sha256,
            state=GenerationState(row.state),
            completion=completion,
            error_code=row.error_code,
            created_at=row.created_at,
            finished_at=row.finished_at,
        )


def _place(row: GenerationRow) -> Place:
    return Place(row.patient_id, f"{row.encounter_id}/{row.id}")


def _ended(message: str) -> RecordError:
    return RecordError(message, code="record_conflict", hint="start a new generation")
