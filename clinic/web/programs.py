"""Tokens of the JSON API: which programs act for whom.

Rules kept here:

* A clinician makes tokens for themselves only, after a proof (`stepup`); an administrator, who sees no record, makes
  none, for a token reads records; both end them.
* The secret is on one page, once.
"""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from clinic.domain import Role, Scope, utc_now
from clinic.errors import AuthenticationError, InputError, RecordError, http_status
from clinic.records.tokens import LONGEST_DAYS
from clinic.web import sessions, stepup
from clinic.web.access import allow
from clinic.web.forms import FormError, TokenForm
from clinic.web.ports import services

blueprint = Blueprint("programs", __name__, url_prefix="/programs")


@blueprint.get("")
@allow(Role.CLINICIAN, Role.ADMINISTRATOR)
def index() -> ResponseReturnValue:
    """List the own tokens, or everybody's for an administrator."""
    return _page({})


@blueprint.post("")
@allow(Role.CLINICIAN)
def create() -> ResponseReturnValue:
    """Make a token for oneself, and show it once."""
    user = sessions.signed_in()
    try:
        form = TokenForm.parse()
        stepup.require()
        with services().records.write() as tx:
            _, secret = tx.tokens.create(
                user, name=form.name, scopes=form.scopes, days=form.days, actor=sessions.actor()
            )
    except FormError as error:
        return _page(error.fields, status=422)
    except InputError as error:
        return _page({"name": f"{error}: {error.hint}"}, status=422)
    except AuthenticationError as error:
        return _page({"proof": f"{error}: {error.hint}"}, status=http_status(error))
    return _page({}, secret=secret)


@blueprint.post("/<id:token_id>/revoke")
@allow(Role.CLINICIAN, Role.ADMINISTRATOR)
def revoke(token_id: str) -> ResponseReturnValue:
    """Let a token open nothing any more."""
    user = sessions.signed_in()
    with services().records.write() as tx:
        if user.role is Role.CLINICIAN and tx.tokens.get(token_id).user_id != user.id:
            raise RecordError("there is no such token", hint="load the page again")
        tx.tokens.revoke(token_id, sessions.actor())
    flash("The token opens nothing any more.")
    return redirect(url_for("programs.index"), 303)


def _page(problems: dict[str, str], *, secret: str | None = None, status: int = 200) -> ResponseReturnValue:
    user = sessions.signed_in()
    with services().records.read() as tx:
        accounts = {each.id: each for each in tx.users.list()}
        tokens = [each for each in tx.tokens.list() if user.role is Role.ADMINISTRATOR or each.user_id == user.id]
    now = utc_now()
    page = render_template(
        "programs.html",
        rows=[
            (each, accounts.get(each.user_id), each.standing(now, disabled=_is_disabled(accounts.get(each.user_id))))
            for each in reversed(tokens)
        ],
        scopes=tuple(Scope),
        longest=LONGEST_DAYS,
        secret=secret,
        problems=problems,
        values=request.form if problems else {},
        chosen=request.form.getlist("scopes") if problems else [],
    )
    return page, status


def _is_disabled(account: object) -> bool:
    return bool(getattr(account, "disabled", True))
