"""One encounter from beginning to draft in this process: the command line's way through `clinic.consultation`.

The model server of a running clinic is used where it answers; otherwise one is started for the duration of the call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from clinic.audit.verify import VerifyReport
from clinic.config import Config
from clinic.consultation import Progress
from clinic.domain import (
    OPERATOR,
    Consent,
    EncounterId,
    EncounterKind,
    Note,
    PatientId,
    Stage,
    Transcript,
)
from clinic.errors import AuditError, ClinicError
from clinic.generation.launcher import ModelServer, is_answering, model_server
from clinic.generation.prompts import load_template
from clinic.past_decisions import recorded_outcome
from clinic.policy.detectors.red_flags import transcript_red_flags
from clinic.records.patients import PatientData
from clinic.records.records import Records, Transaction
from clinic.services import build_consultation, model_client

TRANSCRIPT_FIELDS = {"language", "duration_s", "segments", "speakers_error"}
"""What of a transcript is printed as JSON."""

Heard = Callable[[Transcript], None]
"""Called with what was said when the flow ends without a note: red flags are told even then."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that one run produced, as `consult --json` prints it."""

    encounter: EncounterId
    transcript: Transcript
    decision: dict[str, Any]
    note: Note
    timings: dict[str, float]
    audit: VerifyReport

    def document(self) -> dict[str, Any]:
        """Return the JSON document of DESIGN section 9."""
        return {
            "encounter": self.encounter,
            "transcript": self.transcript.model_dump(mode="json", include=TRANSCRIPT_FIELDS),
            "decision": self.decision,
            "note": self.note.model_dump(mode="json"),
            "red_flags": [
                {"kind": flag.kind, "segment": flag.segment, "standing": flag.standing}
                for flag in transcript_red_flags(self.transcript)
            ],
            "timings": self.timings,
        }


def consult_audio(
    config: Config,
    records: Records,
    chunks: Iterator[bytes],
    *,
    mime: str,
    patient_id: str | None,
    template: str,
    language: str | None,
    consent: Consent,
    progress: Progress,
    heard: Heard,
) -> Outcome:
    """Store a recording chunk by chunk and take it through the flow."""
    load_template(template)  # a misspelt one is refused before anything is stored
    with records.write() as tx:
        encounter_id = _open(
            tx, patient_id, kind=EncounterKind.CONSULTATION, template=template, language=language, consent=consent
        )
        recording = tx.recordings.start(encounter_id, mime=mime, actor=OPERATOR)
    count = 0
    for count, chunk in enumerate(chunks, start=1):
        with records.write() as tx:
            tx.recordings.append(recording.id, count - 1, chunk)
    with records.write() as tx:
        tx.recordings.complete(recording.id, chunks=count, actor=OPERATOR)
    return _run(config, records, encounter_id, progress, heard)


def draft_from_transcript(
    config: Config,
    records: Records,
    transcript: Transcript,
    *,
    template: str,
    consent: Consent,
    progress: Progress,
    heard: Heard,
) -> Outcome:
    """Take a transcript that exists already through decision, generation and verification."""
    load_template(template)
    spoken = any(segment.speaker or segment.start is not None for segment in transcript.segments)
    kind = EncounterKind.CONSULTATION if spoken else EncounterKind.DICTATION
    with records.write() as tx:
        encounter_id = _open(tx, None, kind=kind, template=template, language=transcript.language, consent=consent)
        tx.transcripts.store(encounter_id, transcript)
    return _run(config, records, encounter_id, progress, heard)


@contextmanager
def running_model_server(config: Config) -> Iterator[ModelServer | None]:
    """Yield once a model server answers: the running clinic's, or our own until the block ends."""
    if is_answering(config.model_socket):
        yield None
        return
    server = model_server(config)
    if server is None:
        yield None
        return
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _open(
    tx: Transaction,
    patient_id: str | None,
    *,
    kind: EncounterKind,
    template: str,
    language: str | None,
    consent: Consent,
) -> EncounterId:
    if patient_id is None:
        patient = tx.patients.create(PatientData(name="(command line)"), actor=OPERATOR)
        patient_id = patient.id
    encounter = tx.encounters.open(
        PatientId(patient_id), kind=kind, template=template, language=language, actor=OPERATOR
    )
    if consent is not Consent.NOT_RECORDED:
        tx.encounters.record_consent(encounter.id, consent, actor=OPERATOR)
    return encounter.id


def _run(config: Config, records: Records, encounter_id: EncounterId, progress: Progress, heard: Heard) -> Outcome:
    clock = _StageClock(progress)
    with running_model_server(config):
        consultation = build_consultation(config, records, generator=lambda: model_client(config), progress=clock)
        started = time.monotonic()
        try:
            note = consultation.run(encounter_id, actor=OPERATOR)
        except ClinicError:
            _tell(records, encounter_id, heard)
            raise
    timings = clock.seconds()
    timings["total_s"] = round(time.monotonic() - started, 3)
    with records.read() as tx:
        transcript = tx.transcripts.current(encounter_id)
        generation = tx.generations.completed_for(encounter_id)
    if transcript is None or generation is None:
        raise AuditError("the encounter lost its transcript or generation", hint="see `clinic audit verify`")
    return Outcome(
        encounter=encounter_id,
        transcript=transcript,
        decision=recorded_outcome(records, generation.audit_seq),
        note=note,
        timings=timings,
        audit=records.audit.verify(),
    )


def _tell(records: Records, encounter_id: EncounterId, heard: Heard) -> None:
    with suppress(ClinicError):  # what went wrong first is what must be told
        with records.read() as tx:
            transcript = tx.transcripts.current(encounter_id)
        if transcript is not None:
            heard(transcript)


class _StageClock:
    """Measures the stages while passing progress on."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._begun: dict[Stage, float] = {}

    def __call__(self, stage: Stage, done: float) -> None:
        self._begun.setdefault(stage, time.monotonic())
        self._progress(stage, done)

    def seconds(self) -> dict[str, float]:
        """Return seconds per stage; the last one ends now."""
        marks = [*self._begun.items()]
        ends = [start for _, start in marks[1:]] + [time.monotonic()]
        return {f"{stage.value}_s": round(end - start, 3) for (stage, start), end in zip(marks, ends, strict=True)}
