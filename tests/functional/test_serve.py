"""`clinic serve` as a whole: sealed start, unlocking, restarts of what dies, an end without orphans."""

from __future__ import annotations

import json
import os
import re
import resource
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request  # noqa: TID251 - the test asks the server under test
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from clinic import control
from clinic.cli.system import web_addresses
from clinic.config import Config
from clinic.crypto.holding import alone
from clinic.crypto.keys import KeyBytes, unlock
from clinic.errors import ClinicError, ConfigError, SealedError
from clinic.home import HomeOptions, create, open_records, unlock_home
from clinic.supervisor import Supervisor
from tests.conftest import MODELS

PASSPHRASE = "five unrelated words are easy"
DEADLINE_S = 90


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def served(config: Config, *, command: str = "serve", **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `clinic serve`, or another of its processes, without a terminal."""
    with (config.logs_dir / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "clinic", command, "--home", str(config.home)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | variables,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(40)


def health(config: Config) -> str:
    """Ask `/health`, trusting the clinic's own CA only; returns its status word, or `down`."""
    context = ssl.create_default_context(cafile=str(config.tls_dir / "ca.crt"))
    url = f"https://localhost:{config.web.port}/health"
    try:
        with urllib.request.urlopen(url, context=context, timeout=5) as answer:  # noqa: TID251 - as above
            return str(json.load(answer)["status"])
    except urllib.error.HTTPError as error:
        return str(json.load(error)["status"])
    except OSError:
        return "down"


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def descendants(pid: int) -> set[int]:
    """Return all processes below `pid`."""
    found: set[int] = set()
    pending = [pid]
    while pending:
        for task in Path(f"/proc/{pending.pop()}/task").glob("*/children"):
            children = {int(child) for child in task.read_text().split()}
            pending += children - found
            found |= children
    return found


def alive(pids: set[int]) -> set[int]:
    """Return those that still run (zombies do not)."""
    running = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            running.add(pid)
    return running


def unlocks(config: Config, passphrase: str | None = None) -> list[str]:
    """Return what the audit log says about each unlocking."""
    records = open_records(config, unlock_home(config, passphrase=passphrase))
    return [json.loads(entry.body)["slot_kind"] for entry in records.audit.entries() if entry.event == "key.unlocked"]


def refused_serve(config: Config) -> str:
    """Run a `clinic serve` that must refuse; returns what it said."""
    command = [sys.executable, "-m", "clinic", "serve", "--home", str(config.home)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    return run.stdout + run.stderr


def could_dump(pids: set[int]) -> set[int]:
    """Return the processes that the kernel would let leave a core file."""
    limit = re.compile(r"^Max core file size +0 +0 ", re.MULTILINE)
    return {pid for pid in pids if limit.search(Path(f"/proc/{pid}/limits").read_text(encoding="ascii")) is None}


def allow_core_files() -> None:
    """Let this process leave a core file again: a command that ran inside it took that away, and from its children."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard == 0:
        pytest.skip("nobody may leave a core file here (ulimit -Hc): nothing would be shown")
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def web_processes(supervisor: int) -> set[int]:
    """Return the web form's processes."""
    return {p for p in descendants(supervisor) if b"\0web\0" in Path(f"/proc/{p}/cmdline").read_bytes()}


@pytest.mark.models
def test_sealed_start_unlock_restart_stop(tmp_path: Path) -> None:
    """Sealed until the passphrase comes; a killed web process comes back; SIGTERM leaves no process behind."""
    allow_core_files()
    options = HomeOptions(passphrase=PASSPHRASE, models=MODELS, port=free_port())
    config = create(tmp_path / "h", options).config
    with served(config) as clinic:
        wait_for(lambda: health(config) == "sealed")
        assert control.ask(config, "status") == "sealed"
        assert control.ask(config, "unlock", "not the passphrase at all") == "key_wrong"
        assert health(config) == "sealed"
        assert control.ask(config, "unlock", PASSPHRASE) == "ok"
        wait_for(lambda: health(config) == "ok")
        assert unlocks(config, PASSPHRASE) == ["passphrase"]

        running = web_processes(clinic.pid)
        assert control.ask(config, "unlock", "not the passphrase at all") == "key_wrong"
        assert control.ask(config, "unlock", PASSPHRASE) == "ok"
        assert control.ask(config, "status") == "unsealed"
        time.sleep(2)
        assert web_processes(clinic.pid) == running  # unlocking twice restarts nothing
        assert unlocks(config, PASSPHRASE) == ["passphrase"]

        killed = web_processes(clinic.pid)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: bool(web_processes(clinic.pid) - killed))
        wait_for(lambda: health(config) == "ok")
        below = descendants(clinic.pid)
        assert len(below) >= 4  # web and its worker, the job worker, the model server's keeper
        assert could_dump({clinic.pid, *below}) == set()
        assert could_dump({os.getpid()}) == {os.getpid()}  # negative control: this process is not protected
    assert alive(below) == set()
    with pytest.raises(SealedError):
        control.ask(config, "status")


@pytest.mark.models
def test_killed_supervisor_leaves_no_orphans(make_home: Callable[..., Config]) -> None:
    """`kill -9` of `clinic serve` takes web, worker and model server with it, and the next start works."""
    config = make_home("h", port=free_port())
    with served(config) as clinic:
        wait_for(lambda: health(config) == "ok")
        below = descendants(clinic.pid)
        clinic.kill()
        wait_for(lambda: not alive(below))
    with served(config):
        wait_for(lambda: health(config) == "ok")


def test_key_is_in_no_argument_or_variable(make_home: Callable[..., Config]) -> None:
    """The children get the key through a pipe: it is neither in their arguments nor in their environment."""
    config = make_home("h", port=free_port())
    key = config.insecure_key_file.read_bytes().strip()
    with served(config) as clinic:
        wait_for(lambda: health(config) == "ok")
        for pid in descendants(clinic.pid):
            for name in ("cmdline", "environ"):
                assert key not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_second_serve_leaves_the_first_alone_and_a_kill_leaves_nothing(tmp_path: Path) -> None:
    """A second clinic on the same folder is refused; a sealed clinic that is killed takes its page with it."""
    config = create(tmp_path / "h", HomeOptions(passphrase=PASSPHRASE, port=free_port())).config
    with served(config) as clinic:
        wait_for(lambda: health(config) == "sealed")
        assert "clinic_running" in refused_serve(config)
        assert health(config) == "sealed"
        assert control.ask(config, "status") == "sealed"
        below = descendants(clinic.pid)
        assert below
        clinic.kill()
        wait_for(lambda: not alive(below))


def test_port_of_another_program_is_named(tmp_path: Path) -> None:
    """Where somebody else has the port, `serve` says so and ends; it does not restart its web form for ever."""
    config = create(tmp_path / "h", HomeOptions(passphrase=PASSPHRASE, port=free_port())).config
    with socket.socket() as other:
        other.bind(("0.0.0.0", config.web.port))  # noqa: S104 - what the web form binds, too
        other.listen()
        said = refused_serve(config)
    assert f"port {config.web.port} is in use (port_in_use)" in said.splitlines()[0]
    assert f"port {config.web.port} is in use by another program (port_in_use)" in said


def test_passphrase_from_the_environment_goes_no_further(tmp_path: Path) -> None:
    """`CLINIC_PASSPHRASE` unlocks a `serve` without a terminal, and no child has it in its environment."""
    config = create(tmp_path / "h", HomeOptions(passphrase=PASSPHRASE, models=MODELS, port=free_port())).config
    with served(config, CLINIC_PASSPHRASE=PASSPHRASE) as clinic:
        wait_for(lambda: health(config) == "ok")
        assert control.ask(config, "status") == "unsealed"
        assert unlocks(config, PASSPHRASE) == ["passphrase"]
        below = descendants(clinic.pid)
        assert web_processes(clinic.pid) <= below
        for pid in alive(below):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"CLINIC_PASSPHRASE" not in environment
            assert PASSPHRASE.encode() not in environment


@pytest.mark.parametrize("command", ["web", "worker"])
def test_standalone_process_records_that_it_unlocked(make_home: Callable[..., Config], command: str) -> None:
    """What systemd starts on its own unlocks on its own, and the audit log says so."""
    config = make_home("h", port=free_port())
    with served(config, command=command):
        wait_for(lambda: unlocks(config) == ["insecure-key-file"])


@pytest.mark.parametrize("command", ["serve", "web", "worker"])
def test_unlocks_with_the_credential_that_systemd_hands_over(tmp_path: Path, command: str) -> None:
    """`$CREDENTIALS_DIRECTORY/clinic-key` opens the clinic without a person, and the log says so."""
    key = secrets.token_hex(32).encode()
    folder = credentials(tmp_path, key)
    config = create(tmp_path / "h", HomeOptions(credential=key, models=MODELS, port=free_port())).config
    assert key not in b"".join(path.read_bytes() for path in config.home.rglob("*") if path.is_file())
    opener = KeyBytes.from_text(key, "credential")
    with served(config, command=command, CREDENTIALS_DIRECTORY=str(folder)):
        wait_for(lambda: entry_names(config, opener).count("key.unlocked") == 1)
        if command != "worker":
            wait_for(lambda: health(config) != "down")


@pytest.mark.parametrize("wrong", [b"", secrets.token_hex(32).encode()], ids=["none", "another"])
def test_without_the_right_credential_nothing_opens(tmp_path: Path, wrong: bytes) -> None:
    """A service that was handed no credential, or another clinic's, ends with the code and writes nothing."""
    config = create(tmp_path / "h", HomeOptions(credential=secrets.token_hex(32).encode(), port=free_port())).config
    variables = {"CREDENTIALS_DIRECTORY": str(credentials(tmp_path, wrong))} if wrong else {}
    command = [sys.executable, "-m", "clinic", "worker", "--home", str(config.home)]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
        env=os.environ | variables,
    )
    assert run.returncode == 3
    assert ("key_wrong" if wrong else "key_missing") in run.stderr
    assert "Traceback" not in run.stderr


