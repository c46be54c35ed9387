"""Golden cases: they pass, cover every policy, and are refused where they are malformed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from clinic.errors import PolicyError
from clinic.policy import golden
from clinic.policy.load import PolicySet
from tests.unit.policy.policy_samples import POLICIES


def test_golden_cases_pass_and_cover_every_policy() -> None:
    """The cases that ship pass, and each policy fires in one and stays silent in another."""
    report = golden.run(POLICIES)
    assert report.failures == ()
    assert report.untested == ()
    assert report.passed
    assert len(report.results) >= 108


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
        'forbid (principal, action, resource) when { context.language == "zz" };\n'
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
