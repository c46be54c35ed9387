"""Obligations: what must be done if a prompt is released.  A closed registry.

Rules kept here:

* A policy names them in one annotation: `@obligation("label:draft; max_tokens:4096")`.
* A name that is not registered, or a value that its name does not take, is an error; in a decision that means deny.
* Where several policies oblige, the strictest wins: the smallest limit, the fields that all allow, the union of the
  others.
* Label, token limit and evidence are required: an allowing decision that lacks one of them is a deny.
* Each is held against the thing itself: the very prompt that leaves (`check_prompt`, at the gate), the very answer
  before it is stored (`check_answer`), the note before it is stored (`check_note`).  A check that cannot be made fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from clinic.domain import Completion, Note, Prompt, PromptField, StatementStatus
from clinic.errors import GenerationError, PolicyError
from clinic.policy.detectors.identifiers import NOBODY, KnownIdentifiers, find_direct
from clinic.policy.detectors.neutralise import reveal
from clinic.policy.echoes import repeats_instructions, shown

MAX_TOKENS_CEILING = 32_768
MAX_CHARS_CEILING = 200_000

_VALUES = {
    "label": frozenset({"draft"}),
    "evidence": frozenset({"required"}),
    "output": frozenset({"plain"}),
    "redact": frozenset({"identifiers"}),
    "flag": frozenset({"injection", "break_glass", "teaching", "scope"}),
}
_LIMITS = {"max_tokens": MAX_TOKENS_CEILING, "max_chars": MAX_CHARS_CEILING}
_FIELDS = "fields"
_REQUIRED = ("label", "max_tokens", "evidence")

# A link, a tag or Markdown's link, image or code fence: nothing of that belongs into a note.
_MARKUP: Final = re.compile(
    r"[a-z][a-z0-9+.-]{1,20}://|\bwww\.|\bmailto:|\bjavascript:|</?[a-z!][^<>\n]{0,200}>|!?\[[^\]\n]{0,200}\]\(|```",
    re.IGNORECASE,
)

_OUR_WORDS: Final = re.compile(r"^(?:\[[^\s\]]{1,40}\] )?(?:Doctor|Patient|Speaker): ")
"""What `generation.prompts` writes before what was said: it names nobody, also where somebody is called Speaker."""


@dataclass(frozen=True, slots=True)
class Obligations:
    """What goes with a permitted prompt.

    Attributes:
        label: the note carries this label until it is signed.
        max_tokens: the most tokens that all answers of the prompt together may have.
        evidence: every statement names its evidence or is flagged.
        redact: kinds to take out of the transcript before the prompt is built.
        flag: what the clinician is told to look at.
        plain: the answer holds no link, no markup and nothing of our instructions to the model.
        max_chars: the most characters that the answer may have; None: no limit beside the tokens.
        fields: what of the record the prompt may hold; None: not limited here.
    """

    label: str
    max_tokens: int
    evidence: bool
    redact: tuple[str, ...]
    flag: tuple[str, ...]
    plain: bool = False
    max_chars: int | None = None
    fields: tuple[str, ...] | None = None

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
            plain="output" in found,
            max_chars=min((int(value) for value in found.get("max_chars", ())), default=None),
            fields=_common_fields(found.get(_FIELDS, set())),
        )

    def canonical(self) -> tuple[str, ...]:
        """Return the merged obligations as sorted `name:value` strings."""
        texts = [f"label:{self.label}", f"max_tokens:{self.max_tokens}", "evidence:required"]
        texts += [f"redact:{kind}" for kind in self.redact]
        texts += [f"flag:{what}" for what in self.flag]
        texts += ["output:plain"] if self.plain else []
        texts += [f"max_chars:{self.max_chars}"] if self.max_chars is not None else []
        texts += [f"fields:{'.'.join(self.fields)}"] if self.fields is not None else []
        return tuple(sorted(texts))

    def check_prompt(self, prompt: Prompt, *, known: KnownIdentifiers = NOBODY) -> None:
        """Hold the prompt that is to leave against token limit, fields and redaction.

        Args:
            prompt: exactly what would be sent.
            known: what the record says of the patient.

        Raises:
            PolicyError: `obligation_unmet`.
        """
        asked = sum(part.max_tokens for part in prompt.parts)
        if asked > self.max_tokens:
            raise _unmet(
                f"the prompt asks for {asked} tokens, the policy allows {self.max_tokens}",
                "raise `max_tokens` in the policy, or choose a template with shorter sections",
            )
        surplus = [] if self.fields is None else sorted({f.value for f in prompt.fields} - set(self.fields))
        if surplus:
            raise _unmet(
                f"the prompt holds `{surplus[0]}`, which the policy does not allow it", "tell the administrator"
            )
        if self.redact:
            left = (*find_direct(_body(prompt, said=True), known=known), *find_direct(_body(prompt, said=False)))
            if left:
                kinds = ", ".join(sorted({span.kind for span in left}))
                raise _unmet(f"the prompt still holds identifiers ({kinds})", "write the note by hand, and report this")

    def check_answer(self, completion: Completion, prompt: Prompt) -> None:
        """Hold the model's answer against length, plainness and our own instructions, before it is stored.

        Args:
            completion: the answer.
            prompt: what it answers.

        Raises:
            GenerationError: `output_forbidden`; the answer is not kept.
        """
        length = sum(len(section.text) for section in completion.sections)
        if self.max_chars is not None and length > self.max_chars:
            raise _forbidden(f"the answer has {length} characters, the policy allows {self.max_chars}")
        if self.plain and any(_MARKUP.search(reveal(text)) for text in shown(completion)):
            raise _forbidden("the answer holds a link or markup")
        if self.plain and repeats_instructions(completion, prompt):
            raise _forbidden("the answer repeats the instructions to the model")

    def check_note(self, note: Note) -> None:
        """Hold the verified note against evidence: a statement without any is flagged, or there is no note.

        Raises:
            GenerationError: `output_forbidden`; the note is not kept.
        """
        bare = [s.id for s in note.statements if not s.evidence and s.status is StatementStatus.SUPPORTED]
        if self.evidence and bare:
            raise _forbidden(f"{len(bare)} statements have neither evidence nor a flag")


def _body(prompt: Prompt, *, said: bool) -> str:
    """Return every different line of what was said, or of our own instructions, once: passages repeat each other.

    They are told apart because a patient's name may be a word of the instructions: Said, Small, You, Line.
    """
    texts = [part.text for part in prompt.parts if said and part.text is not None]
    texts += [m.content for part in prompt.parts for m in part.messages if (m.role != "system") is said]
    return "\n".join(dict.fromkeys(_OUR_WORDS.sub("", line) for text in texts for line in text.split("\n")))


def split_annotation(text: str) -> tuple[str, ...]:
    """Split an `@obligation` annotation into checked `name:value` strings.

    Raises:
        PolicyError: `policy_failed` if one is unknown or malformed.
    """
    return tuple(":".join(_split(part)) for part in text.split(";"))


def _split(text: str) -> tuple[str, str]:
    name, separator, value = (part.strip() for part in text.partition(":"))
    if name in _LIMITS:
        known = _is_limit(value, _LIMITS[name])
    elif name == _FIELDS:
        known = _is_fields(value)
    else:
        known = value in _VALUES.get(name, ())
    if not separator or not known:
        raise _failed(f"obligation `{text.strip()[:60]}` is not known")
    return name, value


def _is_limit(value: str, ceiling: int) -> bool:
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(ceiling))):
        return False
    return value == str(int(value)) and 1 <= int(value) <= ceiling


def _is_fields(value: str) -> bool:
    names = value.split(".")
    return all(name in set(PromptField) for name in names) and names == sorted(set(names))


def _common_fields(values: set[str]) -> tuple[str, ...] | None:
    if not values:
        return None
    common = set.intersection(*(set(value.split(".")) for value in values))
    if not common:
        raise _failed("the obligations `fields` have nothing in common")
    return tuple(sorted(common))


def _failed(message: str) -> PolicyError:
    names = ", ".join(sorted((*_VALUES, *_LIMITS, _FIELDS)))
    return PolicyError(message, code="policy_failed", hint=f"known obligations: {names}; see policies/README.md")


def _unmet(message: str, hint: str) -> PolicyError:
    return PolicyError(message, code="obligation_unmet", hint=hint)


def _forbidden(message: str) -> GenerationError:
    return GenerationError(message, code="output_forbidden", hint="try again, or write the note by hand")
