"""What an encounter takes and shows at each moment: the rules that the web form and the JSON API share.

Rules kept here:

* Nothing is taken before consent is recorded as given, and nothing is shown while it is not, but of a signed note.
* Sound and text come from the clinician who opened the encounter, or a program that acts for them, and nobody else:
  so every chunk has an author, though only a recording's start and end are in the log.
* A recording or text comes in until the job starts, and again where the job found nothing to work on.
* An encounter is marked as queued, durably, before its job is started: a crash in between leaves a visible, repeatable
  state, never a silent one.
* A job that could not be started leaves the encounter as one that failed: with a code and "try again".
* Whoever is shown an encounter is in the audit log.
"""

from __future__ import annotations

from typing import Final, Protocol

from clinic.audit.events import EncounterViewed, TextSubmitted
from clinic.domain import Actor, Consent, EncounterId, EncounterState, RecordingId, Transcript
from clinic.errors import AuthenticationError, JobError, RecordError
from clinic.records.encounters import Encounter
from clinic.records.recordings import ChunkAck
from clinic.records.records import Records, Transaction
from clinic.speech.text import text_to_transcript

WORKING: Final = frozenset({EncounterState.QUEUED, EncounterState.RUNNING})
STOPPED: Final = frozenset({EncounterState.FAILED, EncounterState.DENIED})


class Queue(Protocol):
    """Where the job of an encounter is put."""

    def enqueue(self, encounter_id: EncounterId, *, actor: Actor) -> object:
        """Start the job of an encounter that is marked as queued.

        Raises:
            JobError: when no worker can take it.
        """


# --- what may be taken, and when --------------------------------------------------------------------


def require_consent(encounter: Encounter) -> None:
    """Refuse unless the patient's consent is recorded as given.

    Raises:
        RecordError: `consent_missing`.
    """
    if encounter.consent is not Consent.GIVEN:
        raise RecordError(
            "the patient's consent is not recorded as given", code="consent_missing", hint="record the answer first"
        )


def require_unsigned(encounter: Encounter) -> None:
    """Refuse a new answer about consent once the note is signed.

    Raises:
        RecordError: `note_locked`.
    """
    if encounter.state is EncounterState.SIGNED:
        raise RecordError(
            "this encounter is signed: its consent is part of the record", code="note_locked", hint="add an addendum"
        )


def takes_capture(encounter: Encounter, transcript: Transcript | None) -> bool:
    """Tell whether a recording or text may come in: until the job starts, and again if it found nothing to work on."""
    stopped_early = encounter.state in STOPPED and transcript is None
    return encounter.state is EncounterState.OPEN or stopped_early


def takes_text_again(encounter: Encounter, transcript: Transcript | None) -> bool:
    """Tell whether a typed text that the policy refused may be replaced by another one.

    INVARIANT: nothing was generated from it: a denial comes before the model is asked.  What was heard is not replaced
    by typing.
    """
    return encounter.state is EncounterState.DENIED and transcript is not None and is_typed(transcript)


def is_typed(transcript: Transcript) -> bool:
    """Tell whether a transcript was typed or pasted, not heard: its words have no times."""
    return transcript.model is None and all(segment.start is None for segment in transcript.segments)


def require_own(encounter: Encounter, *, actor: Actor) -> None:
    """Refuse what would be added to an encounter by anybody but the clinician who opened it.

    Raises:
        AuthenticationError: `not_allowed`.
    """
    if encounter.clinician_id != actor.user_id:
        raise AuthenticationError(
            "only the clinician who opened this encounter may record or type in it",
            code="not_allowed",
            hint="open an encounter of your own for this patient",
        )


