"""What would change a decision: the nearest changes of single facts, found by asking the same policies again.

Rules kept here:

* Pure: nothing is recorded, and nothing counts as asked.  Every change that is named was tried, none is guessed.
* What is tried comes from the policies themselves: the other value of a truth value, every value of a closed list, and
  for numbers and names those that the policies compare with, numbers also one below and one above.
* For a denial each forbid that fired gets the changes that silence it without waking another; `enough` says whether the
  first of each, made together, would be allowed.  For what is allowed: the nearest change that each forbid waits for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, get_args

from clinic.domain import Consent, EncounterKind, NoteStanding, PromptField, Role
from clinic.policy.decision import Decision, Deny
from clinic.policy.engine import decide
from clinic.policy.load import PolicySet
from clinic.policy.request import PolicyContext, PolicyRequest, Purpose

_NUMBER: Final = re.compile(r"(?<![\w\"-])\d{1,15}(?![\w\"])")
_STRING: Final = re.compile(r'(?<!::)"([^"\\\n]{1,128})"')
_OTHERS: Final = ("zz", "0" * 64)  # a name and a digest that no policy knows
_ENUMS: Final[Mapping[str, type[StrEnum]]] = {"consent": Consent, "kind": EncounterKind, "note": NoteStanding}
_ROLE: Final = "role"
_MAX_FOR_ONE: Final = 3


@dataclass(frozen=True, slots=True)
class Change:
    """One fact, as it is and as it would have to be."""

    fact: str
    now: Any
    then: Any

    def as_json(self) -> dict[str, Any]:
        """Return the change as a JSON value."""
        return {"fact": self.fact, "now": self.now, "then": self.then}


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """What would change the outcome, by the policy that stands for it.

    Attributes:
        denied: whether the request is denied as it is.
        changes: policy -> changes, the nearest first; empty where no change of one fact does it.
        enough: for a denial, whether the first change of each policy, all made together, would be allowed.
    """

    denied: bool
    changes: Mapping[str, tuple[Change, ...]]
    enough: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        changes = {name: [change.as_json() for change in found] for name, found in self.changes.items()}
        return {"denied": self.denied, "changes": changes, "enough": self.enough}


def counterfactual(policy_set: PolicySet, request: PolicyRequest) -> Counterfactual:
    """Say what would change the decision about a request."""
    now = decide(policy_set, request)
    if not isinstance(now, Deny):
        return _what_forbids(policy_set, request)
    fired = set(now.policies)
    found: dict[str, list[Change]] = {name: [] for name in now.policies}
    for change in _candidates(policy_set, request):
        left = _forbidding(decide(policy_set, _changed(request, (change,))))
        if left is None or not left <= fired:
            continue
        for name in sorted(fired - left):
            found[name].append(change)
    changes = {name: _nearest(list_) for name, list_ in found.items()}
    together = tuple({first.fact: first for first in (some[0] for some in changes.values() if some)}.values())
    whole = bool(together) and not isinstance(decide(policy_set, _changed(request, together)), Deny)
    return Counterfactual(denied=True, changes=changes, enough=whole)


def _what_forbids(policy_set: PolicySet, request: PolicyRequest) -> Counterfactual:
    found: dict[str, list[Change]] = {}
    for change in _candidates(policy_set, request):
        decision = decide(policy_set, _changed(request, (change,)))
        if isinstance(decision, Deny):
            for name in decision.policies:
                found.setdefault(name, []).append(change)
    changes = {name: _nearest(list_)[:1] for name, list_ in sorted(found.items())}
    return Counterfactual(denied=False, changes=changes, enough=False)


def _forbidding(decision: Decision) -> set[str] | None:
    """Return the forbids that fire; None where the engine itself says no."""
    if not isinstance(decision, Deny):
        return set()
    return set(decision.policies) or None


def _nearest(changes: list[Change]) -> tuple[Change, ...]:
    """Return the nearest change of each fact; among names the first."""
    nearest: dict[str, Change] = {}
    for change in changes:
        best = nearest.get(change.fact)
        if best is None or _distance(change) < _distance(best):
            nearest[change.fact] = change
    return tuple(nearest.values())[:_MAX_FOR_ONE]


def _distance(change: Change) -> int:
    if isinstance(change.now, int) and isinstance(change.then, int):
        return abs(change.now - change.then)
    if isinstance(change.now, tuple) and isinstance(change.then, tuple):
        return len(set(change.now) ^ set(change.then))
    return 0


def _changed(request: PolicyRequest, changes: tuple[Change, ...]) -> dict[str, Any]:
    document = request.model_dump(mode="json")
    for change in changes:
        if change.fact == _ROLE:
            document["actor"]["role"] = change.then
        else:
            document["context"][change.fact] = change.then
    return document


def _candidates(policy_set: PolicySet, request: PolicyRequest) -> Iterator[Change]:
    """Yield every change of one fact that is worth trying and gives a valid request."""
    facts = request.context.model_dump(mode="json") | {_ROLE: request.actor.role.value}
    text = "\n".join(line for line in policy_set.text.split("\n") if not line.lstrip().startswith("@"))
    for fact in (_ROLE, *PolicyContext.model_fields):
        now = tuple(facts[fact]) if fact == "fields" else facts[fact]
        for then in _values(fact, now, facts, text):
            change = Change(fact, now, then)
            if then != now and PolicyRequest.check(_changed(request, (change,))) is not None:
                yield change


def _values(fact: str, now: Any, facts: Mapping[str, Any], text: str) -> Iterator[Any]:
    if fact == _ROLE:
        yield from (role.value for role in Role)
    elif fact == "purpose":
        yield from get_args(Purpose)
    elif fact in _ENUMS:
        yield from (value.value for value in _ENUMS[fact])
    elif fact == "fields":
        yield from _field_sets(now)
    elif isinstance(now, bool):
        yield not now
    elif isinstance(now, int):
        numbers = {int(found[0]) for found in _NUMBER.finditer(text)}
        numbers |= {value for value in facts.values() if type(value) is int}  # facts are compared with each other, too
        yield from sorted({number + step for number in numbers for step in (-1, 0, 1)} | {0})
    else:
        yield from dict.fromkeys((*_STRING.findall(text), *_OTHERS))


def _field_sets(now: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the set with one field more or less, and every field alone."""
    yield from (tuple(sorted(set(now) ^ {field.value})) for field in PromptField)
    yield from ((field.value,) for field in PromptField)
