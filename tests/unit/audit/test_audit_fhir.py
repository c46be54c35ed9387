"""FHIR: every event becomes an AuditEvent that the standard's own models accept, with the shape of BALP."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pyrage
import pytest
from fhir.resources.R4B.auditevent import AuditEvent as FhirAuditEvent
from pydantic import ValidationError

from clinic.audit import events
from clinic.audit.entry import Entry
from clinic.audit.events import REGISTRY, AuditEvent
from clinic.audit.export import export
from clinic.audit.fhir import BALP, audit_event, audit_event_line
from clinic.domain import OPERATOR
from tests.unit.audit.audit_store import DIGEST, PATIENT, SteadyClock, Store

ORIGIN = "clinic.local/audit/56475aa75463474c"
_GOOD: dict[Any, Any] = {
    events.Id: "id-1",
    events.Code: "some_code",
    events.Digest: DIGEST,
    events.Pseudonym: PATIENT,
    events.Count: 7,
    events.Ids: ("a", "b"),
    events.RoleName: "clinician",
    events.ActionName: "draft_note",
    events.ConsentName: "given",
    events.KindName: "dictation",
    events.GlassReasonName: "emergency",
}
DICOM = "http://dicom.nema.org/resources/ontology/DCM"


def _entry(event: type[AuditEvent]) -> Entry:
    hints = get_type_hints(event, include_extras=True)
    made = event(**{field.name: _GOOD[hints[field.name]] for field in fields(event)})  # type: ignore[arg-type] # every event is a dataclass
    at = "2026-01-02T03:04:05.678Z"
    return Entry(7, at, "u-1", "clinician", event.name, made.to_canonical(), bytes(32), bytes(range(32)))


_EVERY = [pytest.param(event, id=name) for name, event in sorted(REGISTRY.items())]


@pytest.mark.parametrize("event", _EVERY)
def test_every_event_is_a_valid_resource(event: type[AuditEvent]) -> None:
    """The library's own model takes it; it names its entry, the entry's hash, and every field of its body."""
    entry = _entry(event)
    found = audit_event(entry, origin=ORIGIN)
    FhirAuditEvent.model_validate(found)
    itself = found["entity"][-1]
    assert itself["what"]["identifier"]["value"] == "7"
    details = {detail["type"]: detail["valueString"] for detail in itself["detail"]}
    assert set(details) == {"hash", *json.loads(entry.body)}
    assert details["hash"] == bytes(range(32)).hex()
    assert audit_event_line(entry, origin=ORIGIN).count(b"\n") == 1


@pytest.mark.parametrize("event", _EVERY)
def test_what_names_a_balp_profile_has_its_shape(event: type[AuditEvent]) -> None:
    """Client, server and user with the codes of the profile; patient and data, each once; success only."""
    found = audit_event(_entry(event), origin=ORIGIN)
    profile = found.get("meta", {"profile": [""]})["profile"][0]
    if not profile:
        return
    assert (found["type"]["code"], found["outcome"]) == ("rest", "0")
    verb = {"C": "create", "R": "read", "U": "update", "D": "delete"}[found["action"]]
    assert profile == f"{BALP}Patient{verb.capitalize()}"
    assert found["subtype"][0] == {"system": "http://hl7.org/fhir/restful-interaction", "code": verb, "display": verb}
    client, server, user = found["agent"]
    codes = [agent["type"]["coding"][0]["code"] for agent in (client, server)]
    assert codes == (["110152", "110153"] if verb == "read" else ["110153", "110152"])
    assert all(agent["type"]["coding"][0]["system"] == DICOM and agent["network"] for agent in (client, server))
    assert (user["requestor"], "network" in user, "media" in user) == (True, False, False)
    types = [entity["type"]["code"] for entity in found["entity"]]
    assert (types.count("1"), types.count("2")) == (1, 1)
    assert found["entity"][0]["what"] == {
        "type": "Patient",
        "identifier": {"system": f"http://{ORIGIN}/pseudonym", "value": PATIENT},
    }


def test_the_events_about_patients_name_profiles() -> None:
    """Negative control for the shape: the profiles that must appear do, and a refusal or failure claims none."""
    named = {name: audit_event(_entry(event), origin=ORIGIN) for name, event in REGISTRY.items()}
    profiles = {
        name: found["meta"]["profile"][0].removeprefix(BALP) for name, found in named.items() if "meta" in found
    }
    assert profiles == {
        "patient.created": "PatientCreate",
        "patient.viewed": "PatientRead",
        "patient.accounted": "PatientRead",
        "patient.updated": "PatientUpdate",
        "patient.shredded": "PatientDelete",
        "encounter.opened": "PatientCreate",
        "encounter.viewed": "PatientRead",
        "encounter.transferred": "PatientUpdate",
        "consent.recorded": "PatientUpdate",
    }
    assert {named[name]["outcome"] for name in ("generation.denied", "login.failed", "backup.failed")} == {"4"}


def test_the_model_refuses_what_is_no_audit_event() -> None:
    """Negative control: the validation of these tests can fail."""
    found = audit_event(_entry(REGISTRY["patient.viewed"]), origin=ORIGIN)
    agents = {"agent": [{"requestor": "who"}]}
    for broken in (found | {"recorded": "yesterday"}, found | {"nonsense": 1}, found | agents):
        with pytest.raises(ValidationError):
            FhirAuditEvent.model_validate(broken)


@pytest.mark.skipif(shutil.which("age") is None, reason="the age tool is absent")
def test_an_export_as_fhir_opens_with_age_alone(filled: Store, tmp_path: Path) -> None:
    """The standard tool gives one resource a line for each entry of the range, and the export is recorded."""
    key = pyrage.x25519.Identity.generate()
    identity, out, log = tmp_path / "key", tmp_path / "audit.ndjson.age", filled.log()
    identity.write_text(str(key))
    done = export(log, [str(key.to_public())], out, actor=OPERATOR, first=3, last=9, as_fhir=True, clock=SteadyClock())
    plain = subprocess.run(["age", "-d", "-i", identity, out], check=True, capture_output=True, timeout=60).stdout
    found = [FhirAuditEvent.model_validate_json(line) for line in plain.splitlines()]
    assert [event.id for event in found] == [f"{log.origin.rpartition('/')[2]}-{seq}" for seq in range(3, 10)]
    assert (done.entry.event, json.loads(done.entry.body)["sha256"]) == ("log.exported", done.sha256)
    hashes = [entry.hash.hex() for entry in log.entries(first=3, last=9)]
    assert [json.loads(line)["entity"][-1]["detail"][0]["valueString"] for line in plain.splitlines()] == hashes
