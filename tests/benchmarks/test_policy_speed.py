"""What a decision costs: Cedar alone at 100 policies, and all of it, detectors included, on 10,000 words.

Run with `make bench`; each line is printed with its baseline from the same run.  Nothing here passes or fails by time.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from datetime import date

import pytest

from clinic.policy.decision import Deny
from clinic.policy.detectors.identifiers import KnownIdentifiers, find
from clinic.policy.detectors.injection import score
from clinic.policy.detectors.neutralise import hidden_count
from clinic.policy.engine import decide
from clinic.policy.load import PolicySet, policy_files
from clinic.policy.request import PolicyRequest
from tests.benchmarks.test_flow import machine, say
from tests.unit.policy.policy_samples import POLICIES, allowed_request, schema_text

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(600)]

POLICY_COUNT = 100
WORDS = 10_000
KNOWN = KnownIdentifiers(name="Amina Okafor", record_number="MRN-20418", date_of_birth=date(1961, 2, 3))
TURNS = (
    "Clinician: Good morning Mrs Okafor, what brings you in today?",
    "Patient: I have had this cough for about three weeks now, and it keeps me awake at night.",
    "Clinician: Any fever, any blood when you cough, have you lost weight?",
    "Patient: No blood. I was 72 kilos in March and now 69, my daughter Fatima noticed it.",
    "Clinician: Your blood pressure is 142 over 88, pulse 76, oxygen 97 percent.",
    "Patient: I still take amlodipine five milligrams in the morning and the metformin twice a day.",
    "Clinician: Call the clinic on 0412 555 019 if it gets worse, otherwise we see you on the 14th of May.",
    "Patient: I moved to 14 Harbour Street last month, by the way, next to the bakery.",
)


def transcript(words: int) -> str:
    """Return a consultation of about so many words."""
    lines: list[str] = []
    count = 0
    while count < words:
        lines.append(TURNS[len(lines) % len(TURNS)])
        count += len(lines[-1].split())
    return "\n".join(lines)


def percentiles(action: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the median and the 99th percentile of many runs, in ms of processor time: others may use the machine."""
    for _ in range(max(rounds // 20, 3)):
        action()
    taken = []
    for _ in range(rounds):
        begun = time.thread_time()
        action()
        taken.append(1000 * (time.thread_time() - begun))
    taken.sort()
    return taken[len(taken) // 2], taken[min(len(taken) - 1, round(0.99 * len(taken)))]


def large_set(count: int) -> PolicySet:
    """Return the policies that ship and as many more as make `count`, every one with a condition of its own."""
    sources = [(name, (POLICIES / name).read_text(encoding="utf-8")) for name in policy_files(POLICIES, "strict")]
    missing = count - len(PolicySet.load(POLICIES).policies)
    more = "\n".join(
        f'@id("extra-{n}") @message("Extra.")\nforbid (principal, action, resource) '
        f'when {{ context.words == {1_000_000 + n} && context.language == "x{n}" }};'
        for n in range(missing)
    )
    loaded = PolicySet.from_sources(schema_text(), [*sources, ("extra.cedar", more)])
    assert len(loaded.policies) == count
    return loaded


def test_cedar_alone() -> None:
    """The engine at 100 policies, against one policy."""
    request = allowed_request()
    permit = '@id("one") @message("One.") @obligation("label:draft; max_tokens:9; evidence:required")\n'
    one = PolicySet.from_sources(schema_text(), [("one.cedar", f"{permit}permit (principal, action, resource);")])
    many = large_set(POLICY_COUNT)
    for policy_set in (one, many):
        assert not isinstance(decide(policy_set, request), Deny)
    base = percentiles(lambda: decide(one, request), 3000)
    full = percentiles(lambda: decide(many, request), 3000)
    say(f"machine: {machine()}")
    say(
        f"decision without detectors at {POLICY_COUNT} policies: median {full[0]:.3f} ms, p99 {full[1]:.3f} ms; "
        f"at 1 policy: median {base[0]:.3f} ms, p99 {base[1]:.3f} ms; ratio of medians {full[0] / base[0]:.2f}"
    )


def test_decision_with_detectors() -> None:
    """Detectors and engine on 10,000 words, against splitting the same text into words."""
    text = transcript(WORDS)
    many = large_set(POLICY_COUNT)

    def whole() -> object:
        facts = {
            "injection_score": round(100 * score(text).score),
            "hidden_characters": hidden_count(text),
            "identifiers_found": len(find(text, known=KNOWN)),
            "words": len(text.split()),
        }
        return decide(many, PolicyRequest.model_validate(allowed_request(**facts)))

    assert not isinstance(whole(), Deny)
    gc.freeze()  # as the worker does when it has started
    base = percentiles(lambda: [word.lower() for word in text.split()], 300)
    full = percentiles(whole, 300)
    say(
        f"decision with detectors on {len(text.split())} words: median {full[0]:.1f} ms, p99 {full[1]:.1f} ms; "
        f"splitting the words alone: median {base[0]:.2f} ms; ratio of medians {full[0] / base[0]:.0f}"
    )
