"""Model folders that an administrator gives: their files, and one digest over them.

Rules kept here:

* A folder holds plain files and folders only; a link would not be there on the box.
* The digest is the one that a profile pins (`weights.sha256`) and that `clinic models verify` prints.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clinic.bundle.licences import Text, of_folder
from clinic.bundle.medium import Content
from clinic.errors import InputError

_SEGMENTS: Final = re.compile(r"[A-Za-z0-9_+~][A-Za-z0-9._+~-]*(/[A-Za-z0-9_+~][A-Za-z0-9._+~-]*)*")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Model:
    """A model folder: `files` by their path inside it."""

    name: str
    folder: Path
    licence: Text
    files: Mapping[str, Content]

    @property
    def sha256(self) -> str:
        """The digest over all files."""
        lines = "".join(f"{self.files[name].sha256}  {name}\n" for name in sorted(self.files, key=Path))
        return Content.of(lines.encode()).sha256


def read_model(name: str, folder: Path) -> Model:
    """Return a model folder, every file measured.

    Raises:
        InputError: `model_folder_invalid`, `licence_missing`.
    """
    if not _NAME.fullmatch(name) or not folder.is_dir():
        raise InputError(
            f"`{name}` is no name of a model, or its folder is not there",
            code="model_folder_invalid",
            hint="--model NAME=FOLDER; the name of small letters, digits, `.`, `-`",
        )
    licence, files = of_folder(name, folder), {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()) or not _SEGMENTS.fullmatch(inside):
            raise InputError(
                f"`{inside}` in the folder of `{name}` cannot go into a bundle",
                code="model_folder_invalid",
                hint="plain files only, with plain names, none hidden; copy what links point to",
            )
        if path.is_file():
            files[inside] = Content.of(path)
    return Model(name, folder, licence, files)
