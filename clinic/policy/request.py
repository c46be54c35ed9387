"""What the policy is asked: who wants what, for which encounter, under which facts.

Rules kept here:

* Every fact is required, typed and bounded; an unknown or missing one makes the request invalid, which means deny.
* Facts are ids, enum values, numbers and booleans.  No patient text is ever part of a request.
* Text that nobody had to recognise (typed, pasted) has `confidence_permille` 1000.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
)

from clinic.domain import Action, Actor, Consent, EncounterKind, NoteStanding, PromptField
from clinic.errors import InputError

Purpose = Literal["treatment", "teaching", "research", "administration"]
"""What the draft is for.  The strict profile allows `treatment` only, the teaching profile `teaching` too."""

_Id = Annotated[str, StringConstraints(strict=True, pattern=r"\A[A-Za-z0-9_.:-]{1,128}\z")]
_Language = Annotated[str, StringConstraints(strict=True, pattern=r"\A[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8}){0,4}\z")]
_Digest = Annotated[str, StringConstraints(strict=True, pattern=r"\A[0-9a-f]{64}\z")]
_Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]

_Fields = Annotated[
    tuple[PromptField, ...],
    Field(max_length=64),
    AfterValidator(lambda fields: tuple(sorted(set(fields)))),  # a set, in the one order in which it is recorded
]


class _Facts(BaseModel):
    # Revalidated even when already an instance: a request built by `model_construct` must not slip through.
    model_config = ConfigDict(frozen=True, extra="forbid", revalidate_instances="always")


class PolicyContext(_Facts):
    """The facts on which a decision rests.

    Attributes:
        purpose: what the draft is for.
        consent: the patient's answer for this encounter.
        kind: a recorded consultation, or a dictated or pasted text.
        assigned: the actor opened this encounter.
        break_glass: the actor broke the glass for this encounter, with reason and second factor, and it still runs.
        minute_of_day: local time in minutes since midnight.
        jobs_unfinished: the actor's other encounters that wait or run.
        requests_last_hour: decisions asked for by the actor in the last 60 minutes, as the audit log has them.
        language: of the transcript, `und` if unknown.
        speech_ms: milliseconds of speech; of no account for a dictation.
        words: words of the transcript.
        confidence_permille: the recogniser's mean confidence over all words, in thousandths; 1000 for typed text.
        note: whether the encounter has a note, and whether it is signed.
        images: images that are to be described.
        instruction_words: words of the actor's own question or instruction.
        fields: what of the record the prompt holds.
        prompt_tokens: what the longest single call to the model needs, its answer included.
        context_tokens: what the model can take in one call.
        model: id of the model.
        model_sha256: digest over weights and adapter.
        model_verified: its weights were checked against the pinned digest.
        template: id of the template.
        template_sha256: digest of everything that the template says.
        template_verified: the template was checked against the pinned digest.
        injection_score: 0 to 100, from `detectors.injection`.
        scope_score: 0 to 100, from `detectors.scope`, of what was typed; 0 for what was heard.
        hidden_characters: characters that nobody sees, which `detectors.neutralise` takes out.
        identifiers_found: spans that `detectors.identifiers` finds.
    """

    purpose: Purpose
    consent: Consent
    kind: EncounterKind
    assigned: StrictBool
    break_glass: StrictBool
    minute_of_day: Annotated[int, Field(strict=True, ge=0, le=1439)]
    jobs_unfinished: _Count
    requests_last_hour: _Count
    language: _Language
    speech_ms: _Count
    words: _Count
    confidence_permille: Annotated[int, Field(strict=True, ge=0, le=1000)]
    note: NoteStanding
    images: _Count
    instruction_words: _Count
    fields: _Fields
    prompt_tokens: _Count
    context_tokens: _Count
    model: _Id
    model_sha256: _Digest
    model_verified: StrictBool
    template: _Id
    template_sha256: _Digest
    template_verified: StrictBool
    injection_score: Annotated[int, Field(strict=True, ge=0, le=100)]
    scope_score: Annotated[int, Field(strict=True, ge=0, le=100)]
    hidden_characters: _Count
    identifiers_found: _Count


def _as_mapping(value: object) -> object:
    """Turn an `Actor` back into its fields, so that it is validated again like everything else."""
    return dict(vars(value)) if isinstance(value, Actor) else value


class PolicyRequest(_Facts):
    """One question to the policy: may `actor` do `action` for `encounter`, the facts being `context`?"""

    actor: Annotated[Actor, BeforeValidator(_as_mapping)]
    action: Action
    encounter: _Id
    context: PolicyContext

    @classmethod
    def check(cls, request: PolicyRequest | Mapping[str, Any]) -> PolicyRequest | None:
        """Return the request validated afresh, or None if anything about it is wrong."""
        try:
            checked = cls.model_validate(request)
        except ValidationError:
            return None
        return checked if _is_id(checked.actor.user_id) else None

    @classmethod
    def from_json(cls, text: str | bytes) -> PolicyRequest:
        """Parse a request written as JSON.

        Raises:
            InputError: `request_invalid`, naming the first key that is wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as exc:
            problem = exc.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"]) or "(document)"
            raise InputError(
                f"not a policy request: key `{where}`: {problem['msg'].lower()}",
                code="request_invalid",
                hint="see `policies/README.md` for a request with every key",
            ) from None


def _is_id(value: str) -> bool:
    return 0 < len(value) <= 128 and all(c.isascii() and (c.isalnum() or c in "_.:-") for c in value)  # noqa: PLR2004
