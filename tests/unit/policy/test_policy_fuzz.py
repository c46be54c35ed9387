"""Generated requests: none is ever allowed with an error, whatever is missing, mistyped, unknown, huge or no number.

The short form runs by default, the long one (100,000 requests) with `make campaign`.
"""

from __future__ import annotations

import copy
import random  # noqa: TID251 - repeatable dice, no secret
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from clinic.errors import PolicyError
from clinic.policy.decision import Deny
from clinic.policy.engine import decide, judge
from clinic.policy.load import Answer, PolicySet
from clinic.policy.obligations import Obligations
from clinic.policy.request import PolicyContext, PolicyRequest
from tests.unit.policy.policy_samples import POLICIES, allowed_request

SHORT = 3000
LONG = 100_000
VALUES: tuple[Any, ...] = (
    *(None, "", " ", "x" * 100_000, "\x00", "soap\n", "genérale", "🙂", "__entity", "\ud800"),
    *(float("nan"), float("inf"), -float("inf"), 1.5, -1, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400),
    *(True, False, 0, 1, [], {}, [[]], {"a": 1}, ["transcript"] * 70, [None], ["everything"], b"en", object(), (1,)),
    *("withdrawn", "refused", "signed", "dictation", "teaching", "xx", "f" * 64, 4, 19, 85, 500, 9000, ["note"]),
    *({"__entity": {"type": "Role", "id": "clinician"}}, {"type": "Purpose", "id": "treatment"}),
)
FACTS = sorted(PolicyContext.model_fields)


def requests(seed: int, count: int) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield requests that start as one that is allowed, and whether this one was damaged for certain."""
    dice = random.Random(seed)
    for _ in range(count):
        request = allowed_request()
        damaged = False
        for _ in range(dice.choice((0, 1, 1, 1, 2, 5))):
            damaged |= damage(request, dice)
        yield request, damaged


def damage(request: dict[str, Any], dice: random.Random) -> bool:
    """Change one thing; tell whether the request cannot be valid after it, whatever else is changed."""
    facts = request["context"]
    match dice.randrange(6):
        case 0:
            facts.pop(dice.choice(FACTS), None)
        case 1:
            facts[f"unknown_{dice.randrange(5)}"] = dice.choice(VALUES)
            return True
        case 2:
            request[dice.choice(("actor", "action", "encounter", "context"))] = dice.choice((None, 5, [], {}, "nobody"))
        case 3:
            request[f"more_{dice.randrange(5)}"] = dice.choice(VALUES)
            return True
        case _:
            if isinstance(facts, dict):
                facts[dice.choice(FACTS)] = copy.copy(dice.choice(VALUES))
    if not isinstance(request["context"], dict):
        request["context"] = {}
    return False


def campaign(policy_set: PolicySet, count: int) -> Counter[str]:
    """Decide about `count` requests, and return how often each kind of answer was given."""
    found: Counter[str] = Counter()
    for request, damaged in requests(20_261_126, count):
        decision = decide(policy_set, request)
        if isinstance(decision, Deny):
            assert decision.reasons
            found[decision.reasons[0].code if not decision.policies else "forbidden"] += 1
            continue
        found["allowed"] += 1
        assert not damaged
        assert PolicyRequest.check(request) is not None
        Obligations.parse(decision.obligations)
    return found


def test_no_generated_request_is_allowed_with_an_error() -> None:
    """Short form: every allowed request is valid whole, and every other one is denied with a reason."""
    found = campaign(PolicySet.load(POLICIES), SHORT)
    assert sum(found.values()) == SHORT
    assert found["request_invalid"] > SHORT / 3
    assert found["allowed"] > SHORT / 20
    assert found["policy_error"] == 0


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("profile", ["strict", "teaching"])
def test_no_generated_request_of_100000_is_allowed_with_an_error(profile: str) -> None:
    """Long form."""
    found = campaign(PolicySet.load(POLICIES, profile), LONG)
    print(f"\n{profile}: {LONG} requests: {dict(found.most_common())}")  # noqa: T201 - a campaign's result
    assert sum(found.values()) == LONG
    assert found["request_invalid"] > LONG / 3
    assert found["allowed"] > LONG / 20


def test_the_campaign_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with the validation of requests switched off, a damaged request is allowed and noticed."""
    policy_set = PolicySet.load(POLICIES)
    sound = PolicyRequest.model_validate(allowed_request())
    monkeypatch.setattr(PolicyRequest, "check", classmethod(lambda _cls, _request: sound))
    with pytest.raises(AssertionError):
        campaign(policy_set, SHORT)


def test_an_error_of_the_engine_never_allows() -> None:
    """Whatever Cedar answers together with an error, the decision is no; so is an answer nobody knows."""
    policy_set = PolicySet.load(POLICIES)
    names = (("draft-for-treatment",), (), ("draft-for-treatment", "consent-refused"), ("nobody",), ("",))
    answers = [
        Answer(verdict, fired, errors)
        for verdict in ("Allow", "Deny", "NoDecision", "", "allow", "PERMIT")
        for fired in names
        for errors in ((), ("while evaluating policy `consent-refused`: error",), ("",))
    ]
    allowed = [answer for answer in answers if not isinstance(judge(policy_set, answer), Deny)]
    assert allowed == [Answer("Allow", ("draft-for-treatment",), ())]


@pytest.mark.parametrize("profile", ["strict", "teaching"])
def test_every_unknown_or_malformed_obligation_denies(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 %: with any one obligation of a permit misspelt, unknown, doubled wrongly or raising, the answer is no."""
    policy_set = PolicySet.load(POLICIES, profile)
    name = "draft-for-treatment"
    good = policy_set.policies[name].obligations
    answer = Answer("Allow", (name,), ())
    assert not isinstance(judge(policy_set, answer), Deny)
    wrong = [
        (*good[:n], bad, *good[n + 1 :])
        for n, text in enumerate(good)
        for bad in (text + "x", "x" + text, text.upper(), text.replace(":", "="), ":", "", "unknown:yes", "a" * 10_000)
    ]
    wrong += [
        (*good, bad) for bad in ("unknown:yes", "max_tokens:-1", "max_tokens:1e3", "fields:", "fields:everything")
    ]
    for obligations in wrong:
        info = policy_set.policies[name]
        changed = type(info)(info.id, info.effect, info.message, obligations, info.file)
        broken = type(policy_set)(
            policy_set.sha256,
            {**policy_set.policies, name: changed},
            policy_set.profile,
            policy_set._handle,
            policy_set._schema,
            policy_set._seal,
        )
        decision = judge(broken, answer)
        assert isinstance(decision, Deny), obligations
        assert decision.reasons[0].code == "obligation_failed"

    def fail(_obligations: object) -> Obligations:
        raise PolicyError("an obligation failed")

    monkeypatch.setattr(Obligations, "parse", fail)
    assert isinstance(judge(policy_set, answer), Deny)
