"""The facts of one encounter: what the policy is told, and what the audit log records of a decision.

Rules kept here:

* Pure; ids, numbers, enum values and digests only: no word of a transcript gets into a request or an event.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from clinic.audit.events import GenerationAuthorized, GenerationDenied
from clinic.domain import Actor, EncounterKind, GenerationId, NoteStanding, Prompt, Transcript
from clinic.generation.prompts import estimate_tokens
from clinic.policy.decision import Deny, Permit, Redact
from clinic.policy.detectors.identifiers import KnownIdentifiers, find
from clinic.policy.detectors.injection import score
from clinic.policy.detectors.neutralise import hidden_count
from clinic.policy.detectors.scope import score as scope
from clinic.policy.load import PolicySet
from clinic.policy.request import PolicyContext, Purpose
from clinic.records.encounters import Encounter
from clinic.records.patients import PatientData
from clinic.speech.transcriber import mean_confidence, speech_ms

_TEACHING = "teaching"

_MS_PER_WORD = 400

REQUEST_WORDS = 200
"""What is typed and no longer than this may be a request in the place of a text; a longer one is a text."""


class Named(Protocol):
    """What a template is known by: of a note, or of a document."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def sha256(self) -> str:
        """Digest of everything that it says."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """What steps 3 to 8 need to know of an encounter."""

    encounter: Encounter
    patient: PatientData
    pseudonym: str
    transcript: Transcript = field(repr=False)
    transcript_sha256: str
    instruction: str = field(default="", repr=False)
    """The user's own question or instruction, if there is one."""

    @property
    def identifiers(self) -> KnownIdentifiers:
        """What the record already knows of the patient, to be kept out of prompts."""
        return KnownIdentifiers(
            name=self.patient.name,
            record_number=self.patient.record_number,
            date_of_birth=self.patient.date_of_birth,
        )


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds at this moment, beside the encounter itself.

    Attributes:
        at: the present time, in the clinic's own time zone.
        jobs_unfinished: the actor's other encounters that wait or run.
        requests_last_hour: decisions that the actor asked for in the last 60 minutes.
        note: whether the encounter has a note, and whether it is signed.
        break_glass: the actor broke the glass for this encounter, and it still runs.
    """

    at: datetime
    jobs_unfinished: int
    requests_last_hour: int
    note: NoteStanding
    break_glass: bool


def purpose_of(policy_set: PolicySet | None) -> Purpose:
    """Return what this clinic's texts are for: teaching under that profile, else treatment."""
    return "teaching" if policy_set is not None and policy_set.profile == _TEACHING else "treatment"


def policy_context(
    case: Case,
    prompt: Prompt,
    template: Named,
    actor: Actor,
    *,
    model_verified: bool,
    purpose: Purpose,
    standing: Standing,
) -> PolicyContext:
    """Return what the policy decides on."""
    transcript = case.transcript
    dictated = case.encounter.kind is EncounterKind.DICTATION
    return PolicyContext(
        purpose=purpose,
        consent=case.encounter.consent,
        kind=case.encounter.kind,
        assigned=case.encounter.clinician_id == actor.user_id,
        break_glass=standing.break_glass,
        minute_of_day=60 * standing.at.hour + standing.at.minute,
        jobs_unfinished=standing.jobs_unfinished,
        requests_last_hour=standing.requests_last_hour,
        note=standing.note,
        images=0,
        instruction_words=len(case.instruction.split()),
        fields=prompt.fields,
        language=transcript.language or case.encounter.language or "und",
        speech_ms=0 if dictated else _speech_ms(transcript),
        words=transcript.word_count,
        confidence_permille=_confidence_permille(transcript),
        prompt_tokens=estimate_tokens(prompt),
        context_tokens=prompt.model.context_tokens,
        model=prompt.model.id,
        model_sha256=prompt.model.sha256,
        model_verified=model_verified,
        template=template.id,
        template_sha256=prompt.template_sha256,
        template_verified=prompt.template_sha256 == template.sha256,
        injection_score=round(100 * score(transcript.text).score),
        scope_score=_scope_score(transcript),
        hidden_characters=hidden_count(transcript.text),
        identifiers_found=len(find(transcript.text, known=case.identifiers)),
    )


def authorization(
    case: Case, decision: Permit | Redact, prompt: Prompt, generation: GenerationId, *, purpose: Purpose
) -> GenerationAuthorized:
    """Return the event that must be committed before the prompt may leave."""
    return GenerationAuthorized(
        generation=generation,
        encounter=case.encounter.id,
        patient=case.pseudonym,
        action=prompt.action.value,
        purpose=purpose,
        policy_set=decision.policy_set,
        policies=decision.policies,
        obligations=decision.obligations,
        prompt_sha256=prompt.sha256,
        model=prompt.model.id,
        model_sha256=prompt.model.sha256,
        template=prompt.template,
        template_sha256=prompt.template_sha256,
        transcript_sha256=case.transcript_sha256,
    )


def denial(case: Case, decision: Deny, prompt: Prompt, *, purpose: Purpose) -> GenerationDenied:
    """Return the event that records a no."""
    return GenerationDenied(
        encounter=case.encounter.id,
        patient=case.pseudonym,
        action=prompt.action.value,
        purpose=purpose,
        policy_set=decision.policy_set,
        policies=decision.policies,
        obligations=(),
        model=prompt.model.id,
        template=prompt.template,
        transcript_sha256=case.transcript_sha256,
        reason_codes=tuple(reason.code for reason in decision.reasons),
    )


def _scope_score(transcript: Transcript) -> int:
    """Return how far what was typed is out of scope; whatever was heard, or is too long for a request, is in it."""
    typed = transcript.model is None and all(segment.start is None for segment in transcript.segments)
    if not typed or transcript.word_count > REQUEST_WORDS:
        return 0
    return round(100 * scope(transcript.text).score)


def _speech_ms(transcript: Transcript) -> int:
    """Length of speech in ms; for text without times, what its words would take at 150 a minute."""
    return speech_ms(transcript) or _MS_PER_WORD * transcript.word_count


def _confidence_permille(transcript: Transcript) -> int:
    """Mean confidence; text that was typed counts as certain."""
    confidence = mean_confidence(transcript)
    return 1000 if confidence is None else round(1000 * confidence)
