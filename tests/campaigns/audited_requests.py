"""What the fault campaigns share: one audited request through the real flow, and the check of what a fault left behind.

Rules kept here:

* The code under test is the program's own: `Records`, `Consultation`, `ReleaseGate`, `ModelClient`.  Only the model
  behind the socket is ours, in a process of its own (`recording_model`), and it keeps what it was asked durably.
* Whoever makes requests acknowledges each step to its parent after the commit, never before.
* The check runs in another process than the request, and believes only the files.
* The mutant (`Order.RELEASE_FIRST`) releases before it records: a campaign that does not catch it proves nothing.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from clinic.audit.entry import GENESIS, Entry
from clinic.audit.events import GenerationAuthorized, from_canonical
from clinic.config import Config
from clinic.consultation import Consultation
from clinic.domain import (
    OPERATOR,
    Action,
    Completion,
    Consent,
    EncounterId,
    EncounterKind,
    GenerationId,
    Prompt,
    PromptStyle,
    canonical_sha256,
)
from clinic.errors import ClinicError
from clinic.generation.client import ModelClient
from clinic.generation.generator import Progress
from clinic.generation.profiles import Engine, Profile, Weights
from clinic.generation.prompts import build_prompt, load_template
from clinic.home import open_records, unlock_home
from clinic.policy.decision import Permit, Redact
from clinic.policy.detectors.identifiers import NOBODY, KnownIdentifiers, redact_transcript
from clinic.policy.gate import ReleasedPrompt, ReleaseGate
from clinic.records.engine import integrity_problems
from clinic.records.patients import PatientData
from clinic.records.records import Records
from clinic.services import build_consultation
from clinic.speech.text import text_to_transcript

TEXT = "Cough for three days. No fever. Take paracetamol five hundred milligrams twice a day. Come back in a week."
PROFILE = Profile(
    id="gemma-recording",
    label="a model that only records",
    licence="none",
    engine=Engine.EXTERNAL,
    style=PromptStyle.CHAT,
    context_tokens=8192,
    weights=Weights(path=Path("/nowhere"), sha256="0123456789abcdef" * 4),
)

Acknowledge = Callable[[str, str, str], None]
"""Called with a kind, an id and a digest once that is committed."""


class Order(StrEnum):
    """The order in which a request does the two things that must not be swapped."""

    RECORD_FIRST = "record first"
    RELEASE_FIRST = "release first"  # the mutant


# --- requests -----------------------------------------------------------------------------------------


class _LateGate(ReleaseGate):
    """The mutant's gate: releases at once, and leaves the recording for later."""

    late: Callable[[], object] | None = None

    def release(
        self,
        decision: Permit | Redact,
        prompt: Prompt,
        event: GenerationAuthorized,
        *,
        record: Callable[[GenerationAuthorized], Entry],
        known: KnownIdentifiers = NOBODY,
    ) -> ReleasedPrompt:
        """Release before anything is recorded."""
        del decision, known
        self.late = lambda: record(event)
        nothing = Entry(0, "", "", "", event.name, event.to_canonical(), GENESIS, GENESIS)
        return self._mint(prompt, prompt.sha256, GenerationId(event.generation), nothing)


class _LateClient(ModelClient):
    """The mutant's client: asks the model, then has the permission recorded."""

    gate: _LateGate | None = None

    def generate(self, released: ReleasedPrompt, *, progress: Progress | None = None) -> Completion:
        """Ask first."""
        completion = super().generate(released, progress=progress)
        assert self.gate is not None
        assert self.gate.late is not None
        self.gate.late()
        return completion


def open_flow(config: Config, socket: Path, order: Order) -> tuple[Records, Consultation]:
    """Open the records of a data folder, and the flow over them with the model behind `socket`."""
    records = open_records(config, unlock_home(config))
    client = ModelClient(socket, profile=PROFILE, timeout_s=20)
    if order is Order.RECORD_FIRST:
        return records, build_consultation(config, records, generator=lambda: client)
    late = _LateClient(socket, profile=PROFILE, timeout_s=20)
    late.gate = _LateGate(records.audit)
    flow = build_consultation(config, records, generator=lambda: late)
    flow._releasing._gate = late.gate
    return records, flow


