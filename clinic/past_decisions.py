"""A past decision from its number: the entry, its sealed facts, the set that decided, and the set that decides now.

Rules kept here:

* The facts are sealed under the patient's key: once that is destroyed they are gone, and that is said; the entry's
  header stays.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from clinic.audit.details import DecisionFacts
from clinic.audit.entry import Entry
from clinic.audit.events import GenerationAuthorized, GenerationDenied, from_canonical
from clinic.errors import AuditError, PolicyError, RecordError
from clinic.policy.activation import PolicyStore
from clinic.policy.load import PolicySet
from clinic.policy.recorded import FactsState, RecordedDecision, recorded
from clinic.policy.replay import replay
from clinic.records.records import Records

_GONE = "patient_shredded"


def past_decision(records: Records, store: PolicyStore, seq: int) -> RecordedDecision:
    """Explain the decision that an audit entry records, and decide it again where its facts are there.

    Raises:
        AuditError: `entry_unknown`.
        InputError: `not_a_decision`.
        DecryptionError: the sealed facts do not open: they are damaged, or another entry's.
    """
    entry = records.audit.entry(seq)
    found = recorded(entry, store.find)
    event = from_canonical(entry.event, entry.body)
    assert isinstance(event, GenerationAuthorized | GenerationDenied)  # noqa: S101 - `recorded` has refused all others
    state, facts = _facts(records, entry, event.encounter)
    if facts is None:
        return replace(found, facts=state)
    again = replay(entry, event, facts, then=store.find(event.policy_set), now=_current(store))
    return replace(found, facts=FactsState.OUTDATED if again is None else FactsState.KNOWN, replay=again)


def recorded_outcome(records: Records, seq: int) -> dict[str, Any]:
    """Read a permission back from the audit log, in the form of the CLI contract: what is shown is what was recorded.

    Raises:
        AuditError: `audit_damaged`: the entry is no permission.
    """
    entry = next(iter(records.audit.entries(first=seq, last=seq)))
    event = from_canonical(entry.event, entry.body)
    if not isinstance(event, GenerationAuthorized):
        raise AuditError(f"audit entry `{seq}` is not the authorization it should be", code="audit_damaged")
    redacted = any(obligation.startswith("redact") for obligation in event.obligations)
    return {
        "outcome": "redact" if redacted else "permit",
        "policies": list(event.policies),
        "policy_set": event.policy_set,
        "audit_seq": seq,
    }


def _facts(records: Records, entry: Entry, encounter_id: str) -> tuple[FactsState, DecisionFacts | None]:
    if entry.sealed is None:
        return FactsState.NOT_RECORDED, None
    try:
        with records.read() as tx:
            detail = tx.detail(entry, tx.encounters.get(encounter_id).patient_id)
    except RecordError as error:
        if error.code != _GONE:
            raise
        return FactsState.DESTROYED, None
    if not isinstance(detail, DecisionFacts):
        return FactsState.NOT_RECORDED, None
    return FactsState.KNOWN, detail


def _current(store: PolicyStore) -> PolicySet | None:
    try:
        return store.current()
    except PolicyError:
        return None
