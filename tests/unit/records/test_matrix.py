"""Every sealed value that there is, put into every other place that there is: none opens.

Fields of the records and sealed parts of the audit log alike: a part belongs to one entry of one log, and one patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations

import pytest

from clinic.audit.details import associated_data
from clinic.crypto import envelope
from clinic.crypto.aead import open_blob, seal_blob
from clinic.crypto.envelope import FieldContext, open_sealed
from clinic.errors import DecryptionError
from clinic.records import sealed
from clinic.records.records import Records
from clinic.records.sealed import DEK_VERSION
from tests.unit.records.test_sealed import SEALED, fill, read_everything, staff


@dataclass(frozen=True)
class AuditPlace:
    """Where a sealed part of the audit log belongs."""

    origin: str
    seq: int
    event: str
    patient_id: str


Place = FieldContext | AuditPlace


@dataclass(frozen=True)
class Kept:
    """A sealed value as the program opened it: under which key, and where."""

    key: bytes
    blob: bytes
    place: Place


@pytest.fixture
def everything(records: Records, monkeypatch: pytest.MonkeyPatch) -> list[Kept]:
    """Fill all tables for two patients and the staff; return every sealed value of tables and log."""
    fill(records)
    fill(records, number="MRN-2")
    staff(records)
    seen: dict[FieldContext, Kept] = {}

    def opened(key: bytes, blob: bytes, context: FieldContext) -> bytes:
        seen[context] = Kept(key, bytes(blob), context)
        return open_sealed(key, blob, context)

    monkeypatch.setattr(sealed, "open_sealed", opened)
    read_everything(records)
    keys = {place.patient_id: each.key for place, each in seen.items() if place.table == "patients"}
    return [*seen.values(), *audit_parts(records, keys)]


def audit_parts(records: Records, keys: dict[str, bytes]) -> Iterator[Kept]:
    """Yield the sealed parts of all entries about these patients."""
    for patient_id, key in keys.items():
        with records.read() as tx:
            entries = [entry for entry, _ in tx.about(patient_id, records.audit.entries())]
        for entry in entries:
            assert entry.sealed is not None
            yield Kept(key, entry.sealed, AuditPlace(records.audit.origin, entry.seq, entry.event, patient_id))


def neighbours(place: Place, patients: set[str]) -> Iterator[tuple[str, Place]]:
    """Yield the places that differ from a place in one thing."""
    for patient in patients - {place.patient_id}:
        yield "other patient", replace(place, patient_id=patient)
    if isinstance(place, FieldContext):
        for version in {place.row_version + 1, place.row_version - 1}:
            yield "other version", replace(place, row_version=version)
        return
    for seq in {place.seq + 1, place.seq - 1}:
        yield "other entry", replace(place, seq=seq)
    yield "other event", replace(place, event="patient.exported")
    yield "other log", replace(place, origin=f"{place.origin}x")


def moves(everything: list[Kept]) -> Iterator[tuple[str, Kept, bytes, Place]]:
    """Yield every wrong place for every value: what is wrong, the value, the key of the place, the place."""
    for value, other in permutations(everything, 2):
        yield "moved", value, other.key, other.place
        yield "moved, its key with it", value, value.key, other.place
    keys = {each.place.patient_id: each.key for each in everything}
    for value in everything:
        for what, place in neighbours(value.place, set(keys)):
            yield what, value, keys[place.patient_id], place
            yield f"{what}, its key with it", value, value.key, place


def opens(value: Kept, key: bytes, place: Place) -> bool:
    """Try."""
    try:
        if isinstance(place, FieldContext):
            open_sealed(key, value.blob, place)
        else:
            open_blob(key, value.blob, aad=bound(place), key_id=DEK_VERSION, what="a sealed part")
    except DecryptionError:
        return False
    return True


def bound(place: AuditPlace) -> bytes:
    """Return what the program binds a sealed part to."""
    return associated_data(
        origin=place.origin, seq=place.seq, event=place.event, patient_id=place.patient_id, key_id=DEK_VERSION
    )


def test_no_value_opens_in_any_other_place(
    everything: list[Kept], record_property: Callable[[str, object], None]
) -> None:
    """All sealed columns of the models and the log's parts are there; each opens in its place, and in no other."""
    fields = [each.place for each in everything if isinstance(each.place, FieldContext)]
    assert {f"{place.table}.{place.column}" for place in fields} == SEALED
    events = {each.place.event for each in everything if isinstance(each.place, AuditPlace)}
    assert {"patient.created", "patient.updated", "encounter.opened", "note.signed"} <= events
    assert all(opens(each, each.key, each.place) for each in everything)
    tried = [opens(value, key, place) for _, value, key, place in moves(everything)]
    record_property("wrong places", len(tried))
    record_property("values", len(everything))
    print(f"\n{len(fields)} fields, {len(everything) - len(fields)} audit parts, {len(tried)} wrong places")  # noqa: T201
    assert len(tried) > len(everything) * (len(everything) - 1)
    assert not any(tried)


def test_without_the_place_in_the_seal_they_would_open(everything: list[Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: sealed without their place, all values open wherever their key goes with them."""
    monkeypatch.setattr(envelope, "_associated_data", lambda _context, _key_id: b"")
    monkeypatch.setitem(globals(), "associated_data", lambda **_place: b"")
    loose = [replace(each, blob=seal_blob(each.key, b"x", aad=b"", key_id=DEK_VERSION)) for each in everything]
    with_key = [(value, key, place) for what, value, key, place in moves(loose) if "its key with it" in what]
    assert with_key
    assert all(opens(value, key, place) for value, key, place in with_key)
