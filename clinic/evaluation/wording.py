"""Words said against words heard: errors in all words, in medical words, in names of drugs.

Rules kept here:

* Both sides go through the same normaliser (Whisper's own), so that `Dr.` and `doctor`, `38.4` and `thirty-eight point
  four` are one; what it is known to get wrong is mended before it sees the text (`_MENDED`).
* A name of a drug counts as heard only where all of its words were; that another drug was heard is told apart.
* Only counts leave here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from clinic.errors import ConfigError
from clinic.verification.drugs import drugs
from clinic.verification.passages import Reading, read

MEDICAL = frozenset({"drug", "symptom", "condition", "test"})
"""Kinds of terms (`clinic.verification.vocabulary`) whose words are medical words."""

_DIGIT = r"(?:\d|oh\b|zero|one|two|three|four|five|six|seven|eight|nine|point|double)"
_MENDED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"[\u2018\u2019\u02bc]", "'"),  # "I\u2019m" would become "i m", and "I'm" "i am"
        (rf"(?<![\w'])o+h+(?![\w'])(?!\s+{_DIGIT})", " "),  # "oh" would become 0; in "one oh two" it is
        (r"(?<=\d)\s*/\s*(?=\d)", " over "),  # "140/90" would become "140 90"
        (r"(\d+)'\s*(\d+)(?:\"|'')?", r"\1 feet \2 "),
        (r"(?<![a-z])(?:pounds?|lbs?)\b\.?", " lb "),  # "135 pounds" would become 135 pounds sterling
        (r"(?<![a-z])(?:milligram(?:me)?s?|mgs?)\b\.?", " mg "),
        (r"(?<![a-z])(?:microgram(?:me)?s?|mcgs?|[\u00b5\u03bc]g)\b\.?", " mcg "),
        (r"(?<![a-z])(?:millilit(?:er|re)s?|mls?)\b\.?", " ml "),
        (r"\u00b0\s*[CF]?\b|\u00b0", " degrees "),
        (r"\bokay\b", "ok"),
    )
)  # fmt: skip


def words(text: str) -> list[str]:
    """Return the words of a text, normalised."""
    for pattern, replacement in _MENDED:
        text = pattern.sub(replacement, text)
    return _normaliser()(text).split()


@lru_cache(maxsize=1)
def _normaliser() -> Callable[[str], str]:
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError:
        raise _no_packages() from None
    normalise: Callable[[str], str] = EnglishTextNormalizer()
    return normalise


@dataclass
class WordErrors:
    """Counts over some recordings; a rate is errors by the words that were said."""

    said: int = 0
    substituted: int = 0
    left_out: int = 0
    added: int = 0
    medical_said: int = 0
    medical_wrong: int = 0
    drugs_said: int = 0
    drugs_missed: int = 0
    drugs_as_another: int = 0
    drugs_added: int = 0
    missed: Counter[str] = field(default_factory=Counter)
    """Names of drugs that were missed, from the reference: names, never sentences."""

    def add(self, other: WordErrors) -> None:
        """Add the counts of another recording."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def result(self) -> dict[str, object]:
        """Return the counts and rates, in the shape of `clinic eval speech --json`."""
        return {
            "words": self.said,
            "substituted": self.substituted,
            "left_out": self.left_out,
            "added": self.added,
            "wer": rate(self.substituted + self.left_out + self.added, self.said),
            "medical_words": self.medical_said,
            "medical_wrong": self.medical_wrong,
            "medical_wer": rate(self.medical_wrong, self.medical_said),
            "drugs": self.drugs_said,
            "drugs_missed": self.drugs_missed,
            "drugs_as_another": self.drugs_as_another,
            "drugs_added": self.drugs_added,
            "drug_error": rate(self.drugs_missed, self.drugs_said),
            "missed": dict(sorted(self.missed.items())),
        }


