"""`clinic token` and `clinic api` as an administrator meets them."""

from __future__ import annotations

import json

from clinic.api.app import OPERATIONS
from clinic.config import Config
from clinic.records.records import Records
from tests.functional.test_commands import clinic, document

MAKE = ("token", "create", "--user", "ada", "--name", "EMR", "--scope", "notes:read", "--scope", "patients:read")


def add_account(config: Config, role: str = "clinician", name: str = "ada") -> None:
    """Add an account."""
    assert clinic("user", "add", name, "--role", role, config=config, typed="correct horse battery\n").exit_code == 0


def test_a_token_is_made_listed_revoked(config: Config, records: Records) -> None:
    """It is shown once, good at once, in the list without its secret, and opens nothing after `revoke`."""
    add_account(config)
    made = clinic(*MAKE, config=config)
    assert made.exit_code == 0
    secret = made.stdout.splitlines()[0]
    assert "acts for ada until" in made.stdout
    with records.read() as tx:
        assert tx.tokens.look_up(secret).refusal is None
    listed = clinic("token", "list", config=config).stdout
    assert "EMR for ada" in listed
    assert "never used: notes:read patients:read" in listed
    assert secret.rpartition("_")[2] not in listed
    (token,) = document(clinic("token", "list", "--json", config=config))
    assert token["standing"] == "good"
    assert clinic("token", "revoke", token["id"], config=config).exit_code == 0
    assert document(clinic("token", "list", "--json", config=config))[0]["standing"] == "revoked"
    with records.read() as tx:
        assert tx.tokens.look_up(secret).refusal == "token_revoked"
    assert records.sweep() == ()


def test_a_disabled_accounts_token_is_shown_as_such(config: Config) -> None:
    """The list says what would be refused, and that there is none when there is none."""
    assert "no tokens" in clinic("token", "list", config=config).stdout
    add_account(config)
    token = document(clinic(*MAKE, "--json", "--days", "3", config=config))
    assert set(token) >= {"id", "token", "program", "user", "scopes", "expires_at"}
    clinic("user", "disable", "ada", config=config)
    assert document(clinic("token", "list", "--json", config=config))[0]["standing"] == "account disabled"


def test_what_cannot_be_made_is_refused_with_its_code(config: Config) -> None:
    """An auditor's account, nobody's, a scope that does not exist, signing, a token that is not there."""
    add_account(config, role="auditor")
    for arguments, code, expected in (
        (MAKE, 1, "token_account"),
        ((*MAKE[:3], "nobody", *MAKE[4:]), 1, "user_unknown"),
        ((*MAKE, "--scope", "notes:sign"), 2, "usage"),
        ((*MAKE, "--days", "400"), 2, "usage"),
        (("token", "revoke", "0" * 32), 1, "record_unknown"),
    ):
        failed = clinic(*arguments, *([] if "revoke" in arguments else ["--json"]), config=config)
        assert failed.exit_code == code
        assert expected in failed.output, failed.output


def test_the_document_needs_no_data_folder() -> None:
    """`clinic api openapi` prints OpenAPI 3.1 with every operation."""
    result = clinic("api", "openapi")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["openapi"] == "3.1.0"
    names = {operation["operationId"] for path in found["paths"].values() for operation in path.values()}
    assert names == {operation.name for operation in OPERATIONS}
