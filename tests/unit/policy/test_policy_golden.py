"""Golden cases, and the proof that they would notice: every forbid is broken in turn and a case must fail."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cedarpy
import pytest
from cedarpy import pst

from clinic.errors import PolicyError
from clinic.policy import golden
from clinic.policy.load import PolicySet, policy_files
from tests.unit.policy.policy_samples import POLICIES, schema_text

ACTION = "draft_note"
CASES = golden.load_cases(POLICIES / "tests")


def tree() -> pst.PolicySet:
    """Return the policies that ship as one syntax tree."""
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in (POLICIES / name for name in policy_files(POLICIES, "strict"))
    )
    return cedarpy.PolicySet.from_str(text).to_pst()


def changed(key: str, policy: pst.Template | None) -> PolicySet:
    """Return the policies with one of them replaced, or removed."""
    policies = {name: node for name, node in tree().static_policies.items() if name != key or policy is not None}
    if policy is not None:
        policies[key] = policy
    text = str(cedarpy.PolicySet.from_pst(dataclasses.replace(tree(), static_policies=policies)))
    return PolicySet.from_sources(schema_text(), [("all.cedar", text)])


def negated(policy: pst.Template) -> pst.Template:
    """Turn every `when` into `unless` and the other way round."""
    clauses = tuple(
        pst.Unless(expr=c.expr) if isinstance(c, pst.When) else pst.When(expr=c.expr) for c in policy.clauses
    )
    return dataclasses.replace(policy, clauses=clauses)


def moved_limits(policy: pst.Template) -> Iterator[tuple[str, PolicySet]]:
    """Yield the policies with each number of this one moved by one, up and down."""
    text = str(cedarpy.PolicySet.from_pst(tree()))
    start = text.index(f'@id("{policy.annotations["id"]}")')
    end = text.find("@id(", start + 1) if text.find("@id(", start + 1) > 0 else len(text)
    body = text[text.index(")\n", start) : end]
    for match in re.finditer(r"(?<=[<>=] )\d+", body):
        for step in (-1, 1):
            mutant = body[: match.start()] + str(int(match[0]) + step) + body[match.end() :]
            source = text.replace(body, mutant)
            yield f"{match[0]}{step:+d}", PolicySet.from_sources(schema_text(), [("all.cedar", source)])


FORBIDS = [
    pytest.param(key, policy, id=policy.annotations["id"])
    for key, policy in tree().static_policies.items()
    if policy.effect == "forbid"
]
EVERY = [pytest.param(key, policy, id=policy.annotations["id"]) for key, policy in tree().static_policies.items()]


def test_golden_cases_pass_and_cover_every_policy() -> None:
    """The cases that ship pass, and each policy fires in one and stays silent in another."""
    report = golden.run(POLICIES)
    assert report.failures == ()
    assert report.untested == ()
    assert report.passed
    assert len(report.results) >= 108


def test_unchanged_policies_pass_when_written_out_again() -> None:
    """Negative control of the mutations below: taking the set apart and putting it together changes nothing."""
    key, policy = next(iter(tree().static_policies.items()))
    assert golden.run_cases(changed(key, policy), CASES).passed


@pytest.mark.parametrize(("key", "policy"), EVERY)
def test_deleted_policy_is_noticed(key: str, policy: pst.Template) -> None:
    """Without any one of the policies at least one case fails."""
    if policy.annotations["id"] == "draft-for-treatment":
        # What else permits a draft lacks the required obligations, so no draft is allowed any more.
        drafts = (r for r in golden.run_cases(changed(key, None), CASES).results if r.case.request["action"] == ACTION)
        assert all(result.outcome == "deny" for result in drafts)
    assert golden.run_cases(changed(key, None), CASES).failures


@pytest.mark.parametrize(("key", "policy"), FORBIDS)
def test_negated_forbid_is_noticed(key: str, policy: pst.Template) -> None:
    """With the condition of any one forbid turned round at least one case fails."""
    assert golden.run_cases(changed(key, negated(policy)), CASES).failures


@pytest.mark.parametrize(("key", "policy"), FORBIDS)
def test_unconditional_forbid_is_noticed(key: str, policy: pst.Template) -> None:
    """With the condition of any one forbid gone at least one case fails."""
    assert golden.run_cases(changed(key, dataclasses.replace(policy, clauses=())), CASES).failures


def test_every_moved_limit_is_noticed() -> None:
    """With any limit moved by one, up or down, at least one case fails."""
    mutants = [
        (policy.annotations["id"], *m) for policy in tree().static_policies.values() for m in moved_limits(policy)
    ]
    survivors = [(name, step) for name, step, mutant in mutants if not golden.run_cases(mutant, CASES).failures]
    assert len(mutants) >= 14
    assert survivors == []


def copied(tmp_path: Path) -> Path:
    """Copy the policies that ship, tests included."""
    return Path(shutil.copytree(POLICIES, tmp_path / "policies"))


def test_wrong_expectation_is_reported(tmp_path: Path) -> None:
    """A case that expects another policy than the one that fires fails, and says what it got."""
    folder = copied(tmp_path)
    path = folder / "tests" / "consent.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('["consent-refused"]', '["consent-withdrawn"]', 1))
    failure = golden.run(folder).failures[0]
    assert (failure.case.file, failure.case.name, failure.policies) == ("consent.toml", "refused", ("consent-refused",))


def test_policy_without_a_case_fails_the_run(tmp_path: Path) -> None:
    """A policy that no case exercises is named and fails the run, although every case passes."""
    folder = copied(tmp_path)
    (folder / "extra.cedar").write_text(
        '@id("untried") @message("Nobody tried this.")\n'
        'forbid (principal, action, resource) when { context.language == "xx" };\n'
    )
    report = golden.run(folder)
    assert (report.failures, report.untested, report.passed) == ((), ("untried",), False)


def test_no_cases_fail_the_run() -> None:
    """A set without any case has not been tested."""
    assert not golden.run_cases(PolicySet.load(POLICIES), ()).passed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("[request]\n[[case]]\nname='a'\noutcome='perhaps'\npolicies=[]", "case.0.outcome", id="outcome"),
        pytest.param("[request]\n[[case]]\nname='a'\noutcome='deny'\npolicy=[]", "case.0.policies", id="missing key"),
        pytest.param("[request]\ncase=[]\nextra=1\n[x", "Expected", id="not TOML"),
        pytest.param(
            "[request]\n[[case]]\nname='a'\noutcome='deny'\npolicies=[]\n[[case]]\nname='a'\noutcome='deny'\npolicies=[]",
            "case `a` is there twice",
            id="twice",
        ),
    ],
)
def test_bad_case_file_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    """A case that cannot be read fails the run with file and key, it is not skipped."""
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(PolicyError, match=re.escape(problem)) as caught:
        golden.load_cases(tmp_path)
    assert "`tests/a.toml`" in str(caught.value)
