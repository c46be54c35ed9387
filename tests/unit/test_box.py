"""`clinic doctor` about the machine: each thing is broken in turn, and its line goes red with what to do."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clinic import box, doctor
from clinic.audit.events import WitnessAdded
from clinic.audit.witness import add
from clinic.box import Finding, clock, egress, gpu, listeners, model_socket, owners, swap, weights
from clinic.config import Config, KeySource
from clinic.doctor import examine
from clinic.domain import OPERATOR, utc_now
from clinic.generation.profiles import load_profile
from clinic.home import HomeOptions, create, unlock_home
from clinic.records.records import Records
from clinic.weights import file_sha256
from tests.conftest import MODELS

NOW = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
PASSPHRASE = "a long canary passphrase"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that is no development folder, made once."""
    return create(tmp_path_factory.mktemp("b") / "home", HomeOptions(passphrase=PASSPHRASE, models=MODELS)).config.home


@pytest.fixture
def real(made: Path, tmp_path: Path) -> Config:
    """A copy of it."""
    shutil.copytree(made, tmp_path / "real")
    return Config.load(tmp_path / "real")


def red(finding: Finding) -> bool:
    """Whether the line is red; a red line says what to do."""
    assert finding.detail
    assert finding.ok or finding.hint
    return not finding.ok


@pytest.fixture
def somebody() -> Iterator[tuple[str, int]]:
    """Somebody who answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


def test_a_way_out_is_found_by_trying(real: Config, somebody: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers is named; who refuses, is silent or cannot be reached is none."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()
        monkeypatch.setattr(box, "OUTSIDE", (nobody,))
        assert not red(egress(real, wait_s=0.2))
        monkeypatch.setattr(box, "OUTSIDE", (nobody, somebody))
        found = egress(real, wait_s=0.2)
    assert red(found)
    assert "127.0.0.1 answered" in found.detail


def test_a_development_folder_is_not_tried(
    config: Config, somebody: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on a machine with a network, and nothing is sent there."""
    monkeypatch.setattr(box, "OUTSIDE", (somebody,))
    assert config.key_source is KeySource.INSECURE_KEY_FILE
    assert "not tried" in egress(config).detail


def test_in_a_network_without_a_route_nothing_is_reached(tmp_path: Path) -> None:
    """The real addresses, from a network namespace that holds nothing: as on a box that is cut off."""
    script = tmp_path / "try.py"
    script.write_text("from clinic.box import OUTSIDE, _reached\nprint(sorted(_reached(OUTSIDE, 0.5)))\n")
    unshare = ["unshare", "--net", "--map-root-user", sys.executable, str(script)]
    done = subprocess.run(unshare, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})
    if "unshare" in done.stderr:
        pytest.skip("this system makes no network namespaces")
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("what", [".", "clinic.db", "keys.json"])
def test_what_others_may_read_is_named(config: Config, what: str) -> None:
    """The folder, the database, the keys."""
    assert not red(owners(config))
    path = config.home / what
    path.chmod(path.stat().st_mode | stat.S_IROTH)
    found = owners(config)
    assert red(found)
    assert what in found.detail


def test_a_loose_file_behind_a_closed_folder_is_out_of_reach(config: Config) -> None:
    """It is red once the folder around it is open."""
    log = config.logs_dir / "web.log"
    log.touch(mode=0o644)
    log.chmod(0o644)
    assert not red(owners(config))
    config.logs_dir.chmod(0o755)
    config.home.chmod(0o711)
    assert "logs" in owners(config).detail


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_strangers_file_is_named(config: Config) -> None:
    """After a restore as root, for instance: the service could not read it."""
    os.chown(config.database, 65534, 65534)
    found = owners(config)
    assert red(found)
    assert "clinic.db" in found.detail
    assert "chown" in found.hint


