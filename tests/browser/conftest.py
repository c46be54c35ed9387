"""One web form for the tests of single pages: started once; encounters are typed or put in, nothing is recorded."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST
from playwright.sync_api import Browser, Page, sync_playwright

from clinic.config import Config
from clinic.home import HomeOptions, create, unlock_home
from clinic.records.engine import open_engine
from clinic.records.records import Records
from tests.browser.pages_world import CLINICIAN, Site, make_accounts, signed_in_page, wait_until_healthy

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
NAMED = "--host-resolver-rules=MAP clinic.lan 127.0.0.1"
"""The box is reached by a name of its certificate, as on a LAN with a name server."""


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The web process as a clinic runs it, without worker and model server."""
    home = tmp_path_factory.mktemp("pages") / "home"
    config: Config = create(
        home, HomeOptions(insecure_key_file=True, port=free_port(), hostnames=("clinic.lan",))
    ).config
    engine = open_engine(config.database)
    hasher = PasswordHasher.from_parameters(CHEAPEST)
    records = Records(engine, keyring=unlock_home(config), hasher=hasher)
    users = make_accounts(records)
    with (config.logs_dir / "web.log").open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "clinic", "web", "--home", str(home)], stdout=out, stderr=out)
    try:
        wait_until_healthy(config, process)
        yield Site(config, records, users)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        engine.dispose()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless Chromium; its own for each module, for Playwright takes one at a time in a thread."""
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium (`make tools`)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=[*FLAGS, NAMED])
        yield browser
        browser.close()


NewPage = Callable[..., Page]


@pytest.fixture
def new_page(site: Site, chromium: Browser) -> Iterator[NewPage]:
    """Open pages in browsers of their own, signed in; what a page complains of fails the test.

    `refused`: the test provokes refusals, of which the browser itself complains.
    """
    problems: list[str] = []
    contexts = []

    def open_page(username: str | None = CLINICIAN, *, refused: bool = False, **options: Any) -> Page:
        context = chromium.new_context(ignore_https_errors=True, **{"base_url": site.address, **options})
        contexts.append(context)
        page = context.new_page() if username is None else signed_in_page(site, context, username)
        page.on("pageerror", lambda error: problems.append(str(error)))
        if not refused:
            page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []
