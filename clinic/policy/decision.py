"""The answer of the policy: `Permit`, `Redact` or `Deny`.

Rules kept here:

* Values only.  Policy ids and obligations are sorted, so that the same decision always reads, and hashes, the same.
* A `Deny` always says why in words that a clinician understands: what happened, what to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from clinic.domain import Reason

REASONS = {
    "request_invalid": (
        "The policy could not be asked, because a fact about this encounter is missing or not valid. "
        "Nothing was sent to the model. Try again; if it happens again, tell the administrator."
    ),
    "policy_error": (
        "The policy could not be evaluated, so nothing was sent to the model. "
        "Tell the administrator, who can run `clinic policy check`."
    ),
    "policy_set_changed": (
        "The policies are not the ones that were loaded, so nothing was sent to the model. "
        "Tell the administrator: the system has to be started again."
    ),
    "obligation_failed": (
        "The policy allows this only under a condition that the system does not know, so nothing was sent "
        "to the model. Tell the administrator, who can run `clinic policy check`."
    ),
    "no_permit": (
        "No policy allows this, so nothing was sent to the model. Ask the administrator whether it should be allowed."
    ),
}
"""The engine's own reasons to deny: code and what the clinician reads.  All others are a policy's id and message."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The prompt may be sent, if every obligation is kept.

    Attributes:
        policies: ids of the policies that allowed it.
        obligations: what goes with it, as `name:value`; `obligations.Obligations.parse` reads them.
        policy_set: SHA-256 of the policy set that decided.
    """

    policies: tuple[str, ...]
    obligations: tuple[str, ...]
    policy_set: str


@dataclass(frozen=True, slots=True)
class Redact:
    """As `Permit`, but `kinds` have to be taken out of the transcript before the prompt is built."""

    policies: tuple[str, ...]
    obligations: tuple[str, ...]
    policy_set: str
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deny:
    """The prompt must not be sent.

    Attributes:
        policies: ids of the policies that forbade it; empty where no policy allowed it or the question was invalid.
        reasons: at least one; the code is the policy's id or a key of `REASONS`.
        policy_set: SHA-256 of the policy set that decided.
    """

    policies: tuple[str, ...]
    reasons: tuple[Reason, ...]
    policy_set: str


Decision = Permit | Redact | Deny
