"""Where an encounter stands, as the API says it, and the start of its job."""

from __future__ import annotations

from collections.abc import Callable

from clinic import capture, failures
from clinic.api.calls import Call
from clinic.api.models import EncounterAnswered, StopReason
from clinic.api.ports import Services
from clinic.domain import EncounterId, EncounterState, UserId
from clinic.errors import PolicyError
from clinic.records.encounters import Encounter


def answered(call: Call, encounter: Encounter) -> EncounterAnswered:
    """Return an encounter as the API shows it to this program."""
    return standing(call.services, encounter, clinician_id=call.actor.user_id)


def standing(services: Services, encounter: Encounter, *, clinician_id: UserId) -> EncounterAnswered:
    """Return where an encounter stands."""
    return EncounterAnswered(
        id=encounter.id,
        patient_id=encounter.patient_id,
        clinician_id=encounter.clinician_id,
        own=encounter.clinician_id == clinician_id,
        kind=encounter.kind,
        template=encounter.template,
        language=encounter.language,
        consent=encounter.consent,
        state=encounter.state,
        stage=encounter.stage,
        stopped=_stopped(services, encounter),
        created_at=encounter.created_at,
        updated_at=encounter.updated_at,
    )


def start_job(call: Call, encounter_id: str) -> Callable[[], None]:
    """Return what starts the job of an encounter once it is durably queued."""
    services = call.services
    return lambda: capture.start(services.records, services.jobs, EncounterId(encounter_id), actor=call.actor)


def _stopped(services: Services, encounter: Encounter) -> StopReason | None:
    if encounter.state not in capture.STOPPED:
        return None
    failure = failures.describe(encounter.error_code or "job_failed")
    denied = encounter.state is EncounterState.DENIED
    reasons = _reasons(services, encounter.error_code or "") if denied else ()
    return StopReason(code=failure.code, message=failure.message, hint=failure.hint, reasons=reasons)


def _reasons(services: Services, code: str) -> tuple[str, ...]:
    try:
        messages = services.policy.current().messages
    except PolicyError:
        messages = {}
    return tuple(messages.get(policy, f"policy `{policy}`") for policy in failures.denying_policies(code))
