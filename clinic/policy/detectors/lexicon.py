"""Lexicon: which words are ordinary, and which names are words, eponyms or given names.

Rules kept here:

* Two lists, derived by `deploy/derive_words.py` (sources and licences: `data/README.md`); no person's data.
* A word counts as known with the common English endings too.
* What is in neither list and begins with a capital is most likely somebody's name, whatever the language: no list of
  the world's surnames is needed, and none is complete.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from clinic.policy.detectors.names import AMBIGUOUS, GIVEN

_ENDINGS = ("s", "es", "ed", "d", "ing", "ly", "er", "r", "ness")  # as in deploy/derive_words.py


def is_word(lower: str) -> bool:
    """Tell whether a lower-case word is an ordinary or clinical one."""
    words = _words()
    return lower in words or any(lower.endswith(end) and lower[: -len(end)] in words for end in _ENDINGS)


def is_given(lower: str) -> bool:
    """Tell whether a lower-case word is a given name and not more often something else."""
    if lower in GIVEN:
        return lower not in AMBIGUOUS
    return _names().get(lower) == "given" and len(lower) > 2 and not is_word(lower)  # noqa: PLR2004 - "Al", "Ed"


def is_ambiguous(lower: str) -> bool:
    """Tell whether a word is a name as well as something else: a word, or the name of a disease or test."""
    return lower in AMBIGUOUS or lower in _names()


def is_eponym(lower: str) -> bool:
    """Tell whether clinical descriptions use this name for a disease or a test."""
    return _names().get(lower) == "eponym"


@cache
def _words() -> frozenset[str]:
    return frozenset(_read("words.txt"))


@cache
def _names() -> dict[str, str]:
    return dict(line.split() for line in _read("names.txt"))


def _read(name: str) -> list[str]:
    return (files("clinic.policy.detectors") / "data" / name).read_text(encoding="utf-8").splitlines()