def served(path: Path, mode: int) -> socket.socket:
    """Listen on a model socket with this mode."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    path.chmod(mode)
    server.listen()
    return server


def test_who_listens_on_the_model_socket_must_have_no_network(config: Config) -> None:
    """This test process has one, so it is told; nobody and nothing there are no fault."""
    assert not red(model_socket(config))
    with served(config.model_socket, 0o600):
        found = model_socket(config)
    has_more = len(Path("/proc/self/net/dev").read_text().splitlines()) > 3
    assert red(found) is has_more
    assert not red(model_socket(config)), "nobody listens any more"


def test_a_listener_without_a_network_is_well(config: Config) -> None:
    """The control: a process in a namespace of its own, as the model server is."""
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen();"
        "print('up', flush=True); sys.stdin.read()"
    )
    command = ["unshare", "--net", "--map-root-user", sys.executable, "-c", code, str(config.model_socket)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        if child.stdout.readline() != b"up\n":
            pytest.skip("this system makes no network namespaces")
        config.model_socket.chmod(0o600)
        found = model_socket(config)
        child.kill()
    assert not red(found)
    assert "has no network" in found.detail


@pytest.mark.parametrize("mode", [0o666, 0o661])
def test_a_model_socket_that_everybody_may_open_is_red(config: Config, mode: int) -> None:
    """Other accounts of the box could ask the model, unrecorded."""
    with served(config.model_socket, mode):
        assert "everybody may open" in model_socket(config).detail


def test_a_file_in_the_sockets_place_is_red(config: Config) -> None:
    """Not something to connect to."""
    config.model_socket.write_text("")
    assert red(model_socket(config))


def table(folder: Path, *rows: tuple[str, int, str, int]) -> Path:
    """Write the kernel's table of sockets: address, port, state, owner."""
    lines = ["  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"]
    lines += [f"   0: {a}:{p:04X} 00000000:0000 {s} 00000000:00000000 00:00000000 00000000  {u}" for a, p, s, u in rows]
    (folder / ("tcp6" if len(rows[0][0]) > 8 else "tcp")).write_text("\n".join(lines) + "\n")
    return folder


ANY4, LOOP4 = "00000000", "0100007F"
ANY6, LOOP6, MAPPED = "0" * 32, "0" * 24 + "01000000", "0000000000000000FFFF00000100007F"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param((ANY4, 8443, "0A", 1000), False, id="web-form"),
        pytest.param((ANY4, 9090, "0A", 1000), True, id="another-port"),
        pytest.param((ANY6, 9090, "0A", 1000), True, id="another-port-6"),
        pytest.param((ANY4, 9090, "0A", 0), False, id="somebody-elses"),
        pytest.param((ANY4, 9090, "01", 1000), False, id="a-connection"),
        pytest.param((LOOP4, 9090, "0A", 1000), False, id="loopback"),
        pytest.param((LOOP6, 9090, "0A", 1000), False, id="loopback-6"),
        pytest.param((MAPPED, 9090, "0A", 1000), False, id="loopback-mapped"),
    ],
)
def test_open_ports(config: Config, tmp_path: Path, row: tuple[str, int, str, int], *, expected: bool) -> None:
    """What this account listens on for others, besides the form, is red."""
    found = listeners(config, tables=table(tmp_path, row), uid=1000)
    assert red(found) is expected
    assert expected is ("9090" in found.detail)


def test_open_ports_are_read_off_this_kernel(config: Config) -> None:
    """The real table has a real listener."""
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        assert port in {found for found, _ in box._listening(Path("/proc/net/tcp"))}
    assert "as root" in listeners(config, uid=0).detail


def test_the_clock(records: Records, tmp_path: Path) -> None:
    """Before the log, before the program, apart from the hardware: each is red."""
    with records.write() as tx:
        tx.patients.list(actor=OPERATOR)
    newest = records.audit.entry(records.audit.size())
    rtc = tmp_path / "since_epoch"
    assert not red(clock(newest, rtc=rtc))
    assert "before the last audit entry" in clock(newest, now=lambda: utc_now() - timedelta(hours=1), rtc=rtc).detail
    assert "before this program" in clock(None, now=lambda: datetime(1970, 1, 2, tzinfo=UTC), rtc=rtc).detail
    rtc.write_text(f"{int(NOW.timestamp()) - 3600}\n")
    assert "hardware" in clock(None, now=lambda: NOW, rtc=rtc).detail
    rtc.write_text(f"{int(NOW.timestamp()) - 60}\n")
    assert not red(clock(None, now=lambda: NOW, rtc=rtc))


@pytest.mark.parametrize(
    ("line", "expected"),
    [("/dev/sda2 partition", True), ("/swapfile file", True), ("/dev/dm-1 partition", False), ("/dev/zram0 p", False)],
    ids=range(4),
)
def test_swap(real: Config, tmp_path: Path, line: str, *, expected: bool) -> None:
    """A disk in the clear is red, an encrypted one or memory is not."""
    path = tmp_path / "swaps"
    path.write_text("Filename Type Size Used Priority\n")
    assert swap(real, table=path).detail == "none"
    path.write_text(f"Filename Type Size Used Priority\n{line} 1 0 -2\n")
    assert red(swap(real, table=path)) is expected


