"""What may be said in the sealed part of an entry: a closed schema, one form of bytes, and the place it is bound to."""

from __future__ import annotations

from typing import Any

import pytest

from clinic.audit.details import DecisionFacts, Detail, PatientLink, associated_data, detail_from_canonical
from clinic.audit.events import MAX_COUNT, MAX_SET
from clinic.errors import AuditError

FACTS = DecisionFacts.of({"consent": True, "count": 3, "rules": {"b", "a"}, "role": "clinician"})


@pytest.mark.parametrize("detail", [PatientLink("p1"), FACTS, DecisionFacts.of({})])
def test_details_come_back_from_their_own_bytes_only(detail: Detail) -> None:
    """One space more is refused."""
    data = detail.to_canonical()
    assert detail_from_canonical(data) == detail
    with pytest.raises(AuditError) as caught:
        detail_from_canonical(data.replace(b":", b": ", 1))
    assert caught.value.code == "detail_invalid"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"kind":"unknown"}',
        b'{"kind":"patient.link"}',
        b'{"kind":"patient.link","patient_id":"no id!"}',
        b'{"facts":{"x":"no id!"},"kind":"decision.facts"}',
        b'{"facts":{"x":-1},"kind":"decision.facts"}',
        b'{"facts":{"x":["b","a"]},"kind":"decision.facts"}',
        b'{"facts":{"X":true},"kind":"decision.facts"}',
        b'{"facts":{"x":null},"kind":"decision.facts"}',
        b"[" * 100_000,
    ],
)
def test_other_details_are_refused(data: bytes) -> None:
    """Unknown kinds, free text, numbers out of range, other orders."""
    with pytest.raises(AuditError) as caught:
        detail_from_canonical(data)
    assert caught.value.code == "detail_invalid"


@pytest.mark.parametrize(
    "facts", [(("b", True), ("a", True)), (("a", True), ("a", True)), tuple((f"f{n:03}", True) for n in range(129))]
)
def test_facts_have_one_order_and_a_limit(facts: tuple[tuple[str, bool], ...]) -> None:
    """Out of order, named twice, too many."""
    with pytest.raises(AuditError):
        DecisionFacts(facts)


def test_facts_are_read_by_name() -> None:
    """Sets become sorted tuples."""
    assert FACTS.as_dict() == {"consent": True, "count": 3, "role": "clinician", "rules": ("a", "b")}


def test_a_sealed_part_without_a_patient_is_a_mistake() -> None:
    """The patient is never left out of what binds a part to its entry; the bytes are those of FORMAT.md."""
    with pytest.raises(ValueError, match="patient"):
        associated_data(origin="o", seq=1, event="e", patient_id="", key_id=1)
    fields = (b"\x01", b"clinic.audit-detail", b"o", bytes(7) + b"\x02", b"e", b"p", b"\0\0\0\x01")
    expected = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    assert associated_data(origin="o", seq=2, event="e", patient_id="p", key_id=1) == expected


def test_the_base_class_is_no_detail() -> None:
    """Only its subclasses say something."""
    with pytest.raises(NotImplementedError):
        Detail().values()


@pytest.mark.parametrize(
    ("largest", "too_large"),
    [
        (MAX_COUNT, MAX_COUNT + 1),
        (tuple(f"r{n:05}" for n in range(MAX_SET)), tuple(f"r{n:05}" for n in range(MAX_SET + 1))),
    ],
)
def test_a_fact_has_a_limit(largest: Any, too_large: Any) -> None:
    """The largest count and the largest set are kept whole; one more is refused, and its value is not repeated."""
    assert detail_from_canonical(DecisionFacts.of({"x": largest}).to_canonical()) == DecisionFacts((("x", largest),))
    with pytest.raises(AuditError) as caught:
        DecisionFacts.of({"x": too_large})
    assert (caught.value.code, str(caught.value)) == ("detail_invalid", "fact number 1 does not hold what it must")


@pytest.mark.parametrize(
    "change",
    [{"origin": "p"}, {"seq": 2}, {"event": "f"}, {"patient_id": "q"}, {"key_id": 2}, {"origin": "oe", "event": ""}],
)
def test_every_part_of_the_place_is_bound(change: dict[str, Any]) -> None:
    """No two places have the same associated data, not even when a letter moves from one name to the next."""
    place: dict[str, Any] = {"origin": "o", "seq": 1, "event": "e", "patient_id": "p", "key_id": 1}
    assert associated_data(**place) == associated_data(**place)
    assert associated_data(**place | change) != associated_data(**place)
