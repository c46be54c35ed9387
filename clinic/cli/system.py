"""`clinic serve`, `web`, `worker`, `model-server`: the processes of a clinic."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from clinic.app import create_app, create_sealed_app, create_stopped_app
from clinic.backup.schedule import Schedule
from clinic.backup.site import Site
from clinic.cli.common import home_option, home_path, load_config, out, unlock_here
from clinic.config import Config
from clinic.crypto.keys import Keyring
from clinic.crypto.local_ca import IpAddress, lan_addresses
from clinic.crypto.process import die_with_parent, harden_process
from clinic.domain import OPERATOR, Role
from clinic.errors import GenerationError
from clinic.generation.launcher import ModelServer, model_server
from clinic.generation.profiles import load_profile
from clinic.handover import PASSPHRASE_VARIABLE, receive_key
from clinic.home import (
    HomeOptions,
    can_unlock_unattended,
    create,
    guard_of,
    hold_keys,
    open_records,
    record_unlock,
    settle_log,
)
from clinic.jobs.worker import run_worker
from clinic.services import build_consultation, build_services, shared_recogniser
from clinic.supervisor import Supervisor
from clinic.web.server import serve as serve_web

_IPV6: Final = 6
_DEMO_ACCOUNTS = ((Role.CLINICIAN, "clinician"), (Role.ADMINISTRATOR, "admin"), (Role.AUDITOR, "auditor"))
_DEMO_PASSWORD = "demonstration"  # noqa: S105 - printed on the screen; only with the development key file

key_fd_option = click.option("--key-fd", type=int, hidden=True, help="Descriptor with the key, from `clinic serve`.")
parent_option = click.option("--parent", type=int, hidden=True, help="Process id of the `clinic serve` to end with.")


@click.command()
@click.option(
    "--demo", is_flag=True, help="Create the demonstration data folder and its accounts where they are missing."
)
@click.option("--sealed", is_flag=True, help="Start sealed although the key could be had.")
@home_option
def serve(*, demo: bool, sealed: bool) -> None:
    """Run the clinic: web form over HTTPS, worker, model server."""
    if demo and not (home_path() / "clinic.toml").exists():
        create(home_path(), HomeOptions(insecure_key_file=True))
    config = load_config()
    harden_process()
    with Supervisor(config, say=_say, model_server=lambda: model_server(config, say=_say)) as clinic:
        _unseal(clinic, config, demo=demo, sealed=sealed)
        for address in web_addresses(config.web.port, lan_addresses()):
            out.print(f"web form: {address}", markup=False)
        authority = config.tls_dir / "ca.crt"
        out.print(f"its certificate authority, for the browsers of the clinic: {authority}", markup=False)
        clinic.run()


def web_addresses(port: int, addresses: Iterable[IpAddress]) -> list[str]:
    """Return what to type into a browser; an IPv6 address stands in brackets there (RFC 3986, 3.2.2)."""
    hosts = [f"[{address}]" if address.version == _IPV6 else str(address) for address in addresses]
    return [f"https://{host}:{port}/" for host in ("localhost", *hosts)]


def _unseal(clinic: Supervisor, config: Config, *, demo: bool, sealed: bool) -> None:
    """Unlock where that is possible and wanted; no reference to the key stays here, so that sealing can drop it."""
    if not demo and (sealed or not _can_unlock(config)):
        return
    keyring = unlock_here(config)
    if demo and guard_of(config).current() is None:
        _prepare_demo(config, keyring)
    if not sealed:
        clinic.unseal(keyring, config.key_source)


def _can_unlock(config: Config) -> bool:
    return can_unlock_unattended(config) or PASSPHRASE_VARIABLE in os.environ or sys.stdin.isatty()


def _say(line: str) -> None:
    out.print(line, markup=False)


def _prepare_demo(config: Config, keyring: Keyring) -> None:
    records = open_records(config, keyring)
    with records.write() as tx:
        for role, username in _DEMO_ACCOUNTS:
            if tx.users.by_username(username) is None:
                tx.users.create(
                    username, display_name=f"Demo {username}", role=role, password=_DEMO_PASSWORD, actor=OPERATOR
                )
    names = ", ".join(username for _, username in _DEMO_ACCOUNTS)
    out.print(f"demonstration accounts: {names}; password of each: {_DEMO_PASSWORD}", markup=False)


@click.command(hidden=True)
@click.option("--sealed", is_flag=True)
@click.option("--stopped", is_flag=True)
@key_fd_option
@parent_option
@home_option
def web(*, sealed: bool, stopped: bool, key_fd: int | None, parent: int | None) -> None:
    """Run only the web form."""
    _end_with(parent)
    config = load_config()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if sealed:
        serve_web(lambda: create_sealed_app(config), config)
        return
    if stopped:
        serve_web(lambda: create_stopped_app(config), config)
        return
    keyring = _key(config, key_fd)
    serve_web(lambda: create_app(build_services(config, keyring)), config)


@click.command()
@key_fd_option
@parent_option
@home_option
def worker(*, key_fd: int | None, parent: int | None) -> None:
    """Run only the background jobs (the model server runs on its own)."""
    _end_with(parent)
    config = load_config()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    keyring = _key(config, key_fd)
    records = open_records(config, keyring)
    upkeep = Schedule(Site(config, keyring, records))
    shared = shared_recogniser(config)
    flow = build_consultation(config, records, transcriber=shared)
    run_worker(config, flow, records, upkeep=upkeep, hearing=shared if config.speech.live_text else None)


@click.command("model-server")
@click.option("--profile", default="embedded", show_default=True, help="A profile by name, or a path to one.")
@click.option(
    "--models", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the weights."
)
@click.option("--socket", type=click.Path(path_type=Path), required=True, help="Unix socket to answer on.")
@click.option(
    "--state", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for log and cache."
)
@click.option("--socket-mode", default="600", show_default=True, help="Who may open the socket, as octal digits: 660.")
def model_server_command(*, profile: str, models: Path, socket: Path, state: Path, socket_mode: str) -> None:
    """Run only the model server: needs no data folder and no key."""
    server = ModelServer(
        load_profile(profile, Config(home=state).profiles_dir),
        models_dir=models,
        socket=socket,
        log=state / "model.log",
        cache=state / "cache",
        socket_mode=_octal(socket_mode),
        say=_say,
    )
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    try:
        while not stop.wait(1.0):
            if server.gave_up:
                raise GenerationError("the model server keeps dying", hint=f"see {state / 'model.log'}")
    finally:
        server.stop()


def _key(config: Config, key_fd: int | None) -> Keyring:
    harden_process()
    if key_fd is not None:
        return hold_keys(config, receive_key(key_fd))  # `clinic serve` has recorded that it was unlocked
    keyring = unlock_here(config)
    latch = settle_log(config, keyring)
    if latch is not None:
        raise latch.refusal()
    record_unlock(config, keyring)
    return keyring


def _end_with(parent: int | None) -> None:
    """`clinic serve` may be killed; its children must not outlive it."""
    if parent is None:
        return
    die_with_parent()
    if os.getppid() != parent:  # it ended before the kernel knew
        sys.exit(1)


def _octal(digits: str) -> int:
    if digits not in {"600", "660"}:
        raise click.BadParameter("600 or 660", param_hint="--socket-mode")
    return int(digits, 8)
