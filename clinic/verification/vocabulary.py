"""Vocabulary: which words and phrases say the same thing.

Rules kept here:

* A phrase that is in the tables (`data/synonyms.txt`, `data/drugs.txt`) becomes one term with the keys of its groups;
  any other word is a term of its own, with its stem as key.
* Keys of groups start with `=` and of drugs with `+`, so they never collide with stems.
* The only reading done here is of the packaged tables, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from clinic.verification.words import BOILERPLATE, STOP_WORDS, Kind, Token, stem, tokenize

CLINICAL = frozenset({"symptom", "condition"})
"""Kinds of terms that state a clinical fact by themselves."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word or phrase: what it means (`keys`), what it touches on (`parts`), and where it stands."""

    keys: frozenset[str]
    parts: frozenset[str]
    kind: str
    first: int  # index of the first token
    last: int  # index of the last token
    start: int  # offsets in the text
    end: int
    narrow: str = ""  # the tier of the group in which it says more than the group does (`strep throat`), or nothing

    @property
    def clinical(self) -> bool:
        """Whether the term is a symptom or a condition."""
        return self.kind in CLINICAL


_WEIGHTS = {
    "drug": 2.0, "symptom": 1.5, "condition": 1.5, "test": 1.0, "act": 0.8, "social": 1.0, "relative": 1.0,
    "body": 0.8, "quality": 0.6, "function": 1.0, "other": 0.4, "word": 1.0, "frame": 0.12, "stop": 0.0, "number": 0.0,
}  # fmt: skip
QUANTITY_WEIGHT = 0.8
"""What a number counts for when a statement is aligned."""


def weight(term: Term) -> float:
    """Return how much a term tells, before rarity."""
    if any(key.startswith("+") for key in term.keys):
        return _WEIGHTS["drug"]
    return _WEIGHTS[term.kind]


@dataclass(frozen=True, slots=True)
class _Entry:
    keys: frozenset[str]
    parts: frozenset[str]
    kind: str
    narrow: str


_JOINTS = frozenset("-/&'")
_NUMBER = "number"
_FRAME = "frame"
_STOP = "stop"
_WORD = "word"
_NAME_BREAKERS = frozenset({"mr", "mrs", "ms", "dr"})
_FRAME_STEMS = frozenset(stem(w) for w in BOILERPLATE)


def terms(tokens: tuple[Token, ...]) -> tuple[Term, ...]:
    """Group `tokens` into terms: longest known phrases first, single words otherwise; marks are left out."""
    stems = [stem(t.text) if t.kind is Kind.WORD else t.text for t in tokens]
    found: list[Term] = []
    at = 0
    while at < len(tokens):
        if tokens[at].kind is Kind.MARK:
            at += 1
            continue
        term = _longest(tokens, stems, at) or _single(tokens, stems, at)
        found.append(term)
        at = term.last + 1
    return tuple(found)


def _longest(tokens: tuple[Token, ...], stems: list[str], at: int) -> Term | None:
    node = _trie()
    best: tuple[int, _Entry] | None = None
    i = at
    while i < len(tokens):
        if tokens[i].kind is Kind.MARK and tokens[i].text in _JOINTS and i > at:
            i += 1
            continue
        step = node.children.get(stems[i])
        if step is None:
            break
        node = step
        if node.entry is not None:
            best = (i, node.entry)
        i += 1
    if best is None:
        return None
    last, entry = best
    return Term(entry.keys, entry.parts, entry.kind, at, last, tokens[at].start, tokens[last].end, entry.narrow)


def _single(tokens: tuple[Token, ...], stems: list[str], at: int) -> Term:
    token, root = tokens[at], stems[at]
    if token.kind is Kind.NUMBER:
        kind = _NUMBER
    elif token.text in STOP_WORDS or len(token.text) == 1:
        kind = _STOP
    elif root in _FRAME_STEMS:
        kind = _FRAME
    else:
        kind = _WORD
    return Term(frozenset({root}), frozenset(), kind, at, at, token.start, token.end)


class _Node:
    __slots__ = ("children", "entry")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.entry: _Entry | None = None


@lru_cache(maxsize=1)
def _trie() -> _Node:
    ways: dict[tuple[str, ...], tuple[set[str], str]] = {}
    narrow: dict[tuple[str, ...], str] = {}
    for kind, key, phrases in (*_synonyms(), *_drug_rows()):
        for phrase in phrases:
            roots = _roots(phrase)
            if roots:
                ways.setdefault(roots, (set(), kind))[0].add(key)
    for key, phrase, tier in _narrower():
        narrow[_roots(phrase)] = f"{key}>{tier}"
    root = _Node()
    for roots, (keys, kind) in ways.items():
        node = root
        for step in roots:
            node = node.children.setdefault(step, _Node())
        parts = {p for step in roots for p in _parts_of(step, ways)} - keys
        node.entry = _Entry(frozenset(keys), frozenset(parts), kind, narrow.get(roots, ""))
    return root


def _parts_of(root: str, ways: dict[tuple[str, ...], tuple[set[str], str]]) -> set[str]:
    if root in _STOP_STEMS:
        return set()
    single = ways.get((root,))
    return {root, *single[0]} if single else {root}


_STOP_STEMS = frozenset(stem(w) for w in STOP_WORDS) | _FRAME_STEMS


def _roots(phrase: str) -> tuple[str, ...]:
    return tuple(stem(t.text) for t in tokenize(phrase) if t.kind is not Kind.MARK)


def table(name: str) -> list[str]:
    """Return the lines of a packaged table, without comments."""
    text = resources.files("clinic.verification").joinpath("data", name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _tiers() -> list[tuple[str, str, list[list[str]]]]:
    """Return kind, key and tiers of ways of each line: the first tier says what the group says, the others say more."""
    rows = []
    for line in table("synonyms.txt"):
        head, _, ways = line.partition(" = ")
        kind, _, name = head.partition(": ")
        tiers = [[way.strip() for way in tier.split("|")] for tier in ways.split(" > ")]
        rows.append((kind, "=" + name, tiers))
    return rows


def _synonyms() -> list[tuple[str, str, list[str]]]:
    return [(kind, key, [way for tier in tiers for way in tier]) for kind, key, tiers in _tiers()]


def _narrower() -> list[tuple[str, str, int]]:
    return [(key, way, n) for _, key, tiers in _tiers() for n, tier in enumerate(tiers) if n for way in tier]


def groups(names: str) -> frozenset[str]:
    """Return the keys of groups of the table, named in a list with commas."""
    return frozenset("=" + name.strip() for name in names.split(","))


@lru_cache(maxsize=1)
def body_keys() -> frozenset[str]:
    """Return the keys of the parts of the body."""
    return frozenset(key for kind, key, _ in _synonyms() if kind == "body")


def _drug_rows() -> list[tuple[str, str, list[str]]]:
    return [("drug", "+" + name, [name, *variants]) for name, variants in drug_names().items()]


@lru_cache(maxsize=1)
def drug_names() -> dict[str, tuple[str, ...]]:
    """Return every drug of the table with its other names (brands, spellings)."""
    rows = {}
    for line in table("drugs.txt"):
        name, _, variants = line.partition(":")
        rows[name.strip()] = tuple(v.strip() for v in variants.split("|") if v.strip())
    return rows
