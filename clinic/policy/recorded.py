"""A past decision, explained from its entry in the audit log.

Rules kept here:

* What was decided is said from the entry and from the very policy set that decided, found by its hash.  Where that set
  is not there any more, the policies are named without their words.
* What it rested on is sealed beside the entry, under the patient's key (`clinic.past_decisions` opens it and has it
  decided again, `replay`); where it is not there, the state says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from clinic.audit.entry import Entry
from clinic.audit.events import GenerationAuthorized, GenerationDenied, from_canonical
from clinic.domain import Reason
from clinic.errors import InputError
from clinic.policy.engine import Explanation, Fired
from clinic.policy.load import PolicySet
from clinic.policy.replay import Replay

_REDACT = "redact:"


class FactsState(StrEnum):
    """Whether the facts of a past decision are there."""

    KNOWN = "known"
    NOT_RECORDED = "not_recorded"  # an entry of an older program
    DESTROYED = "destroyed"  # with the patient's record
    OUTDATED = "outdated"  # this program decides on other facts


FACTS_WORDS: Final = {
    FactsState.KNOWN: "The facts are those that were recorded with the decision.",
    FactsState.NOT_RECORDED: "The facts were not recorded with this decision, so it cannot be decided again.",
    FactsState.DESTROYED: "The patient's record was destroyed, and the facts with it: what is shown is all there is.",
    FactsState.OUTDATED: "The facts are of another version of this program, so it cannot be decided again here.",
}
"""What the reader is told."""


@dataclass(frozen=True, slots=True)
class RecordedDecision:
    """One decision as the log has it.

    Attributes:
        explanation: outcome, policies, reasons and obligations.
        set_known: whether the policy set that decided is still there, so that its words could be given.
        redacted: kinds that were taken out of what the model saw.
        facts: whether the facts are there.
        replay: the decision made again from them, if they are.
    """

    seq: int
    at: str
    actor: str
    role: str
    encounter: str
    action: str
    purpose: str
    model: str
    template: str
    explanation: Explanation
    set_known: bool
    redacted: tuple[str, ...]
    facts: FactsState = FactsState.NOT_RECORDED
    replay: Replay | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the decision as a JSON document."""
        names = ("at", "actor", "role", "encounter", "action", "purpose", "model", "template", "set_known")
        about = {name: getattr(self, name) for name in names}
        again = {"facts_state": self.facts.value, "replay": None if self.replay is None else self.replay.as_json()}
        header = {"audit_seq": self.seq, **about, "redacted": list(self.redacted)}
        return header | self.explanation.as_json() | again


def recorded(entry: Entry, sets: Callable[[str], PolicySet | None]) -> RecordedDecision:
    """Explain the decision that an audit entry records.

    Args:
        entry: from the log; verify the log to know that it is genuine.
        sets: gives the policy set with a hash, if it is still there.

    Raises:
        InputError: `not_a_decision`.
    """
    event = from_canonical(entry.event, entry.body)
    if not isinstance(event, GenerationAuthorized | GenerationDenied):
        raise InputError(
            f"audit entry `{entry.seq}` is no decision",
            code="not_a_decision",
            hint="decisions are the entries `generation.authorized` and `generation.denied`; see `clinic audit tail`",
        )
    redacted = tuple(text.removeprefix(_REDACT) for text in event.obligations if text.startswith(_REDACT))
    decided_by = sets(event.policy_set)
    return RecordedDecision(
        seq=entry.seq,
        at=entry.at,
        actor=entry.actor,
        role=entry.role,
        encounter=event.encounter,
        action=event.action,
        purpose=event.purpose,
        model=event.model,
        template=event.template,
        explanation=_explanation(event, decided_by),
        set_known=decided_by is not None,
        redacted=redacted,
    )


def _explanation(event: GenerationAuthorized | GenerationDenied, decided_by: PolicySet | None) -> Explanation:
    denied = isinstance(event, GenerationDenied)
    outcome = "deny" if denied else "redact" if any(o.startswith(_REDACT) for o in event.obligations) else "permit"
    messages = decided_by.messages if decided_by is not None else {}
    reasons = event.reason_codes if isinstance(event, GenerationDenied) else ()
    return Explanation(
        outcome=outcome,
        policies=tuple(_fired(name, decided_by, "forbid" if denied else "permit") for name in event.policies),
        reasons=tuple(Reason(code=code, message=messages.get(code, "")) for code in reasons),
        obligations=event.obligations,
        policy_set=event.policy_set,
    )


def _fired(name: str, decided_by: PolicySet | None, effect: str) -> Fired:
    info = decided_by.policies.get(name) if decided_by is not None else None
    return Fired(name, effect, info.file, info.message) if info is not None else Fired(name, effect, "", "")
