"""Events of what the policy decided, and what the model then did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from clinic.audit.events.schema import ActionName, AuditEvent, Code, Count, Digest, Id, Ids, Pseudonym


@dataclass(frozen=True, slots=True)
class PolicyActivated(AuditEvent):
    """From here on this policy set decides."""

    name: ClassVar[str] = "policy.activated"
    policy_set: Digest
    policies: Count


@dataclass(frozen=True, slots=True)
class PolicySetActivated(AuditEvent):
    """From here on this policy set decides: `files` names its folder, `previous` is the set before (zeros: none)."""

    name: ClassVar[str] = "policyset.activated"
    policy_set: Digest
    policies: Count
    version: Count
    profile: Code
    previous: Digest
    files: Digest
    cause: Code


@dataclass(frozen=True, slots=True)
class GenerationAuthorized(AuditEvent):
    """The policy allowed this prompt for this model: committed before the prompt leaves."""

    name: ClassVar[str] = "generation.authorized"
    generation: Id
    encounter: Id
    patient: Pseudonym
    action: ActionName
    purpose: Code
    policy_set: Digest
    policies: Ids
    obligations: Ids
    prompt_sha256: Digest
    model: Id
    model_sha256: Digest
    template: Id
    template_sha256: Digest
    transcript_sha256: Digest


@dataclass(frozen=True, slots=True)
class GenerationDenied(AuditEvent):
    """The policy said no."""

    name: ClassVar[str] = "generation.denied"
    encounter: Id
    patient: Pseudonym
    action: ActionName
    purpose: Code
    policy_set: Digest
    policies: Ids
    obligations: Ids
    model: Id
    template: Id
    transcript_sha256: Digest
    reason_codes: Ids


@dataclass(frozen=True, slots=True)
class GenerationCompleted(AuditEvent):
    """The model answered; `authorized_seq` is the entry that allowed it."""

    name: ClassVar[str] = "generation.completed"
    generation: Id
    authorized_seq: Count
    output_sha256: Digest
    tokens_in: Count
    tokens_out: Count
    attempts: Count


@dataclass(frozen=True, slots=True)
class GenerationFailed(AuditEvent):
    """No usable answer came."""

    name: ClassVar[str] = "generation.failed"
    generation: Id
    authorized_seq: Count
    code: Code


@dataclass(frozen=True, slots=True)
class GenerationInterrupted(AuditEvent):
    """The program stopped between permission and answer; noted at the next start."""

    name: ClassVar[str] = "generation.interrupted"
    generation: Id
    authorized_seq: Count


EVENTS: Final = (
    PolicyActivated,
    PolicySetActivated,
    GenerationAuthorized,
    GenerationDenied,
    GenerationCompleted,
    GenerationFailed,
    GenerationInterrupted,
)
