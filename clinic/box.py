"""What has to be right about the machine itself, for `clinic doctor`: network, sockets, owners, clock, swap, models.

Rules kept here:

* A promise is tried, not believed: no way out is shown by trying to get out, weights by reading them.
* What could not be looked at is not called well.
* Nothing is changed, and nothing is sent: the tries end with the first packet.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Final

from clinic.audit.entry import Entry
from clinic.config import Config, KeySource
from clinic.domain import Clock, utc_now
from clinic.generation.launcher import located_weights
from clinic.generation.profiles import Engine, folder_sha256, load_profile
from clinic.weights import file_sha256

OUTSIDE: Final = (("1.1.1.1", 443), ("9.9.9.9", 53), ("2606:4700:4700::1111", 443))
"""Who answers everybody on the internet: two public resolvers, one of them by IPv6, too."""

PUBLIC_FILES: Final = frozenset({"tls/ca.crt"})
"""What others may read in the data folder: the authority's certificate, public by nature."""

_WAIT_S: Final = 1.5
_EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)
_RTC: Final = Path("/sys/class/rtc/rtc0/since_epoch")
_RTC_APART: Final = timedelta(minutes=5)
_NAMED: Final = 3
_LISTENS: Final = "0A"
_ENCRYPTED_SWAP: Final = ("/dev/dm-", "/dev/mapper/", "/dev/zram")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `mind`: nothing is broken, and yet it must not stay so where patients are."""

    check: str
    ok: bool
    detail: str
    hint: str = ""
    mind: bool = False


def egress(config: Config, *, wait_s: float = _WAIT_S) -> Finding:
    """Try to connect to the internet, which must fail."""
    name = "no way out"
    if config.key_source is KeySource.INSECURE_KEY_FILE:
        return Finding(name, ok=True, detail="not tried: a DEVELOPMENT data folder may be on a machine with a network")
    reached = sorted(_reached(OUTSIDE, wait_s))
    if reached:
        hint = "take the cable to the router away, or have the firewall refuse this box: it must have no way out"
        return Finding(
            name, ok=False, detail=f"this box reaches the internet: {', '.join(reached)} answered", hint=hint
        )
    return Finding(name, ok=True, detail="no address of the internet could be reached")


def _reached(outside: Iterable[tuple[str, int]], wait_s: float) -> Iterator[str]:
    with ExitStack() as opened:
        waiting: dict[socket.socket, str] = {}
        for host, port in outside:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with suppress(OSError):  # no such family here, or no route: it was not reached
                tried = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
                tried.settimeout(0)
                with suppress(BlockingIOError):
                    tried.connect((host, port))
                waiting[tried] = host
        while waiting:
            _, ready, _ = select.select([], list(waiting), [], wait_s)
            if not ready:
                return
            for tried in ready:
                if tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    yield waiting[tried]
                del waiting[tried]


def owners(config: Config) -> Finding:
    """Look at every file of the data folder: whose it is, and whether others may read it."""
    name = "data folder"
    mine, strange, exposed = config.home.stat().st_uid, [], []
    for path in (config.home, *sorted(config.home.rglob("*"))):
        shown = str(path.relative_to(config.home)) or "."
        with suppress(FileNotFoundError):  # gone in between
            status = path.lstat()
            if status.st_uid != mine:
                strange.append(shown)
            if status.st_mode & 0o077 and not stat.S_ISLNK(status.st_mode) and _reachable(config, path, shown):
                exposed.append(shown)
    if strange:
        hint = f"chown -R --reference={config.home} {config.home}"
        return Finding(name, ok=False, detail=f"owned by somebody else: {_some(strange)}", hint=hint)
    if exposed:
        hint = f"chmod -R go= {config.home}"
        return Finding(name, ok=False, detail=f"others can read {_some(exposed)}", hint=hint)
    return Finding(name, ok=True, detail=f"{config.home}, all of it its owner's alone")


def _reachable(config: Config, path: Path, shown: str) -> bool:
    """Whether a loose mode matters: models are public, and what lies below a closed folder is out of reach."""
    if shown in PUBLIC_FILES or config.models_dir in (path, *path.parents):
        return False
    between = [parent for parent in path.parents if config.home in parent.parents or parent == config.home]
    return path in (config.home, config.database, config.keys_file) or all(p.stat().st_mode & 0o011 for p in between)


def model_socket(config: Config) -> Finding:
    """Look who may open the model server's socket, and whether the one who listens there has a network."""
    name, path = "model socket", config.model_socket
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return Finding(name, ok=True, detail="none: no model server runs")
    if not stat.S_ISSOCK(mode):
        return Finding(
            name, ok=False, detail=f"{path} is no socket", hint="stop the model server, remove it, start again"
        )
    if mode & 0o007:
        return Finding(name, ok=False, detail=f"everybody may open {path}", hint="`--socket-mode 660`, or 600")
    try:
        pid = _listener(path)
        devices = Path(f"/proc/{pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
    except OSError:
        return Finding(name, ok=True, detail=f"{path}, closed to others; nobody listens")
    interfaces = [line.split(":", 1)[0].strip() for line in devices]
    if interfaces != ["lo"]:
        hint = (
            "the model server has to run without a network: `network` in its profile, `PrivateNetwork=yes` in its unit"
        )
        return Finding(name, ok=False, detail=f"the model server has a network: {_some(interfaces)}", hint=hint)
    return Finding(name, ok=True, detail=f"{path}, closed to others; who listens there has no network")


def _listener(path: Path) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(1.0)
        asked.connect(str(path))
        pid: int = struct.unpack("3i", asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[
            0
        ]
        return pid


def listeners(config: Config, *, tables: Path = Path("/proc/net"), uid: int | None = None) -> Finding:
    """Look which ports this account listens on for others: the web form's alone."""
    name = "open ports"
    account = os.getuid() if uid is None else uid
    if account == 0:
        return Finding(name, ok=True, detail="not looked at as root, to whom other programs' ports belong, too")
    found = {port for table in ("tcp", "tcp6") for port, owner in _listening(tables / table) if owner == account}
    others = sorted(found - {config.web.port})
    if others:
        shown = ", ".join(map(str, others))
        hint = "`ss -ltnp` names the program: nothing but the web form may listen for this account"
        return Finding(name, ok=False, detail=f"this account listens on {shown}, too", hint=hint)
    detail = f"{config.web.port}, and no other" if found else "none: the web form does not run"
    return Finding(name, ok=True, detail=detail)


def _listening(table: Path) -> Iterator[tuple[int, int]]:
    """Yield port and owner of each socket that others can reach (proc(5), `/proc/net/tcp`)."""
    with suppress(FileNotFoundError):  # no IPv6 here
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            address, _, port = fields[1].rpartition(":")
            if fields[3] == _LISTENS and not _is_loopback(address):
                yield int(port, 16), int(fields[7])


def _is_loopback(address: str) -> bool:
    """Read an address as the kernel writes it: words of 32 bits, their bytes in the machine's order."""
    words = (int(address[start : start + 8], 16) for start in range(0, len(address), 8))
    found = ip_address(b"".join(struct.pack("=I", word) for word in words))
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return found.is_loopback or (mapped is not None and mapped.is_loopback)


def clock(newest: Entry | None, *, now: Clock = utc_now, rtc: Path = _RTC) -> Finding:
    """Hold the clock against the log, the hardware's clock, and the day on which this was written."""
    name, moment = "clock", now()
    hint = "set it from a watch: `timedatectl set-time`, then `hwclock --systohc`; docs/recover.md"
    if moment < _EARLIEST:
        return Finding(name, ok=False, detail=f"it says {moment:%Y-%m-%d}: before this program was written", hint=hint)
    if newest is not None and moment < datetime.fromisoformat(newest.at):
        return Finding(name, ok=False, detail=f"it stands before the last audit entry, of {newest.at}", hint=hint)
    with suppress(OSError, ValueError):
        hardware = datetime.fromtimestamp(int(rtc.read_text(encoding="ascii")), UTC)
        if abs(hardware - moment) > _RTC_APART:
            shown = f"{hardware:%Y-%m-%d %H:%M}"
            return Finding(
                name, ok=False, detail=f"the hardware's clock says {shown}: a restart sets it back", hint=hint
            )
    return Finding(name, ok=True, detail=f"{moment:%Y-%m-%d %H:%M} UTC; compare it with a watch")


def swap(config: Config, *, table: Path = Path("/proc/swaps")) -> Finding:
    """Look whether memory could be written to a disk in the clear."""
    name = "swap"
    active = [line.split()[0] for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    clear = [device for device in active if not device.startswith(_ENCRYPTED_SWAP)]
    if clear and config.key_source is not KeySource.INSECURE_KEY_FILE:
        hint = "`swapoff -a` and take it out of /etc/fstab, or encrypt it"
        return Finding(name, ok=False, detail=f"words of patients may be written to {_some(clear)}", hint=hint)
    return Finding(name, ok=True, detail=f"{_some(active)}" if active else "none")


def gpu(config: Config, *, driver: Path = Path("/proc/driver/nvidia"), devices: Path = Path("/dev")) -> Finding:
    """Look whether the GPU that the profile wants is there for this account."""
    name, profile = "GPU", load_profile(config.generation.profile, config.profiles_dir)
    if profile.engine is not Engine.VLLM:
        return Finding(name, ok=True, detail=f"none needed by {profile.label}")
    if not (driver / "version").exists():
        hint = "install NVIDIA's driver, or choose a profile for this machine: `generation.profile`"
        return Finding(name, ok=False, detail=f"{profile.label} wants one, and no driver is loaded", hint=hint)
    found = sorted(path.name for path in devices.glob("nvidia[0-9]*"))
    if not found:
        return Finding(
            name, ok=False, detail="the driver sees no GPU", hint="`nvidia-smi`; is it in its slot, with power?"
        )
    return Finding(name, ok=True, detail=_some(found))


def weights(config: Config) -> Finding:
    """Read the writing model's files and hold them against what the profile pins."""
    name, profile = "writing model", load_profile(config.generation.profile, config.profiles_dir)
    if profile.engine is Engine.EXTERNAL:
        return Finding(name, ok=True, detail="somebody else's server: not looked at here")
    located = located_weights(profile, config.models_dir)  # a packaged set was read and compared by this
    parts = [] if profile.weights.package else [("weights", located, profile.weights.sha256)]
    if profile.adapter is not None:
        parts.append(("adapter", profile.adapter.file, profile.adapter.sha256))
    wrong = [part for part, path, pinned in parts if pinned != _sha256(path)]
    if wrong:
        hint = "`clinic models verify` shows the digests; copy the files anew, or pin what you mean to use"
        return Finding(name, ok=False, detail=f"{' and '.join(wrong)} not what the profile pins", hint=hint)
    return Finding(name, ok=True, detail=f"{profile.label}, as pinned")


def _sha256(path: Path) -> str:
    return folder_sha256(path) if path.is_dir() else file_sha256(path)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
