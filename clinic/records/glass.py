"""Breaking the glass: a reason of a closed list and a code of one's second factor, for one encounter.

Rules kept here:

* The code is used up and `glass.broken` appended in one transaction; only that entry lets a policy be lifted
  (`audit.glass`), so nothing is lifted that was not recorded before.
* Only a clinician breaks it, and not for a record that was destroyed or a note that is signed.
* It allows nothing by itself: the policies say what it lifts.
"""

from __future__ import annotations

from clinic.audit.entry import Entry
from clinic.audit.events import GlassBroken
from clinic.audit.glass import MINUTES
from clinic.domain import Actor, EncounterState, GlassReason, Role
from clinic.errors import AuthenticationError, RecordError
from clinic.records.encounters import Encounters
from clinic.records.factors import prove
from clinic.records.login import Begin
from clinic.records.work import UnitOfWork


def break_glass(begin: Begin, encounter_id: str, *, reason: GlassReason, code: str, actor: Actor) -> Entry:
    """Break the glass for one encounter, and return the entry that says so.

    Raises:
        AuthenticationError: `not_allowed` for other roles, or what `factors.prove` raises.
        RecordError: `record_unknown`, `patient_shredded`, or `note_locked`.
    """
    if actor.role is not Role.CLINICIAN:
        raise AuthenticationError("only a clinician breaks the glass", code="not_allowed", hint="ask a clinician")
    return prove(begin, actor, code, lambda work: _record(work, encounter_id, reason, actor))


def _record(work: UnitOfWork, encounter_id: str, reason: GlassReason, actor: Actor) -> Entry:
    encounter = Encounters(work).get(encounter_id)
    work.require_living(encounter.patient_id)
    if encounter.state is EncounterState.SIGNED:
        raise RecordError("the note of this encounter is signed", code="note_locked", hint="add an addendum")
    event = GlassBroken(
        encounter=encounter.id,
        patient=work.pseudonym(encounter.patient_id),
        reason=GlassReason(reason).value,
        minutes=MINUTES,
    )
    return work.append(event, actor=actor, patient_id=encounter.patient_id)
