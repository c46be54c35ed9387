"""Accounts, for the administrator, who sees no patient and no note.

Rules kept here:

* An administrator cannot disable the account they are using: somebody must be left to mend things.
"""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from clinic.domain import Role, UserId
from clinic.errors import InputError, RecordError
from clinic.records.users import User
from clinic.web import sessions
from clinic.web.access import allow
from clinic.web.forms import FormError, ResetForm, UserForm
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
        with services().records.write() as tx:
            tx.users.create(
                form.username,
                display_name=form.display_name,
                role=form.role,
                password=form.password,
                actor=sessions.actor(),
            )
    except (InputError, RecordError) as error:
        return _page(_fields(error), status=422)
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
        with services().records.write() as tx:
            tx.users.reset_password(_user(user_id).username, form.password, actor=sessions.actor())
    except InputError as error:
        return _page({f"reset-{user_id}": error.hint or str(error)}, status=422)
    flash("The password is changed. Tell the person, who should change it after signing in.")
    return redirect(url_for("admin.index"), 303)


def _user(user_id: str) -> User:
    with services().records.read() as tx:
        user = tx.users.get(UserId(user_id))
    if user is None:
        raise RecordError("there is no such account", hint="load the page again")
    return user


def _page(problems: dict[str, str], *, status: int = 200) -> ResponseReturnValue:
    with services().records.read() as tx:
        users = tx.users.list()
    values = request.form if problems else {}
    page = render_template(
        "users/list.html", users=users, roles=tuple(Role), problems=problems, values=values, me=sessions.signed_in().id
    )
    return page, status


def _fields(error: InputError | RecordError) -> dict[str, str]:
    if isinstance(error, FormError):
        return error.fields
    field = "password" if error.code == "weak_password" else "username"
    return {field: f"{error}: {error.hint}" if error.hint else str(error)}
