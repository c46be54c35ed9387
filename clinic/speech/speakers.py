"""Who speaks when: voices told apart by how they sound.

Rules kept here:

* Deterministic, and no word is looked at: sound in, turns out.  Voices are numbered as they are first heard.
* One voice more is believed only if it differs enough from all others and speaks for some seconds; at most four are.
* Nobody is told apart inside a stretch in which two speak at once: it gets the voice that fits better.
* Memory hardly grows with the recording (51 MB at three hours, measured): it is looked at in blocks, and at most
  `_MOST_WINDOWS` embeddings are kept.

How: an embedding of each 1.6 s (`voice.py`), the voices' means, and the most likely course of speakers (Viterbi) given
that changing has a price; means and course are found in turns.  Where the numbers below come from: docs/speech.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clinic.speech.decode_child import RATE
from clinic.speech.guards import Span
from clinic.speech.voice import FRAMES, HOP, SIZE, Floats, VoiceEncoder, gain, spectrogram
from clinic.speech.whisper import voice_activity

Doubles: TypeAlias = NDArray[np.float64]
Numbers: TypeAlias = NDArray[np.intp]

MAX_VOICES: Final = 4
BETTER_BY: Final = 0.015
"""Two voices must explain a recording so much better than one (mean cosine): one person in two gains 0.008 at most."""
SAME_VOICE: Final = 0.75
"""A third or fourth voice that is more like another than this (cosine) is no new one: those are rare, and splitting one
person in two is the worse mistake."""
MIN_VOICE_S: Final = 2.0

_PAUSE_MS: Final = 150
_PAD_MS: Final = 50
_WINDOW_S: Final = FRAMES * HOP / RATE
_WINDOW_HOP: Final = 40  # frames of the spectrogram: 0.4 s
_MOST_WINDOWS: Final = 9000  # an hour; of longer recordings every second, third ... window is looked at
_BLOCK: Final = 50  # windows whose spectrogram is held at a time: 20 s
_STEP_S: Final = 0.1
_SURE_S: Final = 0.8  # a window with so much speech may begin a voice
_SOME_S: Final = 0.2
_INNER_S: Final = 0.3  # a window belongs to a voice if all speech in it, but for so much at both ends, does
_CHANGE: Final = 0.15  # price of another speaker, in units of similarity x steps
_ROUNDS: Final = 6
_SEEDS: Final = 4
_SEED_ALIKE: Final = 0.97


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds in which one voice speaks.

    `margin`: how much better that voice fits than the next one, in cosine; 0 where there is only one.
    """

    start: float
    end: float
    voice: int
    margin: float


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is known of a recording: its windows, and the steps in which somebody speaks.

    `begin` and `end` are places in `steps` (seconds), for each window those of its inner part.
    """

    windows: Floats
    centres: Doubles
    sure: NDArray[np.bool_]
    begin: Numbers
    end: Numbers
    steps: Doubles


@dataclass(frozen=True, slots=True)
class _Course:
    """Who speaks in each step, by the voices' means; `fit` is the mean similarity."""

    means: Floats
    labels: Numbers
    margins: Doubles
    fit: float


def tell_apart(audio: Floats, encoder: VoiceEncoder) -> tuple[Turn, ...]:
    """Return the turns of all voices in a recording, in order.

    Args:
        audio: mono samples at 16 kHz in [-1, 1].
        encoder: gives the embeddings.
    """
    speech = speech_of(audio)
    scene = _look(audio, speech, encoder)
    if scene.sure.sum() < 2:  # noqa: PLR2004 - two windows are the least that can differ
        return tuple(Turn(span.start, span.end, 0, 0.0) for span in speech)
    return tuple(_turns(_voices(scene), scene.steps, speech))


def speech_of(audio: Floats) -> tuple[Span, ...]:
    """Return the seconds in which somebody speaks, cut at short pauses: a speaker may change in each."""
    return voice_activity(audio, pause_ms=_PAUSE_MS, pad_ms=_PAD_MS)


# --- looking: from sound to windows -----------------------------------------------------------------


