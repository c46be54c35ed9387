"""What a generator is: the one way from a released prompt to a model's answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from clinic.domain import Completion, ModelIdentity
from clinic.policy.gate import ReleasedPrompt

Progress = Callable[[int, int], None]
"""Told after each part: parts done, parts in all."""


class Generator(Protocol):
    """Anything that answers a released prompt.  There is no way to hand it a bare one."""

    @property
    def identity(self) -> ModelIdentity:
        """Exactly which model answers; asked before anything is decided."""
        ...

    def confirm(self) -> bool:
        """Ask the server whether it serves exactly this model, weights pinned; `GenerationError` if none answers."""
        ...

    def generate(self, released: ReleasedPrompt, *, progress: Progress | None = None) -> Completion:
        """Claim the prompt and answer every part of it, or raise `GenerationError`: never half an answer."""
        ...
