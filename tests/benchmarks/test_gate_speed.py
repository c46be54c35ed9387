"""What the gate adds to a prompt whose model answers at once: decision, audit entry, read back, release; 16 clients.

Run with `make bench`; each line is printed with its baseline from the same run.  Nothing here passes or fails by time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from clinic.domain import OPERATOR
from clinic.policy.decision import Permit, Redact
from clinic.policy.engine import decide
from clinic.policy.gate import ReleaseGate
from clinic.policy.load import PolicySet
from clinic.policy.request import PolicyRequest
from clinic.records.records import Records
from tests.benchmarks.test_audit_speed import CLIENTS, RATE, load, plain
from tests.benchmarks.test_flow import machine, say
from tests.unit.policy.policy_samples import POLICIES, allowed_request, make_event, make_prompt

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(600)]

SPEECH = "Cough for three days. No fever. Paracetamol 500 mg twice a day."


def test_the_whole_gate_at_sixteen_clients(records: Records, tmp_path: Path) -> None:
    """The policies that ship decide, the permission is committed and read back, the prompt released and claimed."""
    policies, gate, prompt = PolicySet.load(POLICIES), ReleaseGate(records.audit), make_prompt(text=SPEECH)
    facts = allowed_request()
    before = records.audit.size()

    def decided() -> Permit | Redact:
        decision = decide(policies, PolicyRequest.model_validate(facts))
        assert isinstance(decision, Permit | Redact)
        return decision

    def through_the_gate() -> None:
        decision = decided()
        event = make_event(decision, prompt)
        released = gate.release(
            decision, prompt, event, record=lambda authorized: records.audit.append(authorized, actor=OPERATOR)
        )
        assert released.claim() == prompt

    insert = plain(tmp_path / "plain.db")
    _, base_median, base_p99 = load(insert, rate=RATE)
    slow, median, p99 = load(through_the_gate, rate=RATE)
    _, half_median, half_p99 = load(through_the_gate, rate=RATE / 2)
    most_inserts, _, _ = load(insert)
    most_decided, _, _ = load(decided)
    most, most_median, most_p99 = load(through_the_gate)
    say(machine())
    say(
        f"{RATE} a second from {CLIENTS} clients: through the gate {slow:.0f}/s, median {median:.1f} ms, p99 {p99:.1f} "
        f"ms; one plain SQLite insert: median {base_median:.1f} ms, p99 {base_p99:.1f} ms; ratio of medians "
        f"{median / base_median:.2f}; added p99 {p99:.1f} ms against a model that answers at once, "
        f"{p99 - base_p99:.1f} ms against the insert"
    )
    say(f"half as many: median {half_median:.1f} ms, p99 {half_p99:.1f} ms")
    say(
        f"as many as they can, {CLIENTS} clients: through the gate {most:.0f}/s, median {most_median:.1f} ms, "
        f"p99 {most_p99:.1f} ms; plain inserts {most_inserts:.0f}/s ({most / most_inserts:.2f} of that); "
        f"the decision alone {most_decided:.0f}/s"
    )
    assert records.audit.size() > before
    assert records.audit.verify().ok