def _look(audio: Floats, speech: Sequence[Span], encoder: VoiceEncoder) -> _Scene:
    frames = len(audio) // HOP + 1
    hop = _WINDOW_HOP * math.ceil(frames / _WINDOW_HOP / _MOST_WINDOWS)
    starts = np.arange(0, max(1, frames - FRAMES + hop), hop)
    spoken = _seconds_of_speech(starts * HOP / RATE, speech)
    starts, spoken = starts[spoken >= _SOME_S], spoken[spoken >= _SOME_S]
    louder = gain(_power(audio, speech))
    windows = np.empty((len(starts), SIZE), np.float32)
    for at in range(0, len(starts), _BLOCK):
        block = starts[at : at + _BLOCK]
        for first, last in _runs(block):
            part = block[first:last]
            seen = spectrogram(audio, int(part[0]), int(part[-1] - part[0]) + FRAMES)
            seen *= np.float32(louder)
            windows[at + first : at + last] = encoder.embed(seen, part - part[0])
    begins = starts * HOP / RATE
    steps = _steps(speech)
    return _Scene(
        windows=windows,
        centres=begins + _WINDOW_S / 2,
        sure=spoken >= _SURE_S,
        begin=np.searchsorted(steps, begins + _INNER_S),
        end=np.searchsorted(steps, begins + _WINDOW_S - _INNER_S),
        steps=steps,
    )


def _runs(starts: Numbers) -> Iterator[tuple[int, int]]:
    """Yield where windows follow each other without a long pause between, so that silence is not transformed."""
    cuts = [0, *(np.flatnonzero(np.diff(starts) > FRAMES) + 1), len(starts)]
    yield from ((int(first), int(last)) for first, last in pairwise(cuts))


def _seconds_of_speech(starts: Doubles, speech: Sequence[Span]) -> Doubles:
    """Return how much speech lies in each window."""
    ends = np.cumsum([0.0, *(span.end - span.start for span in speech)])
    edges = np.array([edge for span in speech for edge in (span.start, span.end)])
    until = np.repeat(ends, 2)[1:-1]
    return np.interp(starts + _WINDOW_S, edges, until) - np.interp(starts, edges, until) if len(edges) else 0 * starts


def _power(audio: Floats, speech: Sequence[Span]) -> float:
    parts = [audio[int(span.start * RATE) : int(span.end * RATE)] for span in speech]
    total = sum(float(np.dot(part, part)) for part in parts)
    return total / max(1, sum(len(part) for part in parts))


def _steps(speech: Sequence[Span]) -> Doubles:
    """Return the middles of all steps in which somebody speaks, seconds."""
    found = [np.arange(span.start + _STEP_S / 2, max(span.end, span.start + _STEP_S), _STEP_S) for span in speech]
    return np.concatenate(found) if found else np.empty(0)


# --- voices: how many, and who when -----------------------------------------------------------------


def _voices(scene: _Scene) -> _Course:
    """Add one voice after the other, as long as the new one is believable."""
    sure = scene.windows[scene.sure]
    best = _follow(scene, _unit(sure.mean(axis=0))[None])
    while len(best.means) < MAX_VOICES:
        tried = [
            _follow(scene, np.vstack([_others(best.means, sure, seed), seed])) for seed in _seeds(best.means, sure)
        ]
        spoken = [course for course in tried if _shortest(course) >= MIN_VOICE_S]
        if not spoken:
            break
        course = max(spoken, key=lambda one: one.fit)
        if not _believable(course, best):
            break
        best = course
    return best


def _believable(course: _Course, before: _Course) -> bool:
    """Say whether the voice that `course` has more than `before` is a new person's."""
    if len(before.means) == 1:
        return course.fit - before.fit >= BETTER_BY
    return _closest(course.means) <= SAME_VOICE


def _follow(scene: _Scene, means: Floats) -> _Course:
    """Find means and course in turns, from the given means on."""
    scores = _scores(scene, means)
    labels = _path(scores)
    for _ in range(_ROUNDS - 1):
        means = _means(scene, labels, means)
        before, scores = labels, _scores(scene, means)
        labels = _path(scores)
        if np.array_equal(before, labels):
            break
    own = scores[np.arange(len(labels)), labels]
    return _Course(means, labels, _margins(scores, labels), float(own.mean()))


