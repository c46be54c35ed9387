"""The ends of a permission that no model was asked with: completed, failed, or interrupted by a crash.

Rules kept here:

* A permission ends once; an end that was written already is never written again.
* One without an end after a minute is the mark of a crash: the next of its encounter says so in the log first.
* The worker's own, of drafts, are left alone.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from clinic.audit.events import GenerationCompleted, GenerationFailed, GenerationInterrupted
from clinic.domain import NO_MODEL, Actor, Completion, EncounterId
from clinic.errors import ClinicError
from clinic.policy.gate import ReleasedPrompt
from clinic.records.encounters import Encounter
from clinic.records.records import Records, Transaction

_IN_USE: Final = timedelta(seconds=60)
"""A permission is used within ten seconds (`policy.gate`), and what is done with it is done long before this."""


def complete(
    tx: Transaction, encounter: Encounter, released: ReleasedPrompt, completion: Completion, actor: Actor
) -> None:
    """Store what was quoted, with the entry that has its digest."""
    tx.generations.complete(released.generation, completion)
    event = GenerationCompleted(
        generation=released.generation,
        authorized_seq=released.authorized.seq,
        output_sha256=completion.sha256,
        tokens_in=completion.tokens_in,
        tokens_out=completion.tokens_out,
        attempts=completion.attempts,
    )
    tx.append(event, actor=actor, patient_id=encounter.patient_id)


def fail(records: Records, encounter: Encounter, released: ReleasedPrompt, error: ClinicError, actor: Actor) -> None:
    """Note that nothing came of it, and why."""
    with records.write(closing=True) as tx:
        if released.generation not in {generation.id for generation in tx.generations.dangling(encounter.id)}:
            return
        tx.generations.fail(released.generation, error.code)
        event = GenerationFailed(
            generation=released.generation, authorized_seq=released.authorized.seq, code=error.code
        )
        tx.append(event, actor=actor, patient_id=encounter.patient_id)


def close_interrupted(records: Records, encounter_id: EncounterId, actor: Actor) -> None:
    """Note of every permission without an end that a crash came between; one that may still be in use is left alone."""
    before = records.clock() - _IN_USE
    with records.read() as tx:
        if not tx.generations.dangling(encounter_id):
            return
    with records.write() as tx:
        for generation in tx.generations.dangling(encounter_id):
            if generation.model == NO_MODEL.id and generation.created_at < before:
                tx.generations.interrupt(generation.id)
                event = GenerationInterrupted(generation=generation.id, authorized_seq=generation.audit_seq)
                tx.append(event, actor=actor, patient_id=tx.encounters.get(encounter_id).patient_id)
