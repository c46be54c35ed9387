"""Measuring who speaks: ours and two simple guesses on the same recordings, in the same run.

Rules kept here:

* A recording comes with its turns (RTTM), or is made here from recordings of single speakers: two of them in turns, so
  that every turn is known.  The same seed makes the same conversations.
* The guesses: everything one speaker's; another speaker after every pause.  All three get the same speech.
* Only counts and times leave here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from clinic.errors import InputError
from clinic.evaluation.hearing import Samples
from clinic.evaluation.turns import Errors, Spoken, count_errors, read_rttm
from clinic.evaluation.wording import rate
from clinic.speech.decode_child import RATE
from clinic.speech.guards import Span

COLLARS: Final = (0.0, 0.25)
TURN_S: Final = (0.6, 2.5, 15.0)
"""Shortest, median and longest made turn, seconds: as in recorded consultations (PriMock57)."""
PAUSE_S: Final = (0.05, 1.0)
SPREAD: Final = 0.9
LENGTH_S: Final = 120.0
LOUDNESS: Final = 0.05
NOISE: Final = 0.0008
_ALTERNATING_PAUSE_S: Final = 0.5

System = Callable[[Samples], Iterable[Spoken]]


class Row(BaseModel):
    """One row of a manifest: a recording with its turns (`rttm`), or one in which only `speaker` speaks."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    file: Path
    rttm: Path | None = None
    speaker: str | None = None

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> Row:
        if (self.rttm is None) == (self.speaker is None):
            raise ValueError("`rttm` or `speaker`")
        return self


@dataclass(frozen=True, slots=True)
class Conversation:
    """A recording with its turns."""

    id: str
    kind: str
    samples: Samples
    turns: tuple[Spoken, ...]


@dataclass
class Told:
    """What one system did."""

    errors: dict[tuple[str, float], Errors] = field(default_factory=dict)
    conversations: int = 0
    counted_right: int = 0
    audio_s: float = 0.0
    wall_s: float = 0.0

    def result(self) -> dict[str, Any]:
        """Return everything, in the shape of `clinic eval speakers --json`."""
        kinds: dict[str, dict[str, Any]] = {}
        for (kind, collar), errors in sorted(self.errors.items()):
            kinds.setdefault(kind, {})[f"collar_{collar}"] = errors.result()
        return {
            "kinds": kinds,
            "conversations": self.conversations,
            "speakers_counted_right": self.counted_right,
            "real_time_factor": rate(self.wall_s, self.audio_s),
        }


def read_rows(path: Path) -> list[Row]:
    """Read a manifest of JSON lines; files are relative to it.

    Raises:
        InputError: `material_invalid`, with the number of the row.
    """
    rows: list[Row] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise _invalid("the file cannot be read as UTF-8 text") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = Row.model_validate_json(line)
        except ValidationError:
            raise _invalid(f"row {number} needs `id`, `file` and either `rttm` or `speaker`") from None
        row = row.model_copy(update={"file": path.parent / row.file, "rttm": row.rttm and path.parent / row.rttm})
        if not row.file.is_file() or (row.rttm is not None and not row.rttm.is_file()):
            raise _invalid(f"row {number} names a file that is not there")
        rows.append(row)
    if not rows:
        raise _invalid("the manifest has no rows")
    return rows


def conversations(
    rows: Iterable[Row], decode: Callable[[bytes], Samples], speech: Callable[[Samples], Iterable[Span]], *, seed: int
) -> Iterator[Conversation]:
    """Yield the recordings with turns, and one made conversation for each ordered pair of single speakers."""
    pools: dict[str, list[Samples]] = {}
    for row in rows:
        samples = decode(row.file.read_bytes())
        if row.rttm is not None:
            yield Conversation(row.id, "recorded", samples, read_rttm(row.rttm, row.id))
        else:
            parts = [samples[int(span.start * RATE) : int(span.end * RATE)] for span in speech(samples)]
            pools.setdefault(str(row.speaker), []).extend(parts)
    voices = {name: _even(np.concatenate(parts)) for name, parts in pools.items() if parts}
    for number, (first, second) in enumerate(permutations(sorted(voices), 2)):
        pair = {first: voices[first], second: voices[second]}
        yield _made(pair, np.random.default_rng((seed, number)))


def measure(
    found: Iterable[Conversation], systems: Mapping[str, System], *, done: Callable[[int], None] = lambda _: None
) -> dict[str, Told]:
    """Let every system tell the speakers of every conversation apart; `done` is told how many are through."""
    told = {name: Told() for name in systems}
    for number, conversation in enumerate(found, start=1):
        seconds = len(conversation.samples) / RATE
        for name, system in systems.items():
            began = time.perf_counter()
            heard = tuple(system(conversation.samples))
            one = told[name]
            one.wall_s += time.perf_counter() - began
            one.audio_s += seconds
            one.conversations += 1
            one.counted_right += len({t.speaker for t in heard}) == len({t.speaker for t in conversation.turns})
            for collar in COLLARS:
                errors = one.errors.setdefault((conversation.kind, collar), Errors())
                errors.add(count_errors(conversation.turns, heard, seconds, collar=collar))
        done(number)
    return told


def one_speaker(speech: Iterable[Span]) -> tuple[Spoken, ...]:
    """Return the guess that one person speaks all the time."""
    return tuple(Spoken(span.start, span.end, "one") for span in speech)


def alternating(speech: Iterable[Span]) -> tuple[Spoken, ...]:
    """Return the guess that after every pause of half a second the other one speaks."""
    found: list[Spoken] = []
    turn = 0
    for span in speech:
        turn += bool(found) and span.start - found[-1].end > _ALTERNATING_PAUSE_S
        found.append(Spoken(span.start, span.end, str(turn % 2)))
    return tuple(found)


def _made(pair: Mapping[str, Samples], rng: np.random.Generator) -> Conversation:
    """Let two speakers take turns: what each says is consecutive, from a place of its own."""
    names = list(pair)
    places = {name: int(rng.integers(len(pair[name]))) for name in names}
    sound, at = [np.zeros(RATE // 2, np.float32)], 0.5
    turns: list[Spoken] = []
    while at < LENGTH_S:
        name = names[len(turns) % 2]
        shortest, median, longest = TURN_S
        length = int(RATE * min(longest, max(shortest, median * float(np.exp(rng.normal(0, SPREAD))))))
        own = pair[name][(places[name] + np.arange(length)) % len(pair[name])]
        places[name] += length
        turns.append(Spoken(at, at + length / RATE, name))
        pause = int(RATE * float(rng.uniform(*PAUSE_S)))
        sound += [own * np.float32(rng.uniform(0.6, 1.4)), np.zeros(pause, np.float32)]
        at += (length + pause) / RATE
    samples = np.concatenate(sound)
    samples += rng.normal(0, NOISE, len(samples)).astype(np.float32)
    return Conversation("-".join(names), "made", samples, tuple(turns))


def _even(samples: Samples) -> Samples:
    return np.asarray(samples * (LOUDNESS / max(1e-6, float(np.sqrt(np.mean(samples**2))))), np.float32)


def _invalid(message: str) -> InputError:
    return InputError(message, code="material_invalid", hint="docs/speech.md shows what it reads")
