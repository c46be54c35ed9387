"""`clinic token` and `clinic api`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from clinic.cli.common import home_option, json_option, open_here, out, print_json
from clinic.domain import OPERATOR, Scope, utc_now
from clinic.errors import RecordError
from clinic.records.records import Transaction
from clinic.records.tokens import LONGEST_DAYS, ApiToken
from clinic.records.users import User

_DAYS = 180


@click.group()
def token() -> None:
    """Tokens by which other programs, such as an EMR, use the JSON API (docs/api.md)."""


@token.command()
@click.option("--user", "username", required=True, help="The clinician for whom the program acts.")
@click.option("--name", "program", required=True, help="The program, as it is listed here: EMR.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    required=True,
    help="What it may do; as often as needed.",
)
@click.option(
    "--days", type=click.IntRange(1, LONGEST_DAYS), default=_DAYS, show_default=True, help="How long it is good."
)
@home_option
@json_option
def create(*, username: str, program: str, scopes: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make a token.  It is shown once and stored nowhere: put it into the program at once."""
    _, _, records = open_here()
    with records.write() as tx:
        made, secret = tx.tokens.create(
            _user(tx, username), name=program, scopes=[Scope(s) for s in scopes], days=days, actor=OPERATOR
        )
    if as_json:
        print_json(_document(made, username, utc_now()) | {"token": secret})
        return
    out.print(secret, markup=False)
    out.print(
        f"acts for {username} until {made.expires_at:%Y-%m-%d}; shown this once; id {made.id}",
        markup=False,
        style="dim",
    )


@token.command("list")
@home_option
@json_option
def list_tokens(*, as_json: bool) -> None:
    """List the tokens: program, account, scopes, expiry, last use."""
    _, _, records = open_here()
    with records.read() as tx:
        names = {user.id: user.username for user in tx.users.list()}
        disabled = {user.id for user in tx.users.list() if user.disabled}
        found = tx.tokens.list()
    now = utc_now()
    documents = [
        _document(item, names.get(item.user_id, "?"), now, disabled=item.user_id in disabled) for item in found
    ]
    if as_json:
        print_json(documents)
        return
    for shown in documents:
        used = f"last used {shown['last_used_at'][:16]}Z" if shown["last_used_at"] else "never used"
        out.print(
            f"{shown['id']}  {shown['standing']}  {shown['program']} for {shown['user']}, until "
            f"{shown['expires_at'][:10]}, {used}: {' '.join(shown['scopes'])}",
            markup=False,
        )
    if not documents:
        out.print("no tokens; `clinic token create` makes one", markup=False)


@token.command()
@click.argument("token_id", metavar="ID")
@home_option
def revoke(token_id: str) -> None:
    """Let the token with this id (`clinic token list`) open nothing any more."""
    _, _, records = open_here()
    with records.write() as tx:
        revoked = tx.tokens.revoke(token_id, OPERATOR)
    out.print(f"revoked {revoked.id} ({revoked.name})", markup=False)


@click.group()
def api() -> None:
    """The JSON API for other programs (docs/api.md)."""


@api.command()
def openapi() -> None:
    """Print the OpenAPI 3.1 document; needs no data folder."""
    from clinic.api.app import OPERATIONS  # Flask is loaded for this command only
    from clinic.api.openapi import document

    print_json(document(OPERATIONS))


def _user(tx: Transaction, username: str) -> User:
    found = tx.users.by_username(username)
    if found is None:
        raise RecordError(f"there is no account `{username}`", code="user_unknown", hint="see `clinic user list`")
    return found


def _document(item: ApiToken, username: str, now: datetime, *, disabled: bool = False) -> dict[str, Any]:
    return {
        "id": item.id,
        "program": item.name,
        "user": username,
        "scopes": sorted(item.scopes),
        "standing": item.standing(now, disabled=disabled),
        "created_at": item.created_at.isoformat(),
        "expires_at": item.expires_at.isoformat(),
        "last_used_at": None if item.last_used_at is None else item.last_used_at.isoformat(),
        "revoked_at": None if item.revoked_at is None else item.revoked_at.isoformat(),
    }
