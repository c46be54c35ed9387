"""A past decision, decided again from the facts that were recorded with it.

Rules kept here:

* Pure: the very request is made again from the entry's header and its sealed facts, and decided by the set of that time
  (if it is still there) and by today's.  Nothing is recorded, and nothing counts as asked.
* Facts that this program would not take as a request any more are not bent into one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clinic.audit.details import DecisionFacts, Fact
from clinic.audit.entry import Entry
from clinic.audit.events import GenerationAuthorized, GenerationDenied
from clinic.policy.counterfactual import Counterfactual, counterfactual
from clinic.policy.engine import Explanation, explain
from clinic.policy.load import PolicySet
from clinic.policy.request import PolicyRequest


@dataclass(frozen=True, slots=True)
class Replay:
    """What the recorded facts give.

    Attributes:
        facts: what was decided on, by name.
        then: the decision of the set that decided; None where it is not there any more.
        agrees: whether that is what was recorded; None with `then`.
        now: the decision of today's set; None where no set can decide.
        changes: what would change it, by the set of that time, else by today's; None where there is neither.
    """

    facts: Mapping[str, Fact]
    then: Explanation | None
    agrees: bool | None
    now: Explanation | None
    changes: Counterfactual | None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {
            "facts": {name: list(v) if isinstance(v, tuple) else v for name, v in self.facts.items()},
            "then": None if self.then is None else self.then.as_json(),
            "agrees": self.agrees,
            "now": None if self.now is None else self.now.as_json(),
            "counterfactual": None if self.changes is None else self.changes.as_json(),
        }


def facts_of(request: PolicyRequest) -> DecisionFacts:
    """Return what is sealed beside the entry of a decision: ids, codes, counts and truth values, no word of a text."""
    return DecisionFacts.of(request.context.model_dump(mode="json"))


def replay(
    entry: Entry,
    event: GenerationAuthorized | GenerationDenied,
    facts: DecisionFacts,
    *,
    then: PolicySet | None,
    now: PolicySet | None,
) -> Replay | None:
    """Decide again; None where this program takes other facts than those that were recorded."""
    asked = PolicyRequest.check(
        {
            "actor": {"user_id": entry.actor, "role": entry.role},
            "action": event.action,
            "encounter": event.encounter,
            "context": facts.as_dict(),
        }
    )
    if asked is None:
        return None
    again = None if then is None else explain(then, asked)
    by = then or now
    return Replay(
        facts=facts.as_dict(),
        then=again,
        agrees=None if again is None else _agrees(event, again),
        now=None if now is None else explain(now, asked),
        changes=None if by is None else counterfactual(by, asked),
    )


def _agrees(event: GenerationAuthorized | GenerationDenied, again: Explanation) -> bool:
    policies = tuple(sorted(fired.id for fired in again.policies))
    denied = isinstance(event, GenerationDenied)
    return (denied, event.policies, event.obligations) == (again.outcome == "deny", policies, again.obligations)
