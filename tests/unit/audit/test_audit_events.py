"""Events: closed, canonical, and no place for free text."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.audit import events
from clinic.audit.events import (
    REGISTRY,
    AuditEvent,
    GenerationAuthorized,
    GenerationDenied,
    LoginFailed,
    PatientsListed,
    PatientViewed,
    UserCreated,
    from_canonical,
    is_canonical,
    registry,
)
from clinic.domain import Action, Role
from clinic.errors import AuditError
from tests.unit.audit.audit_store import DIGEST, PATIENT

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


def _good_values(event: type[AuditEvent]) -> dict[str, Any]:
    hints = get_type_hints(event, include_extras=True)
    return {field.name: _GOOD[hints[field.name]] for field in fields(event)}  # type: ignore[arg-type] # every event is a dataclass


_EVERY = [pytest.param(event, id=name) for name, event in sorted(REGISTRY.items())]


@pytest.mark.parametrize("event", _EVERY)
def test_every_event_reads_back_as_written(event: type[AuditEvent]) -> None:
    """An event survives the way to bytes and back, unchanged."""
    made = event(**_good_values(event))
    assert from_canonical(event.name, made.to_canonical()) == made


@pytest.mark.parametrize("event", _EVERY)
def test_every_event_is_named_noun_and_past_verb(event: type[AuditEvent]) -> None:
    """Names are `noun.verb_past`, nothing else."""
    noun, _, verb = event.name.partition(".")
    assert noun.isalpha()
    assert verb.isalpha()


def test_the_registry_holds_every_event_class() -> None:
    """No event class exists outside the registry."""
    classes = {c for c in vars(events).values() if isinstance(c, type) and issubclass(c, AuditEvent)}
    assert classes - {AuditEvent} == set(REGISTRY.values())
    assert len(REGISTRY) == len(registry.EVENTS)


def test_an_event_outside_the_registry_cannot_be_made() -> None:
    """The schema is closed: a class that is not registered cannot be instantiated."""

    @dataclass(frozen=True, slots=True)
    class Gossip(AuditEvent):
        name: ClassVar[str] = "gossip.told"
        text: str

    with pytest.raises(KeyError):
        Gossip(text="x")


_TEXT_FIELDS = [
    (event, field.name)
    for event in REGISTRY.values()
    for field in fields(event)  # type: ignore[arg-type] # every event is a dataclass
]


@given(
    st.sampled_from(_TEXT_FIELDS), st.text(min_size=1), st.sampled_from([" ", "\n", "é", "\u200b", "/", '"', "\x00"])
)
def test_free_text_is_refused_everywhere(place: tuple[type[AuditEvent], str], text: str, mark: str) -> None:
    """Whatever holds a space, a line break, a control or any character outside ASCII enters no field of any event."""
    event, field = place
    for value in (text + mark, mark + text, "a" + mark + "b", (text + mark,)):
        with pytest.raises(AuditError) as caught:
            event(**{**_good_values(event), field: value})
        assert caught.value.code == "event_invalid"


@given(st.sampled_from(_TEXT_FIELDS), st.integers(min_value=129, max_value=5000))
def test_long_strings_are_refused_everywhere(place: tuple[type[AuditEvent], str], length: int) -> None:
    """Nothing longer than an identifier enters, so no text can be spelled out without spaces."""
    event, field = place
    for value in ("a" * length, ("a" * length,)):
        with pytest.raises(AuditError):
            event(**{**_good_values(event), field: value})


@pytest.mark.parametrize(
    ("event", "field", "value"),
    [
        pytest.param(PatientsListed, "count", -1, id="negative"),
        pytest.param(PatientsListed, "count", True, id="bool"),
        pytest.param(PatientsListed, "count", 1.0, id="float"),
        pytest.param(PatientsListed, "count", 2**53, id="beyond JSON"),
        pytest.param(UserCreated, "role", "surgeon", id="no such role"),
        pytest.param(PatientViewed, "patient", "11111111-2222-3333-4444-555555555555", id="not a pseudonym"),
        pytest.param(LoginFailed, "user_id", "", id="empty"),
        pytest.param(LoginFailed, "user_id", "name\n", id="line break at the end"),
        pytest.param(LoginFailed, "reason", "Wrong", id="no code"),
        pytest.param(LoginFailed, "reason", None, id="nothing"),
        pytest.param(GenerationDenied, "policies", ["a"], id="a list"),
        pytest.param(GenerationDenied, "policies", tuple(f"p{n}" for n in range(257)), id="too many"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(event: type[AuditEvent], field: str, value: object) -> None:
    """Each field takes only what its type says."""
    with pytest.raises(AuditError):
        event(**{**_good_values(event), field: value})


def test_the_refused_value_is_not_in_the_error() -> None:
    """An error about a field never repeats what was in it."""
    with pytest.raises(AuditError) as caught:
        LoginFailed(user_id="Jane Doe has a cough", reason="login_failed")
    assert "Jane" not in f"{caught.value!r} {caught.value.hint}"
    assert "user_id" in str(caught.value)


def test_enumerations_and_their_values_are_the_same() -> None:
    """A member and its value make the same event."""
    assert UserCreated(user_id="u", role=Role.AUDITOR).to_canonical() == b'{"role":"auditor","user_id":"u"}'
    values = _good_values(GenerationAuthorized)
    member = GenerationAuthorized(**{**values, "action": Action.DRAFT_NOTE})
    assert member.to_canonical() == GenerationAuthorized(**values).to_canonical()


def test_sets_are_sorted_and_without_repetitions() -> None:
    """The order in which policies fired does not change the bytes."""
    event = GenerationDenied(**{**_good_values(GenerationDenied), "policies": ("b", "a", "b")})
    assert event.policies == ("a", "b")


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        pytest.param("patients.listed", b'{"count": 1}', "event_invalid", id="white space"),
        pytest.param("patients.listed", b'{"count":1,"count":1}', "event_invalid", id="repeated key"),
        pytest.param("patients.listed", b'{"count":1,"note":"x"}', "event_invalid", id="one field more"),
        pytest.param("patients.listed", b"{}", "event_invalid", id="one field less"),
        pytest.param("patients.listed", b'{"count":1.0}', "event_invalid", id="float"),
        pytest.param("patients.listed", b'{"count":"1"}', "event_invalid", id="text"),
        pytest.param("patients.listed", b"[]", "event_invalid", id="list"),
        pytest.param("patients.listed", b"[" * 100_000, "event_invalid", id="deep"),
        pytest.param("patients.listed", b"\xff", "event_invalid", id="no text"),
        pytest.param("patients.listed", b'{"count":' + b"9" * 5000 + b"}", "event_invalid", id="huge number"),
        pytest.param("patients.counted", b'{"count":1}', "event_unknown", id="unknown name"),
    ],
)
def test_only_canonical_bytes_are_read(name: str, body: bytes, code: str) -> None:
    """Anything but the bytes that `to_canonical` writes is refused."""
    with pytest.raises(AuditError) as caught:
        from_canonical(name, body)
    assert caught.value.code == code


def test_unsorted_sets_are_not_read() -> None:
    """A set has one written form: sorted."""
    body = GenerationDenied(**_good_values(GenerationDenied)).to_canonical()
    assert json.loads(body)["policies"] == ["a", "b"]
    with pytest.raises(AuditError):
        from_canonical("generation.denied", body.replace(b'"policies":["a","b"]', b'"policies":["b","a"]'))


# --- the quick look that verification takes ---------------------------------------------------------------


def _is_read(name: str, body: bytes) -> bool:
    try:
        from_canonical(name, body)
    except AuditError:
        return False
    return True


@pytest.mark.parametrize("event", _EVERY)
def test_what_is_written_is_known_at_once(event: type[AuditEvent]) -> None:
    """No event that is written in the usual way needs to be read to be known as canonical."""
    assert is_canonical(event.name.encode(), event(**_good_values(event)).to_canonical())


@pytest.mark.parametrize("event", _EVERY)
def test_the_quick_look_takes_no_changed_byte_that_reading_refuses(event: type[AuditEvent]) -> None:
    """Each byte in turn taken out, doubled or made another: never taken at once where `from_canonical` refuses."""
    body = event(**_good_values(event)).to_canonical()
    changed = [body[:at] + new + body[at + 1 :] for at in range(len(body)) for new in _instead(body[at])]
    wrong = [each for each in changed if is_canonical(event.name.encode(), each) and not _is_read(event.name, each)]
    assert len(changed) >= 12 * len(body)
    assert wrong == []


def _instead(byte: int) -> list[bytes]:
    return [b"", bytes([byte, byte]), *(bytes([byte ^ 1 << bit]) for bit in range(8)), b"\n", b'"', b"\\u0061", b","]


@given(st.data())
def test_whatever_has_an_events_form_is_read(data: st.DataObject) -> None:
    """Of all the bytes that a form lets through, those that pass the quick look are canonical, none excepted."""
    name, form = data.draw(st.sampled_from(sorted(registry.FORMS.items())))
    body = data.draw(st.from_regex(form, fullmatch=True))
    assert not is_canonical(name, body) or _is_read(name.decode(), body)


@pytest.mark.parametrize("policies", [b'["b","a"]', b'["a","a"]', b'["a","c","b"]'])
def test_the_quick_look_sees_the_order_of_sets(policies: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set out of order is not taken; negative control: without that look it is, although reading refuses it."""
    body = GenerationDenied(**_good_values(GenerationDenied)).to_canonical()
    wrong = body.replace(b'"policies":["a","b"]', b'"policies":' + policies)
    assert not is_canonical(b"generation.denied", wrong)
    monkeypatch.setattr(registry, "_is_ordered", lambda _items: True)
    assert is_canonical(b"generation.denied", wrong)
    assert not _is_read("generation.denied", wrong)


@pytest.mark.parametrize("count", [10**15 - 1, 10**15, events.MAX_COUNT, events.MAX_COUNT + 1])
def test_counts_beyond_fifteen_digits_are_left_to_reading(count: int) -> None:
    """The form is narrower than the schema, never wider."""
    body = b'{"count":%d}' % count
    assert is_canonical(b"patients.listed", body) == (count < 10**15)
    assert _is_read("patients.listed", body) == (count <= events.MAX_COUNT)


def test_the_quick_look_knows_no_unknown_event() -> None:
    """What is not in the registry has no form."""
    assert not is_canonical(b"patients.counted", b'{"count":1}')
