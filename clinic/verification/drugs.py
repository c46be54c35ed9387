"""Drugs: which drugs a text names, and which names could be taken for one another.

Rules kept here:

* A drug is known by the table (`data/drugs.txt`), or by the ending that its kind of drug has (`-pril`, `-statin`, ...).
* Brand and generic name are one drug.
* Names are alike when few letters differ or they share their frame of consonants; alike is a warning, never the same.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from clinic.verification.passages import Heard, Reading
from clinic.verification.vocabulary import Term
from clinic.verification.words import fold, listed

_ENDINGS = re.compile(
    r"^[a-z]{2,}(?:pril|sartan|statin|olol|cillin|mycin|floxacin|cycline|prazole|conazole|nidazole|tidine|setron|triptan|"
    r"gliptin|gliflozin|glutide|gliptin|azepam|azolam|oxetine|ipramine|triptyline|lukast|terol|tropium|dipine|thiazide|"
    r"semide|parin|xaban|gatran|grel|mab|tinib|ciclib|vir|vudine|fenac|profen|coxib|barbital|caine|curonium|dronate|"
    r"fibrate|glitazone|idone|apine|piprazole|bactam|penem|sulfa|zosin|steride|afil|tretin|methasone|nisolone|olone)$"
)
_ORDINARY = listed("april idone elvir rapine anemone condone done alone zone phone")


def drug_keys(term: Term) -> frozenset[str]:
    """Return the keys of the drugs that a term names (none for other words)."""
    return frozenset(key for key in term.keys if key.startswith("+"))


def drugs(reading: Reading) -> tuple[tuple[Term, frozenset[str]], ...]:
    """Return every drug that `reading` names, known by table or by ending."""
    found = []
    for term in reading.terms:
        keys = drug_keys(term) or _by_ending(term, reading)
        if keys:
            found.append((term, keys))
    return tuple(found)


def _by_ending(term: Term, reading: Reading) -> frozenset[str]:
    word = reading.tokens[term.first].text
    if term.kind == "word" and word not in _ORDINARY and _ENDINGS.match(word):
        return frozenset({"+" + word})
    return frozenset()


def drugs_said(heard: Heard) -> dict[str, list[int]]:
    """Return the passages in which each drug was named."""
    said: dict[str, list[int]] = {}
    for passage in heard.passages:
        for _, keys in drugs(passage.reading):
            for key in keys:
                said.setdefault(key, []).append(passage.index)
    return said


def doubtful(heard: Heard) -> dict[str, str]:
    """Return the drugs that were only ever named by a second hearing, with what was heard first in their place."""
    first: dict[str, str] = {}
    sure: set[str] = set()
    if not any(word.heard_first for passage in heard.passages for word in passage.segment.words):
        return {}  # nearly always: the rest reads the whole transcript
    for passage in heard.passages:
        put = {_letters(word.text): word.heard_first for word in passage.segment.words if word.heard_first is not None}
        for term, keys in drugs(passage.reading):
            instead = put.get(_letters(passage.reading.tokens[term.first].text))
            if instead is None:
                sure |= keys
            else:
                first.update(dict.fromkeys(keys, instead))
    return {key: instead for key, instead in first.items() if key not in sure}


def _letters(text: str) -> str:
    return fold(text).strip(".,;:?! ")


_ALIKE = 0.72
_CLOSE = 0.82
_LEAST = 5


def sounds_like(name: str, heard: Heard) -> tuple[str, bool] | None:
    """Find what was said that sounds like `name`: the word, and whether it is only another spelling of it."""
    best, best_score = None, 0.0
    known = drugs_said(heard)
    for word in {t.text for p in heard.passages for t in p.reading.tokens if len(t.text) >= _LEAST}:
        score = likeness(name, word)
        if score > best_score or (score == best_score and best is not None and word < best):
            best, best_score = word, score
    if best is None or best_score < _ALIKE:
        return None
    other_drug = any(_said_as(best, heard, key) for key in known)
    if not other_drug and best_score < _CLOSE:
        return None
    return best, not other_drug


def _said_as(word: str, heard: Heard, key: str) -> bool:
    return any(
        p.reading.tokens[term.first].text == word
        for p in heard.passages
        for term, keys in drugs(p.reading)
        if key in keys
    )


def likeness(one: str, other: str) -> float:
    """Return how alike two names look and sound (0 to 1)."""
    one, other = one.lower(), other.lower()
    if not one or not other:
        return 0.0
    spelled = SequenceMatcher(None, one, other, autojunk=False).ratio()
    framed = SequenceMatcher(None, _frame(one), _frame(other), autojunk=False).ratio()
    begins = 1.0 if one[0] in _FIRST_LETTERS.get(other[0], other[0]) else _OTHER_BEGINNING
    return begins * max(spelled, 0.5 * (spelled + framed))


_OTHER_BEGINNING = 0.93  # names that begin otherwise are told apart more easily
_FIRST_LETTERS = {"c": "ck", "k": "ck", "f": "fp", "z": "zsx", "s": "sz", "x": "xz"}
_SOUNDS = (("ph", "f"), ("ck", "k"), ("c", "k"), ("z", "s"), ("x", "ks"), ("y", "i"), ("qu", "k"))


def _frame(word: str) -> str:
    for spelled, sound in _SOUNDS:
        word = word.replace(spelled, sound)
    return re.sub(r"[aeiouh]|(.)(?=\1)", "", word)
