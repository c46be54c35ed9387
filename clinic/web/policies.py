"""The policies, for the administrator: which set decides, why a past decision fell, and what a request would get.

Rules kept here:

* Nothing is recorded as asked and nothing is generated; looking at a past decision shows ids, codes and messages only.
* A past decision is explained by the very set that made it, and decided again by that set and by the one that decides
  now; a request is tried on the set that decides now.
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from clinic.domain import Role
from clinic.errors import AuditError, ClinicError, DecryptionError, InputError, PolicyError
from clinic.past_decisions import past_decision
from clinic.policy.counterfactual import Counterfactual, counterfactual
from clinic.policy.engine import Explanation, explain
from clinic.policy.recorded import FACTS_WORDS, RecordedDecision
from clinic.policy.request import PolicyRequest
from clinic.web.access import allow
from clinic.web.forms import FormError, PolicySeqForm, PolicyTrialForm
from clinic.web.ports import services

blueprint = Blueprint("policies", __name__, url_prefix="/policies")
_DECISIONS = frozenset({"generation.authorized", "generation.denied"})
_LATEST = 10


@dataclass(frozen=True, slots=True)
class Trial:
    """What a request would get, and what would change that."""

    explanation: Explanation
    changes: Counterfactual


@blueprint.get("")
@allow(Role.ADMINISTRATOR)
def index() -> ResponseReturnValue:
    """Show the active set, the versions before it and the newest decisions."""
    return _page()


@blueprint.post("/decision")
@allow(Role.ADMINISTRATOR)
def decision() -> ResponseReturnValue:
    """Explain the decision that an audit entry records."""
    try:
        form = PolicySeqForm.parse()
        found = past_decision(services().records, services().policy, form.seq)
    except (InputError, AuditError, DecryptionError) as error:
        return _page(problem=error, status=422)
    return _page(past=found)


@blueprint.post("/trial")
@allow(Role.ADMINISTRATOR)
def trial() -> ResponseReturnValue:
    """Try a request on the set that decides now."""
    try:
        form = PolicyTrialForm.parse()
        asked = PolicyRequest.from_json(form.request)
        active = services().policy.current()
    except (InputError, PolicyError) as error:
        return _page(problem=error, status=422)
    return _page(tried=Trial(explain(active, asked), counterfactual(active, asked)))


def _page(
    *,
    past: RecordedDecision | None = None,
    tried: Trial | None = None,
    problem: ClinicError | None = None,
    status: int = 200,
) -> ResponseReturnValue:
    audit = services().records.audit
    size = audit.head().size
    recent = [entry for entry in audit.entries(first=max(1, size - 500)) if entry.event in _DECISIONS]
    with services().records.read() as tx:
        names: dict[str, str] = {user.id: user.username for user in tx.users.list()}
    content = render_template(
        "policies/show.html",
        versions=tuple(reversed(services().policy.history())),
        recent=tuple(reversed(recent))[:_LATEST],
        names=names,
        past=past,
        facts_words=FACTS_WORDS,
        tried=tried,
        problem=problem,
        fields=problem.fields if isinstance(problem, FormError) else {},
        typed=request.form.get("request", ""),
        seq=request.form.get("seq", ""),
    )
    return content, status
