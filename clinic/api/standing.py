"""Where an encounter stands, as the API says it, and the start of its job."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from clinic import capture, failures
from clinic.api.calls import Call
from clinic.api.models import EncounterAnswered, StopReason
from clinic.domain import EncounterId, EncounterState
from clinic.errors import PolicyError
from clinic.records.encounters import Encounter


def answered(call: Call, encounter: Encounter, words: Mapping[str, str]) -> EncounterAnswered:
    """Return an encounter as the API shows it to this program; `words` are those of the policies (`policy_words`)."""
    return EncounterAnswered(
        id=encounter.id,
        patient_id=encounter.patient_id,
        clinician_id=encounter.clinician_id,
        own=encounter.clinician_id == call.actor.user_id,
        kind=encounter.kind,
        template=encounter.template,
        language=encounter.language,
        consent=encounter.consent,
        state=encounter.state,
        stage=encounter.stage,
        stopped=_stopped(encounter, words),
        created_at=encounter.created_at,
        updated_at=encounter.updated_at,
    )


def policy_words(call: Call) -> Mapping[str, str]:
    """Return what each policy says when it refuses; none if no set can be used.  Not to be asked in a transaction."""
    try:
        return call.services.policy.current().messages
    except PolicyError:
        return {}


def start_job(call: Call, encounter_id: str) -> Callable[[], None]:
    """Return what starts the job of an encounter once it is durably queued."""
    services = call.services
    return lambda: capture.start(services.records, services.jobs, EncounterId(encounter_id), actor=call.actor)


def _stopped(encounter: Encounter, words: Mapping[str, str]) -> StopReason | None:
    if encounter.state not in capture.STOPPED:
        return None
    failure = failures.describe(encounter.error_code or "job_failed")
    denied = encounter.state is EncounterState.DENIED
    policies = failures.denying_policies(encounter.error_code or "") if denied else ()
    reasons = tuple(words.get(policy, f"policy `{policy}`") for policy in policies)
    return StopReason(code=failure.code, message=failure.message, hint=failure.hint, reasons=reasons)
