"""Steps 3 to 5 of the flow, for whatever is to be written: decide, record, release, or refuse.

Rules kept here:

* The decision is committed to the audit log before the prompt is released; a denial is recorded, too.
* Consent is asked for again in the transaction that records the permission: what was withdrawn since stops it.
* Where the policy asks for redaction, the prompt is built again from what is left, and that one is released.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, Protocol

from clinic.asking import Asking
from clinic.audit.events import GenerationAuthorized, from_canonical
from clinic.audit.log import Entry
from clinic.domain import Actor, Consent, EncounterId, GenerationId, Prompt, new_id
from clinic.errors import AuditError, PolicyDeniedError, PolicyError
from clinic.facts import Case, Named, authorization, denial
from clinic.policy.decision import Deny, Redact
from clinic.policy.engine import refusal
from clinic.policy.gate import ReleasedPrompt, ReleaseGate
from clinic.policy.load import PolicySet
from clinic.policy.obligations import Obligations
from clinic.policy.replay import facts_of
from clinic.policy.request import PolicyRequest
from clinic.records.records import Records, Transaction


class BuildPrompt(Protocol):
    """Gives the prompt, from all that there is or from what is left after redaction."""

    def __call__(self, *, redact: bool) -> Prompt:
        """Build it."""
        ...


class Releasing:
    """Decides and releases.  `policy_set` gives the active set; where it raises, the answer is no."""

    def __init__(self, records: Records, policy_set: Callable[[], PolicySet]) -> None:
        self._records = records
        self._asking = Asking(records, policy_set)
        self._gate = ReleaseGate(records.audit)

    def release(
        self, case: Case, build: BuildPrompt, template: Named, actor: Actor, *, model_verified: bool
    ) -> ReleasedPrompt:
        """Ask the policy, record its answer, and release the prompt.

        Raises:
            PolicyDeniedError: a policy said no, or consent is gone; the denial is recorded.
            AuditError: the decision cannot be recorded.
        """
        prompt = build(redact=False)
        # (3) decide
        asked = self._asking.ask(case, prompt, template, actor, model_verified=model_verified)
        decision = asked.decision
        # (5) a denial stops here
        if isinstance(decision, Deny):
            self._deny(case, decision, asked.request, prompt, actor)
        if isinstance(decision, Redact):
            prompt = build(redact=True)
        # (4) release: recorded and committed before the prompt may leave
        event = authorization(case, decision, prompt, GenerationId(new_id()), purpose=asked.request.context.purpose)
        try:
            return self._gate.release(
                decision,
                prompt,
                event,
                record=lambda authorized: self._begin(authorized, asked.request, actor),
                known=case.identifiers,
            )
        except PolicyError as error:  # an obligation cannot be kept: that is a no, and is recorded like one
            self._deny(case, refusal(error, decision.policy_set), asked.request, prompt, actor)

    def _begin(self, event: GenerationAuthorized, request: PolicyRequest, actor: Actor) -> Entry:
        encounter_id = EncounterId(request.encounter)
        with self._records.write() as tx:
            require_consent(tx, encounter_id)  # withdrawn since the decision: nothing may leave
            patient_id = tx.encounters.get(encounter_id).patient_id
            entry = tx.append(event, actor=actor, patient_id=patient_id, detail=facts_of(request))
            tx.generations.begin(
                GenerationId(event.generation),
                encounter_id=encounter_id,
                audit_seq=entry.seq,
                prompt_sha256=event.prompt_sha256,
                model=event.model,
                model_sha256=event.model_sha256,
                template_sha256=event.template_sha256,
            )
        return entry

    def _deny(self, case: Case, decision: Deny, request: PolicyRequest, prompt: Prompt, actor: Actor) -> NoReturn:
        event = denial(case, decision, prompt, purpose=request.context.purpose)
        with self._records.write() as tx:
            tx.append(event, actor=actor, patient_id=case.encounter.patient_id, detail=facts_of(request))
        raise PolicyDeniedError(
            "the policy denied this generation",
            policies=decision.policies or tuple(reason.code for reason in decision.reasons),
            hint="; ".join(reason.message for reason in decision.reasons),
        )


def obligations_of(entry: Entry) -> Obligations:
    """Return what the decision obliges to, as it was recorded.

    Raises:
        AuditError: `audit_damaged` if the entry is no authorization.
    """
    event = from_canonical(entry.event, entry.body)
    if not isinstance(event, GenerationAuthorized):
        raise AuditError(f"audit entry `{entry.seq}` is not the authorization it should be", code="audit_damaged")
    return Obligations.parse(event.obligations)


def require_consent(tx: Transaction, encounter_id: EncounterId) -> None:
    """Refuse unless the patient's consent is recorded as given.

    Raises:
        PolicyDeniedError: `consent_missing`.
    """
    if tx.encounters.get(encounter_id).consent is not Consent.GIVEN:
        raise PolicyDeniedError(
            "the patient's consent is not recorded as given",
            code="consent_missing",
            hint="nothing was stored; record the patient's answer, then try again",
        )
