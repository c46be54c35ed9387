"""The sample consultation that ships with the project: invented, voiced by a machine, nobody's data.

* `SAMPLE` is the recording, `SCRIPT` what is said in it, turn by turn (the reference for word error rates).
* Read-only: nothing here is imported by the program's own flow, it is only a recording to try it with.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent / "sample.flac"
SCRIPT = SAMPLE.with_name("script.toml")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker says before the other speaks."""

    speaker: str
    text: str


def script() -> tuple[Turn, ...]:
    """Return the turns of the sample consultation, in order."""
    data = tomllib.loads(SCRIPT.read_text(encoding="utf-8"))
    return tuple(Turn(speaker=turn["speaker"], text=turn["text"]) for turn in data["turn"])
