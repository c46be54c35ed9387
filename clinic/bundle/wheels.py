"""The wheels of a bundle: for every pin exactly one, with a pinned hash, that fits the box.

Rules kept here:

* A wheel counts by its SHA-256 alone: one that is not in the pinned list is not taken, whatever its name.
* Of several that fit, the one that pip would prefer is taken, so the same pins always give the same bundle.
* A pin without a wheel for this Python, machine and C library is an error that names it; nothing is built here.
"""

from __future__ import annotations

import email
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Final

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from clinic.bundle.manifest import Target
from clinic.bundle.medium import Content
from clinic.errors import InputError, StorageError

_PIN: Final = re.compile(
    r"([A-Za-z0-9._-]+)(?:\[[A-Za-z0-9._, -]+\])?==([A-Za-z0-9.+!_-]+)((?: --hash=sha256:[0-9a-f]{64})+)"
)
_LEGACY: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_OLDEST_GLIBC: Final = 5
_LONGEST_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Pin:
    """One line of the pinned requirements."""

    name: str
    version: str
    hashes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Wheel:
    """One wheel that was chosen, and what its own metadata says."""

    path: Path
    content: Content
    name: str
    version: str
    licence: str | None
    is_spdx: bool
    unpacked_bytes: int

    def read(self, inside: str) -> bytes | None:
        """Return a file in it, None if there is none."""
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(inside) if inside in archive.namelist() else None


def read_pins(text: str) -> tuple[Pin, ...]:
    """Read hashed requirements as `uv pip compile` writes them.

    Raises:
        InputError: `pins_invalid`: a line that is no pin with hashes.
    """
    lines = re.sub(r"(?m)^\s*#.*\n?", "", text.replace("\\\n", " ")).splitlines()
    pins = []
    for line in filter(None, (" ".join(line.split()) for line in lines)):
        found = _PIN.fullmatch(line)
        if found is None:
            raise InputError(
                f"`{line[:60]}` is no pin with hashes", code="pins_invalid", hint="`make lock` writes them"
            )
        hashes = frozenset(re.findall(r"sha256:([0-9a-f]{64})", found[3]))
        pins.append(Pin(canonicalize_name(found[1]), found[2], hashes))
    return tuple(pins)


def platforms(target: Target) -> tuple[str, ...]:
    """Return the platform tags that the box takes, best first."""
    minor = int(target.glibc.partition(".")[2])
    tags = []
    for number in range(minor, _OLDEST_GLIBC - 1, -1):
        tags.append(f"manylinux_2_{number}_{target.machine}")
        if number in _LEGACY:
            tags.append(f"{_LEGACY[number]}_{target.machine}")
    return (*tags, f"linux_{target.machine}")


def tags(target: Target) -> tuple[Tag, ...]:
    """Return the wheel tags that the box takes, best first."""
    major, minor = map(int, target.python.split("."))
    version, known = (major, minor), platforms(target)
    return (
        *cpython_tags(version, platforms=known),
        *compatible_tags(version, interpreter=f"cp{major}{minor}", platforms=known),
    )


def download(requirements: Path, folder: Path, target: Target) -> None:
    """Fetch the pinned wheels for the box into `folder`, by pip, with its hashes checked.

    Raises:
        StorageError: `download_failed`; what was fetched stays there and is not fetched again.
    """
    number = target.python.replace(".", "")
    command = [_python_with_pip(), "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--find-links", str(folder), "--dest", str(folder), "-r", str(requirements)]
    command += ["--python-version", target.python, "--implementation", "cp"]
    command += [part for abi in (f"cp{number}", "abi3", "none") for part in ("--abi", abi)]
    command += [part for platform in platforms(target) for part in ("--platform", platform)]
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip says nothing"]
        raise StorageError(
            f"the wheels could not be fetched: {errors[-1].removeprefix('ERROR: ')[:300]}",
            code="download_failed",
            hint="this machine needs a network, or `--wheels DIR --offline` with all wheels in DIR",
        )


