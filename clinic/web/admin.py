"""Accounts, for the administrator, who sees no patient and no note.

Rules kept here:

* An administrator cannot disable the account they are using: somebody must be left to mend things.
* No administrator knows anybody's password: a one-time code, shown once, lets its owner choose one.
* What gives somebody access, or takes a protection away, asks the administrator to prove who they are (`stepup`).
  Disabling an account does not: it must be quick.
"""

from __future__ import annotations

import secrets

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from clinic.audit.events import SessionEnded
from clinic.domain import Role, UserId
from clinic.errors import AuthenticationError, InputError, RecordError, http_status
from clinic.records.users import User
from clinic.web import sessions, stepup
from clinic.web.access import allow
from clinic.web.forms import FactorRolesForm, FormError, UserForm
from clinic.web.origin import addresses_for_others
from clinic.web.ports import services

blueprint = Blueprint("admin", __name__, url_prefix="/users")


@blueprint.get("")
@allow(Role.ADMINISTRATOR)
def index() -> ResponseReturnValue:
    """List the accounts, with the form for a new one."""
    return _page({})


@blueprint.post("")
@allow(Role.ADMINISTRATOR)
def create() -> ResponseReturnValue:
    """Add an account, and show the one-time code with which its owner chooses a password."""
    try:
        form = UserForm.parse()
        stepup.require()
        with services().records.write() as tx:
            made = tx.users.create(
                form.username,
                display_name=form.display_name,
                role=form.role,
                password=_nobodys_password(),
                actor=sessions.actor(),
            )
            code = tx.invitations.make(made.id, sessions.actor())
    except (InputError, RecordError, AuthenticationError) as error:
        return _page(_fields(error), status=http_status(error) if isinstance(error, AuthenticationError) else 422)
    return _account(made.id, code=code)


@blueprint.get("/<id:user_id>")
@allow(Role.ADMINISTRATOR)
def show(user_id: str) -> ResponseReturnValue:
    """Show one account: how it stands, where it is signed in, and what can be done."""
    return _account(user_id)


@blueprint.post("/<id:user_id>/disable")
@allow(Role.ADMINISTRATOR)
def disable(user_id: str) -> ResponseReturnValue:
    """Disable an account; its sessions end at once."""
    with services().records.write() as tx:
        tx.users.disable(_other(user_id).username, sessions.actor())
    flash("The account is disabled.")
    return redirect(url_for("admin.show", user_id=user_id), 303)


@blueprint.post("/<id:user_id>/enable")
@allow(Role.ADMINISTRATOR)
def enable(user_id: str) -> ResponseReturnValue:
    """Open a disabled account again, with the password it had."""
    try:
        stepup.require()
    except AuthenticationError as error:
        return _account(user_id, problems={"enable": f"{error}: {error.hint}"}, status=http_status(error))
    with services().records.write() as tx:
        tx.users.enable(_user(user_id).username, sessions.actor())
    flash("The account is enabled.")
    return redirect(url_for("admin.show", user_id=user_id), 303)


@blueprint.post("/<id:user_id>/code")
@allow(Role.ADMINISTRATOR)
def reset(user_id: str) -> ResponseReturnValue:
    """Let the password be good no more, end the sessions, and show the one-time code for a new one."""
    try:
        stepup.require()
    except AuthenticationError as error:
        return _account(user_id, problems={"reset": f"{error}: {error.hint}"}, status=http_status(error))
    account = _other(user_id)
    with services().records.write() as tx:
        tx.users.reset_password(account.username, _nobodys_password(), actor=sessions.actor())
        code = tx.invitations.make(account.id, sessions.actor())
    return _account(user_id, code=code)


@blueprint.post("/<id:user_id>/sessions")
@allow(Role.ADMINISTRATOR)
def end_sessions(user_id: str) -> ResponseReturnValue:
    """Sign an account out everywhere."""
    account = _other(user_id)
    with services().records.write() as tx:
        tx.users.end_sessions(account.id, sessions.actor())
    flash(f"{account.username} is signed out everywhere.")
    return redirect(url_for("admin.show", user_id=user_id), 303)


