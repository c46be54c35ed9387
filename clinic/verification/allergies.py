"""Allergies: the drugs to which an allergy was stated, and the drugs that are of one class with them.

Rules kept here:

* An allergy is stated in words (`allergic to penicillin`) or as the answer to the question for it.
* A relative's allergy, a denied one and one that was only asked about do not count.
* Drugs are of one class only by the table (`data/drug_classes.txt`) or the ending that its line names.
"""

from __future__ import annotations

from functools import lru_cache

from clinic.domain import DraftStatement
from clinic.verification.doses import bound
from clinic.verification.intents import Intent, mentioned
from clinic.verification.negation import Polarity, answer, sentences
from clinic.verification.passages import Heard, Passage, Reading, read
from clinic.verification.subjects import RELATIVES
from clinic.verification.vocabulary import Term, groups, table
from clinic.verification.words import fold, stem

_ALLERGY = groups("allergy")
_BARE = 4
_NEAR = 3
_NOT_FOR = frozenset({"for", "take", "taking", "use", "using"})  # `what do you take for your allergies?`
_ALSO_DRUGS = frozenset({"penicillin", "tetracycline"})
_SETTLED = frozenset({Polarity.AFFIRMED, Polarity.DOUBTED})


@lru_cache(maxsize=1)
def _classes() -> tuple[tuple[str, str, frozenset[str]], ...]:
    """Return name, ending and drugs of each class."""
    rows = []
    for line in table("drug_classes.txt"):
        head, _, members = line.partition(":")
        name, _, ending = head.partition(" -")
        drugs = {"+" + m.strip() for m in members.split("|")}
        rows.append((name.strip(), ending.strip(), frozenset({"+" + name.strip(), *drugs})))
    return tuple(rows)


def kin(key: str) -> frozenset[str]:
    """Return the classes of a drug; without one, the drug itself."""
    of = {name for name, ending, drugs in _classes() if key in drugs or (ending and key.endswith(ending))}
    return frozenset(of or {key})


def classes_named(keys: frozenset[str]) -> frozenset[str]:
    """Return the classes of drugs that a word names (`macrolides`); not `penicillin`, which is a drug as well."""
    words = {key.lstrip("=+") for key in keys}
    return frozenset(name for name, _, _ in _classes() if words & {name, stem(name)} and name not in _ALSO_DRUGS)


def related(some: frozenset[str], others: frozenset[str]) -> str | None:
    """Return the first of `others` that is the same drug as one of `some`, or of one class with it."""
    classes = {c for key in some for c in kin(key)}
    return next((key for key in sorted(others) if key in some or kin(key) & classes), None)


def allergies_noted(draft: DraftStatement) -> frozenset[str]:
    """Return the drugs to which a statement of a note states an allergy."""
    return allergies_in(read(draft.text), listed=fold(draft.section).strip().startswith("allerg"))


def allergies_in(reading: Reading, *, listed: bool = False) -> frozenset[str]:
    """Return the drugs to which a text states an allergy; `listed`: it stands under that heading."""
    found: set[str] = set()
    for mention in mentioned(reading):
        stated = mention.intent is Intent.ALLERGY or (listed and mention.intent is None and not mention.cue)
        if stated and not mention.supposed and mention.polarity in _SETTLED and not _of_relative(reading, mention.term):
            found |= mention.keys
    return frozenset(found | _of_class(reading))


def _of_class(reading: Reading) -> set[str]:
    """Classes to which an allergy is stated (`allergic to cephalosporins`, `cephalosporin allergy`)."""
    found: set[str] = set()
    names = {stem(name): "+" + name for name, _, _ in _classes()}
    pairs = list(zip(reading.terms, reading.polarities, strict=True))
    stated = [t for t, p in pairs if t.keys & _ALLERGY and p is Polarity.AFFIRMED]
    for term, polarity in pairs:
        named = {names[k.lstrip("=+")] for k in term.keys if k.lstrip("=+") in names}
        if not named or polarity is not Polarity.AFFIRMED or _of_relative(reading, term):
            continue
        if any(_links(reading, allergy, term) for allergy in stated):
            found |= named
    return found


def _links(reading: Reading, allergy: Term, term: Term) -> bool:
    between = [t.text for t in reading.tokens[allergy.last + 1 : term.first]]
    if allergy.last < term.first:
        return len(between) <= _NEAR and bool({"to", ":"} & set(between[:2]))
    return 0 < allergy.first - term.last <= 1


def _of_relative(reading: Reading, term: Term) -> bool:
    first = next((f for f, last in sentences(reading.tokens) if f <= term.first <= last), 0)
    before = [t.last for t in reading.terms if first <= t.first < term.first and t.keys & RELATIVES]
    between = {reading.tokens[i].text for i in range(before[-1], term.first)} if before else set()
    return bool(before) and not between & {"i", "i'm", "i've", "you", "me", "you're"}


def allergies_said(heard: Heard) -> frozenset[str]:
    """Return the drugs to which an allergy was stated in a transcript."""
    found: set[str] = set()
    for passage in heard.passages:
        found |= allergies_in(passage.reading)
        if _asks(passage):
            found |= _answered(heard, passage.index)
    return frozenset(found)


def _asks(passage: Passage) -> bool:
    """Whether a passage ends with the question for allergies."""
    tokens = passage.reading.tokens
    if not tokens or not passage.keys & _ALLERGY:
        return False
    first, last = sentences(tokens)[-1]
    if tokens[last].text != "?" and passage.answered_in is None:
        return False
    at = [t.first for t in passage.reading.terms if first <= t.first <= last and t.keys & _ALLERGY]
    return bool(at) and not any(t.text in _NOT_FOR for t in tokens[first : at[0]])


def _answered(heard: Heard, index: int) -> frozenset[str]:
    """The drugs that the answer names (`Yes.` `Penicillin.`), unless it says that they are taken."""
    for passage in heard.passages[index + 1 : index + 3]:
        text = fold(passage.reading.text)
        if answer(text) is Polarity.DENIED or text.rstrip().endswith("?"):
            break
        dosed = {key for b in bound(passage.reading) for key in b.keys}
        named = {
            key
            for m in mentioned(passage.reading)
            if m.intent in {None, Intent.ALLERGY} and m.polarity is Polarity.AFFIRMED
            for key in m.keys - dosed
        }
        if named or len(passage.reading.tokens) > _BARE:
            return frozenset(named)
    return frozenset()
