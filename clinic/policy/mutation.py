"""Would the golden cases notice?  Every policy is broken in turn, in every way below, and a case has to fail.

Rules kept here:

* Each policy is deleted.  Each forbid besides: its conditions negated (each, and all), each condition dropped, all of
  them dropped, its scope opened to every action, and each of its numbers moved by one, up and down.
* Each forbid that broken glass does not lift is given a way to be lifted by it: a case must notice that, too.
* A mutant is a whole set that went through the load gate; one that the gate refuses counts as caught there.
* Whoever survives is named.  The score is a share of all mutants; there is no list of exceptions.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cedarpy
from cedarpy import pst

from clinic.errors import PolicyError
from clinic.policy import golden
from clinic.policy.load import DEFAULT_PROFILE, GLASS, SCHEMA_FILE, PolicySet, policy_files

Progress = Callable[[int, int], None]

_FILE: Final = "mutant.cedar"
_EVERYTHING: Final = "generate"
_NUMBER: Final = re.compile(r"(?<=[<>=] )\d+")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken set: which policy, and how; `text` are all policies."""

    policy: str
    change: str
    text: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class MutationReport:
    """How many mutants there were, and who survived."""

    mutants: int
    survivors: tuple[Mutant, ...]

    @property
    def score(self) -> float:
        """The share of mutants that a case, or the load gate, caught."""
        return (self.mutants - len(self.survivors)) / self.mutants if self.mutants else 0.0

    @property
    def passed(self) -> bool:
        """Whether there were mutants, and none survived."""
        return self.mutants > 0 and not self.survivors


def run(directory: Path, profile: str = DEFAULT_PROFILE, *, progress: Progress | None = None) -> MutationReport:
    """Break every policy of `directory` in turn, and run its golden cases against each.

    Raises:
        PolicyError: `policy_invalid`; `policy_untested` if the unbroken set does not pass.
    """
    schema = (directory / SCHEMA_FILE).read_text(encoding="utf-8")
    text = "\n".join((directory / name).read_text(encoding="utf-8") for name in policy_files(directory, profile))
    cases = golden.load_cases(directory / golden.TESTS_FOLDER, profile)
    if golden.run_cases(PolicySet.load(directory, profile), cases).failures:
        raise PolicyError(
            "the golden cases of the unbroken set fail", code="policy_untested", hint="run `clinic policy test`"
        )
    found = tuple(mutants(text))
    survivors = []
    for number, mutant in enumerate(found, start=1):
        if not is_caught(mutant, schema, cases, profile):
            survivors.append(mutant)
        if progress is not None:
            progress(number, len(found))
    return MutationReport(len(found), tuple(survivors))


def is_caught(mutant: Mutant, schema: str, cases: Sequence[golden.Case], profile: str = DEFAULT_PROFILE) -> bool:
    """Whether the load gate refuses a mutant, or a case fails."""
    try:
        broken = PolicySet.from_sources(schema, [(_FILE, mutant.text)], profile=profile)
    except PolicyError:
        return True
    return golden.notices(broken, cases)


def mutants(text: str) -> Iterator[Mutant]:
    """Yield every mutant of some policies, given as Cedar text."""
    tree = cedarpy.PolicySet.from_str(text).to_pst()
    for key, policy in tree.static_policies.items():
        name = policy.annotations["id"]
        yield Mutant(name, "deleted", _written(tree, key, None))
        if policy.effect == "forbid":
            for change, broken in _forbids(policy):
                yield Mutant(name, change, _written(tree, key, broken))
            yield from _limits(tree, key)


def _forbids(policy: pst.Template) -> Iterator[tuple[str, pst.Template]]:
    clauses = policy.clauses
    if len(clauses) > 1:
        yield "all conditions negated", dataclasses.replace(policy, clauses=tuple(map(_negated, clauses)))
    for number, clause in enumerate(clauses):
        before, after = clauses[:number], clauses[number + 1 :]
        where = f"condition {number + 1}"
        yield f"{where} negated", dataclasses.replace(policy, clauses=(*before, _negated(clause), *after))
        yield f"{where} dropped", dataclasses.replace(policy, clauses=(*before, *after))
    if len(clauses) > 1:
        yield "all conditions dropped", dataclasses.replace(policy, clauses=())
    if not _is_everything(policy.action):
        yield "every action", dataclasses.replace(policy, action=pst.ScopeAny())
    if GLASS not in repr(clauses):
        yield "lifted by broken glass", dataclasses.replace(policy, clauses=(*clauses, _unless_broken()))


def _unless_broken() -> pst.Clause:
    example = f"forbid (principal, action, resource) unless {{ context.{GLASS} }};"
    (policy,) = cedarpy.PolicySet.from_str(example).to_pst().static_policies.values()
    clause: pst.Clause = policy.clauses[0]
    return clause


def _negated(clause: pst.Clause) -> pst.Clause:
    return pst.Unless(expr=clause.expr) if isinstance(clause, pst.When) else pst.When(expr=clause.expr)


def _is_everything(action: Any) -> bool:
    """Whether a scope is every action already: opening it would change nothing."""
    if isinstance(action, pst.ActionIn):
        return any(entity.id == _EVERYTHING for entity in action.entities)
    return not isinstance(action, pst.ActionEq)


def _limits(tree: pst.PolicySet, key: str) -> Iterator[Mutant]:
    policy = tree.static_policies[key]
    alone = _written(dataclasses.replace(tree, static_policies={key: policy}), key, policy)
    others = _written(tree, key, None)
    body = alone.index("forbid")
    for found in _NUMBER.finditer(alone, body):
        for step in (-1, 1):
            moved = f"{alone[: found.start()]}{int(found[0]) + step}{alone[found.end() :]}"
            yield Mutant(policy.annotations["id"], f"{found[0]} moved by {step:+d}", f"{moved}\n{others}")


def _written(tree: pst.PolicySet, key: str, policy: pst.Template | None) -> str:
    policies = {name: node for name, node in tree.static_policies.items() if name != key}
    if policy is not None:
        policies[key] = policy
    return str(cedarpy.PolicySet.from_pst(dataclasses.replace(tree, static_policies=policies)))