def credentials(folder: Path, key: bytes) -> Path:
    """Lay a credential out as systemd does."""
    directory = folder / "credentials"
    directory.mkdir(mode=0o500)
    directory.chmod(0o700)
    (directory / "clinic-key").write_bytes(key)
    (directory / "clinic-key").chmod(0o400)
    return directory


def entry_names(config: Config, secret: KeyBytes) -> list[str]:
    """Return the names of all entries of the log."""
    return [entry.event for entry in open_records(config, unlock(config.keys_file, secret)).audit.entries()]


def test_control_socket_of_somebody_else_is_left_alone(tmp_path: Path, config: Config) -> None:
    """A socket that answers is refused, one that a crash left is replaced, and only our own is removed."""
    path = control.socket_path(config)

    def make() -> control.ControlSocket:
        return control.ControlSocket(
            config, unsealed=lambda: False, on_key=lambda _key, _source: None, on_seal=lambda: None
        )

    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ConfigError) as caught:
            make().__enter__()
        assert caught.value.code == "clinic_running"
        assert path.exists()
    with make():  # nobody listens any more
        assert control.ask(config, "status") == "sealed"
        path.rename(tmp_path / "ours")
        path.touch()
    assert path.exists()


def test_clinic_stays_sealed_when_the_unlocking_cannot_be_recorded(config: Config) -> None:
    """Without the entry in the audit log there is no unlocking, and whoever asked is told the code."""
    keyring = unlock_home(config)
    config.database.unlink()
    clinic = Supervisor(config, say=lambda _line: None, model_server=lambda: None)
    for _ in range(2):
        with pytest.raises(ClinicError):
            clinic.unseal(keyring, config.key_source)


