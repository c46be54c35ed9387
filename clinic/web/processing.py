"""From captured to drafted, as the page sees it: starting the job, and saying where it stands.

Rules kept here:

* What may be started, and how, is decided in `clinic.capture`; here it is put in the words of the page.
"""

from __future__ import annotations

from dataclasses import dataclass

from clinic import capture, failures
from clinic.audit.glass import MINUTES
from clinic.domain import Actor, EncounterId, EncounterState, GlassReason, Stage
from clinic.errors import PolicyError
from clinic.records.encounters import Encounter
from clinic.web import sessions, wording
from clinic.web.ports import services

_FINISHED = frozenset({EncounterState.DRAFTED, EncounterState.SIGNED})


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage as the page shows it; `status` is a key of `wording.STAGE_STATUSES`."""

    name: str
    label: str
    explanation: str
    status: str


@dataclass(frozen=True, slots=True)
class ProblemView:
    """Why the job stopped."""

    code: str
    message: str
    hint: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GlassView:
    """What the form for breaking the glass needs: whether there is a second factor, and how long it holds."""

    enrolled: bool
    minutes: int = MINUTES
    reasons: tuple[GlassReason, ...] = tuple(GlassReason)


def start(encounter_id: EncounterId, *, actor: Actor) -> None:
    """Mark an encounter as queued and start its job.

    Raises:
        JobError: no worker can take it; the encounter says so and can be tried again.
    """
    with services().records.write() as tx:
        capture.queue(tx, encounter_id)
    capture.start(services().records, services().jobs, encounter_id, actor=actor)


def is_working(encounter: Encounter) -> bool:
    """Tell whether the job of an encounter waits or runs."""
    return encounter.state in capture.WORKING


def stages(encounter: Encounter) -> tuple[StageView, ...]:
    """Return the stages in order, each with where it stands."""
    names = list(Stage)
    reached = names.index(encounter.stage) if encounter.stage in names else -1
    return tuple(StageView(s.value, *wording.STAGES[s], _status(encounter, n, reached)) for n, s in enumerate(names))


def _status(encounter: Encounter, number: int, reached: int) -> str:
    if encounter.state in _FINISHED or number < reached:
        return "done"
    if encounter.state in capture.STOPPED:
        return "stopped" if number == reached else "unreached"
    return "current" if number == reached and encounter.state is EncounterState.RUNNING else "waiting"


def problem(encounter: Encounter) -> ProblemView | None:
    """Return why the job stopped, or None if it did not."""
    if encounter.state not in capture.STOPPED:
        return None
    failure = failures.describe(encounter.error_code or "job_failed")
    if encounter.state is EncounterState.DENIED:
        reasons = tuple(reason.message for reason in services().denial(encounter.id))
        return ProblemView("denied", "the policy does not allow a draft for this encounter", failure.hint, reasons)
    return ProblemView(failure.code, failure.message, failure.hint, ())


def glass(encounter: Encounter) -> GlassView | None:
    """Return the form for breaking the glass; None unless every policy that refused is one that it may lift."""
    if encounter.state is not EncounterState.DENIED:
        return None
    refused = failures.denying_policies(encounter.error_code or "")
    try:
        if not services().policy.current().can_lift(refused):
            return None
    except PolicyError:
        return None
    with services().records.read() as tx:
        return GlassView(enrolled=tx.factors.is_enrolled(sessions.signed_in().id))
