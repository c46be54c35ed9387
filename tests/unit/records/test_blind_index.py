"""Finding record numbers without storing them."""

from __future__ import annotations

import pytest

from clinic.domain import OPERATOR
from clinic.errors import RecordError
from clinic.records import work as work_module
from clinic.records.blind_index import BlindIndex, normalise
from clinic.records.patients import PatientData
from clinic.records.records import Records

KEY = b"k" * 32


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        pytest.param("mrn 4711", "MRN-4711", id="case, blanks, hyphens"),
        pytest.param("\uff2d\uff32\uff2e\uff14\uff17\uff11\uff11", "mrn4711", id="full width"),
        pytest.param("\u0664\u0667\u0661\u0661", "4711", id="Arabic digits"),
        pytest.param("STRASSE 1", "stra\u00dfe1", id="sharp s"),
    ],
)
def test_spellings_of_one_number_are_one(typed: str, stored: str) -> None:
    """What people type in different ways is the same number."""
    assert normalise(typed) == normalise(stored)
    assert BlindIndex(KEY, scope="s").bucket(typed) == BlindIndex(KEY, scope="s").bucket(stored)


def test_different_numbers_stay_different() -> None:
    """Leading zeros and letters count."""
    assert len({normalise(value) for value in ("4711", "04711", "A4711", "4711A")}) == 4


def test_values_collide_by_design() -> None:
    """A thousand numbers share at most 256 buckets, and use most of them."""
    buckets = {BlindIndex(KEY, scope="s").bucket(f"MRN-{n}") for n in range(1000)}
    assert 200 < len(buckets) <= 256
    assert max(buckets) <= 255


def test_key_and_scope_decide() -> None:
    """Another key, or another column, gives unrelated buckets."""
    numbers = [f"MRN-{n}" for n in range(100)]
    mine = [BlindIndex(KEY, scope="a").bucket(n) for n in numbers]
    for other in (BlindIndex(b"x" * 32, scope="a"), BlindIndex(KEY, scope="b")):
        same = sum(a == b for a, b in zip(mine, (other.bucket(n) for n in numbers), strict=True))
        assert same < 10


def test_repr_shows_no_key() -> None:
    """The index names its column only."""
    assert repr(BlindIndex(KEY, scope="a")) == "BlindIndex(a, bits=8)"


def test_collisions_neither_conflict_nor_mislead(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every number in one bucket, search finds the right patient and only true duplicates conflict."""
    one_bucket = BlindIndex(KEY, scope="patients.record_number", bits=0)
    monkeypatch.setattr(work_module.UnitOfWork, "record_number_index", lambda _: one_bucket)
    with records.write() as tx:
        for number in ("A1", "A2", "A3"):
            tx.patients.create(PatientData(f"Patient {number}", record_number=number), OPERATOR)
    with records.write() as tx:
        assert [tx.patients.data(found).record_number for found in tx.patients.find("a-2")] == ["A2"]
        with pytest.raises(RecordError) as caught:
            tx.patients.create(PatientData("Other", record_number="a 3"), OPERATOR)
    assert caught.value.code == "record_conflict"
