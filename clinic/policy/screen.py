"""Screening: texts in, scores and spans out, one JSON line each (`clinic policy screen`).

Rules kept here:

* In: `{"id", "text"}`.  Out, in the same order: `{"id", "injection", "signals", "phi": [{"kind", "start", "end"}]}`.
* Nothing of the text goes out, not even in an error: a line that cannot be read is named by its number.
* A line that cannot be read stops nothing: it is reported where it stands, and those after it are answered.
* Lines are read and answered one at a time, so that a file of any length can be piped through.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from clinic.policy.detectors import identifiers, injection

MAX_CHARACTERS = 1_000_000
CODE = "screen_input_invalid"
HINT = f'a line is a JSON object `{{"id": ..., "text": ...}}`, at most {MAX_CHARACTERS} characters of text'


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Line `number`, counted from 1, is not what `HINT` says; nothing of it is kept."""

    number: int

    def report(self) -> str:
        """Return the JSON line that names it."""
        return json.dumps({"line": self.number, "code": CODE})


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Annotated[str, StringConstraints(strict=True)] | Annotated[int, "numbers name lines too"]
    text: Annotated[str, StringConstraints(strict=True, max_length=MAX_CHARACTERS)]


def screen_lines(lines: Iterable[str]) -> Iterator[str | Unreadable]:
    """Screen JSON lines: an answer for each one, in order, or `Unreadable`; empty lines are skipped."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            item = _parse(line)
            if item is None:
                yield Unreadable(number)
            else:
                yield json.dumps({"id": item.id, **screen_text(item.text)}, ensure_ascii=False)


def screen_text(text: str) -> dict[str, object]:
    """Screen one text: injection score and signals, and where somebody is identified."""
    found = injection.score(text)
    return {
        "injection": found.score,
        "signals": list(found.signals),
        "phi": [{"kind": s.kind, "start": s.start, "end": s.end} for s in identifiers.find(text)],
    }


def _parse(line: str) -> _Line | None:
    try:
        return _Line.model_validate_json(line)
    except (ValidationError, UnicodeError):
        return None