def _scores(scene: _Scene, means: Floats) -> Doubles:
    """Return how well each voice (column) fits each step (row)."""
    alike = scene.windows @ means.T
    return np.stack([np.interp(scene.steps, scene.centres, column) for column in alike.T], axis=1)


def _means(scene: _Scene, labels: Numbers, means: Floats) -> Floats:
    """Return each voice's mean over the windows that are its own alone; a voice without any keeps the one it has."""
    found = means.copy()
    for voice in range(len(means)):
        until = np.concatenate([[0], np.cumsum(labels == voice)])
        own = until[scene.end] - until[scene.begin]
        weight = np.where(own == scene.end - scene.begin, own, 0).astype(np.float32)
        if weight.sum() > 0:
            found[voice] = _unit(weight @ scene.windows)
    return found


def _path(scores: Doubles) -> Numbers:
    """Return the most likely voice of each step (Viterbi): the best sum of scores, less `_CHANGE` for each change."""
    voices = range(scores.shape[1])
    best = [0.0 for _ in voices]
    came: list[list[int]] = []
    for row in scores.tolist():
        top = max(best)
        leader = best.index(top)
        stays = [best[voice] >= top - _CHANGE for voice in voices]
        came.append([voice if stays[voice] else leader for voice in voices])
        best = [(best[voice] if stays[voice] else top - _CHANGE) + row[voice] for voice in voices]
    labels = np.empty(len(scores), np.intp)
    at = best.index(max(best))
    for step in range(len(scores) - 1, -1, -1):
        labels[step] = at
        at = came[step][at]
    return labels


def _seeds(means: Floats, sure: Floats) -> list[Floats]:
    """Return where another voice may lie: what the voices so far explain worst, each with its nearest neighbours."""
    found: list[Floats] = []
    near = max(3, len(sure) // 12)
    for place in np.argsort((sure @ means.T).max(axis=1), kind="stable")[: 3 * _SEEDS]:
        alike = np.argsort(-(sure @ sure[place]), kind="stable")[:near]
        seed = _unit(sure[alike].mean(axis=0))
        if all(float(seed @ other) < _SEED_ALIKE for other in found):
            found.append(seed)
        if len(found) == _SEEDS:
            break
    return found


def _others(means: Floats, sure: Floats, seed: Floats) -> Floats:
    """Return the means to begin with beside a new one: a single voice so far is the mean of both."""
    if len(means) > 1:
        return means
    alike = sure @ seed
    return _unit(sure[alike <= np.median(alike)].mean(axis=0))[None]


def _margins(scores: Doubles, labels: Numbers) -> Doubles:
    if scores.shape[1] == 1:
        return np.zeros(len(labels))
    rows = np.arange(len(labels))
    own = scores[rows, labels]
    rest = scores.copy()
    rest[rows, labels] = -np.inf
    return np.asarray(own - rest.max(axis=1))


def _shortest(course: _Course) -> float:
    return float(np.bincount(course.labels, minlength=len(course.means)).min()) * _STEP_S


def _closest(means: Floats) -> float:
    return float(np.max(means @ means.T - 2 * np.eye(len(means))))


def _unit(vector: Floats) -> Floats:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-9), np.float32)


# --- turns ------------------------------------------------------------------------------------------


def _turns(course: _Course, steps: Doubles, speech: Sequence[Span]) -> Iterator[Turn]:
    """Yield the turns; voices get their numbers in the order in which they are heard."""
    numbers: dict[int, int] = {}
    for span in speech:
        first, last = np.searchsorted(steps, [span.start, span.end])
        labels = course.labels[first:last]
        cuts = [0, *(np.flatnonzero(np.diff(labels)) + 1), len(labels)]
        for begin, end in pairwise(cuts):
            yield Turn(
                start=span.start + begin * _STEP_S,
                end=span.end if end == len(labels) else span.start + end * _STEP_S,
                voice=numbers.setdefault(int(labels[begin]), len(numbers)),
                margin=float(course.margins[first + begin : first + end].mean()),
            )
