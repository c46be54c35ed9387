"""Accounts, for the administrator, who sees no patient and no note.

Rules kept here:

* An administrator cannot disable the account they are using: somebody must be left to mend things.
* What gives somebody access, or takes a protection away, asks the administrator to prove who they are (`stepup`).
  Disabling an account does not: it must be quick.
"""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from clinic.domain import Role, UserId
from clinic.errors import AuthenticationError, InputError, RecordError, http_status
from clinic.records.users import User
from clinic.web import sessions, stepup
from clinic.web.access import allow
from clinic.web.forms import FactorRolesForm, FormError, ResetForm, UserForm
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
    """Add an account."""
    try:
        form = UserForm.parse()
        stepup.require()
        with services().records.write() as tx:
            tx.users.create(
                form.username,
                display_name=form.display_name,
                role=form.role,
                password=form.password,
                actor=sessions.actor(),
            )
    except (InputError, RecordError, AuthenticationError) as error:
        return _page(_fields(error), status=http_status(error) if isinstance(error, AuthenticationError) else 422)
    flash("The account is added.")
    return redirect(url_for("admin.index"), 303)


@blueprint.post("/<id:user_id>/disable")
@allow(Role.ADMINISTRATOR)
def disable(user_id: str) -> ResponseReturnValue:
    """Disable an account; its sessions end at once."""
    if user_id == sessions.signed_in().id:
        raise InputError("you cannot disable the account you are using", hint="ask another administrator")
    with services().records.write() as tx:
        tx.users.disable(_user(user_id).username, sessions.actor())
    flash("The account is disabled.")
    return redirect(url_for("admin.index"), 303)


@blueprint.post("/<id:user_id>/enable")
@allow(Role.ADMINISTRATOR)
def enable(user_id: str) -> ResponseReturnValue:
    """Open a disabled account again, with the password it had."""
    with services().records.write() as tx:
        tx.users.enable(_user(user_id).username, sessions.actor())
    flash("The account is enabled.")
    return redirect(url_for("admin.index"), 303)


@blueprint.post("/<id:user_id>/reset")
@allow(Role.ADMINISTRATOR)
def reset(user_id: str) -> ResponseReturnValue:
    """Set a new password; the account's sessions end at once."""
    try:
        form = ResetForm.parse()
        stepup.require()
        with services().records.write() as tx:
            tx.users.reset_password(_user(user_id).username, form.password, actor=sessions.actor())
    except (InputError, AuthenticationError) as error:
        return _refused("reset", user_id, error)
    flash("The password is changed. Tell the person, who should change it after signing in.")
    return redirect(url_for("admin.index"), 303)


@blueprint.post("/<id:user_id>/factor")
@allow(Role.ADMINISTRATOR)
def reset_factor(user_id: str) -> ResponseReturnValue:
    """Take the second factor of an account away, with its recovery codes; its sessions end at once."""
    try:
        stepup.require()
    except AuthenticationError as error:
        return _refused("factor", user_id, error)
    account = _user(user_id)
    with services().records.write() as tx:
        removed = tx.factors.reset(account.id, sessions.actor())
        if removed:
            tx.users.end_sessions(account.id, sessions.actor())
    flash("The second factor is removed; the account is signed out." if removed else "There was no second factor.")
    return redirect(url_for("admin.index"), 303)


@blueprint.post("/factor-roles")
@allow(Role.ADMINISTRATOR)
def require_factor() -> ResponseReturnValue:
    """Say which roles have to have a second factor."""
    try:
        form = FactorRolesForm.parse()
        stepup.require()
    except (InputError, AuthenticationError) as error:
        return _refused("roles", "factor", error)
    with services().records.write() as tx:
        tx.require_factor_for(form.roles, sessions.actor())
    flash("Saved. Whoever owes a second factor is asked for it at their next click.")
    return redirect(url_for("admin.index"), 303)


def _refused(what: str, of: str, error: InputError | AuthenticationError) -> ResponseReturnValue:
    words = error.hint or str(error) if isinstance(error, InputError) else f"{error}: {error.hint}"
    return _page({f"{what}-{of}": words}, status=http_status(error))


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
    field = "password" if error.code == "weak_password" else "username"
    if isinstance(error, AuthenticationError):
        field = "proof"
    return {field: f"{error}: {error.hint}" if error.hint else str(error)}