def with_key(supervisor: int) -> set[int]:
    """Return the processes that were handed the key."""
    return {p for p in descendants(supervisor) if b"\0--key-fd\0" in Path(f"/proc/{p}/cmdline").read_bytes()}


def test_sealing_a_running_clinic_ends_what_holds_the_key(make_home: Callable[..., Config]) -> None:
    """`keys seal`: web and worker end, the sealed page answers, the keys are free; unlocking brings all back."""
    config = make_home("h", port=free_port())
    with served(config) as clinic:
        wait_for(lambda: health(config) == "ok")
        holders = with_key(clinic.pid)
        assert len(holders) >= 2  # negative control: they are there before
        with pytest.raises(ConfigError), alone(config.run_dir):
            raise AssertionError
        assert control.ask(config, "seal") == "ok"
        assert alive(holders) == set()
        assert with_key(clinic.pid) == set()
        wait_for(lambda: health(config) == "sealed")
        assert control.ask(config, "status") == "sealed"
        assert control.ask(config, "seal") == "ok"  # sealed already
        with alone(config.run_dir):  # not even the supervisor keeps the key
            pass
        assert control.ask(config, "unlock") == "ok"
        wait_for(lambda: health(config) == "ok")
    events = [entry.event for entry in open_records(config, unlock_home(config)).audit.entries()]
    assert events == ["log.opened", "key.unlocked", "policyset.activated", "key.sealed", "key.unlocked"]


