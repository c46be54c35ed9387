"""The administrator's page on policies, and `clinic policy explain` with the number of an audit entry."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from clinic.cli import main
from clinic.consultation import Consultation
from clinic.domain import OPERATOR, Consent, EncounterKind, Role
from clinic.errors import PolicyDeniedError
from clinic.records.patients import Patient
from clinic.speech.text import text_to_transcript
from tests.functional.test_audit_first import FakeGenerator
from tests.functional.web_world import CANARY, World
from tests.unit.policy.policy_samples import allowed_request

TEXT = f"{CANARY} has had a cough for three days, without any fever. Take paracetamol twice a day."


def denied_seq(world: World, patient: Patient) -> int:
    """Have the policy refuse an encounter, and return the number of the audit entry."""
    with world.records.write() as tx:
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.DICTATION, template="dictation", language="en", actor=OPERATOR
        )
        tx.transcripts.store(encounter.id, text_to_transcript(TEXT))
        tx.encounters.record_consent(encounter.id, Consent.REFUSED, OPERATOR)
    flow = Consultation(
        world.records,
        policy_set=world.services.policy,
        transcriber=lambda: pytest.fail("nothing is heard"),
        generator=FakeGenerator,
        max_audio_s=60,
    )
    with pytest.raises(PolicyDeniedError):
        flow.generate(encounter.id, actor=OPERATOR)
    entry = world.records.audit.latest("generation.denied")
    assert entry is not None
    return entry.seq


def test_a_past_decision_is_explained(world: World, patient: Patient) -> None:
    """Number in, policies and their words out; no word of the patient is on the page, and nothing is recorded."""
    seq = denied_seq(world, patient)
    admin = world.browser(Role.ADMINISTRATOR)
    assert str(seq) in admin.get("/policies").text
    before = world.records.audit.head().size
    page = admin.post("/policies/decision", seq=seq)
    assert page.status_code == 200
    assert "consent-refused" in page.text
    assert "The patient refused to have this encounter processed" in page.text
    assert "nothing was sent" in page.text
    assert CANARY not in page.text
    assert world.records.audit.head().size == before


@pytest.mark.parametrize(("seq", "said"), [("1", "is no decision"), ("999999", "no audit entry"), ("x", "number of")])
def test_what_is_no_decision_is_said_so(world: World, seq: str, said: str) -> None:
    """Another entry, one that is not there, no number: each is said in words."""
    page = world.browser(Role.ADMINISTRATOR).post("/policies/decision", seq=seq)
    assert page.status_code == 422
    assert said in page.text


def test_a_request_is_tried_and_what_would_change_it_is_shown(world: World) -> None:
    """Too few words: denied, with the number that would do; and nothing is recorded."""
    admin = world.browser(Role.ADMINISTRATOR)
    admin.get("/policies")
    before = world.records.audit.head().size
    page = admin.post("/policies/trial", request=json.dumps(allowed_request(words=12)))
    assert page.status_code == 200
    assert "too-few-words" in page.text
    assert "<code>12</code></td><td><code>20</code>" in page.text
    assert "made together, would be allowed" in page.text
    allowed = admin.post("/policies/trial", request=json.dumps(allowed_request()))
    assert "What would forbid it" in allowed.text
    assert world.records.audit.head().size == before


def test_a_bad_request_is_explained(world: World) -> None:
    """The key that is wrong is named, what was typed stays."""
    page = world.browser(Role.ADMINISTRATOR).post("/policies/trial", request=json.dumps(allowed_request(words=-1)))
    assert page.status_code == 422
    assert "context.words" in page.text
    assert "&#34;words&#34;: -1" in page.text


def test_only_the_administrator_may(world: World) -> None:
    """A clinician and an auditor see nothing of it."""
    for role in (Role.CLINICIAN, Role.AUDITOR):
        assert world.browser(role).get("/policies").status_code == 403
        assert world.browser(role).post("/policies/trial", request="{}").status_code == 403


def test_the_command_explains_a_past_decision(world: World, patient: Patient) -> None:
    """By number: outcome, policies, the set's own words; another entry is refused."""
    seq = denied_seq(world, patient)
    home = ["--home", str(world.services.config.home)]
    result = CliRunner().invoke(main, ["policy", "explain", str(seq), "--json", *home])
    document = json.loads(result.stdout)
    assert (document["audit_seq"], document["outcome"]) == (seq, "deny")
    assert [policy["id"] for policy in document["policies"]] == ["consent-refused"]
    assert "refused" in document["policies"][0]["message"]
    assert "consent-refused" in CliRunner().invoke(main, ["policy", "explain", str(seq), *home]).stdout
    other = CliRunner().invoke(main, ["policy", "explain", "1", "--json", *home])
    assert json.loads(other.stdout)["error"]["code"] == "not_a_decision"


def test_the_command_says_what_would_change_a_request() -> None:
    """From a file: the nearest change is part of the answer; a file that is not there is a usage error."""
    runner = CliRunner()
    typed = json.dumps(allowed_request(consent="withdrawn"))
    document = json.loads(runner.invoke(main, ["policy", "explain", "-", "--json"], input=typed).stdout)
    assert document["counterfactual"]["changes"] == {
        "consent-withdrawn": [{"fact": "consent", "now": "withdrawn", "then": "given"}]
    }
    assert 'consent "withdrawn" -> "given"' in runner.invoke(main, ["policy", "explain", "-"], input=typed).stdout
    assert runner.invoke(main, ["policy", "explain", "nowhere.json"]).exit_code == 2
