"""Obligations: what must be done if a prompt is released.  A closed registry.

Rules kept here:

* A policy names them in one annotation: `@obligation("label:draft; max_tokens:4096")`.
* A name that is not registered, or a value that its name does not take, is an error; in a decision that means deny.
* Where several policies oblige, the strictest wins: the smallest `max_tokens`, the union of the others.
* Label, token limit and evidence are required: an allowing decision that lacks one of them is a deny.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clinic.domain import Prompt
from clinic.errors import PolicyError

MAX_TOKENS_CEILING = 32_768

_VALUES = {
    "label": frozenset({"draft"}),
    "evidence": frozenset({"required"}),
    "redact": frozenset({"identifiers"}),
    "flag": frozenset({"injection"}),
}
_REQUIRED = ("label", "max_tokens", "evidence")


@dataclass(frozen=True, slots=True)
class Obligations:
    """What goes with a permitted prompt.

    Attributes:
        label: the note carries this label until it is signed.
        max_tokens: the most tokens that all answers of the prompt together may have.
        evidence: every statement names its evidence or is flagged.
        redact: kinds to take out of the transcript before the prompt is built.
        flag: what the clinician is told to look at.
    """

    label: str
    max_tokens: int
    evidence: bool
    redact: tuple[str, ...]
    flag: tuple[str, ...]

    @classmethod
    def parse(cls, obligations: Iterable[str]) -> Obligations:
        """Read and merge obligations as a decision carries them (`name:value`).

        Raises:
            PolicyError: `policy_failed` if one is unknown or malformed, or a required one is missing.
        """
        found: dict[str, set[str]] = {}
        for text in obligations:
            name, value = _split(text)
            found.setdefault(name, set()).add(value)
        missing = [name for name in _REQUIRED if name not in found]
        if missing:
            raise _failed(f"obligation `{missing[0]}` is missing")
        return cls(
            label=min(found["label"]),
            max_tokens=min(int(value) for value in found["max_tokens"]),
            evidence=True,
            redact=tuple(sorted(found.get("redact", ()))),
            flag=tuple(sorted(found.get("flag", ()))),
        )

    def canonical(self) -> tuple[str, ...]:
        """Return the merged obligations as sorted `name:value` strings."""
        texts = [f"label:{self.label}", f"max_tokens:{self.max_tokens}", "evidence:required"]
        texts += [f"redact:{kind}" for kind in self.redact]
        texts += [f"flag:{what}" for what in self.flag]
        return tuple(sorted(texts))

    def check_prompt(self, prompt: Prompt) -> None:
        """Hold a prompt against what can be seen from the prompt itself: the token limit.

        Raises:
            PolicyError: `obligation_unmet`.
        """
        asked = sum(part.max_tokens for part in prompt.parts)
        if asked > self.max_tokens:
            raise PolicyError(
                f"the prompt asks for {asked} tokens, the policy allows {self.max_tokens}",
                code="obligation_unmet",
                hint="raise `max_tokens` in the policy, or choose a template with shorter sections",
            )


def split_annotation(text: str) -> tuple[str, ...]:
    """Split an `@obligation` annotation into checked `name:value` strings.

    Raises:
        PolicyError: `policy_failed` if one is unknown or malformed.
    """
    return tuple(":".join(_split(part)) for part in text.split(";"))


def _split(text: str) -> tuple[str, str]:
    name, separator, value = (part.strip() for part in text.partition(":"))
    known = _is_limit(value) if name == "max_tokens" else value in _VALUES.get(name, ())
    if not separator or not known:
        raise _failed(f"obligation `{text.strip()[:60]}` is not known")
    return name, value


def _is_limit(value: str) -> bool:
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(MAX_TOKENS_CEILING))):
        return False
    return value == str(int(value)) and 1 <= int(value) <= MAX_TOKENS_CEILING


def _failed(message: str) -> PolicyError:
    names = ", ".join(sorted((*_VALUES, "max_tokens")))
    return PolicyError(message, code="policy_failed", hint=f"known obligations: {names}; see policies/README.md")
