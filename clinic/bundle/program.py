"""Our own program as it goes into a bundle: what is committed, and nothing that merely lies in the folder.

Rules kept here:

* The files are git's, from a clean checkout: the commit that the manifest names is what is installed.
* Tests stay at home; documents, policies, migrations and units go along.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clinic.errors import InputError

_FOLDERS: Final = ("clinic", "migrations", "policies", "deploy", "docs")
_FILES: Final = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "pyproject.toml")
_MODES: Final = {"100644": False, "100755": True}


@dataclass(frozen=True, slots=True)
class Checkout:
    """The committed files: path to whether it is executable."""

    folder: Path
    commit: str
    files: dict[str, bool]


def checkout(folder: Path) -> Checkout:
    """Return what is committed in `folder`.

    Raises:
        InputError: `source_missing` if it is no git checkout, `source_changed` if files differ from the commit.
    """
    commit = _git(folder, "rev-parse", "HEAD").strip()
    if changed := _git(folder, "status", "--porcelain", "--untracked-files=no").strip():
        raise InputError(
            f"`{changed.splitlines()[0].strip().split()[-1]}` is not as it was committed",
            code="source_changed",
            hint="commit or undo the changes: a bundle says which commit it holds",
        )
    files = {}
    for line in _git(folder, "ls-files", "--stage", "-z", "--", *_FOLDERS, *_FILES).split("\0"):
        about, _, path = line.partition("\t")
        if path:
            mode = about.split()[0]
            if mode not in _MODES:
                raise InputError(
                    f"`{path}` is neither a file nor a program", code="source_missing", hint="no links in the program"
                )
            files[path] = _MODES[mode]
    return Checkout(folder, commit, files)


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise InputError(
            f"`{folder}` is no git checkout of the project",
            code="source_missing",
            hint="clone the project, and run `clinic bundle build` there",
        ) from None
    return done.stdout
