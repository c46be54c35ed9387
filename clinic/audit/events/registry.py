"""All events there are, and how they are read back."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from operator import itemgetter
from typing import Any, Final, get_type_hints

from clinic.audit.events import accounts, backups, documents, generation, keys, log, patients, software, speech, tokens
from clinic.audit.events.schema import FIELDS, AuditEvent, Kind
from clinic.errors import AuditError

EVENTS: Final[tuple[type[AuditEvent], ...]] = (
    *log.EVENTS,
    *accounts.EVENTS,
    *keys.EVENTS,
    *patients.EVENTS,
    *speech.EVENTS,
    *generation.EVENTS,
    *documents.EVENTS,
    *backups.EVENTS,
    *tokens.EVENTS,
    *software.EVENTS,
)

REGISTRY: Final[dict[str, type[AuditEvent]]] = {event.name: event for event in EVENTS}
"""Every event there is, by name."""


def from_canonical(name: str, body: bytes) -> AuditEvent:
    """Read an event back; anything but the exact bytes that `to_canonical` writes is refused."""
    event = REGISTRY.get(name)
    if event is None:
        raise AuditError("unknown audit event", code="event_unknown", hint="was the log written by a newer version?")
    names = [field for field, _ in FIELDS[event]]
    try:
        data: Any = json.loads(body)
        values = {field: tuple(data[field]) if isinstance(data[field], list) else data[field] for field in names}
        parsed = event(**values)
    except (ValueError, LookupError, TypeError, RecursionError):
        parsed = None
    if parsed is None or parsed.to_canonical() != body:
        raise AuditError(f"audit event `{name}` is not in canonical form", code="event_invalid")
    return parsed


def is_canonical(name: bytes, body: bytes) -> bool:
    """Tell at once, without reading the values, that `from_canonical` would take these bytes; False: ask it."""
    form = FORMS.get(name)
    found = None if form is None else form.fullmatch(body)
    return found is not None and all(map(_is_ordered, found.groups()))


def _is_ordered(items: bytes | None) -> bool:
    """Say whether a set is written in its order, none twice."""
    if items is None or b"," not in items:
        return True
    names = items[1:-1].split(b'","')
    return names == sorted(set(names))


def _fields(event: type[Any]) -> tuple[tuple[str, Kind], ...]:
    hints = get_type_hints(event, include_extras=True)
    return tuple((field.name, hints[field.name].__metadata__[0]) for field in fields(event))


def _form(event: type[AuditEvent]) -> re.Pattern[bytes]:
    values = ",".join(f'"{field}":{kind.form}' for field, kind in sorted(FIELDS[event], key=itemgetter(0)))
    return re.compile(f"{{{values}}}".encode())


FIELDS.update({event: _fields(event) for event in EVENTS})
FORMS: Final = {event.name.encode(): _form(event) for event in EVENTS}
"""How each event is written.  A set is caught as a group, because no pattern can tell its order."""
