"""The prefilter: the same matches as without it, wherever they are."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinic.policy.detectors import shapes
from clinic.policy.detectors.patterns import SIGNALS
from clinic.policy.detectors.prefilter import WIDEST, Folded, Sieve, alternatives

SIEVES = [sieve for signal in SIGNALS for sieve in signal.sieves]
SIEVES += [sieve for shape in (*shapes.DIRECT_SHAPES, *shapes.CONTEXT_SHAPES) for sieve in shape.sieves]
LITERALS = sorted({literal.strip("\b") for sieve in SIEVES for clause in sieve.clauses for literal in clause})
PIECES = st.sampled_from(
    [*LITERALS, "5", "12", "2024", "Ada", "Smith", ",", ".", ":", "-", "/", "the", "\u0130", "\u017f", "é"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=40), st.sampled_from([" ", " ", "", "\n", ". "]))
def test_filtering_changes_no_match(pieces: list[str], gap: str) -> None:
    """Of texts made of what the patterns look for, every pattern finds the same with and without the prefilter."""
    text = gap.join(pieces)
    folded = Folded(text)
    for sieve in SIEVES:
        found = [match.span() for match in sieve.finditer(text, folded)]
        assert found == [match.span() for match in sieve.pattern.finditer(text)], sieve.pattern.pattern


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        pytest.param(r"\bfo+ba[rz]\b", "foooobar bazfoobaz fobaz", id="repeats"),
        pytest.param(r"(?i)\b(?:ai|a\.i\.)\b", "AI or a.i. or aid", id="common first letter"),
        pytest.param(r"\d{3}-\d{2}", "123-45 and 999-88", id="digits"),
        pytest.param(r"x{2,}y", "xxxxy" + "." * 3000 + "xxy", id="unbounded"),
        pytest.param(r"(?:one|two) (?:three|four)(?= five)", "one four five, two three five", id="lookahead"),
        pytest.param(r"(?:2[0-4]\d|1?\d?\d)\.\d", "7.5 17.5 217.5 " * 40, id="optional beginnings"),
        pytest.param(r"\b(?:\+?44 )?0?7\d{3}", "+44 07123, 44 7123 and 07999", id="optional signs"),
        pytest.param(r"(?:[0-9a-f]{2}[:-]){2}[0-9a-f]{2}", "a: 0a:1b-2c " * 30, id="few signs"),
        pytest.param(r"ward(?=.{0,70}(?:now|today))", "ward " + "x" * 60 + " now", id="far lookahead"),
        pytest.param(r"\b(?:at|@) \w+", "she stays@ home, at home @ home", id="an edge before a sign"),
        pytest.param(r"aba", "abababa aba", id="overlapping places"),
        pytest.param(r"(?i)mark", "MAR\u212a", id="folded letters"),
    ],
)
def test_each_kind_of_pattern(pattern: str, text: str) -> None:
    """Each way of writing a pattern gives the same matches."""
    found = [match.span() for match in Sieve.of(pattern).finditer(text, Folded(text))]
    assert found == [match.span() for match in re.finditer(pattern, text)]
    assert found


def test_a_wrong_literal_would_be_noticed() -> None:
    """Negative control: a sieve that asks for what the pattern does not need misses the match."""
    wrong = Sieve(re.compile("abc"), (frozenset({"xyz"}),), 3)
    assert list(wrong.finditer("abc", Folded("abc"))) == []
    begun = Sieve(re.compile("abc"), (frozenset({"bc"}),), 3, begins=frozenset({"bc"}))
    assert list(begun.finditer("abc", Folded("abc"))) == []


def test_every_pattern_is_bounded() -> None:
    """No pattern can match more than a page: the time grows with the length of the text and nothing else."""
    assert [sieve.pattern.pattern for sieve in SIEVES if sieve.width > WIDEST] == []


def test_alternatives_are_split_outside_brackets_only() -> None:
    """Bars in groups, classes and escapes stay."""
    assert list(alternatives(r"a(?:b|c)|[|(]d|e\||f")) == [r"a(?:b|c)", r"[|(]d", r"e\|", "f"]


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(), max_size=200))
def test_folding_keeps_places(text: str) -> None:
    """A folded text is as long as the text, or literals would be found beside their place."""
    assert len(Folded(text).text) == len(text)


def test_folding_keeps_places_for_every_character() -> None:
    """No single character folds to more or less than one."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if not character.isascii():
            assert len(Folded(character).text) == 1, hex(code)
