"""Debian packages that go along: fetched by apt, which checks Debian's signatures.

Rules kept here:

* apt says name, size and SHA-256 beforehand; a file that is another one is refused.
* Only what was named is fetched: `apt-get install --simulate NAME` on the box says what else it needs.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clinic.bundle.medium import Content
from clinic.errors import InputError, StorageError

_URI: Final = re.compile(r"'[^']+' ([A-Za-z0-9+.~%_-]+\.deb) \d+ SHA256:([0-9a-f]{64})")
_FILE: Final = re.compile(r"([a-z0-9+.-]+)_([A-Za-z0-9+.~%-]+)_([a-z0-9]+)\.deb")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclass(frozen=True, slots=True)
class Package:
    """One package: `file` is its name on disk, with `:` written out."""

    name: str
    version: str
    architecture: str
    file: str
    content: Content


def fetch(name: str, folder: Path) -> Package:
    """Fetch a package for this machine's Debian into `folder`, or find it there.

    Raises:
        InputError: `package_unknown`.
        StorageError: `download_failed`.
    """
    found = _URI.search(_apt("--print-uris", name, folder)) if _NAME.fullmatch(name) else None
    about = _FILE.fullmatch(found[1]) if found else None
    if found is None or about is None:
        raise InputError(
            f"apt knows no package `{name}`", code="package_unknown", hint="run `apt-get update`; this must be a Debian"
        )
    path = folder / found[1]
    if not path.exists():
        _apt("--quiet", name, folder)
    if not path.exists() or (content := Content.of(path)).sha256 != found[2]:
        raise StorageError(
            f"`{found[1]}` is not the file that Debian signed",
            code="download_failed",
            hint="remove it and build again",
        )
    return Package(about[1], about[2].replace("%3a", ":"), about[3], found[1].replace("%3a", "+"), content)


def _apt(option: str, name: str, folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            ["apt-get", option, "download", name], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout
