"""A second hearing: sentences that may hold the name of a drug are heard again, with those names at hand.

The recogniser is told the candidates (`names.py`) as hotwords, and only for the seconds in question: never in silence,
never as a list of everything.

Rules kept here:

* Only a name is taken from the second hearing, and only where the first one wrote words that sound like it; every other
  word stays as it was heard first.
* What was heard first is kept on the word (`heard_first`): whoever reads it sees that a name was put there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from clinic.domain import Word
from clinic.speech.guards import Span
from clinic.speech.names import Candidate, Names, plain

LONGEST_S: Final = 28.0
"""What is heard in one go: the recogniser looks at 30 s at a time, whatever is in them."""
MOST_NAMES: Final = 10
"""How many names are offered at a time: with more, each is believed more easily."""
_MARGIN_S = 0.4

Sentence = tuple[Word, ...]
Hear = Callable[[Span, str], Iterable[Word]]
"""Hears some seconds again, with names (separated by commas) at hand."""


def hear_again(sentences: Sequence[Sentence], names: Names, hear: Hear, *, duration: float) -> list[Sentence]:
    """Return the sentences with the names that a second hearing found in them; `duration` of the recording in s."""
    found = [names.candidates(sentence) for sentence in sentences]
    result = list(sentences)
    for group in _groups(sentences, found):
        offered = _offered(c for n in group for c in found[n])
        start, end = sentences[group[0]][0].start, sentences[group[-1]][-1].end
        around = Span(start=max(0.0, start - _MARGIN_S), end=min(duration, end + _MARGIN_S))
        again = [word for word in hear(around, ", ".join(offered)) if plain(word.text) in offered]
        for n in group:
            result[n] = spliced(sentences[n], found[n], again)
    return result


def spliced(sentence: Sentence, candidates: Sequence[Candidate], again: Sequence[Word]) -> Sentence:
    """Put each name that was heard again in the place of the words that sound like it, at the same time."""
    taken: dict[int, tuple[int, Word]] = {}  # first word of a place: its last word, and what comes there
    for candidate in candidates:  # the most alike first
        place = range(candidate.first, candidate.last + 1)
        word = next((w for w in again if plain(w.text) == candidate.name and _meet(w, sentence, candidate)), None)
        if word is None or any(set(place) & set(range(first, last + 1)) for first, (last, _) in taken.items()):
            continue
        taken[candidate.first] = candidate.last, _word(sentence[candidate.first : candidate.last + 1], word, candidate)
    result: list[Word] = []
    at = 0
    while at < len(sentence):
        last, word = taken.get(at, (at, sentence[at]))
        result.append(word)
        at = last + 1
    return tuple(result)


def _word(first: Sentence, again: Word, candidate: Candidate) -> Word:
    tail = first[-1].text[len(first[-1].text.rstrip(".,;:?!")) :]
    return Word(
        text=candidate.name + tail,
        start=first[0].start,
        end=first[-1].end,
        probability=again.probability,
        heard_first=" ".join(word.text for word in first).rstrip(".,;:?!"),
    )


def _meet(word: Word, sentence: Sentence, candidate: Candidate) -> bool:
    """Whether a word that was heard again and the place of a candidate share most of the shorter one's time."""
    start, end = sentence[candidate.first].start, sentence[candidate.last].end
    shared = min(word.end, end) - max(word.start, start)
    return shared > 0 and shared >= 0.5 * min(word.end - word.start, end - start)


def _offered(candidates: Iterable[Candidate]) -> list[str]:
    """Return the most alike names, each once."""
    best: dict[str, float] = {}
    for candidate in candidates:
        best[candidate.name] = max(candidate.likeness, best.get(candidate.name, 0.0))
    return sorted(best, key=lambda name: (-best[name], name))[:MOST_NAMES]


def _groups(sentences: Sequence[Sentence], found: Sequence[Sequence[Candidate]]) -> Iterator[list[int]]:
    """Yield numbers of sentences with candidates that fit into one hearing, in order."""
    group: list[int] = []
    for n in (n for n, candidates in enumerate(found) if candidates):
        if group and sentences[n][-1].end - sentences[group[0]][0].start > LONGEST_S:
            yield group
            group = []
        group.append(n)
    if group:
        yield group
