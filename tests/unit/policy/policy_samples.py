"""What the tests of the policy share: the policies that ship, a request that they allow, a prompt."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from clinic.audit.events import GenerationAuthorized
from clinic.domain import Action, ModelIdentity, Prompt, PromptPart, PromptStyle
from clinic.policy.decision import Permit, Redact

POLICIES = Path(__file__).resolve().parents[3] / "policies"
MODEL_SHA256 = "f56f51e31872605b7877e134a0ce74629ffc86b4f232324dace9f40272b2a9cf"
SOAP_SHA256 = "297f7e18213a53cf7089f19d67f61c83b0637d919b9bf40bacdca90d9ab777e7"
DIGEST = "0123456789abcdef" * 4

_REQUEST: dict[str, Any] = {
    "actor": {"user_id": "9a1b2c", "role": "clinician"},
    "action": "draft_note",
    "encounter": "3f0c8a",
    "context": {
        "purpose": "treatment",
        "consent": "given",
        "kind": "consultation",
        "assigned": True,
        "break_glass": False,
        "minute_of_day": 600,
        "jobs_unfinished": 0,
        "requests_last_hour": 4,
        "note": "none",
        "images": 0,
        "instruction_words": 0,
        "fields": ["transcript"],
        "language": "en",
        "speech_ms": 240_000,
        "words": 600,
        "confidence_permille": 820,
        "prompt_tokens": 1800,
        "context_tokens": 8192,
        "model": "gemma-3-270m-f56f51e31872605b",
        "model_sha256": MODEL_SHA256,
        "model_verified": True,
        "template": "soap",
        "template_sha256": SOAP_SHA256,
        "template_verified": True,
        "injection_score": 0,
        "scope_score": 0,
        "hidden_characters": 0,
        "identifiers_found": 3,
    },
}


def allowed_request(**context: Any) -> dict[str, Any]:
    """Return a request that the policies allow, with some facts changed."""
    request = copy.deepcopy(_REQUEST)
    request["context"].update(context)
    return request


def small_policy_set(*, obligation: str = "label:draft; max_tokens:900; evidence:required", more: str = "") -> str:
    """Return policy text: one permit with `obligation`, and whatever is added."""
    return f'@id("base")\n@message("Base.")\n@obligation("{obligation}")\npermit (principal, action, resource);\n{more}'


def schema_text() -> str:
    """Return the schema that ships."""
    return (POLICIES / "schema.cedarschema").read_text(encoding="utf-8")


def make_prompt(*, text: str = "Hello", max_tokens: int = 100) -> Prompt:
    """Return a small prompt."""
    model = ModelIdentity(
        id="gemma-3-270m", sha256=DIGEST, profile="embedded", style=PromptStyle.COMPLETION, context_tokens=8192
    )
    part = PromptPart(section="plan", text=text, json_schema={"type": "object"}, max_tokens=max_tokens)
    return Prompt(action=Action.DRAFT_NOTE, template="soap", template_sha256=DIGEST, model=model, parts=(part,))


def make_event(decision: Permit | Redact, prompt: Prompt, **changes: Any) -> GenerationAuthorized:
    """Return the event that says exactly what was decided, with some fields changed."""
    fields: dict[str, Any] = {
        "generation": "g1",
        "encounter": "e1",
        "patient": "ab" * 16,
        "action": prompt.action.value,
        "purpose": "treatment",
        "policy_set": decision.policy_set,
        "policies": decision.policies,
        "obligations": decision.obligations,
        "prompt_sha256": prompt.sha256,
        "model": prompt.model.id,
        "model_sha256": prompt.model.sha256,
        "template": prompt.template,
        "template_sha256": prompt.template_sha256,
        "transcript_sha256": DIGEST,
    }
    return GenerationAuthorized(**{**fields, **changes})
