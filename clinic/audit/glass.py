"""Broken glass, read from the log: who may rely on it now, and what came of it.

Rules kept here:

* The entry `glass.broken` is the permission itself; there is no other place that says so.  What was not recorded first
  was not broken.
* It holds for the one actor and the one encounter that it names, from its own time on, for its minutes and no longer.
  Where the clock stands before the entry, it does not hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from clinic.audit.entry import Entry
from clinic.audit.events import GenerationAuthorized, GlassBroken, from_canonical
from clinic.audit.log import AuditLog

MINUTES: Final = 15
"""How long broken glass holds."""

MARK: Final = "flag:break_glass"
"""The obligation of whatever was allowed under broken glass."""


@dataclass(frozen=True, slots=True)
class Use:
    """One time that the glass was broken.

    Attributes:
        seq: the entry's number.
        relied: numbers of the entries that allowed something because of it.
    """

    seq: int
    at: str
    until: datetime
    actor: str
    encounter: str
    patient: str
    reason: str
    relied: tuple[int, ...] = ()

    def holds(self, *, actor_id: str, encounter_id: str, now: datetime) -> bool:
        """Whether it holds now, for this actor and this encounter."""
        began = datetime.fromisoformat(self.at)
        return (self.actor, self.encounter) == (actor_id, encounter_id) and began <= now < self.until

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        names = ("at", "actor", "encounter", "patient", "reason")
        about = {name: getattr(self, name) for name in names}
        return {"audit_seq": self.seq, **about, "until": self.until.isoformat(), "relied": list(self.relied)}


def is_broken(log: AuditLog, *, actor_id: str, encounter_id: str, now: datetime) -> bool:
    """Whether this actor broke the glass for this encounter, and it still holds."""
    recent = log.first_since(now - timedelta(minutes=MINUTES, seconds=1))  # as quick in a long log as in a short one
    found = (_use(entry) for entry in log.named(GlassBroken.name, first=recent))
    return any(use.holds(actor_id=actor_id, encounter_id=encounter_id, now=now) for use in found)


def uses(log: AuditLog) -> tuple[Use, ...]:
    """Return every time that the glass was broken, the newest first, with what relied on it."""
    broken: list[Use] = []
    relied: dict[int, list[int]] = {}
    for entry in log.named(GlassBroken.name, GenerationAuthorized.name):
        if entry.event == GlassBroken.name:
            broken.append(_use(entry))
            continue
        event = from_canonical(entry.event, entry.body)
        if isinstance(event, GenerationAuthorized) and MARK in event.obligations:
            # The newest that fits: a decision takes a moment, so its entry may come a little after the end.
            of = [use.seq for use in broken if (use.actor, use.encounter) == (entry.actor, event.encounter)]
            relied.setdefault(of[-1] if of else 0, []).append(entry.seq)
    return tuple(_with(use, tuple(relied.get(use.seq, ()))) for use in reversed(broken))


def _with(use: Use, relied: tuple[int, ...]) -> Use:
    return Use(use.seq, use.at, use.until, use.actor, use.encounter, use.patient, use.reason, relied)


def _use(entry: Entry) -> Use:
    event = from_canonical(entry.event, entry.body)
    assert isinstance(event, GlassBroken)  # noqa: S101 - asked for by that name
    until = datetime.fromisoformat(entry.at) + timedelta(minutes=event.minutes)
    return Use(entry.seq, entry.at, until, entry.actor, event.encounter, event.patient, event.reason)
