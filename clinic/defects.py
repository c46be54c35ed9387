"""What may be logged of a defect: its type and place.  Its message and values may hold patient text."""

from __future__ import annotations

import traceback
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def where(error: BaseException) -> str:
    """Return type, file and line of an exception and of its causes: nothing that it says."""
    parts = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = " < ".join(
            f"{_short(f.filename)}:{f.lineno}" for f in reversed(traceback.extract_tb(current.__traceback__))
        )
        parts.append(f"{type(current).__module__}.{type(current).__qualname__} at {frames or 'unknown'}")
        current = current.__cause__ or current.__context__
    return " caused by ".join(parts)


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(_PACKAGE)) if path.is_relative_to(_PACKAGE) else path.name
