"""How hard a text is to read: the Flesch-Kincaid grade level.

Rules kept here:

* grade = 0.39 * words / sentences + 11.8 * syllables / words - 15.59 (Kincaid, Fishburne, Rogers and Chissom, 1975,
  "Derivation of new readability formulas for Navy enlisted personnel"): the year of a school in the United States.
* English only.  Syllables are counted by rule, not by dictionary: groups of vowels, a silent `e` left out.
* A number counts as one word of one syllable, as does an abbreviation without a vowel: both read harder than that.
* It measures length of words and sentences, nothing else: a low grade does not make a text understood.

Example:
    >>> round(grade(["The cat sat on the mat."]).grade, 1)
    -1.4
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[A-Za-z]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][A-Za-z]+)*|\d+(?:[.,/]\d+)*")
_GROUP = re.compile(r"[aeiouy]+")
_SPLIT = re.compile(r"(?<![tscxg])i[ao]|^rea(?=ct)|crea(?=t)|ea$|(?<!t)ie(?=n[ct]|t)|ui(?=d$|n)|[aeiouy](?=ing$)")
"""Two vowels beside each other that are two syllables."""
_SILENT = re.compile(
    r"(?<=[^aeiouy])e(?=(?:ly|ful|fully|less|ment|times)$)|(?<=[^aeiouyl])e$|(?<=[aeiouy]l)e$"
    r"|(?<=[^aeiouytd])ed$|(?<=[^aeiouysxzcgh])es$"
)
"""An `e` that is not heard."""
_SENTENCE_WORDS = 4
"""Fewer are an item of a list (`Penicillin.`): there is nothing to make shorter."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was counted of a text, and the grade; without a word the grade is 0."""

    sentences: int
    words: int
    syllables: int

    @property
    def grade(self) -> float:
        """The Flesch-Kincaid grade level."""
        if not self.words:
            return 0.0
        return 0.39 * self.words / max(self.sentences, 1) + 11.8 * self.syllables / self.words - 15.59


def grade(sentences: Sequence[str]) -> Reading:
    """Measure a text that is cut into sentences."""
    words = [_WORD.findall(sentence) for sentence in sentences]
    counted = [found for found in words if found]
    return Reading(
        sentences=len(counted),
        words=sum(map(len, counted)),
        syllables=sum(syllables(word) for found in counted for word in found),
    )


def hardest(sentences: Sequence[str], *, above: float, most: int = 3) -> tuple[str, ...]:
    """Return the sentences of four words or more whose own grade is above a limit, the hardest first."""
    read = [(grade([sentence]), sentence) for sentence in sentences]
    graded = sorted(((r.grade, s) for r, s in read if r.words >= _SENTENCE_WORDS and r.grade > above), reverse=True)
    return tuple(sentence for _, sentence in graded)[:most]


def syllables(word: str) -> int:
    """Count the syllables of a word; at least one."""
    plain = re.sub(r"[^a-z]", "", word.lower())
    heard = _SILENT.sub("", plain) if len(plain) > 3 else plain  # noqa: PLR2004 - `the`, `she`
    return max(1, len(_GROUP.findall(heard)) + len(_SPLIT.findall(heard)))
