"""Recordings with their words: a manifest of JSON lines.

Rules kept here:

* A row that cannot be used is refused with its number, never with its text; nothing is skipped in silence.
* An empty reference means that nobody speaks; no reference (null) means that only the time is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from clinic.errors import InputError


class Recording(BaseModel):
    """One row of a manifest; further fields are left alone.  `file` is relative to the manifest or the folder above."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    file: Path
    reference: str | None
    domain: str = "speech"


def read_manifest(path: Path, *, first: int = 1, last: int | None = None) -> list[Recording]:
    """Read rows `first` to `last` (from 1) of a manifest; the files are named by their full paths.

    Raises:
        InputError: `material_invalid`, with the number of the row.
    """
    found: list[Recording] = []
    for number, line in enumerate(_lines(path), start=1):
        if number < first or (last is not None and number > last):
            continue
        try:
            row = Recording.model_validate_json(line)
        except ValidationError as error:
            raise _invalid(f"row {number} of the manifest {_problem(error)}") from None
        places = [place for place in (path.parent / row.file, path.parent.parent / row.file) if place.is_file()]
        if not places:
            raise _invalid(f"row {number} of the manifest names a file that is not there")
        if any(row.id == other.id for other in found):
            raise _invalid(f"row {number} of the manifest has the id of an earlier one")
        found.append(row.model_copy(update={"file": places[0]}))
    if not found:
        raise _invalid("the manifest has no such rows")
    return found


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise _invalid("the file cannot be read as UTF-8 text") from None
    yield from (line for line in text.split("\n") if line.strip())


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    return "lacks what it must have, or is not what it must be: " + f"`{field}`" if field else "is not a JSON object"


def _invalid(message: str) -> InputError:
    return InputError(message, code="material_invalid", hint="docs/speech.md shows what it reads")
