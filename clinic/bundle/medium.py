"""How a bundle lies on its medium: a folder or a tar file (`FORMAT.md`, section 1).

Rules kept here:

* There are three kinds of names, and nothing else: `manifest`, `install_bundle.py`, `objects/<sha256>`.
* Only plain files are read: a link, a pipe or a device is refused.  Memory stays flat, however large a file is.
* A bundle appears under its name only when it is whole.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from clinic.bundle.manifest import SCRIPT
from clinic.errors import BundleError, InputError

MANIFEST: Final = "manifest"
OBJECTS: Final = "objects"
MOST: Final = 100_000
"""Files in a bundle, at most: the list of them is kept in memory."""
_OBJECT: Final = re.compile(rf"{OBJECTS}/[0-9a-f]{{64}}")
_BLOCK: Final = 1 << 20
_RECORD: Final = 512

Step = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies: `start` bytes into `path`, `size` bytes long."""

    path: Path
    start: int
    size: int

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open it at its beginning."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            file.seek(self.start)
            yield file

    def read(self, most: int) -> bytes:
        """Return its content, no more than `most` bytes of it."""
        with self.open() as file:
            return file.read(min(self.size, most))

    def sha256(self, step: Step = lambda _count: None) -> str:
        """Return the digest, telling `step` each number of bytes read; a file that is cut off gives another one."""
        digest, left = hashlib.sha256(), self.size
        with self.open() as file:
            while left and (block := file.read(min(_BLOCK, left))):
                digest.update(block)
                left -= len(block)
                step(len(block))
        return digest.hexdigest()


def places(path: Path) -> Mapping[str, Place]:
    """Return the files of the bundle at `path`, by name.

    Raises:
        BundleError: `bundle_missing`, `bundle_unsafe`, `bundle_extra`, `bundle_damaged`.
    """
    found: dict[str, Place] = {}
    for name, place in _files(path):
        known = name in (MANIFEST, SCRIPT) or _OBJECT.fullmatch(name)
        if not known or name in found or len(found) >= MOST:
            raise extra(name)
        found[name] = place
    if MANIFEST not in found:
        raise _missing(path)
    return found


def extra(name: str) -> BundleError:
    """Return the error for a file of which the manifest does not speak."""
    return BundleError(
        f"the bundle holds more than it may, first: {name[:200]!r}",
        code="bundle_extra",
        hint="files that a computer left there (`.DS_Store`) may be deleted; otherwise copy the bundle anew",
    )


def damaged(what: str) -> BundleError:
    """Return the error for a file that is not as it was signed."""
    return BundleError(what, code="bundle_damaged", hint="copy the bundle anew, to another disk if it happens again")


def _missing(path: Path) -> BundleError:
    return BundleError(
        f"there is no bundle at `{path}`",
        code="bundle_missing",
        hint="name the folder that holds `manifest`, or the .tar file; is the disk mounted?",
    )


def _unsafe(name: str) -> BundleError:
    return BundleError(
        f"{name[:200]!r} in the bundle is no plain file",
        code="bundle_unsafe",
        hint="a bundle holds no links and no devices: do not use this one",
    )


def _files(path: Path) -> Iterator[tuple[str, Place]]:
    try:
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            yield from _tar_files(path)
        elif stat.S_ISDIR(mode):
            yield from _folder_files(path, "")
        else:
            raise _missing(path)
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path) from None
    except OSError as error:
        raise damaged(f"the bundle cannot be read: {(error.strerror or 'unknown reason').lower()}") from None


def _folder_files(folder: Path, prefix: str) -> Iterator[tuple[str, Place]]:
    for entry in sorted(folder.iterdir()):
        status = entry.lstat()
        if stat.S_ISDIR(status.st_mode) and not prefix and entry.name == OBJECTS:
            yield from _folder_files(entry, f"{OBJECTS}/")
        elif stat.S_ISREG(status.st_mode):
            yield prefix + entry.name, Place(entry, 0, status.st_size)
        else:
            raise _unsafe(prefix + entry.name)


def _tar_files(path: Path) -> Iterator[tuple[str, Place]]:
    """Read header by header: `TarFile` takes extensions that a hostile archive can fill memory with."""
    with path.open("rb") as file:
        while (header := file.read(_RECORD)) != bytes(_RECORD):
            name, size = _read_header(header, path)
            place = Place(path, file.tell(), size)
            yield name, place
            file.seek(place.start + size)
            if len(padding := file.read(-size % _RECORD)) != -size % _RECORD or any(padding):
                raise damaged(f"`{path.name}` is cut off, in {name!r}")
        end = file.read(_RECORD + 1)
        if len(end) < _RECORD:
            raise damaged(f"`{path.name}` is cut off")
        if end != bytes(_RECORD):
            raise extra(f"something after the end of {path.name}")


def _read_header(header: bytes, path: Path) -> tuple[str, int]:
    try:
        found = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise damaged(f"`{path.name}` is no bundle, or it is cut off or damaged") from None
    if not found.isreg():
        raise _unsafe(found.name)
    if _header(found.name, found.size) != header:
        raise damaged(f"`{path.name}` is not in the form in which bundles are written")
    return found.name, found.size


def _header(name: str, size: int) -> bytes:
    """Return the only header that a file may have: no time, no owner, no mode but tar's own default."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape")


# --- writing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Content:
    """What a file will hold: bytes, or a file to be copied."""

    source: bytes | Path
    sha256: str
    size: int

    @classmethod
    def of(cls, source: bytes | Path) -> Content:
        """Measure it."""
        if isinstance(source, bytes):
            return cls(source, hashlib.sha256(source).hexdigest(), len(source))
        place = Place(source, 0, source.stat().st_size)
        return cls(source, place.sha256(), place.size)

    def copy_to(self, out: BinaryIO) -> None:
        """Write it; a file that has changed since it was measured is found when the bundle is read back."""
        if isinstance(self.source, bytes):
            out.write(self.source)
            return
        with self.source.open("rb") as file:
            shutil.copyfileobj(file, out, _BLOCK)


def write(out: Path, manifest: bytes, script: Content, contents: Iterable[Content], step: Step) -> None:
    """Write a bundle at `out`: a tar file if its name ends so, else a folder.

    Raises:
        InputError: `output_exists`; nothing is overwritten.
    """
    if out.exists() or out.is_symlink():
        raise InputError(f"`{out}` is there already", code="output_exists", hint="name another place, or remove it")
    files = {MANIFEST: Content.of(manifest), SCRIPT: script}
    files |= {f"{OBJECTS}/{one.sha256}": one for one in sorted(contents, key=lambda one: one.sha256)}
    building = out.with_name(f".{out.name}.building")
    _clear(building)
    try:
        (_write_tar if out.suffix == ".tar" else _write_folder)(building, files, step)
        building.rename(out)
    finally:
        _clear(building)


def _clear(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _write_folder(folder: Path, files: Mapping[str, Content], step: Step) -> None:
    (folder / OBJECTS).mkdir(parents=True)
    for name, content in files.items():
        with (folder / name).open("xb") as out:
            content.copy_to(out)
            out.flush()
            os.fsync(out.fileno())
        step(content.size)


def _write_tar(path: Path, files: Mapping[str, Content], step: Step) -> None:
    with path.open("xb") as out:
        for name, content in files.items():
            out.write(_header(name, content.size))
            content.copy_to(out)
            out.write(bytes(-content.size % _RECORD))
            step(content.size)
        out.write(bytes(2 * _RECORD))
        out.flush()
        os.fsync(out.fileno())