def test_a_gpu_is_wanted_by_its_profile_only(config: Config, tmp_path: Path) -> None:
    """No driver, no card, a card."""
    assert not red(gpu(config, driver=tmp_path, devices=tmp_path))
    wants = config.model_copy(update={"generation": config.generation.model_copy(update={"profile": "gemma-4-12b"})})
    assert "no driver" in gpu(wants, driver=tmp_path, devices=tmp_path).detail
    (tmp_path / "version").touch()
    assert "sees no GPU" in gpu(wants, driver=tmp_path, devices=tmp_path).detail
    (tmp_path / "nvidiactl").touch()
    (tmp_path / "nvidia0").touch()
    assert gpu(wants, driver=tmp_path, devices=tmp_path).detail == "nvidia0"


def test_other_weights_than_the_pinned_are_red(config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A packaged set, a file of one's own, an adapter: a digest that does not agree is red, and so is none."""
    assert not red(weights(config))
    profile = load_profile("embedded", config.profiles_dir)
    assert profile.adapter is not None
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")

    def used(**pinned: object) -> Finding:
        changed = profile.model_copy(update=pinned)
        monkeypatch.setattr(box, "load_profile", lambda *_: changed)
        return weights(config)

    adapter = profile.adapter.model_copy(update={"sha256": "0" * 64})
    assert "adapter not what" in used(adapter=adapter).detail
    right = profile.weights.model_copy(update={"package": None, "path": file, "sha256": file_sha256(file)})
    assert not red(used(weights=right))
    for digest in ("0" * 64, None):
        assert "weights not what" in used(weights=right.model_copy(update={"sha256": digest})).detail


def look(config: Config, check: str, passphrase: str | None = None) -> Finding:
    """Run the doctor, its slow checks left out, and return one finding."""
    return next(f for f in examine(config, unlock_home(config, passphrase=passphrase)) if f.check == check)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds and has tests of its own."""
    for name in ("_policies", "_in_force", "_speech", "_speakers", "_sweep", "_database"):
        monkeypatch.setattr(doctor, name, lambda *_: Finding("left out", ok=True, detail="-"))
    monkeypatch.setattr(doctor, "weights", lambda _: Finding("left out", ok=True, detail="-"))


@pytest.mark.usefixtures("quick")
def test_a_witness_that_has_not_been_seen_for_long(
    real: Config, config: Config, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None at all, one today, one two months ago; a development folder is not asked."""
    assert red(look(real, "witness", PASSPHRASE))
    assert not red(look(config, "witness"))
    add(config.home, records.audit, name="tablet", text=records.audit.checkpoint())
    with records.write() as tx:
        tx.append(WitnessAdded(witness="tablet", entries=1, root="0" * 64), actor=OPERATOR)
    assert "0 days ago" in look(config, "witness").detail
    monkeypatch.setattr(doctor, "witness_age", lambda _audit: timedelta(days=61))
    assert red(look(config, "witness"))
    assert red(next(f for f in examine(config, None) if f.check == "witness"))


@pytest.mark.usefixtures("quick")
def test_a_token_for_metrics_that_cannot_be_used(config: Config) -> None:
    """Off, on, too short, readable by others."""
    assert "off" in look(config, "metrics").detail
    config.metrics_token_file.write_text("a" * 32)
    config.metrics_token_file.chmod(0o600)
    assert "on" in look(config, "metrics").detail
    config.metrics_token_file.chmod(0o644)
    assert red(look(config, "metrics"))


@pytest.mark.usefixtures("quick")
def test_every_line_has_its_name_and_a_red_one_its_hint(real: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """No check is named twice, none is forgotten, and nothing red is left without what to do."""
    names = [f.check for f in examine(real, None) if f.check != "left out"]
    assert len(names) == len(set(names)) >= 20
    monkeypatch.setattr(box, "load_profile", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    for finding in examine(replace_home(real), None):
        red(finding)


def replace_home(config: Config) -> Config:
    """Break what can be broken at once: no database, no certificate."""
    for path in (*config.home.glob("clinic.db*"), config.tls_dir / "server.pem"):
        path.unlink()
    return config
