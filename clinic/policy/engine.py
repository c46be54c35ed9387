"""The decision: pure and total.  Anything that is not a clean yes is a no.

Rules kept here:

* Allow only if all of these hold: the request is valid, Cedar says Allow, Cedar reports no error, the schema was
  applied (it always is, see `load`), policies and schema are those that were loaded under the set's hash, every policy
  that fired is known, every obligation is known and none of the required ones is missing.
* Cedar skips a policy that errs, forbids included, so an error is never read as "did not apply".
* No I/O, no clock, no state: the same set and the same request always give the same decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clinic.domain import Reason
from clinic.errors import PolicyError
from clinic.policy.decision import REASONS, Decision, Deny, Permit, Redact
from clinic.policy.load import Answer, PolicySet
from clinic.policy.obligations import Obligations
from clinic.policy.request import PolicyRequest


def decide(policy_set: PolicySet, request: PolicyRequest | Mapping[str, Any]) -> Decision:
    """Decide whether a prompt may be sent.

    Never raises for any request: what is not a valid request is denied.
    """
    if not policy_set.is_intact:
        return _deny(policy_set, "policy_set_changed")
    checked = PolicyRequest.check(request)
    if checked is None:
        return _deny(policy_set, "request_invalid")
    return judge(policy_set, policy_set.evaluate(_question(checked), _entities(checked)))


def judge(policy_set: PolicySet, answer: Answer) -> Decision:
    """Turn what Cedar said into a decision."""
    effects = {policy_set.policies[name].effect if name in policy_set.policies else "" for name in answer.policies}
    if answer.errors:
        return _deny(policy_set, "policy_error")
    if answer.decision == "Allow" and effects == {"permit"}:
        return _allow(policy_set, answer.policies)
    if answer.decision == "Deny" and not effects:
        return _deny(policy_set, "no_permit")
    if answer.decision == "Deny" and effects == {"forbid"}:
        reasons = tuple(Reason(code=name, message=policy_set.policies[name].message) for name in answer.policies)
        return Deny(answer.policies, reasons, policy_set.sha256)
    return _deny(policy_set, "policy_error")


def refusal(error: PolicyError, policy_set: str = "0" * 64) -> Deny:
    """Return the denial for what cannot be decided, or cannot be kept: its code and words."""
    text = f"{error}. {error.hint}."
    return Deny((), (Reason(code=error.code, message=text[:1].upper() + text[1:]),), policy_set)


def _allow(policy_set: PolicySet, policies: tuple[str, ...]) -> Decision:
    try:
        merged = Obligations.parse(text for name in policies for text in policy_set.policies[name].obligations)
    except PolicyError:
        return _deny(policy_set, "obligation_failed")
    if merged.redact:
        return Redact(policies, merged.canonical(), policy_set.sha256, merged.redact)
    return Permit(policies, merged.canonical(), policy_set.sha256)


def _deny(policy_set: PolicySet, code: str) -> Deny:
    return Deny((), (Reason(code=code, message=REASONS[code]),), policy_set.sha256)


def _question(request: PolicyRequest) -> dict[str, Any]:
    facts = request.context
    context: dict[str, Any] = facts.model_dump(mode="json")
    # Closed vocabularies are enumerated entities, so that the validator catches a misspelt value in a policy.
    context["purpose"] = _uid("Purpose", facts.purpose)
    context["consent"] = _uid("Consent", facts.consent.value)
    context["kind"] = _uid("Kind", facts.kind.value)
    context["note"] = _uid("Standing", facts.note.value)
    context["fields"] = [_uid("Field", name.value) for name in facts.fields]
    return {
        "principal": _uid("User", request.actor.user_id),
        "action": _uid("Action", request.action.value),
        "resource": _uid("Encounter", request.encounter),
        "context": context,
    }


def _entities(request: PolicyRequest) -> list[dict[str, Any]]:
    role = _uid("Role", request.actor.role.value)
    return [
        {"uid": _uid("User", request.actor.user_id), "attrs": {}, "parents": [role]},
        {"uid": _uid("Encounter", request.encounter), "attrs": {}, "parents": []},
    ]


def _uid(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "id": name}


@dataclass(frozen=True, slots=True)
class Fired:
    """One policy that took part in a decision."""

    id: str
    effect: str
    file: str
    message: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision spelled out for `clinic policy explain`."""

    outcome: str
    policies: tuple[Fired, ...]
    reasons: tuple[Reason, ...]
    obligations: tuple[str, ...]
    policy_set: str

    def as_json(self) -> dict[str, Any]:
        """Return the explanation as a JSON document."""
        return {
            "outcome": self.outcome,
            "policies": [{"id": p.id, "effect": p.effect, "file": p.file, "message": p.message} for p in self.policies],
            "reasons": [reason.model_dump(mode="json") for reason in self.reasons],
            "obligations": list(self.obligations),
            "policy_set": self.policy_set,
        }


def explain(policy_set: PolicySet, request: PolicyRequest | Mapping[str, Any]) -> Explanation:
    """Decide, and say which policies did it, with what words and obligations."""
    decision = decide(policy_set, request)
    reasons: Sequence[Reason] = decision.reasons if isinstance(decision, Deny) else ()
    return Explanation(
        outcome=outcome(decision),
        policies=tuple(_fired(policy_set, name) for name in decision.policies),
        reasons=tuple(reasons),
        obligations=() if isinstance(decision, Deny) else decision.obligations,
        policy_set=decision.policy_set,
    )


def outcome(decision: Decision) -> str:
    """Name a decision in one word: `permit`, `redact` or `deny`."""
    return type(decision).__name__.lower()


def _fired(policy_set: PolicySet, name: str) -> Fired:
    info = policy_set.policies[name]
    return Fired(info.id, info.effect, info.file, info.message)
