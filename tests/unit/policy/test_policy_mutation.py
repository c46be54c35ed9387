"""The golden cases would notice: every policy is broken in turn, and a case fails each time."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from clinic.errors import PolicyError
from clinic.policy import golden, mutation
from clinic.policy.load import PolicySet, policy_files
from tests.unit.policy.policy_samples import POLICIES, schema_text


def policy_text(profile: str = "strict") -> str:
    """Return all policies of a profile as one text."""
    return "\n".join((POLICIES / name).read_text(encoding="utf-8") for name in policy_files(POLICIES, profile))


@pytest.mark.parametrize(("profile", "at_least"), [("strict", 205), ("teaching", 206)])
def test_every_broken_policy_is_noticed(profile: str, at_least: int) -> None:
    """100 % of the mutants of the policies that ship are caught."""
    report = mutation.run(POLICIES, profile)
    assert [(mutant.policy, mutant.change) for mutant in report.survivors] == []
    assert (report.passed, report.score) == (True, 1.0)
    assert report.mutants >= at_least


def test_every_forbid_is_deleted_negated_and_widened() -> None:
    """No forbid is left out of the mutation."""
    found = list(mutation.mutants(policy_text()))
    forbids = {name for name, info in PolicySet.load(POLICIES).policies.items() if info.effect == "forbid"}
    for kind in (r"deleted", r"condition 1 negated", r"condition 1 dropped"):
        assert {mutant.policy for mutant in found if re.fullmatch(kind, mutant.change)} >= forbids
    assert {m.policy for m in found if m.change == "lifted by broken glass"} == {
        name for name in forbids if not PolicySet.load(POLICIES).policies[name].names_glass
    }
    kinds = Counter(re.sub(r"\d+", "N", mutant.change) for mutant in found)
    assert kinds["every action"] >= 18
    assert kinds["N moved by +N"] == kinds["N moved by -N"] >= 12


def test_unbroken_policies_pass_when_written_out_again() -> None:
    """Negative control: taking the set apart and putting it together again makes no case fail."""
    mutant = next(mutation.mutants(policy_text()))
    whole = mutation.Mutant(mutant.policy, "nothing", policy_text())
    assert not mutation.is_caught(whole, schema_text(), golden.load_cases(POLICIES / "tests"))


def test_what_no_case_notices_survives_and_is_named(tmp_path: Path) -> None:
    """Negative control: without the cases of one file its policies survive, and the run fails."""
    folder = Path(shutil.copytree(POLICIES, tmp_path / "policies"))
    (folder / "tests" / "quota.toml").unlink()
    report = mutation.run(folder)
    assert {mutant.policy for mutant in report.survivors} == {"too-many-waiting", "too-many-this-hour"}
    assert not report.passed
    assert report.score < 1


def test_a_failing_set_is_not_mutated(tmp_path: Path) -> None:
    """Where the cases fail already, a failing case would prove nothing."""
    folder = Path(shutil.copytree(POLICIES, tmp_path / "policies"))
    path = folder / "tests" / "consent.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('["consent-refused"]', '["consent-withdrawn"]', 1))
    with pytest.raises(PolicyError) as caught:
        mutation.run(folder)
    assert caught.value.code == "policy_untested"


def test_no_mutants_are_no_score() -> None:
    """Nothing broken is nothing proved."""
    assert not mutation.MutationReport(0, ()).passed
    assert mutation.MutationReport(0, ()).score == 0
