"""Audit entries as FHIR R4 AuditEvents, one a line, for whoever reads those (a SIEM, an EMR, a national log).

Rules kept here:

* A rendering, not a proof: what verifies is the archive.  Each event names its entry and carries its hash, by which it
  is found there.
* An event about a known patient that succeeded has the shape of the IHE BALP profile (PatientCreate, -Read, -Update,
  -Delete) and names it; no other names a profile.  Patients appear by pseudonym.
* Nothing is made up: the log knows no network addresses, so the client's is `unknown`.
* Every event of the registry is mapped; the same entry always gives the same line.  Pure: no I/O.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from clinic.audit.entry import Entry
from clinic.domain import canonical_json

BALP: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
_DICOM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_INTERACTION: Final = "http://hl7.org/fhir/restful-interaction"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Mapping:
    """What kind of event it is: the interaction for what is done to data, a DICOM code for what is done to the box."""

    action: str
    code: str
    display: str

    @property
    def is_interaction(self) -> bool:
        return not self.code.isdigit()


_CREATE: Final = _Mapping("C", "create", "create")
_READ: Final = _Mapping("R", "read", "read")
_UPDATE: Final = _Mapping("U", "update", "update")
_DELETE: Final = _Mapping("D", "delete", "delete")
_QUERY: Final = _Mapping("E", "search", "search")
_ACTIVITY: Final = _Mapping("E", "110100", "Application Activity")
_LOG_USED: Final = _Mapping("R", "110101", "Audit Log Used")
_EXPORT: Final = _Mapping("R", "110106", "Export")
_ALERT: Final = _Mapping("E", "110113", "Security Alert")
_LOGIN: Final = _Mapping("E", "110122", "Login")
_LOGOUT: Final = _Mapping("E", "110123", "Logout")
_SECURITY: Final = _Mapping("U", "110136", "Security Roles Changed")
_ACCOUNT: Final = _Mapping("U", "110137", "User Security Attributes Changed")

_BY_NAME: Final = {
    "patients.listed": _QUERY,
    "patient.viewed": _READ,
    "patient.accounted": _READ,
    "encounter.viewed": _READ,
    "audio.played": _READ,
    "patient.created": _CREATE,
    "encounter.opened": _CREATE,
    "recording.started": _CREATE,
    "text.submitted": _CREATE,
    "moment.noted": _CREATE,
    "note.drafted": _CREATE,
    "note.amended": _CREATE,
    "document.drafted": _CREATE,
    "patient.updated": _UPDATE,
    "consent.recorded": _UPDATE,
    "encounter.transferred": _UPDATE,
    "recording.completed": _UPDATE,
    "note.edited": _UPDATE,
    "speakers.corrected": _UPDATE,
    "note.signed": _UPDATE,
    "document.edited": _UPDATE,
    "document.signed": _UPDATE,
    "document.discarded": _UPDATE,
    "patient.shredded": _DELETE,
    "note.exported": _EXPORT,
    "note.copied": _EXPORT,
    "document.copied": _EXPORT,
    "log.exported": _EXPORT,
    "log.verified": _LOG_USED,
    "login.succeeded": _LOGIN,
    "login.failed": _LOGIN,
    "login.challenged": _LOGIN,
    "login.confirmed": _LOGIN,
    "login.ended": _LOGOUT,
    "passkey.used": _LOGIN,
    "passkey.refused": _LOGIN,
    "sessions.ended": _LOGOUT,
    "session.ended": _LOGOUT,
    "token.used": _ACTIVITY,
    "token.refused": _LOGIN,
    "policy.activated": _SECURITY,
    "policyset.activated": _SECURITY,
}
_BY_NOUN: Final = {
    "user": _ACCOUNT,
    "password": _ACCOUNT,
    "key": _SECURITY,
    "shares": _SECURITY,
    "rotation": _SECURITY,
    "audit": _ALERT,
    "clock": _ALERT,
    "sink": _ALERT,
    "factor": _SECURITY,
    "recovery": _SECURITY,
    "invitation": _SECURITY,
    "passkey": _SECURITY,
    "glass": _ALERT,
    "witness": _SECURITY,
    "token": _SECURITY,
}
_FAILED: Final = frozenset({"failed", "denied", "refused", "interrupted", "lost", "latched", "regressed"})
_PROFILES: Final = {"C": "PatientCreate", "R": "PatientRead", "U": "PatientUpdate", "D": "PatientDelete"}
# The narrowest first; FHIR's types for what an event may name.
_THINGS: Final = {"note": "Composition", "recording": "Media", "generation": "Provenance", "encounter": "Encounter"}
_USER_ROLES: Final = {"R": ("IRCP", "information recipient")}


def audit_event(entry: Entry, *, origin: str) -> Json:
    """Return the AuditEvent of an entry of the log with this origin."""
    body: Json = json.loads(entry.body)
    noun, _, verb = entry.event.partition(".")
    mapping = _BY_NAME.get(entry.event) or _BY_NOUN.get(noun, _ACTIVITY)
    failed = verb in _FAILED
    event: Json = {
        "resourceType": "AuditEvent",
        "id": f"{origin.rpartition('/')[2]}-{entry.seq}",
        "type": _type(mapping),
        "subtype": [_subtype(mapping), _coding(f"http://{origin}/event", entry.event, entry.event)],
        "action": mapping.action,
        "recorded": entry.at,
        "outcome": "4" if failed else "0",
        "agent": _agents(entry, mapping, origin),
        "source": {
            "site": origin,
            "observer": {"display": origin},
            "type": [_coding(f"{_TERMINOLOGY}security-source-type", "4", "Application Server")],
        },
        "entity": _entities(entry, body, origin),
    }
    if "patient" in body and not failed and mapping.is_interaction:
        event["meta"] = {"profile": [BALP + _PROFILES[mapping.action]]}
    if "purpose" in body:
        event["purposeOfEvent"] = [{"text": body["purpose"]}]
    return event


def audit_event_line(entry: Entry, *, origin: str) -> bytes:
    """Return the AuditEvent as a line of NDJSON."""
    return canonical_json(audit_event(entry, origin=origin)) + b"\n"


def _type(mapping: _Mapping) -> Json:
    if mapping.is_interaction:
        return _coding(f"{_TERMINOLOGY}audit-event-type", "rest", "Restful Operation")
    if mapping in {_LOGIN, _LOGOUT}:
        return _coding(_DICOM, "110114", "User Authentication")
    return _coding(_DICOM, mapping.code, mapping.display)


def _subtype(mapping: _Mapping) -> Json:
    return _coding(_INTERACTION if mapping.is_interaction else _DICOM, mapping.code, mapping.display)


def _agents(entry: Entry, mapping: _Mapping, origin: str) -> list[Json]:
    """Data flow to the client when they are read, and from it otherwise (BALP)."""
    source, destination = ("110153", "Source Role ID"), ("110152", "Destination Role ID")
    client, server = (destination, source) if mapping.action == "R" else (source, destination)
    code, display = _USER_ROLES.get(mapping.action, ("AUT", "author (originator)"))
    user = {"identifier": {"system": f"http://{origin}/account", "value": entry.actor}}
    return [
        {
            "type": {"coding": [_coding(_DICOM, *client)]},
            "who": {"display": "the clinic's web form or command line"},
            "requestor": False,
            "network": {"address": "unknown", "type": "1"},
        },
        {
            "type": {"coding": [_coding(_DICOM, *server)]},
            "who": {"display": origin},
            "requestor": False,
            "network": {"address": "clinic.local", "type": "1"},
        },
        {
            "type": {"coding": [_coding(f"{_TERMINOLOGY}v3-ParticipationType", code, display)]},
            "role": [{"text": entry.role}],
            "who": user,
            "requestor": True,
        },
    ]


def _entities(entry: Entry, body: Json, origin: str) -> list[Json]:
    entities: list[Json] = []
    if "patient" in body:
        entities.append(
            {
                "type": _coding(f"{_TERMINOLOGY}audit-entity-type", "1", "Person"),
                "role": _coding(f"{_TERMINOLOGY}object-role", "1", "Patient"),
                "what": _what("Patient", f"http://{origin}/pseudonym", body["patient"]),
            }
        )
    name = next((key for key in _THINGS if isinstance(body.get(key), str)), None)
    thing = ("Patient", "pseudonym", body.get("patient", "")) if name is None else (_THINGS[name], name, body[name])
    if thing[2]:
        entities.append(
            {
                "type": _coding(f"{_TERMINOLOGY}audit-entity-type", "2", "System Object"),
                "role": _coding(f"{_TERMINOLOGY}object-role", "4", "Domain Resource"),
                "what": _what(thing[0], f"http://{origin}/{thing[1]}", thing[2]),
            }
        )
    return [*entities, _entry_itself(entry, body, origin)]


def _entry_itself(entry: Entry, body: Json, origin: str) -> Json:
    """Name the entry of the log, with its hash and its fields: the way back to what can be verified."""
    fields = {"hash": entry.hash.hex()} | {name: _text(value) for name, value in body.items()}
    return {
        "type": _coding(f"{_TERMINOLOGY}audit-entity-type", "4", "Other"),
        "role": _coding(f"{_TERMINOLOGY}object-role", "13", "Security Resource"),
        "what": {"identifier": {"system": f"http://{origin}/entry", "value": str(entry.seq)}},
        "detail": [{"type": name, "valueString": value} for name, value in fields.items() if value],
    }


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _what(kind: str, system: str, value: str) -> Json:
    return {"type": kind, "identifier": {"system": system, "value": value}}


def _coding(system: str, code: str, display: str) -> Json:
    return {"system": system, "code": code, "display": display}
