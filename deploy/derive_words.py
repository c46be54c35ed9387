"""Derive the word lists of `clinic.policy.detectors`: which capitalised words are no names, and which names are words.

Sources, unpacked side by side in one folder::

    american-english british-english     SCOWL, from Debian's packages wamerican and wbritish (permissive)
    dist.all.last dist.*.first           United States Census 1990 (public domain), from the package `names`
    icd10cm.csv                          ICD-10-CM, code,description,inclusion_terms (public domain)
    hpo_terms.csv                        Human Phenotype Ontology, id,name,synonyms (free with attribution)
    drugs.txt                            clinic/verification/data/drugs.txt

    python deploy/derive_words.py FOLDER clinic/policy/detectors/data

Only single words are taken, no text.  Same inputs, same output.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_SHORT = 2
_WORD = re.compile(r"[^\W\d_]{3,}")
_ENDINGS = ("s", "es", "ed", "d", "ing", "ly", "er", "r", "ness")  # as in `clinic.policy.detectors.lexicon`
GIVEN_ENOUGH = 2_000  # ranks of the census that are taken for given names
SURNAMES_ENOUGH = 20_000
SURNAMES_FREQUENT = 3_000


def _scowl(folder: Path) -> Iterator[str]:
    for name in ("american-english", "british-english"):
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            if not line.endswith("'s"):
                yield line


def _census(path: Path, enough: int) -> list[str]:
    return [line.split()[0].casefold() for line in path.read_text(encoding="ascii").splitlines()[:enough]]


def _clinical(folder: Path) -> Iterator[str]:
    for name in ("icd10cm.csv", "hpo_terms.csv"):
        with (folder / name).open(encoding="utf-8") as file:
            for row in csv.reader(file):
                for text in row[1:]:
                    yield from (word for word in _WORD.findall(text) if not word[1:].isupper())
    yield from _WORD.findall((folder / "drugs.txt").read_text(encoding="utf-8"))


def _is_inflected(word: str, words: set[str]) -> bool:
    return any(word.endswith(end) and len(word) - len(end) > _SHORT and word[: -len(end)] in words for end in _ENDINGS)


def derive(folder: Path) -> dict[str, str]:
    """Return the two files, name to text."""
    listed = list(_scowl(folder))
    surnames = _census(folder / "dist.all.last", SURNAMES_ENOUGH)
    given = {name for sex in ("female", "male") for name in _census(folder / f"dist.{sex}.first", GIVEN_ENOUGH)}
    frequent = given.union(surnames[:SURNAMES_FREQUENT])
    clinical = set(_clinical(folder))
    # A name that clinical descriptions never write small stands there for a disease or a test: an eponym.
    eponyms = {word.casefold() for word in clinical} & {*surnames, *given} - clinical
    words = {word for word in listed if word[0].islower() and word.isalpha()}
    words |= {word.casefold() for word in listed if word.isalpha() and word.casefold() not in frequent}
    words |= {word.casefold() for word in clinical} - eponyms
    kept: set[str] = set()
    for word in sorted(words, key=lambda word: (len(word), word)):
        if not _is_inflected(word, kept):
            kept.add(word)
    also_words = {name for name in surnames if name in kept or _is_inflected(name, kept)}
    kinds = dict.fromkeys(also_words, "word") | dict.fromkeys(eponyms, "eponym") | dict.fromkeys(given, "given")
    lines = [f"{name} {kind}" for name, kind in sorted(kinds.items())]
    return {"words.txt": "\n".join(sorted(kept)) + "\n", "names.txt": "\n".join(lines) + "\n"}


if __name__ == "__main__":
    for name, text in derive(Path(sys.argv[1])).items():
        (Path(sys.argv[2]) / name).write_text(text, encoding="utf-8")
