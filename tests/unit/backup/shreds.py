"""The entry that says a patient was shredded: all that backups look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from clinic.audit import events
from clinic.audit.events import AuditEvent, Pseudonym
from clinic.backup.history import SHREDDED
from clinic.backup.site import Site
from clinic.domain import OPERATOR, PatientId


@dataclass(frozen=True, slots=True)
class PatientShredded(AuditEvent):
    """A patient's key was destroyed."""

    name: ClassVar[str] = SHREDDED
    patient: Pseudonym


def enable(patch: pytest.MonkeyPatch) -> None:
    """Let the log take the event, where the schema does not have it."""
    if SHREDDED not in events.REGISTRY:
        patch.setitem(events.REGISTRY, SHREDDED, PatientShredded)
        patch.setitem(events._FIELDS, PatientShredded, events._fields(PatientShredded))


def shred(site: Site, patient: PatientId) -> None:
    """Append the entry."""
    event = events.REGISTRY[SHREDDED]
    values: dict[str, Any] = {name: 0 for name, _ in events._FIELDS[event]}
    values["patient"] = site.pseudonym(patient)
    if "reason" in values:
        values["reason"] = "requested"
    site.records.audit.append(event(**values), actor=OPERATOR)
