"""Changes: what became of a draft, by statement and by word."""

from __future__ import annotations

import doctest
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinic.domain import Note, Statement, StatementStatus
from clinic.records import changes
from clinic.records.changes import Change, SpanKind, compare, decisions, distance

SUPPORTED, FLAGGED = StatementStatus.SUPPORTED, StatementStatus.FLAGGED
CONFIRMED, EDITED, REMOVED = StatementStatus.CONFIRMED, StatementStatus.EDITED, StatementStatus.REMOVED


def note(**statements: tuple[str, StatementStatus]) -> Note:
    """Return a note of one section."""
    made = (Statement(id=i, section="plan", text=text, status=status) for i, (text, status) in statements.items())
    return Note(template="soap", model="m", statements=tuple(made))


DRAFT = note(
    n1=("Rest for two days.", SUPPORTED),
    n2=("No fever.", FLAGGED),
    n3=("Take paracetamol 500 mg.", FLAGGED),
    n4=("Seen by the nurse.", SUPPORTED),
)
FINAL = note(
    n1=("Rest for two days.", SUPPORTED),
    n2=("No fever.", CONFIRMED),
    n3=("Take paracetamol 1 g twice.", EDITED),
    n4=("Seen by the nurse.", REMOVED),
    n5=("Return in a week.", SUPPORTED),
    n6=("Added and taken out.", REMOVED),
)


def test_each_end_is_told() -> None:
    """Kept, confirmed, edited, removed, added; what was added and taken out again stands in neither text."""
    found = compare([DRAFT, FINAL])
    ends = {s.id: s.change for s in found.statements}
    assert ends == {
        "n1": Change.KEPT, "n2": Change.CONFIRMED, "n3": Change.EDITED, "n4": Change.REMOVED, "n5": Change.ADDED,
    }  # fmt: skip
    assert [found.count(change) for change in Change] == [1, 1, 1, 1, 1]


def test_distance_is_the_sum_over_statements() -> None:
    """`500 mg.` becomes `1 g twice.` (2 replaced, 1 put in); removed and added statements count with all words."""
    found = compare([DRAFT, FINAL])
    assert [s.distance for s in found.statements] == [0, 0, 3, 4, 4]
    assert (found.distance, found.words_drafted, found.words_final) == (11, 14, 15)
    assert changes.ReviewCounts.of(found).model_dump() == {
        "kept": 1, "confirmed": 1, "edited": 1, "removed": 1, "added": 1,
        "edit_distance": 11, "words_drafted": 14, "words_signed": 15,
    }  # fmt: skip


def test_version_is_the_one_that_made_it_so() -> None:
    """A statement that was changed twice has the version of the second change; an untouched one the first."""
    middle = note(**{s.id: (s.text, s.status) for s in DRAFT.statements} | {"n3": ("Take aspirin.", EDITED)})
    found = {s.id: s.version for s in compare([DRAFT, middle, FINAL, FINAL]).statements}
    assert (found["n1"], found["n3"], found["n5"]) == (1, 3, 3)


def test_words_changed_back_are_no_change() -> None:
    """An edit that ends with the words of the draft is kept, at no distance."""
    edited, back = note(n1=("Rest.", EDITED)), note(n1=("Rest for two days.", EDITED))
    (only,) = compare([note(n1=("Rest for two days.", SUPPORTED)), edited, back]).statements
    assert (only.change, only.distance) == (Change.KEPT, 0)


def test_statement_that_is_missing_is_removed() -> None:
    """A statement of the draft that a version lacks altogether is not passed over."""
    (only,) = compare([note(n1=("Rest.", SUPPORTED)), note()]).statements
    assert (only.change, only.after, only.version) == (Change.REMOVED, None, 2)


def test_spans_hold_both_texts() -> None:
    """The words that stay and go are the draft, those that stay and come are the final text."""
    edited = next(s for s in compare([DRAFT, FINAL]).statements if s.id == "n3")
    assert [(span.kind.value, span.text) for span in edited.spans] == [
        ("same", "Take paracetamol"), ("out", "500 mg."), ("in", "1 g twice."),
    ]  # fmt: skip


def test_very_long_texts_are_replaced_as_a_whole() -> None:
    """What would take seconds to mark is shown as one text for the other; the distance is still told."""
    one = Statement(id="n1", section="plan", text="a b " * 600, status=SUPPORTED)
    two = one.model_copy(update={"text": "a c " * 600, "status": EDITED})
    (found,) = compare([Note(template="soap", model="m", statements=(s,)) for s in (one, two)]).statements
    assert [span.kind for span in found.spans] == [SpanKind.OUT, SpanKind.IN]
    assert found.distance == 600


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_spans_and_distance_of_any_two_texts(before: list[str], after: list[str]) -> None:
    """Spans give both texts back; the distance is never more than what the spans change, and zero for equals only."""
    one = Statement(id="n1", section="plan", text=" ".join(before), status=SUPPORTED)
    two = one.model_copy(update={"text": " ".join(after), "status": EDITED})
    (found,) = compare([Note(template="soap", model="m", statements=(s,)) for s in (one, two)]).statements
    for text, gone in ((before, SpanKind.IN), (after, SpanKind.OUT)):
        assert " ".join(s.text for s in found.spans if s.kind is not gone).split() == text
    assert found.distance <= max(len(before), len(after))
    assert (found.distance == 0) == (before == after)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_distance_is_the_least(length: int) -> None:
    """Against the definition itself, for all pairs of short texts."""

    def least(a: tuple[str, ...], b: tuple[str, ...]) -> int:
        if not a or not b:
            return len(a) + len(b)
        cost = least(a[1:], b[1:]) + (a[0] != b[0])
        return min(cost, least(a[1:], b) + 1, least(a, b[1:]) + 1)

    for one, other in product(product("ab", repeat=length), product("abc", repeat=3)):
        assert distance(one, other) == least(one, other)


def test_decisions_are_told_by_version() -> None:
    """Each version's own decisions, in words."""
    back = note(**{s.id: (s.text, s.status) for s in FINAL.statements} | {"n4": ("Seen by the nurse.", SUPPORTED)})
    told = [(d.version, d.what) for d in decisions([DRAFT, FINAL, back])]
    assert told == [(2, "confirmed"), (2, "edited"), (2, "removed"), (2, "added"), (2, "added"), (3, "put back")]


def test_example_holds() -> None:
    """The module's example is true."""
    assert doctest.testmod(changes).failed == 0
