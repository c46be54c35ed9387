"""Every sealed value that there is, put into every other place that there is: none opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations

import pytest

from clinic.crypto import envelope
from clinic.crypto.envelope import FieldContext, open_sealed
from clinic.errors import DecryptionError
from clinic.records import sealed
from clinic.records.records import Records
from tests.unit.records.test_sealed import SEALED, fill, read_everything, staff


@dataclass(frozen=True)
class Kept:
    """A sealed value as the program opened it: under which key, and where."""

    key: bytes
    blob: bytes
    context: FieldContext


@pytest.fixture
def everything(records: Records, monkeypatch: pytest.MonkeyPatch) -> list[Kept]:
    """Fill all tables for two patients and the staff; return every sealed value that reading them opens."""
    fill(records)
    fill(records, number="MRN-2")
    staff(records)
    seen: dict[FieldContext, Kept] = {}

    def opened(key: bytes, blob: bytes, context: FieldContext) -> bytes:
        seen[context] = Kept(key, bytes(blob), context)
        return open_sealed(key, blob, context)

    monkeypatch.setattr(sealed, "open_sealed", opened)
    read_everything(records)
    return list(seen.values())


def moves(everything: list[Kept]) -> Iterator[tuple[str, Kept, bytes, FieldContext]]:
    """Yield every wrong place for every value: what is wrong, the value, the key of the place, the place."""
    for value, place in permutations(everything, 2):
        yield "moved", value, place.key, place.context
        yield "moved, its key with it", value, value.key, place.context
    keys = {each.context.patient_id: each.key for each in everything}
    for value in everything:
        here = value.context
        for version in {here.row_version + 1, here.row_version - 1}:
            yield "other version", value, value.key, replace(here, row_version=version)
        for patient in keys.keys() - {here.patient_id}:
            yield "other patient", value, keys[patient], replace(here, patient_id=patient)
            yield "other patient, its key with it", value, value.key, replace(here, patient_id=patient)


def opens(value: Kept, key: bytes, place: FieldContext) -> bool:
    """Try."""
    try:
        open_sealed(key, value.blob, place)
    except DecryptionError:
        return False
    return True


def test_no_value_opens_in_any_other_place(
    everything: list[Kept], record_property: Callable[[str, object], None]
) -> None:
    """All sealed columns of the models are there; every one opens in its place, and in no other."""
    assert {f"{each.context.table}.{each.context.column}" for each in everything} == SEALED
    assert all(opens(each, each.key, each.context) for each in everything)
    tried = [opens(value, key, place) for _, value, key, place in moves(everything)]
    record_property("wrong places", len(tried))
    record_property("values", len(everything))
    assert len(tried) > len(everything) * (len(everything) - 1)
    assert not any(tried)


def test_without_the_place_in_the_seal_they_would_open(everything: list[Kept], monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: sealed without their place, all values open wherever their key goes with them."""
    monkeypatch.setattr(envelope, "_associated_data", lambda _context, _key_id: b"")
    loose = [replace(each, blob=envelope.seal(each.key, b"x", each.context, key_id=1)) for each in everything]
    with_key = [(value, key, place) for what, value, key, place in moves(loose) if "its key with it" in what]
    assert with_key
    assert all(opens(value, key, place) for value, key, place in with_key)
