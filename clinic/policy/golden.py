"""Golden cases: what the policies must answer, written down as data in `policies/tests/*.toml`.

Rules kept here:

* A case is a name, a request, the expected outcome and the expected policy ids; nothing is expected loosely.
* A file gives one whole request; each case changes some of its keys.  An unknown key in a case is an error.
* Every policy fires in at least one case and stays silent in at least one, or the run fails.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clinic.errors import PolicyError
from clinic.policy.decision import Deny
from clinic.policy.engine import decide, outcome
from clinic.policy.load import DEFAULT_PROFILE, PolicySet

TESTS_FOLDER = "tests"


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Case(_Data):
    name: Annotated[str, Field(min_length=1)]
    outcome: Literal["permit", "redact", "deny"]
    policies: tuple[str, ...]
    reasons: tuple[str, ...] | None = None  # only where no policy gives the reason: the engine's own code
    change: dict[str, Any] = {}


class _File(_Data):
    request: dict[str, Any]
    case: tuple[_Case, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One golden case, its request complete."""

    file: str
    name: str
    request: Mapping[str, Any]
    outcome: str
    policies: tuple[str, ...]
    reasons: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What a case expected and what it got."""

    case: Case
    outcome: str
    policies: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether outcome, policy ids and, where the case names them, reasons are exactly the expected ones."""
        expected = (self.case.outcome, tuple(sorted(self.case.policies)), self.case.reasons or self.reasons)
        return expected == (self.outcome, self.policies, self.reasons)


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a golden run.

    Attributes:
        results: one for each case.
        untested: ids of policies that fire in no case, or in every one.
    """

    policy_set: str
    results: tuple[CaseResult, ...]
    untested: tuple[str, ...]

    @property
    def failures(self) -> tuple[CaseResult, ...]:
        """The cases that did not pass."""
        return tuple(result for result in self.results if not result.passed)

    @property
    def passed(self) -> bool:
        """Whether there are cases, all of them pass and no policy is untested."""
        return bool(self.results) and not self.failures and not self.untested


def run(directory: Path, profile: str = DEFAULT_PROFILE) -> Report:
    """Load the policies of `directory` and run the cases of its `tests` folder, those of the profile among them.

    Raises:
        PolicyError: `policy_invalid`, naming the file and the problem.
    """
    return run_cases(PolicySet.load(directory, profile), load_cases(directory / TESTS_FOLDER, profile))


def run_cases(policy_set: PolicySet, cases: Sequence[Case]) -> Report:
    """Run cases against a set that is already loaded."""
    results = tuple(_run(policy_set, case) for case in cases)
    return Report(policy_set.sha256, results, _untested(policy_set, results))


def notices(policy_set: PolicySet, cases: Iterable[Case]) -> bool:
    """Whether any case fails; stops at the first."""
    return any(not _run(policy_set, case).passed for case in cases)


def case_files(directory: Path, profile: str = DEFAULT_PROFILE) -> tuple[str, ...]:
    """Return the names of the case files of a profile, relative to `directory`."""
    paths = [*directory.glob("*.toml"), *(directory / profile).glob("*.toml")]
    return tuple(sorted(path.relative_to(directory).as_posix() for path in paths))


def load_cases(directory: Path, profile: str = DEFAULT_PROFILE) -> tuple[Case, ...]:
    """Read every `*.toml` file of `directory`, and of its folder for the profile.

    Raises:
        PolicyError: `policy_invalid`, naming the file and the problem.
    """
    cases = [case for name in case_files(directory, profile) for case in _load_file(directory, name)]
    seen: set[tuple[str, str]] = set()
    for case in cases:
        if (case.file, case.name) in seen:
            raise _invalid(case.file, f"case `{case.name}` is there twice")
        seen.add((case.file, case.name))
    return tuple(cases)


def _load_file(directory: Path, name: str) -> Iterable[Case]:
    path = directory / name
    try:
        data = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as exc:
        problem = exc.errors()[0]
        raise _invalid(name, f"key `{'.'.join(map(str, problem['loc']))}`: {problem['msg'].lower()}") from exc
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise _invalid(name, str(exc)) from exc
    return [Case(name, c.name, _merge(data.request, c.change), c.outcome, c.policies, c.reasons) for c in data.case]


def _merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _run(policy_set: PolicySet, case: Case) -> CaseResult:
    decision = decide(policy_set, case.request)
    reasons = tuple(reason.code for reason in decision.reasons) if isinstance(decision, Deny) else ()
    return CaseResult(case, outcome(decision), decision.policies, reasons)


def _untested(policy_set: PolicySet, results: Sequence[CaseResult]) -> tuple[str, ...]:
    fired = [set(result.policies) for result in results]
    return tuple(sorted(name for name in policy_set.policies if not 0 < sum(name in ids for ids in fired) < len(fired)))


def _invalid(name: str, problem: str) -> PolicyError:
    return PolicyError(f"`{TESTS_FOLDER}/{name}`: {problem}", hint="mend the file and run `clinic policy test`")