def require_open(tx: Transaction, encounter_id: EncounterId, *, actor: Actor) -> Encounter:
    """Return an encounter that may still take a recording or text of this actor.

    Raises:
        AuthenticationError: `not_allowed` if it is somebody else's.
        RecordError: `consent_missing`, or `step_unavailable` once it is past that step.
    """
    encounter = tx.encounters.get(encounter_id)
    require_own(encounter, actor=actor)
    require_consent(encounter)
    if not takes_capture(encounter, tx.transcripts.current(encounter_id)):
        raise RecordError(
            "this encounter takes no more recordings or text",
            code="step_unavailable",
            hint="load the page again; for more, open a new encounter",
        )
    return encounter


def require_stopped(encounter: Encounter) -> None:
    """Refuse to try again what has not stopped.

    Raises:
        RecordError: `step_unavailable`.
    """
    if encounter.state not in STOPPED:
        raise RecordError("this encounter has not stopped", code="step_unavailable", hint="load the page again")


def record_consent(tx: Transaction, encounter_id: EncounterId, consent: Consent, *, actor: Actor) -> Encounter:
    """Record the patient's answer.

    Raises:
        RecordError: `note_locked`, `patient_shredded`.
    """
    require_unsigned(tx.encounters.get(encounter_id))
    tx.encounters.require_living(encounter_id)
    return tx.encounters.record_consent(encounter_id, consent, actor)


def take_chunk(tx: Transaction, recording_id: RecordingId, index: int, data: bytes, *, actor: Actor) -> ChunkAck:
    """Store a chunk of a recording; acknowledge it after the commit."""
    # INVARIANT: asked for every chunk, so that none is another's, and nothing more is kept once consent is withdrawn.
    require_open(tx, tx.recordings.encounter_of(recording_id), actor=actor)
    return tx.recordings.append(recording_id, index, data)


def take_text(tx: Transaction, encounter_id: EncounterId, text: str, *, actor: Actor) -> Encounter:
    """Take dictated or pasted text as the transcript."""
    encounter = tx.encounters.get(encounter_id)
    if takes_text_again(encounter, tx.transcripts.current(encounter_id)):
        require_own(encounter, actor=actor)
        require_consent(encounter)
    else:
        require_open(tx, encounter_id, actor=actor)
    transcript = text_to_transcript(text, language=encounter.language)
    digest = tx.transcripts.store(encounter.id, transcript)
    event = TextSubmitted(encounter=encounter.id, sha256=digest, words=transcript.word_count)
    tx.append(event, actor=actor, patient_id=encounter.patient_id)
    return encounter


# --- what may be shown ------------------------------------------------------------------------------


def is_readable(encounter: Encounter) -> bool:
    """Tell whether transcript and note may be shown: with consent, and once the note is signed."""
    return encounter.consent is Consent.GIVEN or encounter.state is EncounterState.SIGNED


def record_view(records: Records, tx: Transaction, encounter: Encounter, *, actor: Actor) -> None:
    """Append to the audit log that an encounter is shown."""
    event = EncounterViewed(encounter=encounter.id, patient=records.audit.pseudonym(encounter.patient_id))
    tx.append(event, actor=actor, patient_id=encounter.patient_id)


def require_readable(encounter: Encounter) -> None:
    """Refuse to show transcript or note while consent is not given.

    Raises:
        RecordError: `consent_missing`.
    """
    if not is_readable(encounter):
        require_consent(encounter)


# --- the job ----------------------------------------------------------------------------------------


def queue(tx: Transaction, encounter_id: EncounterId) -> Encounter:
    """Mark an encounter as queued; `start` its job after the commit.

    A job that is not started then, because the process died, is started by the worker.
    """
    return tx.encounters.mark(encounter_id, state=EncounterState.QUEUED)


def start(records: Records, jobs: Queue, encounter_id: EncounterId, *, actor: Actor) -> None:
    """Start the job of an encounter that is marked as queued.

    Raises:
        JobError: no worker can take it; the encounter says so and can be tried again.
    """
    try:
        jobs.enqueue(encounter_id, actor=actor)
    except JobError as error:
        with records.write() as tx:
            tx.encounters.mark(encounter_id, state=EncounterState.FAILED, error_code=error.code)
        raise