def request(records: Records, flow: Consultation, name: str, acknowledge: Acknowledge, *, audio: int = 3000) -> None:
    """Make one audited request: patient, consent, audio and text in; decision, answer and draft note out.

    Args:
        records: the unlocked records.
        flow: the flow over them.
        name: a word that makes its text, and so its prompt, different from all others (a number would be redacted).
        acknowledge: told what is durable.
        audio: bytes in the one chunk of audio.
    """
    chunk = hashlib.sha256(name.encode()).digest() * (audio // 32)
    with records.write() as tx:
        patient = tx.patients.create(PatientData(name="Ada Byron"), actor=OPERATOR)
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.DICTATION, template="soap", language="en", actor=OPERATOR
        )
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, actor=OPERATOR)
        recording = tx.recordings.start(encounter.id, mime="audio/flac", actor=OPERATOR)
    acknowledge("patient", patient.id, "")
    with records.write() as tx:
        stored = tx.recordings.append(recording.id, 0, chunk)
    acknowledge("chunk", recording.id, stored.sha256)
    with records.write() as tx:
        digest = tx.transcripts.store(encounter.id, text_to_transcript(f"{TEXT} The inhaler is called {name}."))
    acknowledge("transcript", encounter.id, digest)
    flow.generate(encounter.id, actor=OPERATOR)
    acknowledge("answer", encounter.id, "")
    flow.store(encounter.id, actor=OPERATOR)
    acknowledge("note", encounter.id, "")


# --- the check ----------------------------------------------------------------------------------------


@dataclass
class Acknowledged:
    """What the parent was told is durable, in order."""

    steps: list[tuple[str, str, str]] = field(default_factory=list)
    refused: str | None = None
    """The code of the error that ended the requests."""

    def add(self, message: bytes) -> None:
        """Take one acknowledgement as it came through the pipe."""
        kind, name, digest = json.loads(message)
        if kind == "refused":
            self.refused = name
        else:
            self.steps.append((kind, name, digest))


@dataclass(frozen=True, slots=True)
class Findings:
    """What was looked at, and what was wrong."""

    violations: tuple[str, ...]
    prompts: int
    acknowledged: int
    entries: int

    @property
    def unrecorded(self) -> bool:
        """Whether a model was asked without a record of it."""
        return any(found.startswith("unrecorded") for found in self.violations)


def check(config: Config, seen: list[str], acknowledged: Acknowledged) -> Findings:
    """Open a data folder after a fault and hold it against what the model saw and what was acknowledged."""
    records = open_records(config, unlock_home(config))
    violations = list(integrity_problems(records._engine))
    report = records.audit.verify()
    if not report.ok:
        violations.append(f"the log does not verify: {report.message}")
    unrecorded = Counter(seen) - Counter(_authorized(records))  # each question needs a permission of its own
    violations += [f"unrecorded: the model was asked {digest}" for digest in unrecorded]
    steps = acknowledged.steps
    violations += [f"lost: {kind} {name}" for kind, name, digest in steps if _lost(records, kind, name, digest)]
    violations += [f"sweep: {finding}" for finding in records.sweep()]
    records._engine.dispose()
    return Findings(tuple(violations), len(seen), len(acknowledged.steps), report.entries)


def new_word() -> str:
    """Return a word that nobody has used."""
    return "".join(secrets.choice("bdfgklmnprstvz") + secrets.choice("aeiou") for _ in range(8))


def asked(messages: object) -> str:
    """Return the digest by which model and check recognise a question."""
    return canonical_sha256(messages)


def _authorized(records: Records) -> Iterator[str]:
    """Yield what each committed permission allows to be asked; its prompt is built anew from the stored transcript."""
    for entry in records.audit.entries():
        event = from_canonical(entry.event, entry.body)
        if isinstance(event, GenerationAuthorized):
            prompt = _prompt_of(records, EncounterId(event.encounter))
            if prompt.sha256 == event.prompt_sha256:
                yield asked([message.model_dump() for message in prompt.parts[0].messages])


def _prompt_of(records: Records, encounter_id: EncounterId) -> Prompt:
    with records.read() as tx:
        encounter = tx.encounters.get(encounter_id)
        transcript = tx.transcripts.current(encounter_id)
        patient = tx.patients.data(encounter.patient_id)
    assert transcript is not None
    known = KnownIdentifiers(
        name=patient.name, record_number=patient.record_number, date_of_birth=patient.date_of_birth
    )
    redacted = redact_transcript(transcript, known)
    return build_prompt(load_template("soap"), redacted, PROFILE.identity, Action.SUMMARISE_DICTATION)


def _lost(records: Records, kind: str, name: str, digest: str) -> bool:
    encounter = EncounterId(name)
    try:
        with records.read() as tx:
            there = {
                "patient": lambda: tx.patients.data(name).name == "Ada Byron",
                "chunk": lambda: hashlib.sha256(b"".join(tx.recordings.chunks(name))).hexdigest() == digest,
                "transcript": lambda: tx.transcripts.current_sha256(encounter) == digest,
                "answer": lambda: tx.generations.completed_for(encounter) is not None,
                "note": lambda: tx.notes.get(encounter) is not None,
            }
            return not there[kind]()
    except ClinicError:
        return True
