"""What holds records, gate and log together is changed in every way we know; the tests notice nine of ten changes.

A survivor is not always a gap: some changes make no difference (a limit that nothing can reach, `None` for `False`).
They are named in the output of the long form, to be looked at one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.campaigns.mutation import ROOT, Mutant, Verdict, mutants, run

LEAST = 0.9


@dataclass(frozen=True, slots=True)
class Target:
    """A module, the tests that are to notice, and the changes that would do most harm: a line, and what is done."""

    module: str
    tests: tuple[str, ...]
    worst: tuple[tuple[str, str], ...]

    def mutants(self) -> list[Mutant]:
        """Return all mutants of the module."""
        return mutants((ROOT / (self.module.replace(".", "/") + ".py")).read_text())

    def numbers_of_the_worst(self) -> list[int]:
        """Return the numbers of the worst; a line that is no longer there fails, so that the list is kept up."""
        found = {(mutant.source, mutant.change): mutant.number for mutant in self.mutants()}
        return [found[one] for one in self.worst]


TARGETS = {
    "envelope": Target(
        "clinic.crypto.envelope",
        ("tests/unit/crypto/test_envelope.py", "tests/unit/crypto/test_envelope_limits.py"),
        (
            ("return seal_blob(key, plaintext, aad=_associated_data(context, key_id), key_id=key_id)", "returns None"),
            ('context.row_version.to_bytes(8, "big"),', "8 to 9"),
        ),
    ),
    "cipher": Target(
        "clinic.crypto.aead",
        ("tests/unit/crypto/test_envelope.py", "tests/unit/crypto/test_envelope_limits.py"),
        (
            ("if key_id_of(blob, what=what) != key_id:", "condition negated"),
            ("raise refusal(what) from None", "does not raise"),
            (
                "if len(key) != KEY_BYTES:  # AESGCM would take 16 or 24 as well, and quietly be AES-128 or AES-192",
                "NotEq to Eq",
            ),
        ),
    ),
    "gate": Target(
        "clinic.policy.gate",
        ("tests/unit/policy/test_policy_gate.py", "tests/unit/policy/test_policy_obligations.py"),
        (
            ("self._audit.confirm(entry)", "call left out"),
            ("_check_event(decision, prompt, event, sha256)", "call left out"),
            ("if prompt.sha256 != grant.prompt_sha256:", "NotEq to Eq"),
            ("if grant.monotonic() > grant.expires:", "Gt to LtE"),
            ("grant.claimed = True  # whatever happens next: a claim that fails is used up too", "True to False"),
        ),
    ),
    "verifier": Target(
        "clinic.audit.verify",
        ("tests/unit/audit/test_audit_verify_limits.py", "tests/unit/audit/test_audit_verify.py"),
        (
            ("if row.prev_hash != self._prev:", "NotEq to Eq"),
            ("if mark.root != self._tree.root():", "NotEq to Eq"),
            ("beyond = [mark for mark in self._marks if mark > size]", "Gt to GtE"),
        ),
    ),
    "sealed parts": Target(
        "clinic.audit.details",
        ("tests/unit/audit/test_audit_details.py", "tests/unit/records/test_audit_details.py"),
        (
            ("if parsed is None or parsed.to_canonical() != data:", "NotEq to Eq"),
            ('seq.to_bytes(8, "big"),', "8 to 9"),
            ("if not patient_id:", "condition negated"),
            ("return whole and list(value) == sorted(set(value))", "And to Or"),
        ),
    ),
}


def describe(verdicts: list[Verdict]) -> str:
    """Name the survivors."""
    lines = [f"  {one.mutant.line}: {one.mutant.source}  [{one.mutant.change}]" for one in verdicts if one.survived]
    return "\n".join(lines)


def score(verdicts: list[Verdict]) -> float:
    """Return how many of them were noticed, from 0 to 1."""
    return sum(not one.survived for one in verdicts) / len(verdicts)


@pytest.mark.parametrize("name", TARGETS)
def test_the_worst_changes_can_be_made(name: str) -> None:
    """Their lines are still there."""
    assert TARGETS[name].numbers_of_the_worst()


def test_the_worst_changes_are_noticed_short(tmp_path: Path) -> None:
    """Those of the envelope: without its place, sealed as nothing."""
    _the_worst_are_noticed(TARGETS["envelope"], tmp_path)


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TARGETS)
def test_the_worst_changes_are_noticed(name: str, tmp_path: Path) -> None:
    """Those of every module."""
    _the_worst_are_noticed(TARGETS[name], tmp_path)


def _the_worst_are_noticed(target: Target, tmp_path: Path) -> None:
    """The tests notice each; the control: tests that only import the module notice none."""
    numbers = target.numbers_of_the_worst()
    noticed = run(target.module, target.tests, only=numbers)
    assert len(noticed) == len(numbers)
    assert describe(noticed) == ""
    hollow = tmp_path / "test_hollow.py"
    hollow.write_text(f"def test_nothing():\n    import {target.module}\n")
    assert score(run(target.module, (str(hollow),), only=numbers)) == 0


@pytest.mark.campaign
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", TARGETS)
def test_nine_of_ten_changes_are_noticed(name: str) -> None:
    """All mutants of a module: at least 90 % are noticed; survivors are named."""
    target = TARGETS[name]
    verdicts = run(target.module, target.tests)
    print(f"\nmutants of the {name} ({target.module}): {len(verdicts)}, noticed {score(verdicts):.1%}; survivors:")  # noqa: T201
    print(describe(verdicts))  # noqa: T201 - the numbers and names that docs/assurance.md reports
    assert score(verdicts) >= LEAST


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("a == b", {"a != b"}),
        ("a < b", {"a <= b", "a >= b"}),
        ("a and b", {"a or b", "a", "b"}),
        ("not a", {"a"}),
        ("if a:\n    f()", {"if not a:\n    f()", "if a:\n    pass"}),
        ("x += 1", {"x -= 1", "x += 2"}),
        ("f('a b', 'ab')", {"f('a b', 'abx')", "pass"}),
        ("'a text'", set()),
        ("[x for x in y if x]", {"[x for x in y]"}),
        ("def f() -> int:\n    return g", {"def f() -> int:\n    return None"}),
        ("raise E", {"pass"}),
    ],
)
def test_what_is_changed(source: str, changes: set[str]) -> None:
    """Each kind of change, and that sentences for people are left alone."""
    import ast

    from tests.campaigns.mutation import changed

    assert {ast.unparse(changed(source, mutant.number)) for mutant in mutants(source)} == changes
