"""Accounts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clinic.domain import OPERATOR, Role
from clinic.errors import InputError, RecordError
from clinic.records.records import Records, Transaction
from clinic.records.users import User
from tests.unit.records.records_world import ADMINISTRATOR, event_names

PASSWORD = "correct horse battery"


def create(records: Records, username: str = "ann", password: str = PASSWORD, role: Role = Role.CLINICIAN) -> User:
    """Open an account."""
    with records.write() as tx:
        return tx.users.create(username, display_name="Dr Ann Lee", role=role, password=password, actor=OPERATOR)


def test_an_account_comes_back_as_entered(records: Records) -> None:
    """By id, by name in any case, and in the list; the creation is recorded."""
    user = create(records, " Ann ")
    assert (user.username, user.display_name, user.role, user.disabled) == ("ann", "Dr Ann Lee", Role.CLINICIAN, False)
    with records.read() as tx:
        assert tx.users.get(user.id) == user
        assert tx.users.by_username("ANN") == user
        assert tx.users.list() == (user,)
        assert tx.users.get("nobody") is None
        assert tx.users.by_username("nobody") is None
    assert event_names(records) == ["user.created"]
    assert user.actor.user_id == user.id


def test_the_list_is_in_order_of_names(records: Records) -> None:
    """Accounts are listed by user name."""
    for name in ("zoe", "ann"):
        create(records, name)
    with records.read() as tx:
        assert [user.username for user in tx.users.list()] == ["ann", "zoe"]


def test_everybody_who_acts_has_a_name(records: Records) -> None:
    """What was done at the console is not said of an account that is gone."""
    with records.write() as tx:
        user = tx.users.create(
            "ada", display_name="Dr Ada", role=Role.CLINICIAN, password="a long enough one", actor=OPERATOR
        )
        assert tx.users.names() == {OPERATOR.user_id: "command line", user.id: "Dr Ada"}


def test_a_user_name_is_unique_in_any_case(records: Records) -> None:
    """The same name in capitals is taken."""
    create(records)
    with pytest.raises(RecordError) as caught:
        create(records, "ANN")
    assert caught.value.code == "record_conflict"


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b", "a\nb", "x" * 65], ids=repr)
def test_an_unusable_user_name_is_refused(records: Records, name: str) -> None:
    """Blanks, slashes and endless names are no user names."""
    with pytest.raises(InputError) as caught:
        create(records, name)
    assert caught.value.code == "input_invalid"


def test_an_empty_display_name_is_refused(records: Records) -> None:
    """Somebody must be shown by some name."""
    with pytest.raises(InputError), records.write() as tx:
        tx.users.create("ann", display_name=" ", role=Role.CLINICIAN, password=PASSWORD, actor=OPERATOR)


@pytest.mark.parametrize(
    "password",
    [
        pytest.param("123456789", id="nine characters"),
        pytest.param("a" * 20, id="one character"),
        pytest.param("xx-ANN-2026", id="holds the user name"),
        pytest.param("x1y2z3" * 50, id="endless"),
    ],
)
def test_a_weak_password_is_refused(records: Records, password: str) -> None:
    """The refusal has its own code, does not quote the password, and writes nothing."""
    with pytest.raises(InputError) as caught:
        create(records, password=password)
    assert caught.value.code == "weak_password"
    assert password not in str(caught.value)
    with records.read() as tx:
        assert tx.users.list() == ()


def test_disabling_ends_the_sessions(records: Records) -> None:
    """The epoch rises once, however often the account is disabled; the event is recorded once."""
    user = create(records)
    with records.write() as tx:
        first = tx.users.disable("ann", ADMINISTRATOR)
        again = tx.users.disable("ann", ADMINISTRATOR)
    assert first.disabled
    assert first.session_epoch == user.session_epoch + 1
    assert again == first
    assert event_names(records) == ["user.created", "user.disabled"]


def test_an_account_is_opened_again(records: Records) -> None:
    """The old password counts again, the old sessions do not; it is recorded, and only where something changes."""
    user = create(records)
    with records.write() as tx:
        tx.users.enable("ann", ADMINISTRATOR)
        closed = tx.users.disable("ann", ADMINISTRATOR)
        opened = tx.users.enable("ann", ADMINISTRATOR)
    assert not opened.disabled
    assert opened.session_epoch == closed.session_epoch == user.session_epoch + 1
    assert event_names(records) == ["user.created", "user.disabled", "user.enabled"]
    assert records.authenticate("ann", PASSWORD).id == user.id


def test_a_new_password_ends_the_sessions(records: Records) -> None:
    """The epoch rises, the new password counts, the old one does not."""
    user = create(records)
    with records.write() as tx:
        changed = tx.users.reset_password("ann", "staple staple gun", ADMINISTRATOR)
    assert changed.session_epoch == user.session_epoch + 1
    assert records.authenticate("ann", "staple staple gun").id == user.id
    assert event_names(records) == ["user.created", "password.reset", "login.succeeded"]


def test_a_weak_new_password_is_refused(records: Records) -> None:
    """The rule holds for resets too, and the old password stays."""
    create(records)
    with pytest.raises(InputError), records.write() as tx:
        tx.users.reset_password("ann", "short", ADMINISTRATOR)
    assert records.authenticate("ann", PASSWORD).username == "ann"


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda tx: tx.users.disable("nobody", ADMINISTRATOR), id="disable"),
        pytest.param(lambda tx: tx.users.enable("nobody", ADMINISTRATOR), id="enable"),
        pytest.param(lambda tx: tx.users.reset_password("nobody", PASSWORD, ADMINISTRATOR), id="reset"),
    ],
)
def test_an_unknown_account_is_record_unknown(records: Records, operation: Callable[[Transaction], object]) -> None:
    """Changing an account that is not there says so."""
    with pytest.raises(RecordError) as caught, records.write() as tx:
        operation(tx)
    assert caught.value.code == "record_unknown"


def test_logging_out_is_recorded(records: Records) -> None:
    """The event is the account's own."""
    user = create(records)
    with records.write() as tx:
        tx.users.logged_out(user)
    last = list(records.audit.entries())[-1]
    assert (last.event, last.actor) == ("login.ended", user.id)


def test_the_repr_hides_the_name(records: Records) -> None:
    """A name of a person is not in the repr."""
    assert "Lee" not in repr(create(records))
