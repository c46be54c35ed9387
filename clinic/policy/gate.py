"""The gate: the one place where a prompt becomes a `ReleasedPrompt`, which is all that a model will take.

Rules kept here:

* Order: the decision allows, the event says exactly what was decided, the event is committed and read back, and only
  then is the prompt released.  Whatever fails on the way, nothing is released.
* A `ReleasedPrompt` cannot be made elsewhere, subclassed, copied or pickled.  What counts is not on the object, where
  it could be changed, but in this module: the digest that was recorded, the time, and whether it was used.
* It is used once, within ten seconds, and only while its prompt still has the digest that stands in the audit log.
* What `claim` returns is a copy of its own, checked against that digest: nobody holds a reference to it.

This guards against mistakes, not against code that means harm and runs in the same process: that could do anything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol, final
from weakref import WeakKeyDictionary

from clinic.audit.entry import Entry
from clinic.audit.events import GenerationAuthorized
from clinic.domain import GenerationId, Prompt
from clinic.errors import AuditError
from clinic.policy.decision import Permit, Redact
from clinic.policy.detectors.identifiers import NOBODY, KnownIdentifiers
from clinic.policy.obligations import Obligations

LIFETIME_S = 10.0
"""How long a released prompt may wait for its model.  Longer than that, it has to be decided again."""

Monotonic = Callable[[], float]
_MINT = object()


def boottime() -> float:
    """Return the seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ConfirmingLog(Protocol):
    """The part of the audit log that the gate needs."""

    def confirm(self, entry: Entry) -> None:
        """Read a committed entry back; AuditError unless it is there, identical."""


@dataclass(slots=True)
class _Grant:
    prompt_sha256: str
    expires: float
    monotonic: Monotonic
    claimed: bool = False


_grants: WeakKeyDictionary[ReleasedPrompt, _Grant] = WeakKeyDictionary()
_lock = threading.Lock()


@final
class ReleasedPrompt:
    """A prompt whose permission is in the audit log.  Only `ReleaseGate.release` makes one.

    Attributes:
        prompt: what was decided.  Send what `claim` returns, never this.
        generation: id of the generation.
        authorized: the audit entry that allows it.
    """

    __slots__ = ("__weakref__", "authorized", "generation", "prompt")

    prompt: Prompt
    generation: GenerationId
    authorized: Entry

    def __init__(self, prompt: Prompt, *, generation: GenerationId, authorized: Entry, mint: object = None) -> None:
        if mint is not _MINT:
            raise RuntimeError("only `ReleaseGate.release` makes a released prompt")
        object.__setattr__(self, "prompt", prompt)
        object.__setattr__(self, "generation", generation)
        object.__setattr__(self, "authorized", authorized)

    def claim(self) -> Prompt:
        """Return the prompt to send, once.

        Raises:
            RuntimeError: it was not released by the gate, is used up, too old, or no longer what was recorded.
        """
        with _lock:
            grant = _grants.get(self)
            if grant is None:
                raise RuntimeError("this prompt was not released by the gate")
            if grant.claimed:
                raise RuntimeError("this released prompt was used already")
            grant.claimed = True  # whatever happens next: a claim that fails is used up too
            if grant.monotonic() > grant.expires:
                raise RuntimeError("this released prompt is too old; it has to be decided again")
            prompt = self.prompt.model_copy(deep=True)
            if prompt.sha256 != grant.prompt_sha256:
                raise RuntimeError("this prompt is not the one that was recorded")
            return prompt

    def __repr__(self) -> str:
        return f"ReleasedPrompt(generation={self.generation!r}, audit_seq={self.authorized.seq})"

    def __init_subclass__(cls) -> None:
        raise RuntimeError("a released prompt has no subclasses")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise RuntimeError("a released prompt cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise RuntimeError("a released prompt cannot be changed")

    def __copy__(self) -> NoReturn:
        raise RuntimeError("a released prompt cannot be copied")

    def __deepcopy__(self, memo: dict[int, object]) -> NoReturn:
        raise RuntimeError("a released prompt cannot be copied")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise RuntimeError("a released prompt cannot be pickled")


class ReleaseGate:
    """Releases prompts that were allowed, after the permission is committed to the audit log.

    Args:
        audit: confirms that an entry is committed.
        monotonic: seconds since boot, sleep included: setting the clock neither ends nor prolongs a permission.
    """

    def __init__(self, audit: ConfirmingLog, *, monotonic: Monotonic = boottime) -> None:
        self._audit = audit
        self._monotonic = monotonic

    def release(
        self,
        decision: Permit | Redact,
        prompt: Prompt,
        event: GenerationAuthorized,
        *,
        record: Callable[[GenerationAuthorized], Entry],
        known: KnownIdentifiers = NOBODY,
    ) -> ReleasedPrompt:
        """Record the permission, make sure that it is committed, and release the prompt.

        Args:
            decision: what the policy answered.
            prompt: what is to be sent; built after redaction where the decision asks for it.
            event: what is recorded; it must say the same as decision and prompt.
            record: appends the event AND COMMITS; returns the entry.
            known: what the record says of the patient: none of it may be left where the decision asks for redaction.

        Raises:
            RuntimeError: decision, prompt and event do not belong together.
            PolicyError: `obligation_unmet`, `policy_failed`: an obligation is not kept, or not known.
            AuditError: the entry is not committed, or is not the one that was to be recorded.
        """
        if not isinstance(decision, Permit | Redact):
            raise RuntimeError("only a permitted prompt can be released")  # noqa: TRY004 - an order mistake, not a type
        sha256 = prompt.sha256
        _check_event(decision, prompt, event, sha256)
        Obligations.parse(decision.obligations).check_prompt(prompt, known=known)
        entry = record(event)
        if entry.event != event.name or entry.body != event.to_canonical():
            raise AuditError("the audit entry is not the one that was to be recorded", code="audit_damaged")
        self._audit.confirm(entry)
        return self._mint(prompt, sha256, GenerationId(event.generation), entry)

    def _mint(self, prompt: Prompt, sha256: str, generation: GenerationId, entry: Entry) -> ReleasedPrompt:
        released = ReleasedPrompt(prompt, generation=generation, authorized=entry, mint=_MINT)
        with _lock:
            _grants[released] = _Grant(sha256, self._monotonic() + LIFETIME_S, self._monotonic)
        return released


def _check_event(decision: Permit | Redact, prompt: Prompt, event: GenerationAuthorized, sha256: str) -> None:
    expected = {
        "prompt_sha256": sha256,
        "policy_set": decision.policy_set,
        "policies": tuple(sorted(decision.policies)),
        "obligations": tuple(sorted(decision.obligations)),
        "action": prompt.action.value,
        "model": prompt.model.id,
        "model_sha256": prompt.model.sha256,
        "template": prompt.template,
        "template_sha256": prompt.template_sha256,
    }
    wrong = [name for name, value in expected.items() if getattr(event, name) != value]
    if wrong:
        raise RuntimeError(f"the audit event does not say what was decided: `{'`, `'.join(wrong)}`")
