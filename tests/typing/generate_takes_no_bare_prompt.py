"""Must not type-check: a prompt that nobody released cannot be handed to a generator."""

from clinic.domain import Completion, Prompt
from clinic.generation.generator import Generator
from clinic.policy.decision import Deny
from clinic.policy.gate import ReleasedPrompt, ReleaseGate


def released(generator: Generator, prompt: ReleasedPrompt) -> Completion:
    """Type-checks: this is how it is meant."""
    return generator.generate(prompt)


def bare(generator: Generator, prompt: Prompt) -> Completion:
    """Must fail: `generate` takes what the gate released."""
    return generator.generate(prompt)  # expect: arg-type


def denied(gate: ReleaseGate, decision: Deny, prompt: Prompt) -> object:
    """Must fail: the gate takes what the policy allowed."""
    return gate.release(decision, prompt, ...)  # expect: arg-type, call-arg
