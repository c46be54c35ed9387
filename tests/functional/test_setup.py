"""Setting a new clinic up in the browser, with the code that `clinic init` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from clinic.app import create_app
from clinic.cli import main
from clinic.config import Config
from clinic.domain import OPERATOR, Role
from clinic.home import unlock_home
from clinic.records.engine import open_engine
from clinic.records.records import Records
from tests.functional.web_world import HASHER, Browser, Uptime, WebServices, World

FIELDS = {"username": "boss", "display_name": "The Boss", "password": "a good first password"}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, str]:
    """A new data folder, and the code that was printed."""
    home = tmp_path / "home"
    done = CliRunner().invoke(main, ["init", "--insecure-key-file", "--json", "--home", str(home)])
    assert done.exit_code == 0, done.output
    return home, json.loads(done.stdout)["setup_code"]


@pytest.fixture
def new(made: tuple[Path, str]) -> Iterator[World]:
    """The web form over it."""
    config = Config.load(made[0])
    engine = open_engine(config.database)
    services = WebServices(config, Records(engine, keyring=unlock_home(config), hasher=HASHER))
    uptime = Uptime()
    yield World(create_app(services, clock=uptime), services, uptime, {})
    engine.dispose()


def try_setup(world: World, code: str, **changed: str) -> tuple[Browser, int]:
    """Send the form of the first administrator."""
    browser = world.browser()
    browser.get("/setup")
    return browser, browser.post("/setup", code=code, **{**FIELDS, **changed}).status_code


def test_the_first_administrator_is_made_once(new: World, made: tuple[Path, str]) -> None:
    """The code opens the page once; then there is no such page, with the code or without."""
    assert 'data-testid="setup-open"' in new.browser().get("/login").text
    browser, status = try_setup(new, made[1].upper())
    assert status == 303
    assert "The clinic is set up." in browser.get("/users").text
    assert new.events()[-2:] == ["user.created", "invitation.used"]
    assert try_setup(new, made[1])[1] == 404
    assert new.browser().get("/setup").status_code == 404
    assert 'data-testid="setup-open"' not in new.browser().get("/login").text
    assert new.browser().sign_in("boss", FIELDS["password"]).location == "/users"
    assert new.records.sweep() == ()


@pytest.mark.parametrize(
    ("code", "changed", "status"),
    [
        ("22222-22222", {}, 422),
        ("", {}, 422),
        (None, {"password": "short"}, 422),
        (None, {"username": "a b"}, 422),
        (None, {"display_name": " "}, 422),
    ],
    ids=["wrong", "none", "weak", "bad-name", "nameless"],
)
def test_what_does_not_fit_makes_nobody(
    new: World, made: tuple[Path, str], code: str | None, changed: dict[str, str], status: int
) -> None:
    """Nobody is made, and the right code still is good."""
    assert try_setup(new, made[1] if code is None else code, **changed)[1] == status
    assert "user.created" not in new.events()
    assert try_setup(new, made[1])[1] == 303


def test_a_refused_form_keeps_what_was_typed_and_says_the_way_out(new: World) -> None:
    """No administrator is there to ask; the rules of the name stand on the form; all but the password is kept."""
    browser = new.browser()
    assert "letters, digits and . _ - @, no blanks" in browser.get("/setup").text
    page = browser.post("/setup", code="22222-22222", **FIELDS).text
    assert "clinic user add NAME --role administrator" in page
    assert "administrator makes a new one" not in page
    assert all(f'value="{kept}"' in page for kept in ("22222-22222", "boss", "The Boss"))
    assert FIELDS["password"] not in page


def test_guessing_waits(new: World, made: tuple[Path, str]) -> None:
    """Five wrong codes, then everybody waits."""
    assert [try_setup(new, "22222-22222")[1] for _ in range(5)] == [422] * 5
    assert try_setup(new, made[1])[1] == 429


def test_an_administrator_from_the_console_closes_it(new: World, made: tuple[Path, str]) -> None:
    """The code that was printed is worth nothing from then on; any other account leaves it open."""
    with new.records.write() as tx:
        tx.users.create("cleo", display_name="C", role=Role.CLINICIAN, password="a long password", actor=OPERATOR)
    assert new.browser().get("/setup").status_code == 200
    with new.records.write() as tx:
        tx.users.create("adam", display_name="A", role=Role.ADMINISTRATOR, password="a long password", actor=OPERATOR)
    assert try_setup(new, made[1])[1] == 404


def test_init_says_what_to_do(tmp_path: Path) -> None:
    """The code, once, and where to type it; nothing of it is in any file."""
    home = tmp_path / "told"
    told = CliRunner().invoke(main, ["init", "--insecure-key-file", "--home", str(home)]).stdout
    found = re.search(r"in the browser: ([2-9a-z]{5}-[2-9a-z]{5})", told)
    assert found is not None
    assert "/setup" in told
    secret = found[1].replace("-", "").encode()
    assert not [
        p for p in home.rglob("*") if p.is_file() and (secret in p.read_bytes() or found[1].encode() in p.read_bytes())
    ]
