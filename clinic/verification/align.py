"""Alignment: which segments support a statement, and how much of it.

Rules kept here:

* A statement is covered term by term; telling terms (a drug, a symptom, a number) weigh more than common words.
* Segments are taken greedily while each adds something; the answer to a question comes with it.
* What the model cited only breaks ties between segments that fit: it is checked, never trusted.
* Seconds are those of the matching words; of the whole segment where words have no times; None without times.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from clinic.domain import Evidence, Segment
from clinic.verification.allergies import allergies_in
from clinic.verification.negation import Polarity, answer
from clinic.verification.passages import Heard, Pair, Passage, Reading, is_clinician, pairs, prefix, read
from clinic.verification.units import Quantity, same
from clinic.verification.vocabulary import QUANTITY_WEIGHT, Term, weight
from clinic.verification.words import fold, listed

_PARTIAL = 0.6
_LEAST_CONTENT = 0.75
_MOST_SEGMENTS = 4
_LEAST_GAIN = 0.13
_LEAST_COVER = 0.08
_LEAST_SHARED = 0.3
SHORT_REPLY = 12
"""Tokens of a reply that may be nothing but a number."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement, read; `items` are its terms and quantities with their weights."""

    reading: Reading
    section: str
    terms: tuple[tuple[int, float], ...]  # index of the term, weight
    quantities: tuple[Quantity, ...]
    cited: tuple[str, ...]
    pairs: frozenset[Pair]

    @property
    def text(self) -> str:
        """The text that was read: the statement, with its heading before it where it says too little alone."""
        return self.reading.text


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where a statement is supported: passages, best first, and the share of its weight that they cover."""

    passages: tuple[int, ...]
    coverage: float
    missing: tuple[Term, ...]  # terms that the passages do not hold


def claim(text: str, *, section: str, cited: tuple[str, ...], heard: Heard) -> Claim:
    """Read a statement.  One that says too little by itself (`None.`) is read with its heading (`Allergies none.`)."""
    made = _claim(text, section, cited, heard)
    section = _HEADINGS.get(fold(section).strip(" :"), section)
    if not made.quantities and section and sum(weight(made.reading.terms[i]) for i, _ in made.terms) < _LEAST_CONTENT:
        return _claim(f"{section} {text}", section, cited, heard)
    return made


_HEADINGS = {
    "pastmedicalhx": "past medical history", "pmh": "past medical history", "pmhx": "past medical history",
    "pastsurgical": "surgeries", "psh": "surgeries", "fam/sochx": "family history", "fh": "family history",
    "fhx": "family history", "sh": "social history", "allergy": "allergies", "nkda": "allergies",
    "cc": "chief complaint", "gynhx": "periods", "dh": "medications", "dhx": "medications",
}  # fmt: skip


def _claim(text: str, section: str, cited: tuple[str, ...], heard: Heard) -> Claim:
    reading = _stated(read(text))
    counted = reading.counted
    open_terms = [(i, t) for i, t in enumerate(reading.terms) if t.first not in counted]
    weighed = [(i, weight(t) * heard.rarity(t.keys)) for i, t in open_terms if weight(t)]
    if not reading.quantities and sum(w for _, w in weighed) < _LEAST_CONTENT:
        # Nothing but small words (`She just could not.`): then the small words are what there is to find.
        weighed = [(i, max(weight(t), _SMALL_WORD)) for i, t in open_terms if not t.keys & _PRONOUNS]
    return Claim(reading, section, tuple(weighed), reading.quantities, cited, pairs(reading))


_TOLD = {Polarity.ASKED: Polarity.AFFIRMED, Polarity.ASKED_NOT: Polarity.DENIED}


def _stated(reading: Reading) -> Reading:
    """A note asks nothing, unless it says so with a question mark: `reports any pain` states it."""
    if reading.text.rstrip().endswith("?") or reading.text.lstrip().startswith("?"):
        return reading
    return replace(reading, polarities=tuple(_TOLD.get(p, p) for p in reading.polarities))


_SMALL_WORD = 0.1
_PRONOUNS = listed("i me my mine you your he him his she her it its we us our they them their")


def align(made: Claim, heard: Heard) -> Alignment:
    """Find the passages that support a claim."""
    process = _of_process(made, heard)
    if process:
        return Alignment(process, 1.0, ())
    columns = [_said(made.reading.terms[i], heard) for i, _ in made.terms]
    columns += [_counted(q, heard) for q in made.quantities]
    weights = [w for _, w in made.terms] + [QUANTITY_WEIGHT] * len(made.quantities)
    search = _Search(made, heard, columns, weights)
    chosen, covered = search.run()
    share = sum(c * w for c, w in zip(covered, weights, strict=True)) / search.total if search.total else 0.0
    missing = tuple(
        made.reading.terms[i] for (i, _), c in zip(made.terms, covered[: len(made.terms)], strict=True) if c == 0.0
    )
    return Alignment(_with_answers(chosen, made, heard), share, missing)


_AGREES = re.compile(
    r"\b(?:understands?|understanding|understood|agree[sd]?|agreeable|agreement|amenable|happy with|accept(?:s|ed)?)\b"
    r".*\b(?:plan|treatment|recommend\w*|management|above|understanding|this)\b"
)
_QUESTIONS = re.compile(r"\bquestions?\b.*\b(?:answered|addressed|invited|encouraged)\b")
_ASSENT = re.compile(
    r"\b(?:ok|okay|sounds? (?:good|great|fine|okay|like a plan)|sure|(?:all|al)right|perfect|great"
    r"|i (?:understand|agree)"
    r"|that's (?:fine|okay|good)|will do|got it|i can do that|thank you|thanks|yes|yeah|wonderful)\b"
)
_MOST_OF_PROCESS = 16
_LAST_PART = 2 / 3


def _of_process(made: Claim, heard: Heard) -> tuple[int, ...]:
    """The passages behind `the patient agrees with the plan` and `questions were answered`: an assent, and a question.

    A statement that says more than that (names a drug, a symptom, a number) is no such statement.
    """
    reading = made.reading
    telling = any(t.clinical or t.kind in {"drug", "body", "relative"} for t in reading.terms)
    if telling or reading.quantities or len(reading.tokens) > _MOST_OF_PROCESS:
        return ()
    text, found = fold(made.text), []
    if _AGREES.search(text):
        found.append(_last(heard, _assents))
    if _QUESTIONS.search(text):
        found.append(_last(heard, lambda p: "question" in p.keys))
    return tuple(i for i in found if i is not None) if None not in found else ()


def _assents(passage: Passage) -> bool:
    clinician = is_clinician(passage.segment.speaker)
    return (
        not clinician and bool(_ASSENT.search(fold(passage.segment.text))) and answer(passage.segment.text) is not _NO
    )


_NO = Polarity.DENIED


def _last(heard: Heard, fits: Callable[[Passage], bool]) -> int | None:
    """The last passage that fits, in the last part of the conversation, where plans are made."""
    first = int(len(heard.passages) * _LAST_PART)
    return next((p.index for p in reversed(heard.passages[first:]) if fits(p)), None)


def _said(term: Term, heard: Heard) -> dict[int, float]:
    """Return the passages that say what `term` says: 1 for the same, less for a part or a word of one family."""
    found: dict[int, float] = {}
    if not any(key.startswith("+") for key in term.keys):  # a drug is the same drug or another one
        names = term.parts | {prefix(key) for key in term.keys}
        for name in term.parts:
            found.update(dict.fromkeys(heard.holding.get(name, ()), _PARTIAL))
        for name in term.keys | names:
            found.update(dict.fromkeys(heard.touching.get(name, ()), _PARTIAL))
    for key in term.keys:
        found.update(dict.fromkeys(heard.holding.get(key, ()), 1.0))
    return found


def _counted(quantity: Quantity, heard: Heard) -> dict[int, float]:
    return {p.index: 1.0 for p in heard.passages if any(same(quantity, s) for s in p.reading.quantities)}


_STATED = 0.6


def _states_allergy(made: Claim, heard: Heard, candidates: list[int]) -> frozenset[int]:
    """The passages that state the allergy which an entry under that heading (`Penicillin.`) names."""
    if not fold(made.section).strip().startswith("allerg"):
        return frozenset()
    names = {key for t in made.reading.terms for key in t.keys}
    return frozenset(i for i in candidates if allergies_in(heard.passages[i].reading) & names)


class _Search:
    """The greedy cover of one claim."""

    def __init__(self, made: Claim, heard: Heard, columns: list[dict[int, float]], weights: list[float]) -> None:
        self.made, self.heard, self.columns, self.weights = made, heard, columns, weights
        self.total = sum(weights)
        self.candidates = sorted({i for column in columns for i in column})
        self.stating = _states_allergy(made, heard, self.candidates)
        self.rows = {i: [column.get(i, 0.0) for column in columns] for i in self.candidates}

    def run(self) -> tuple[list[int], list[float]]:
        chosen: list[int] = []
        covered = [0.0] * len(self.weights)
        while len(chosen) < _MOST_SEGMENTS:
            best, gain = self._best(covered, chosen)
            if best is None or gain < (_LEAST_GAIN if chosen else _LEAST_COVER) * self.total:
                break
            chosen.append(best)
            covered = [max(c, r) for c, r in zip(covered, self.rows[best], strict=True)]
        return chosen, covered

    def _best(self, covered: list[float], chosen: list[int]) -> tuple[int | None, float]:
        best, best_score, best_gain = None, 0.0, 0.0
        for i in self.candidates:
            gains = [w * max(r - c, 0.0) for r, c, w in zip(self.rows[i], covered, self.weights, strict=True)]
            gain = sum(gains)
            if gain <= 0 or i in chosen or (self._only_numbers(i) and not any(abs(i - j) <= 1 for j in chosen)):
                continue
            score = gain + self._likeness(i, chosen)
            if score > best_score + 1e-9:
                best, best_score, best_gain = i, score, gain
        return best, best_gain

    def _only_numbers(self, index: int) -> bool:
        """Whether a passage shares a number with the statement and nothing else that tells anything."""
        if len(self.heard.passages[index].reading.tokens) <= SHORT_REPLY:
            return False  # `How old are you?` / `Thirty eight.`
        words = len(self.made.terms)
        shared = sum(r * w for r, w in zip(self.rows[index][:words], self.weights, strict=False))
        return 0 < words < len(self.weights) and shared < _LEAST_SHARED

    def _likeness(self, index: int, chosen: list[int]) -> float:
        """Break ties: little else said, the same words in the same order, near a chosen segment, cited, an allergy."""
        passage = self.heard.passages[index]
        held = sum(r * w for r, w in zip(self.rows[index], self.weights, strict=True))
        precision = held / passage.load if passage.load else 0.0
        order = len(self.made.pairs & passage.pairs)
        near = any(abs(index - i) == 1 for i in chosen)
        cited = passage.segment.id in self.made.cited
        return (
            0.4 * min(precision, 1.0)
            + 0.12 * min(order, 5)
            + 0.15 * near
            + 0.3 * cited
            + _STATED * (index in self.stating)
        )


def _with_answers(chosen: list[int], made: Claim, heard: Heard) -> tuple[int, ...]:
    wanted = {key for i, _ in made.terms for key in made.reading.terms[i].keys}
    found = list(chosen)
    for i in chosen:
        passage = heard.passages[i]
        answered = passage.answered_in
        if answered is None or answered in found:
            continue
        settled = zip(passage.reading.terms, passage.reading.polarities, strict=True)
        if any(term.keys & wanted and polarity is not Polarity.ASKED for term, polarity in settled):
            found.append(answered)
    return tuple(found)


# --- seconds

_MARGIN = 0.2


def evidence(made: Claim, alignment: Alignment, heard: Heard) -> tuple[Evidence, ...]:
    """Return the evidence of an aligned claim, with the seconds of the matching words."""
    return tuple(_evidence(made, heard.passages[i]) for i in alignment.passages)


def _evidence(made: Claim, passage: Passage) -> Evidence:
    segment = passage.segment
    if segment.start is None or segment.end is None:
        return Evidence(segment=segment.id)
    span = _span(made, passage)
    times = _times(segment, *span) if span and segment.words else None
    start, end = times or (segment.start, segment.end)
    return Evidence(segment=segment.id, start=start, end=end)


def _span(made: Claim, passage: Passage) -> tuple[int, int] | None:
    """The stretch of the segment's text from the first matching word to the last."""
    keys = {key for i, _ in made.terms for key in made.reading.terms[i].keys | made.reading.terms[i].parts}
    places = [(t.start, t.end) for t in passage.reading.terms if (t.keys | t.parts) & keys and weight(t)]
    places += [(s.start, s.end) for s in passage.reading.quantities if any(same(q, s) for q in made.quantities)]
    if not places:
        return None
    return min(start for start, _ in places), max(end for _, end in places)


def _times(segment: Segment, start: int, end: int) -> tuple[float, float] | None:
    """Seconds of the words that lie in `text[start:end]`, a little margin around them, within the segment."""
    text = fold(segment.text)
    at = 0
    inside = []
    for word in segment.words:
        plain = fold(word.text.strip())
        place = text.find(plain, at) if plain else -1
        if place < 0:
            continue
        at = place + len(plain)
        if place < end and at > start:
            inside.append(word)
    if not inside or segment.start is None or segment.end is None:
        return None
    first, last = min(w.start for w in inside), max(w.end for w in inside)
    start_s = max(segment.start, first - _MARGIN)
    return start_s, max(start_s, min(segment.end, last + _MARGIN))
