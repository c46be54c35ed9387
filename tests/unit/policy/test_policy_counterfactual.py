"""What would change a decision: every change that is named does, and the nearest is named."""

from __future__ import annotations

from typing import Any

import pytest

from clinic.audit.entry import Entry
from clinic.audit.events import AuditVerified, GenerationDenied
from clinic.errors import InputError
from clinic.policy.counterfactual import Change, Counterfactual, counterfactual
from clinic.policy.decision import Deny, Permit
from clinic.policy.engine import decide
from clinic.policy.load import PolicySet
from clinic.policy.recorded import recorded
from clinic.policy.request import PolicyRequest
from tests.unit.policy.policy_samples import DIGEST, POLICIES, allowed_request, make_event, make_prompt


@pytest.fixture(scope="module")
def policies() -> PolicySet:
    """The policies that ship."""
    return PolicySet.load(POLICIES)


def ask(policies: PolicySet, **facts: Any) -> Counterfactual:
    """Return what would change the decision about a request with these facts."""
    return counterfactual(policies, PolicyRequest.model_validate(allowed_request(**facts)))


@pytest.mark.parametrize(
    ("facts", "policy", "change"),
    [
        ({"words": 12}, "too-few-words", Change("words", 12, 20)),
        ({"consent": "withdrawn"}, "consent-withdrawn", Change("consent", "withdrawn", "given")),
        ({"requests_last_hour": 500}, "too-many-this-hour", Change("requests_last_hour", 500, 119)),
        ({"prompt_tokens": 9000}, "too-long-for-model", Change("prompt_tokens", 9000, 8192)),
        ({"language": "xx"}, "language-unsupported", Change("language", "xx", "en")),
        ({"assigned": False}, "care-relationship", Change("break_glass", now=False, then=True)),
        (
            {"fields": ["note", "transcript"]},
            "fields-of-a-draft",
            Change("fields", ("note", "transcript"), ("transcript",)),
        ),
    ],
)
def test_a_denial_names_the_nearest_change(
    policies: PolicySet, facts: dict[str, Any], policy: str, change: Change
) -> None:
    """The limit itself, the listed value, the field too many."""
    found = ask(policies, **facts)
    assert found.denied
    assert found.enough
    assert change in found.changes[policy]


def test_every_change_of_a_denial_is_true(policies: PolicySet) -> None:
    """With three forbids at once, the first change of each, made together, is allowed; any two of them are not."""
    facts: dict[str, Any] = {"words": 3, "consent": "refused", "model_verified": False}
    found = ask(policies, **facts)
    assert set(found.changes) == {"too-few-words", "consent-refused", "model-verified"}
    assert found.enough
    firsts = {name: changes[0] for name, changes in found.changes.items()}
    whole = facts | {change.fact: change.then for change in firsts.values()}
    assert not isinstance(decide(policies, allowed_request(**whole)), Deny)
    for name, change in firsts.items():
        decision = decide(policies, allowed_request(**(whole | {change.fact: change.now})))
        assert isinstance(decision, Deny)
        assert name in decision.policies


def test_what_is_allowed_names_what_would_forbid(policies: PolicySet) -> None:
    """Each change that is named is denied, by the policy that it is named for."""
    found = ask(policies)
    assert not found.denied
    assert len(found.changes) >= 20
    for name, (change,) in found.changes.items():
        if change.fact != "role":
            decision = decide(policies, allowed_request(**{change.fact: change.then}))
            assert isinstance(decision, Deny)
            assert name in decision.policies
    assert found.changes["speech-unclear"] == (Change("confidence_permille", 820, 349),)


def test_what_no_single_fact_changes_is_said_so(policies: PolicySet) -> None:
    """A template that is not pinned needs name and digest: no change of one fact, and not enough."""
    found = ask(policies, template="letter", template_sha256=DIGEST)
    assert found.changes["template-pinned"] == ()
    assert not found.enough
    assert found.as_json() == {"denied": True, "changes": {"template-pinned": []}, "enough": False}


def entry(event: Any) -> Entry:
    """Return an audit entry that records an event."""
    body = event.to_canonical()
    return Entry(
        seq=7, at="2026-11-26T00:00:00.000000Z", actor="9a1b2c", role="clinician", event=event.name, body=body,
        prev_hash=bytes(32), hash=bytes(32),
    )  # fmt: skip


def test_a_recorded_permission_is_explained_in_the_words_of_its_set(policies: PolicySet) -> None:
    """Outcome, policies with messages, obligations and what was redacted come from the entry and its own set."""
    decision = decide(policies, allowed_request())
    assert not isinstance(decision, Deny)
    found = recorded(
        entry(make_event(decision, make_prompt())), lambda sha: policies if sha == policies.sha256 else None
    )
    assert (found.explanation.outcome, found.redacted, found.set_known) == ("redact", ("identifiers",), True)
    assert found.explanation.policies[0].message == policies.policies["draft-for-treatment"].message
    assert found.as_json()["audit_seq"] == 7
    plain = Permit(("a",), ("label:draft",), DIGEST)
    assert recorded(entry(make_event(plain, make_prompt())), lambda _sha: None).explanation.outcome == "permit"


def denial(policy_set: str) -> GenerationDenied:
    """Return a denial as it is recorded."""
    return GenerationDenied(
        encounter="e1", patient="ab" * 16, action="draft_note", purpose="treatment", policy_set=policy_set,
        policies=("consent-refused",), obligations=(), model="gemma", template="soap", transcript_sha256=DIGEST,
        reason_codes=("consent-refused",),
    )  # fmt: skip


def test_a_recorded_denial_of_a_lost_set_keeps_its_names(policies: PolicySet) -> None:
    """Where the set is not there any more nothing is put into its mouth."""
    lost = recorded(entry(denial(DIGEST)), lambda _sha: None)
    assert (lost.set_known, lost.explanation.outcome) == (False, "deny")
    assert [(fired.id, fired.effect, fired.message) for fired in lost.explanation.policies] == [
        ("consent-refused", "forbid", "")
    ]
    known = recorded(entry(denial(policies.sha256)), lambda _sha: policies)
    assert "refused" in known.explanation.reasons[0].message


def test_what_is_no_decision_is_refused() -> None:
    """Another event is not explained as if it were one."""
    with pytest.raises(InputError) as caught:
        recorded(entry(AuditVerified(entries=1)), lambda _sha: None)
    assert caught.value.code == "not_a_decision"