def test_wrong_secrets_are_tried_ever_more_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After two wrong passphrases none is tried for a while, not even the right one; then it works."""
    config = create(tmp_path / "h", HomeOptions(passphrase=PASSPHRASE)).config
    monkeypatch.setattr(control, "_WRONG_PAUSE_S", 0.0)
    now = [0.0]
    got: list[str] = []
    socket_of = control.ControlSocket(
        config,
        unsealed=lambda: bool(got),
        on_key=lambda _key, source: got.append(source.value),
        on_seal=got.clear,
        clock=lambda: now[0],
    )
    wrong, right = b'unlock "not the passphrase at all"', f'unlock "{PASSPHRASE}"'.encode()
    assert [socket_of.answer(wrong) for _ in range(3)] == ["key_wrong", "key_wrong", "unlock_locked"]
    assert socket_of.answer(right) == "unlock_locked"
    now[0] += 2.5
    assert socket_of.answer(wrong) == "key_wrong"
    now[0] += 2.5
    assert socket_of.answer(right) == "unlock_locked"  # the pause has doubled
    now[0] += 60
    assert socket_of.answer(right) == "ok"
    assert got == ["passphrase"]
    assert [socket_of.answer(line) for line in (b"seal", b"unlock {", b"dance", b"status")] == [
        "ok",
        "request_unknown",
        "request_unknown",
        "sealed",
    ]


def test_sealing_is_not_refused_when_it_cannot_be_recorded(config: Config) -> None:
    """A log that cannot be written does not keep the key in memory; the console says so."""
    said: list[str] = []
    clinic = Supervisor(config, say=said.append, model_server=lambda: None)
    clinic.unseal(unlock_home(config), config.key_source)
    config.database.unlink()
    sealing = threading.Thread(target=clinic.seal)
    sealing.start()
    wait_for(lambda: bool(said))
    clinic._tend()
    sealing.join(10)
    assert not sealing.is_alive()
    assert said[0].startswith("sealed without an entry in the audit log")
    with alone(config.run_dir):
        pass


def test_the_addresses_that_are_printed_can_be_opened() -> None:
    """An IPv6 address is in brackets, or a browser takes its last group for the port."""
    assert web_addresses(8443, [ip_address("192.168.1.5"), ip_address("fd00::2")]) == [
        "https://localhost:8443/",
        "https://192.168.1.5:8443/",
        "https://[fd00::2]:8443/",
    ]
