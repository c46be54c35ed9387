"""Names of drugs by their sound: which of them may stand behind words that a recogniser wrote without being sure.

A small recogniser does not know most names of drugs; it writes ordinary words that sound like them (`Candice Arton`).

Rules kept here:

* Pure and deterministic: words and a list of names in, candidates out.
* Only words that the recogniser itself was unsure of are looked at; a name that was heard is never taken for another.
* Numbers, and words that turn a sentence round (`not`, `stop`, `left`), are never taken for a piece of a name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from clinic.domain import Word
from clinic.errors import ConfigError

# Chosen on `made` and on real recordings (docs/speech.md): with 0.6 throughout, 5 % more names would be offered,
# and four times as many sentences heard twice.
ALIKE: Final = 0.68
"""From which likeness of sounds on (0 to 1) words may be a name."""
ALIKE_IF_DOUBTED: Final = 0.6
"""The same, where the recogniser believed the words less than `DOUBTED`."""
DOUBTED: Final = 0.5  # geometric mean of the words' probabilities
UNSURE: Final = 0.7
"""Words of a lower probability are doubted."""
SHORTEST: Final = 5  # letters of a name: shorter ones sound like too much else
MOST_NAMES: Final = 5000
"""How many names a formulary may have."""
_NAME = re.compile(r"[A-Za-z][A-Za-z-]*")
_LONGEST_WINDOW = 4  # words that one name was seen to be taken for
_LEAST_LETTERS = 4
_PROTECTED = frozenset(
    {
        *("no", "not", "never", "none", "nor", "without", "denies", "deny", "denied", "refuse", "refused"),
        *("stop", "stopped", "stopping", "hold", "avoid", "allergic", "allergy", "left", "right", "up", "down"),
        *("more", "less", "increase", "decrease", "double", "half", "twice", "once"),
    }
)
_MARKS = re.compile(r"[^a-z]+")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A name that may stand behind the words `first` to `last` of a sentence, and how alike they sound (0 to 1)."""

    name: str
    likeness: float
    first: int
    last: int


class Names:
    """The names that are listened for.

    Args:
        names: one word each, at least five letters.
        known: further names and spellings that are left alone where they are heard, such as brands.
    """

    def __init__(self, names: Iterable[str], *, known: Iterable[str] = ()) -> None:
        self._names = sorted({name.lower() for name in names if len(plain(name)) >= SHORTEST})
        self._known = frozenset(plain(name) for name in (*self._names, *known))
        self._fine = [sound(name) for name in self._names]
        self._coarse = [frame(name) for name in self._names]

    def __len__(self) -> int:
        """Return how many names are listened for."""
        return len(self._names)

    def candidates(self, words: Sequence[Word]) -> tuple[Candidate, ...]:
        """Return what may be a name in a sentence, the most alike first; the same name may stand in several places."""
        windows = [(i, j) for i in range(len(words)) for j in range(i, min(i + _LONGEST_WINDOW, len(words)))]
        windows = [(i, j) for i, j in windows if self._may_be_name(words[i : j + 1])]
        if not windows or not self._names:
            return ()
        texts = ["".join(plain(word.text) for word in words[i : j + 1]) for i, j in windows]
        # Half what is spelled, half the frame of the sounds: either alone finds fewer names.
        fine = process.cdist([sound(t) for t in texts], self._fine, scorer=Levenshtein.normalized_similarity)
        coarse = process.cdist([frame(t) for t in texts], self._coarse, scorer=Levenshtein.normalized_similarity)
        alike = (fine + coarse) / 2
        needed = [ALIKE_IF_DOUBTED if _belief(words[i : j + 1]) < DOUBTED else ALIKE for i, j in windows]
        found = [
            Candidate(self._names[n], round(float(alike[w, n]), 4), *windows[w])
            for w, n in zip(*(alike >= np.array(needed)[:, None]).nonzero(), strict=True)
        ]
        return tuple(sorted(found, key=lambda c: (-c.likeness, c.first, c.last, c.name)))

    def _may_be_name(self, window: Sequence[Word]) -> bool:
        texts = [plain(word.text) for word in window]
        return (
            min(word.probability for word in window) < UNSURE
            and sum(map(len, texts)) >= _LEAST_LETTERS
            and not any(any(c.isdigit() for c in word.text) for word in window)
            and not any(text in _PROTECTED or text in self._known for text in texts)
        )


def read_formulary(path: Path) -> tuple[str, ...]:
    """Read a clinic's own names of drugs: a text file, one a line, `#` before a remark.

    Raises:
        ConfigError: `formulary_invalid`, with the number of the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _formulary(f"the formulary `{path}` cannot be read as text") from error
    names = []
    for number, line in enumerate(lines, start=1):
        name = line.partition("#")[0].strip()
        if not name:
            continue
        if _NAME.fullmatch(name) is None or len(plain(name)) < SHORTEST:
            raise _formulary(f"line {number} of the formulary is not one word of at least {SHORTEST} letters")
        names.append(name.lower())
    if len(names) > MOST_NAMES:
        raise _formulary(f"the formulary has {len(names)} names, more than {MOST_NAMES}")
    return tuple(names)


def _formulary(message: str) -> ConfigError:
    hint = "one name a line, `#` before a remark; of a name of several words, the one that tells it from others"
    return ConfigError(message, code="formulary_invalid", hint=hint)


def _belief(window: Sequence[Word]) -> float:
    return math.exp(sum(math.log(max(word.probability, 1e-6)) for word in window) / len(window))


def plain(text: str) -> str:
    """Return the letters of a word in small."""
    return _MARKS.sub("", text.lower())


# Letters that sound alike in English, in the order in which they are replaced.
_SOUNDS = (
    ("ph", "f"), ("ck", "k"), ("qu", "kw"), ("x", "ks"), ("tion", "shn"), ("th", "t"), ("wh", "w"), ("ch", "k"),
    ("sh", "s"), ("gh", "g"), ("kn", "n"), ("ps", "s"),
)  # fmt: skip
_SOFT_C, _SOFT_G = re.compile(r"c(?=[eiy])"), re.compile(r"g(?=[eiy])")
_DOUBLE = re.compile(r"(.)\1+")
_VOWELS = re.compile(r"[aeiouy]+")
_VOICELESS = str.maketrans("bdgvjmq", "ptkfsnk")


def sound(text: str) -> str:
    """Return letters for how a word sounds: one letter for one sound, nothing doubled, no `h` within."""
    letters = plain(text)
    for spelled, heard in _SOUNDS:
        letters = letters.replace(spelled, heard)
    letters = _SOFT_G.sub("j", _SOFT_C.sub("s", letters)).replace("c", "k").replace("z", "s")
    letters = letters[:1] + letters[1:].replace("h", "")
    return _DOUBLE.sub(r"\1", letters)


def frame(text: str) -> str:
    """Return what is left of the sounds if vowels are one, and voiced consonants are as voiceless ones."""
    return _DOUBLE.sub(r"\1", _VOWELS.sub("a", sound(text).translate(_VOICELESS)))
