"""Who speaks when, against who is known to: turns as RTTM, and the diarisation error rate.

Rules kept here:

* The rate is NIST's: seconds missed, seconds heard where nobody speaks, and seconds given to the wrong speaker, by the
  seconds that were spoken; two who speak at once count twice.  The names are matched as favourably as can be.
* Counted in steps of 10 ms.  With a collar, what lies within it of a turn's beginning or end is left out.
* A row that cannot be used is refused with its number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from clinic.errors import InputError
from clinic.evaluation.wording import rate

STEP_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Spoken:
    """Seconds in which somebody speaks."""

    start: float
    end: float
    speaker: str


@dataclass
class Errors:
    """Seconds, added up over recordings."""

    spoken: float = 0.0
    missed: float = 0.0
    false: float = 0.0
    confused: float = 0.0

    def add(self, other: Errors) -> None:
        """Add another recording's."""
        self.spoken += other.spoken
        self.missed += other.missed
        self.false += other.false
        self.confused += other.confused

    def result(self) -> dict[str, Any]:
        """Return the rate and its parts."""
        wrong = self.missed + self.false + self.confused
        return {
            "der": rate(wrong, self.spoken),
            "missed": rate(self.missed, self.spoken),
            "false": rate(self.false, self.spoken),
            "confused": rate(self.confused, self.spoken),
            "spoken_s": round(self.spoken, 2),
        }


def read_rttm(path: Path, name: str) -> tuple[Spoken, ...]:
    """Read the turns of recording `name` from an RTTM file.

    Raises:
        InputError: `material_invalid`, with the number of the line; also if there is no turn of that name.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise _invalid("the turns cannot be read as UTF-8 text") from None
    found = [_spoken(number, line.split()) for number, line in enumerate(lines, start=1) if line.startswith("SPEAKER ")]
    turns = tuple(turn for recording, turn in found if recording == name)
    if not turns:
        raise _invalid("the file of turns has none of this recording")
    return turns


def count_errors(said: Sequence[Spoken], heard: Sequence[Spoken], duration: float, *, collar: float = 0.0) -> Errors:
    """Count the seconds that are wrong in `heard`, in a recording of `duration` seconds."""
    steps = int(duration / STEP_S) + 1
    scored = np.ones(steps, bool)
    if collar:
        for edge in (edge for turn in said for edge in (turn.start, turn.end)):
            scored[max(0, round((edge - collar) / STEP_S)) : max(0, round((edge + collar) / STEP_S))] = False
    truth, guess = _grid(said, steps)[scored], _grid(heard, steps)[scored]
    true_count, guess_count = truth.sum(axis=1), guess.sum(axis=1)
    right = _matched(truth.astype(np.int64).T @ guess.astype(np.int64))
    return Errors(
        spoken=float(true_count.sum()) * STEP_S,
        missed=float(np.maximum(true_count - guess_count, 0).sum()) * STEP_S,
        false=float(np.maximum(guess_count - true_count, 0).sum()) * STEP_S,
        confused=float(np.minimum(true_count, guess_count).sum() - right) * STEP_S,
    )


def _matched(together: NDArray[np.int64]) -> int:
    """Return the steps that are right if every speaker gets the voice that suits best (all ways are tried)."""
    few, many = together if together.shape[0] <= together.shape[1] else together.T, max(together.shape)
    ways = permutations(range(many), len(few))
    return max((sum(int(few[n, voice]) for n, voice in enumerate(way)) for way in ways), default=0)


def _grid(turns: Iterable[Spoken], steps: int) -> NDArray[np.bool_]:
    turns = list(turns)
    speakers = sorted({turn.speaker for turn in turns})
    grid = np.zeros((steps, len(speakers)), bool)
    for turn in turns:
        grid[round(turn.start / STEP_S) : round(turn.end / STEP_S), speakers.index(turn.speaker)] = True
    return grid


def _spoken(number: int, fields: list[str]) -> tuple[str, Spoken]:
    try:
        _, recording, _, start, length, _, _, speaker, *_ = fields
        turn = Spoken(float(start), float(start) + float(length), speaker)
    except ValueError:
        raise _invalid(f"line {number} of the turns is not RTTM") from None
    if not 0 <= turn.start <= turn.end < np.inf:
        raise _invalid(f"line {number} of the turns has impossible times")
    return recording, turn


def _invalid(message: str) -> InputError:
    return InputError(message, code="material_invalid", hint="docs/speech.md shows what it reads")
