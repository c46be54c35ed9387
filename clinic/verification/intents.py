"""Intents: whether a text gives a drug, withholds it, or names an allergy to it.

Rules kept here:

* The nearest word before the drug that says what is done with it decides (`avoid`, `prescribe`, `allergic to`); only
  where there is none, what follows it (`is contraindicated`, `was stopped`).
* A negated giving withholds; a negated withholding gives (`do not stop`).
* What is only asked or supposed has no intent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from clinic.verification.drugs import drugs
from clinic.verification.negation import Polarity, sentences
from clinic.verification.passages import Reading
from clinic.verification.vocabulary import Term
from clinic.verification.words import Token, listed


class Intent(StrEnum):
    """What is done with a drug."""

    GIVEN = "given"
    WITHHELD = "withheld"
    ALLERGY = "allergy"


@dataclass(frozen=True, slots=True)
class Mentioned:
    """One naming of a drug: what is done with it (None where that cannot be told) and which word says so."""

    term: Term
    keys: frozenset[str]
    polarity: Polarity
    intent: Intent | None
    cue: str
    supposed: bool = False  # under a condition (`if it bleeds, stop aspirin`)


_GIVING = listed(
    """prescribe prescribes prescribed prescribing start starts started starting restart take takes taking took taken
    continue continues continued continuing give gives giving given gave use uses using used commence commenced begin
    began begun keep keeps keeping kept initiate initiated receive received receives administer administered add added
    try"""
)
_WITHHOLDING = listed(
    """avoid avoids avoided avoiding stop stops stopped stopping discontinue discontinued discontinuing withhold
    withholds withheld withholding cease ceased quit hold holding held off contraindicated instead rather omit
    omitted decline declined"""
)
_ALLERGIES = listed("allergy allergies allergic anaphylaxis anaphylactic hypersensitivity hypersensitive")
_LINKS = listed("to : include includes including of is are against than except besides")
_NEGATORS = listed("not never cannot no without longer don't refuse refused refuses unable n't nor")
_SUPPOSED = listed("if unless whether might lest")
_ENDS = frozenset(";") | listed("but however although though")
_SPEAKERS = listed(
    """i we you he she they it i'm i'll i'd i've we'll we'd you'll he'll she'll so because which who will shall would
    can could may might"""
)
_AFTER = listed(
    """contraindicated avoided stopped discontinued withheld held omitted prescribed started given continued taken
    commenced initiated administered added"""
)
_WITHHELD_AFTER = listed("contraindicated avoided stopped discontinued withheld held omitted")
_CLOSE_BY = listed("off hold holding held")  # these withhold only what stands next to them
_REACH = 12
_NEGATES_WITHIN = 4
_LINKED_WITHIN = 3
_AFTER_REACH = 5
_OFF_REACH = 3


def mentioned(reading: Reading) -> tuple[Mentioned, ...]:
    """Return every drug that a text names, with what is done with it."""
    named = drugs(reading)
    if not named:
        return ()
    polarity = dict(zip(reading.terms, reading.polarities, strict=True))
    spans = sentences(reading.tokens)
    found = []
    for term, keys in named:
        first, last = next(((f, e) for f, e in spans if f <= term.first <= e), (0, len(reading.tokens) - 1))
        later = [t.first for t, _ in named if term.last < t.first <= last]
        intent, cue, at = _intent(reading.tokens, term, first, last, later)
        supposed = intent is not None and any(reading.tokens[j].text in _SUPPOSED for j in range(first, at))
        if polarity[term] in {Polarity.ASKED, Polarity.ASKED_NOT}:
            intent = None
        found.append(Mentioned(term, keys, polarity[term], intent, cue, supposed))
    return tuple(found)


_Found = tuple[Intent | None, str, int]
"""An intent, the word that says it, and where that stands."""


def _intent(tokens: tuple[Token, ...], term: Term, first: int, last: int, later: list[int]) -> _Found:
    if _allergy_follows(tokens, term, last, later):
        return Intent.ALLERGY, "allergy", term.first
    before = _before(tokens, term, first)
    return before if before is not None else _following(tokens, term, last, later)


def _allergy_follows(tokens: tuple[Token, ...], term: Term, last: int, later: list[int]) -> bool:
    """`Penicillin allergy`, `penicillin and sulfa allergies`."""
    for i in range(term.last + 1, last + 1):
        if tokens[i].text in _ALLERGIES:
            return True
        if tokens[i].text not in {"-", ",", "and", "or", "/"} and i not in later:
            return False
    return False


def _before(tokens: tuple[Token, ...], term: Term, first: int) -> _Found | None:
    for i in range(term.first - 1, max(first, term.first - _REACH) - 1, -1):
        word = tokens[i].text
        if word in _ENDS:
            return None
        intent = _cue(tokens, i, first, term)
        if intent is None:
            continue
        return intent, word, i
    return None


def _cue(tokens: tuple[Token, ...], at: int, first: int, term: Term) -> Intent | None:
    word = tokens[at].text
    between = [t.text for t in tokens[at + 1 : term.first]]
    if word in _ALLERGIES:
        linked = any(w in _LINKS for w in between[:_LINKED_WITHIN]) and not any(w in _SPEAKERS for w in between)
        return Intent.ALLERGY if linked else None
    if word in _WITHHOLDING and _withholds(word, between):
        return Intent.GIVEN if _negated(tokens, at, first) else Intent.WITHHELD
    if word in _GIVING:
        return Intent.WITHHELD if _negated(tokens, at, first, stopping=True) else Intent.GIVEN
    if word == "except" and any(t.text in _ALLERGIES for t in tokens[first:at]):
        return None  # `no allergies except penicillin`
    return Intent.WITHHELD if word in {"no", "without", "except"} and not between else None


def _withholds(word: str, between: list[str]) -> bool:
    """Whether a word that can withhold does (`instead of`, `off the`, not `instead` or `a day off` alone)."""
    if word in {"instead", "rather"}:
        return between[:1] in (["of"], ["than"])
    return word not in _CLOSE_BY or (len(between) <= _OFF_REACH and between[:1] != ["steady"])


def _negated(tokens: tuple[Token, ...], at: int, first: int, *, stopping: bool = False) -> bool:
    """Whether a verb is negated: by `not` before it, or (for a giving) by a stopping (`stopped taking`)."""
    words = [t.text for t in tokens[max(first, at - _NEGATES_WITHIN) : at]]
    while words and (any(e in _ENDS or e == "," for e in words)):
        words.pop(0)
    negations = sum(w in _NEGATORS or w.endswith("n't") for w in words)
    stops = stopping and bool(words) and words[-1] in _WITHHOLDING  # `stop taking`, not `stop one and start another`
    if "only" in words:
        return False
    return (min(negations, 1) + stops) % 2 == 1


def _following(tokens: tuple[Token, ...], term: Term, last: int, later: list[int]) -> _Found:
    for i in range(term.last + 1, min(last, term.last + _AFTER_REACH) + 1):
        word = tokens[i].text
        if word in _ENDS or word == "," or i in later:
            break
        if word in _AFTER:
            negated = any(t.text in _NEGATORS or t.text.endswith("n't") for t in tokens[term.last + 1 : i])
            return (Intent.WITHHELD if (word in _WITHHELD_AFTER) != negated else Intent.GIVEN), word, i
    return None, "", term.first


_THINGS = listed(
    """it that this them these those one both any medication medications medicine medicines meds pill pills tablet
    tablets antibiotic antibiotics"""
)
_THING_REACH = 3


def of_things(reading: Reading, intent: Intent) -> bool:
    """Whether a text gives or withholds something that it does not name (`stop it`, `do not take those`)."""
    tokens, named = reading.tokens, [term.first for term, _ in drugs(reading)]
    for first, last in sentences(tokens):
        if tokens[last].text == "?":
            continue
        for i in range(first, last + 1):
            word = tokens[i].text
            if word not in _GIVING and word not in _WITHHOLDING:
                continue
            before = tokens[max(first, i - _THING_REACH) : i] if word in _AFTER else ()
            around = (*before, *tokens[i + 1 : min(last + 1, i + 1 + _THING_REACH)])
            if not any(t.text in _THINGS for t in around) or any(i < j <= last for j in named):
                continue
            gives = word in _GIVING
            turned = _negated(tokens, i, first, stopping=gives)
            if (Intent.GIVEN if gives != turned else Intent.WITHHELD) is intent:
                return True
    return False
