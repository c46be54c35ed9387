"""Cases that schemathesis makes from our OpenAPI document, sent to the application itself and judged by its checks.

Half of the cases keep to the document, half break it in one place.  Ids are those of real records in every state, or
nobody's.  Beside schemathesis's own checks: a case that keeps to the document is refused only for a rule about the
records, never for its form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from limits import parse
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance
from schemathesis.transport.serialization import Binary

from clinic.api import calls
from clinic.api.app import OPERATIONS, create_api
from clinic.api.openapi import PREFIX, document
from clinic.api.progress import Pace
from clinic.domain import Consent, EncounterState, new_id
from clinic.errors import RecordError
from clinic.records.patients import PatientData
from tests.functional.api_world import CHUNK, digest, program
from tests.functional.web_world import World

HOST = "http://clinic.test"
UNLIMITED = parse("1000000/second")

FIELDS: dict[str, Sequence[str]] = {
    "current": ("yes", "yes", "yes", "no"),
    "section": ("plan", "subjective", "plan", "nonsense"),
    "template": ("soap", "handover", "dictation", "nonsense"),
}
"""What chance would hardly hit in a body: that the version is the current one, sections, kinds of note."""

Ids = dict[str, Sequence[str]]


def records_in_every_state(world: World) -> Ids:
    """Return ids of records in every state, by the name of the parameter."""
    with world.records.write() as tx:
        patient = tx.patients.create(PatientData("Known Somebody", record_number=new_id()), world.actor())
    encounters = [world.encounter(patient) for _ in range(3)]
    unasked = world.encounter(patient, consent=Consent.NOT_RECORDED)
    drafted = [world.drafted(patient) for _ in range(4)]
    with world.records.write() as tx:
        recordings = [tx.recordings.start(item.id, mime="audio/webm", actor=world.actor()) for item in encounters]
        for recording in recordings:
            tx.recordings.append(recording.id, 0, CHUNK)
        tx.encounters.mark(encounters[1].id, state=EncounterState.FAILED, error_code="no_speech")
        tx.encounters.mark(encounters[2].id, state=EncounterState.DENIED, error_code="denied:injection-certain")
        note = tx.notes.get(drafted[1].id)
        assert note is not None
        quiet = note.note.model_copy(update={"statements": note.note.statements[:1]})
        tx.notes.save(drafted[1].id, quiet, expected_version=1, actor=world.actor())
        tx.notes.sign(drafted[1].id, expected_version=2, attestation="read", actor=world.actor())
    return {
        "patient_id": [patient.id, new_id()],
        "encounter_id": [item.id for item in (*encounters, unasked, *drafted)] + [new_id()],
        "recording_id": [item.id for item in recordings] + [new_id()],
        "statement_id": ["n1", "n2", "n9"],
    }


def api_under_test(world: World) -> Flask:
    """Return the API alone, its streams ended at once."""
    from clinic.api.app import mount

    return mount(Flask("nothing else"), create_api(world.services, pace=Pace(lasts_s=0.0)))


def _aim(world: World, case: schemathesis.Case[Any], chosen: Mapping[str, str]) -> None:
    """Let a sound case meet records that can take it: chance alone would hit few ids, versions and digests."""
    for parameter, value in chosen.items():
        if parameter in case.path_parameters:
            case.path_parameters[parameter] = value
    if case.method in {"POST", "PUT"}:
        _ready(world, case.path_parameters)
    if isinstance(case.body, dict):
        if "version" in case.body and chosen["current"] == "yes":
            case.body["version"] = _version(world, case.path_parameters["encounter_id"])
        if "chunks" in case.body and chosen["current"] == "yes":
            case.body["chunks"] = 1
        case.body |= {field: chosen[field] for field in ("section", "template") if field in case.body}
    elif isinstance(case.body, Binary):
        case.headers["Content-Digest"] = digest(bytes(case.body.data))


def _ready(world: World, found: Mapping[str, Any]) -> None:
    """Put an encounter that may still change back to where it takes something."""
    with suppress(RecordError), world.records.write() as tx:
        if "recording_id" in found:
            encounter = tx.encounters.get(tx.recordings.encounter_of(found["recording_id"]))
        else:
            encounter = tx.encounters.get(found.get("encounter_id", ""))
        if encounter.state in {EncounterState.QUEUED, EncounterState.OPEN}:
            tx.encounters.mark(encounter.id, state=EncounterState.OPEN)
        if encounter.consent is not Consent.GIVEN and encounter.state is not EncounterState.SIGNED:
            tx.encounters.record_consent(encounter.id, Consent.GIVEN, world.actor())


def _version(world: World, encounter_id: str) -> int:
    with suppress(RecordError), world.records.read() as tx:
        note = tx.notes.get(encounter_id)
        if note is not None:
            return note.version
    return 1


def _operation(schema: BaseSchema, name: str) -> APIOperation[Any, Any, Any, Any]:
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        found = result.ok()
        if found.definition.raw["operationId"] == name:
            return found
    raise AssertionError(name)


def _in(mode: GenerationMode, send: Callable[..., None]) -> Callable[..., None]:
    def one(case: schemathesis.Case[Any], chosen: Mapping[str, str]) -> None:
        send(case, chosen, sound=mode is GenerationMode.POSITIVE)

    return one


def run(world: World, ids: Ids, name: str, cases: int) -> Counter[int]:
    """Send so many cases to an operation; return how often each status came.

    Raises:
        AssertionError: one of schemathesis's checks failed, or ours.
    """
    load_all_checks()
    schema = schemathesis.openapi.from_dict(document(OPERATIONS))
    schema.app = api_under_test(world)
    schema.config.update(base_url=HOST + PREFIX)
    schema.config.checks.negative_data_rejection.expected_statuses.append("413")  # that is a refusal, too
    secret = program(world).secret
    operation = _operation(schema, name)
    statuses: Counter[int] = Counter()

    def send(case: schemathesis.Case[Any], chosen: Mapping[str, str], *, sound: bool) -> None:
        case.headers["Authorization"] = f"Bearer {secret}"
        if sound:
            _aim(world, case, chosen)
        response = case.call()
        case.validate_response(response, excluded_checks=[positive_data_acceptance])
        if sound and response.status_code == 422:
            assert not response.json()["errors"], response.text
        statuses[response.status_code] += 1

    choice = st.fixed_dictionaries({key: st.sampled_from(values) for key, values in (ids | FIELDS).items()})
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    limits = (calls.REQUESTS, calls.REFUSALS)
    calls.REQUESTS = calls.REFUSALS = UNLIMITED  # type: ignore[misc]
    try:
        for mode in modes:
            every = settings(
                max_examples=cases // len(modes),
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            every(given(case=operation.as_strategy(generation_mode=mode), chosen=choice)(_in(mode, send)))()
    finally:
        calls.REQUESTS, calls.REFUSALS = limits  # type: ignore[misc]
    return statuses
