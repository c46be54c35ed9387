"""Step 3 of the flow: gather what holds at this moment, and ask the active policy set.

Rules kept here:

* The set is taken once for each decision: one that is activated meanwhile counts from the next.
* Where no set can decide, the answer is no, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from clinic.audit.events import GenerationAuthorized, GenerationDenied
from clinic.audit.glass import is_broken
from clinic.domain import Actor, NoteStanding, Prompt
from clinic.errors import PolicyError
from clinic.facts import Case, Named, Standing, policy_context, purpose_of
from clinic.policy.decision import Decision
from clinic.policy.engine import decide, refusal
from clinic.policy.load import PolicySet
from clinic.policy.request import PolicyRequest
from clinic.records.records import Records

_HOUR: Final = timedelta(hours=1)
_ASKED: Final = (GenerationAuthorized.name, GenerationDenied.name)


@dataclass(frozen=True, slots=True)
class Asked:
    """A decision with the very request that it answers."""

    request: PolicyRequest
    decision: Decision


class Asking:
    """Asks on behalf of the flow.  `policy_set` gives the active set, or raises `PolicyError`, which means no."""

    def __init__(self, records: Records, policy_set: Callable[[], PolicySet]) -> None:
        self._records = records
        self._policy_set = policy_set

    def ask(self, case: Case, prompt: Prompt, template: Named, actor: Actor, *, model_verified: bool) -> Asked:
        """Decide whether `prompt` may be sent for this encounter."""
        active, unable = _active(self._policy_set)
        context = policy_context(
            case,
            prompt,
            template,
            actor,
            model_verified=model_verified,
            purpose=purpose_of(active),
            standing=_standing(self._records, case, actor),
        )
        request = PolicyRequest(actor=actor, action=prompt.action, encounter=case.encounter.id, context=context)
        return Asked(request, refusal(unable) if active is None else decide(active, request))


def _active(policy_set: Callable[[], PolicySet]) -> tuple[PolicySet | None, PolicyError]:
    try:
        return policy_set(), PolicyError("no policy set can decide")
    except PolicyError as error:
        return None, error


def _standing(records: Records, case: Case, actor: Actor) -> Standing:
    now = records.clock()
    with records.read() as tx:
        waiting = tx.encounters.count_unfinished(actor.user_id, beside=case.encounter.id)
        stored = tx.notes.get(case.encounter.id)
    standing = NoteStanding.NONE
    if stored is not None:
        standing = NoteStanding.SIGNED if stored.signed else NoteStanding.DRAFT
    return Standing(
        at=now.astimezone(),
        jobs_unfinished=waiting,
        requests_last_hour=records.audit.count_since(now - _HOUR, actor_id=actor.user_id, events=_ASKED),
        note=standing,
        break_glass=is_broken(records.audit, actor_id=actor.user_id, encounter_id=case.encounter.id, now=now),
    )
