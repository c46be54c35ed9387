"""Subjects: whether a condition is the patient's or a relative's.

Rules kept here:

* A condition that was said only of relatives is not the patient's; one that was never said of a relative is not theirs.
* A statement about a relative needs that one, or the family, spoken of near its evidence, or speaking.
* Headings that are about the family (`Family history`) need no relative in the statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from clinic.verification.negation import Polarity, sentences
from clinic.verification.passages import Heard, Mention, Reading
from clinic.verification.vocabulary import Term, groups
from clinic.verification.words import Token, fold, listed, stem

RELATIVES = groups(
    """mother, father, parents, brother, sister, grandmother, grandfather, grandparents, aunt, uncle, cousin, family,
    son, daughter, wife, husband"""
)
_FAMILY_HEADINGS = ("fam", "fh")


def relatives(reading: Reading) -> frozenset[str]:
    """Return the relatives that a text names."""
    return frozenset(key for term in reading.terms for key in term.keys & RELATIVES)


_OPENING = 3


def opens_with_relative(reading: Reading) -> bool:
    """Whether a statement is about a relative (`Mother has ...`), not only mentions one (`came with his mother`)."""
    return any(t.keys & RELATIVES and t.first < _OPENING for t in reading.terms)


_GENERAL = groups("parents, family")
_SUBJECT = 5


def unheard_relative(reading: Reading, heard: Heard, near: Iterable[int]) -> Term | None:
    """Return the relative that a statement is about (`The patient's brother has ...`) if nobody near spoke of one."""
    subject = next((t for t in reading.terms if t.keys & RELATIVES and t.first < _SUBJECT), None)
    if subject is None or any(_speaks_for_another(p.segment.speaker) for p in heard.passages):
        return None
    wanted = subject.keys | _GENERAL
    return None if any(heard.passages[i].keys & wanted for i in near) else subject


def _speaks_for_another(speaker: str | None) -> bool:
    return bool(speaker) and bool(
        re.search(r"family|guest|mother|father|parent|mom|dad|carer", speaker or "", re.IGNORECASE)
    )


_PATIENT = listed("patient pt")
_IN = listed("in of for with to by from and")


def belongs_to_patient(reading: Reading, term: Term) -> bool:
    """Whether a statement itself gives a term to `the patient` (`the patient died of a stroke`), and to no relative.

    The last one named before it in the sentence has it; where none is, the one named right after it (`stroke in the
    patient`).
    """
    tokens = reading.tokens
    first, last = next(((f, e) for f, e in sentences(tokens) if f <= term.first <= e), (0, len(tokens) - 1))
    named = {t.first: False for t in reading.terms if t.keys & RELATIVES}
    named |= {i: True for i, t in enumerate(tokens) if t.text in _PATIENT and not _owns(tokens, i)}
    before = [i for i in named if first <= i < term.first]
    if before:
        return named[max(before)]
    after = [i for i in named if term.last < i <= last]
    return bool(after) and named[min(after)] and bool(_IN & {t.text for t in tokens[term.last + 1 : min(after)]})


def _owns(tokens: tuple[Token, ...], at: int) -> bool:
    """Whether a word is a possessive (`the patient's mother`)."""
    return [t.text for t in tokens[at + 1 : at + 3]] == ["'", "s"] or tokens[at].text.endswith("'s")


DEATH = frozenset(stem(word) for word in ("died", "dead", "deceased", "dies"))
"""What nobody says of the patient who sits there."""


def about_family(section: str) -> bool:
    """Whether a heading says that the relatives are meant."""
    return fold(section).strip().startswith(_FAMILY_HEADINGS) or "family" in fold(section)


def only_of_relatives(term: Term, heard: Heard) -> bool:
    """Whether everything that affirms a condition says it of a relative."""
    stated = _stated(term, heard)
    return bool(stated) and all(_of_relative(m, heard) for m in stated)


def never_of_relatives(term: Term, heard: Heard) -> bool:
    """Whether a condition was affirmed, and in no place where a relative was spoken of."""
    stated = _stated(term, heard)
    return bool(stated) and not any(_near_relative(m, heard) for m in stated)


def _stated(term: Term, heard: Heard) -> list[Mention]:
    mentions = [m for key in term.keys for m in heard.mentions.get(key, ())]
    return [m for m in mentions if m.polarity in {Polarity.AFFIRMED, Polarity.ASKED}]


def _of_relative(mention: Mention, heard: Heard) -> bool:
    """Whether the sentence of a mention names a relative before it, and nobody says `I` in between."""
    reading = heard.passages[mention.passage].reading
    term = reading.terms[mention.term]
    first = next((f for f, last in sentences(reading.tokens) if f <= term.first <= last), 0)
    before = [t for t in reading.terms if first <= t.first < term.first]
    named = [t.last for t in before if t.keys & RELATIVES]
    if not named:
        return _answers_about_relative(mention, heard)
    between = {reading.tokens[i].text for i in range(named[-1], term.first)}
    return not between & {"i", "i'm", "i've", "you", "me", "your"}


_SHORT_REPLY = 9
_MYSELF = listed("i i'm i've me my you your yourself")


def _answers_about_relative(mention: Mention, heard: Heard) -> bool:
    """Whether a short reply without an `I` goes on about a relative (`And your father?` `A stroke.`)."""
    tokens = heard.passages[mention.passage].reading.tokens
    if len(tokens) > _SHORT_REPLY or any(t.text in _MYSELF for t in tokens):
        return False
    for passage in reversed(heard.passages[max(0, mention.passage - 2) : mention.passage]):
        if passage.keys & RELATIVES:
            return True
        if any(t.text in _MYSELF for t in passage.reading.tokens):
            return False
    return False


_AROUND = 3


def _near_relative(mention: Mention, heard: Heard) -> bool:
    around = heard.passages[max(0, mention.passage - _AROUND) : mention.passage + _AROUND + 1]
    return any(p.keys & RELATIVES for p in around)