@blueprint.post("/<id:user_id>/sessions/<id:handle>")
@allow(Role.ADMINISTRATOR)
def end_session(user_id: str, handle: str) -> ResponseReturnValue:
    """End one session of an account."""
    account = _other(user_id)
    if sessions.end_one(account, handle):
        with services().records.write() as tx:
            tx.append(SessionEnded(user_id=account.id), actor=sessions.actor())
        flash("That session is ended.")
    return redirect(url_for("admin.show", user_id=user_id), 303)


@blueprint.post("/<id:user_id>/factor")
@allow(Role.ADMINISTRATOR)
def reset_factor(user_id: str) -> ResponseReturnValue:
    """Take the second factor of an account away, with its recovery codes; its sessions end at once."""
    try:
        stepup.require()
    except AuthenticationError as error:
        return _account(user_id, problems={"factor": f"{error}: {error.hint}"}, status=http_status(error))
    account = _other(user_id)
    with services().records.write() as tx:
        removed = tx.factors.reset(account.id, sessions.actor())
        if removed:
            tx.users.end_sessions(account.id, sessions.actor())
    flash("The second factor is removed; the account is signed out." if removed else "There was no second factor.")
    return redirect(url_for("admin.show", user_id=user_id), 303)


@blueprint.post("/factor-roles")
@allow(Role.ADMINISTRATOR)
def require_factor() -> ResponseReturnValue:
    """Say which roles have to have a second factor."""
    try:
        form = FactorRolesForm.parse()
        stepup.require()
    except (InputError, AuthenticationError) as error:
        words = error.hint if isinstance(error, InputError) else f"{error}: {error.hint}"
        return _page({"roles": words}, status=http_status(error))
    with services().records.write() as tx:
        tx.require_factor_for(form.roles, sessions.actor())
    flash("Saved. Whoever owes a second factor is asked for it at their next click.")
    return redirect(url_for("admin.index"), 303)


def _nobodys_password() -> str:
    """Return a password that nobody knows, so that only a one-time code leads on."""
    return secrets.token_urlsafe(32)


def _other(user_id: str) -> User:
    if user_id == sessions.signed_in().id:
        raise InputError("this is the account you are using", hint="ask another administrator, or use your own pages")
    return _user(user_id)


def _account(
    user_id: str, *, code: str | None = None, problems: dict[str, str] | None = None, status: int = 200
) -> ResponseReturnValue:
    account = _user(user_id)
    with services().records.read() as tx:
        standing, waits = tx.standing(account), tx.invitations.waits(account.id)
    page = render_template(
        "users/show.html",
        account=account,
        standing=standing,
        waits=waits,
        found=sessions.of_account(account),
        code=code,
        addresses=addresses_for_others(),
        problems=problems or {},
        is_me=account.id == sessions.signed_in().id,
    )
    return page, status


def _user(user_id: str) -> User:
    with services().records.read() as tx:
        user = tx.users.get(UserId(user_id))
    if user is None:
        raise RecordError("there is no such account", hint="load the page again")
    return user


def _page(problems: dict[str, str], *, status: int = 200) -> ResponseReturnValue:
    with services().records.read() as tx:
        users = tx.users.list()
        standings = {user.id: tx.standing(user) for user in users}
        factor_roles = tx.factor_roles()
    values = request.form if problems else {}
    page = render_template(
        "users/list.html",
        users=users,
        standings=standings,
        roles=tuple(Role),
        factor_roles=factor_roles,
        problems=problems,
        values=values,
        me=sessions.signed_in().id,
    )
    return page, status


def _fields(error: InputError | RecordError | AuthenticationError) -> dict[str, str]:
    if isinstance(error, FormError):
        return error.fields
    field = "proof" if isinstance(error, AuthenticationError) else "username"
    return {field: f"{error}: {error.hint}" if error.hint else str(error)}