def rate(errors: float, of: float) -> float | None:
    """Return a rate to four places; None where there is nothing to count."""
    return round(errors / of, 4) if of else None


def compare(reference: str, heard: str) -> WordErrors:
    """Count what was heard wrong.

    Raises:
        ConfigError: `evaluation_missing` if the packages for it are not installed.
    """
    said, got = words(reference), words(heard)
    found = _Found(said, got)
    pairs = _aligned(said, got)
    counts = WordErrors(said=len(said), medical_said=len(found.medical_said), drugs_said=len(found.drugs_said))
    for kind, at, to in pairs:
        counts.substituted += kind == "substitute"
        counts.left_out += kind == "delete"
        counts.added += kind == "insert"
        if kind != "equal":
            counts.medical_wrong += at in found.medical_said if at is not None else to in found.medical_heard
    _count_drugs(counts, found, pairs)
    return counts


_Pair = tuple[str, int | None, int | None]


def _count_drugs(counts: WordErrors, found: _Found, pairs: list[_Pair]) -> None:
    right = {at: to for kind, at, to in pairs if kind == "equal" and at is not None}
    instead = {at: to for kind, at, to in pairs if kind == "substitute" and at is not None}
    explained: set[int | None] = set()
    for span in found.drugs_said:
        if all(at in right for at in span):
            explained.update(right[at] for at in span)
            continue
        counts.drugs_missed += 1
        counts.missed[" ".join(found.said[at] for at in span)] += 1
        others = {instead.get(at) for at in span} & {to for other in found.drugs_heard for to in other}
        counts.drugs_as_another += bool(others)
        explained.update(instead.get(at, right.get(at)) for at in span)
    counts.drugs_added += sum(not explained & set(span) for span in found.drugs_heard)


class _Found:
    """Where the medical words and the drugs stand, on both sides."""

    def __init__(self, said: list[str], heard: list[str]) -> None:
        self.said = said
        one, other = _Places(said), _Places(heard)
        self.medical_said, self.medical_heard = one.medical(), other.medical()
        self.drugs_said, self.drugs_heard = one.drugs(), other.drugs()


class _Places:
    def __init__(self, said: list[str]) -> None:
        text = " ".join(said)
        self.reading: Reading = read(text)
        self.index = [i for i, word in enumerate(said) for _ in range(len(word) + 1)]

    def _span(self, start: int, end: int) -> tuple[int, ...]:
        return tuple(sorted(set(self.index[start:end])))

    def medical(self) -> frozenset[int]:
        terms = [t for t in self.reading.terms if t.kind in MEDICAL]
        return frozenset(i for t in terms for i in self._span(t.start, t.end)) | {i for s in self.drugs() for i in s}

    def drugs(self) -> list[tuple[int, ...]]:
        return [self._span(term.start, term.end) for term, _ in drugs(self.reading)]


def _aligned(said: list[str], heard: list[str]) -> list[_Pair]:
    """Pair the words of both sides; None where a side has none."""
    if not said:
        return [("insert", None, to) for to in range(len(heard))]
    try:
        import jiwer
    except ImportError:
        raise _no_packages() from None
    pairs: list[_Pair] = []
    for chunk in jiwer.process_words(" ".join(said), " ".join(heard)).alignments[0]:
        at, to = range(chunk.ref_start_idx, chunk.ref_end_idx), range(chunk.hyp_start_idx, chunk.hyp_end_idx)
        if chunk.type == "insert":
            pairs += [(chunk.type, None, i) for i in to]
        elif chunk.type == "delete":
            pairs += [(chunk.type, i, None) for i in at]
        else:
            pairs += [(chunk.type, i, j) for i, j in zip(at, to, strict=True)]
    return pairs


def _no_packages() -> ConfigError:
    return ConfigError(
        "the packages for measuring speech are not installed",
        code="evaluation_missing",
        hint="`make setup` installs them; elsewhere: the extra `eval`",
    )