def choose(pins: tuple[Pin, ...], folder: Path, target: Target) -> tuple[Wheel, ...]:
    """Return the best wheel in `folder` for each pin.

    Raises:
        InputError: `wheel_missing`, `wheel_unfit`, `wheel_damaged`.
    """
    order = {tag: number for number, tag in enumerate(tags(target))}
    at_hand = _at_hand(folder)
    return tuple(_chosen(pin, at_hand.get(pin.name, ()), order, target) for pin in pins)


def has_all(pins: tuple[Pin, ...], folder: Path, target: Target) -> bool:
    """Tell whether nothing needs to be fetched."""
    try:
        choose(pins, folder, target)
    except InputError:
        return False
    return True


def _chosen(pin: Pin, candidates: tuple[Path, ...], order: Mapping[Tag, int], target: Target) -> Wheel:
    pinned = [(path, content) for path in candidates for content in [Content.of(path)] if content.sha256 in pin.hashes]
    fitting = [
        (rank, path.name, path, content) for path, content in pinned for rank in [_rank(path, order)] if rank >= 0
    ]
    what = f"{pin.name}=={pin.version}"
    if not pinned:
        raise InputError(
            f"there is no wheel of `{what}` with a pinned hash",
            code="wheel_missing",
            hint="fetch it on a connected machine (without --offline); another file of that name does not count",
        )
    if not fitting:
        raise InputError(
            f"no wheel of `{what}` fits Python {target.python}, {target.machine}, glibc {target.glibc}",
            code="wheel_unfit",
            hint="fetch the wheels for the box, not for this machine; see --python and --machine",
        )
    _, _, path, content = min(fitting)
    return _read(path, content, pin)


def _rank(path: Path, order: Mapping[Tag, int]) -> int:
    """Return how well a wheel fits, 0 is best, -1 if it does not."""
    ranks = [order[tag] for tag in parse_wheel_filename(path.name)[3] if tag in order]
    return min(ranks, default=-1)


def _at_hand(folder: Path) -> Mapping[str, tuple[Path, ...]]:
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.glob("*.whl")):
        try:
            name = parse_wheel_filename(path.name)[0]
        except InvalidWheelFilename:
            continue
        found[name] = (*found.get(name, ()), path)
    return found


def _read(path: Path, content: Content, pin: Pin) -> Wheel:
    try:
        with zipfile.ZipFile(path) as archive:
            (inside,) = (n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA"))
            metadata = email.message_from_bytes(archive.read(inside))
            unpacked = sum(info.file_size for info in archive.infolist())
            texts = [n for n in archive.namelist() if re.search(r"\.dist-info/(licenses/)?(LICEN[CS]E|COPYING)", n)]
            only_metadata = all(".dist-info/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError) as error:
        raise InputError(
            f"`{path.name}` is no wheel: {error}", code="wheel_damaged", hint="remove it and fetch it again"
        ) from None
    if (canonicalize_name(metadata["Name"]), metadata["Version"]) != (pin.name, pin.version):
        raise InputError(
            f"`{path.name}` says it is another package", code="wheel_damaged", hint="is the pin right? `make lock`"
        )
    otherwise = f"text in {texts[0]}" if texts else "none: no files of its own" if only_metadata else None
    licence = next(_licences(metadata), otherwise)
    is_spdx = metadata["License-Expression"] is not None
    return Wheel(path, content, pin.name, pin.version, licence, is_spdx, unpacked)


def _licences(metadata: Message) -> Iterator[str]:
    """Yield what a wheel says of its licence, the most exact first."""
    if metadata["License-Expression"]:
        yield str(metadata["License-Expression"])
    short = " ".join(str(metadata["License"] or "").split())
    if 0 < len(short) <= _LONGEST_NAME:
        yield short
    for classifier in metadata.get_all("Classifier", []):
        if str(classifier).startswith("License :: "):
            yield str(classifier).rpartition(" :: ")[2]


def _python_with_pip() -> str:
    """Return an interpreter that has pip: this one, or the one that this environment was made from."""
    import importlib.util

    base = getattr(sys, "_base_executable", sys.executable)
    return sys.executable if importlib.util.find_spec("pip") else str(base)
