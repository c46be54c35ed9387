"""Which texts of the test material are held out: two in five, by a hash of their id.  Nobody tunes on those."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_HELD_SHARE = 0.4


def is_held(item_id: str) -> bool:
    """Tell whether the text of this id is held out."""
    return int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:4]) / 2**32 < _HELD_SHARE


def items(path: Path, *, held: bool = True) -> list[dict[str, Any]]:
    """Return the held-out lines of a JSON Lines file, or the others."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [item for number, item in enumerate(map(json.loads, lines)) if is_held(_id(item, number)) is held]


def _id(item: dict[str, Any], number: int) -> str:
    return str(item.get("id", number))
