"""Making a bundle: collect, measure, sign, write, read back.

Rules kept here:

* Everything is measured and every licence found before the first byte is written.
* What was written is read back against the signature before it gets its name's trust: a bad disk is found here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clinic.audit.checkpoint import NoteSigner
from clinic.bundle import debian, licences
from clinic.bundle.manifest import FORMAT, SBOM_PATH, SCRIPT_PATH, File, Manifest, Program, Target
from clinic.bundle.medium import Content, write
from clinic.bundle.models import read_model
from clinic.bundle.program import Checkout, checkout
from clinic.bundle.sbom import sbom
from clinic.bundle.verify import Progress, verify
from clinic.bundle.wheels import Wheel, choose, download, has_all, read_pins
from clinic.errors import InputError

_VERSION: Final = re.compile(r'(?m)^__version__ = "([^"]+)"$')
_ONLY_READ: Final = "weights"
"""The pins of packages of which one file is read and nothing run: they come without what they depend on."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to build.

    Attributes:
        source: a clean checkout of the project.
        requirements: `embedded`, or `gpu` for a box with a GPU.
        wheels: where wheels are kept, and fetched to unless `offline`.
        models: name to folder.
        packages: names of Debian packages; fetched to `debian` beside the wheels.
    """

    source: Path
    target: Target
    wheels: Path
    requirements: str = "embedded"
    models: Mapping[str, Path] | None = None
    packages: Sequence[str] = ()
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that goes in, measured: path to content, and which of them can be run."""

    manifest: Manifest
    contents: Mapping[str, Content]


def build(wish: Wish, out: Path, signer: NoteSigner, progress: Progress = lambda _done, _total: None) -> Manifest:
    """Build a bundle at `out` (a tar file if its name ends in `.tar`, else a folder) and verify it.

    Raises:
        InputError: `source_missing`, `source_changed`, `pins_invalid`, `wheel_missing`, `wheel_unfit`, `wheel_damaged`,
            `licence_missing`, `model_folder_invalid`, `package_unknown`, `output_exists`.
        StorageError: `download_failed`, `disk_full`.
        BundleError: what was written cannot be read back as it was.
    """
    parts = collect(wish)
    note = parts.manifest.pack(signer)
    different = {content.sha256: content for content in parts.contents.values()}.values()
    total, done = 2 * sum(content.size for content in different), 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    write(out, note, parts.contents[SCRIPT_PATH], different, step)
    half = done
    return verify(
        out, vkey=str(signer.key), progress=lambda read, of: progress(half + read * half // max(of, 1), total)
    )


def collect(wish: Wish) -> Parts:
    """Return everything that goes into the bundle, and the manifest over it."""
    source = checkout(wish.source)
    program = Program(version=_version(source), commit=source.commit)
    wheels = _wheels(wish)
    models = [read_model(name, folder) for name, folder in sorted((wish.models or {}).items())]
    packages = [debian.fetch(name, wish.wheels.parent / "debian") for name in sorted(set(wish.packages))]
    texts = [*licences.packaged(wheels), *(model.licence for model in models)]

    contents = {f"program/{path}": Content.of(source.folder / path) for path in source.files}
    contents |= {f"wheels/{wheel.path.name}": wheel.content for wheel in wheels}
    contents |= {f"models/{model.name}/{path}": content for model in models for path, content in model.files.items()}
    contents |= {f"debian/{package.file}": package.content for package in packages}
    contents |= {text.licence.path: Content.of(text.words) for text in texts}
    contents[SBOM_PATH] = Content.of(sbom(program, wheels, models, packages, texts))
    if SCRIPT_PATH not in contents:
        raise InputError("the checkout has no installer", code="source_missing", hint="is it this project?")
    runs = {f"program/{path}" for path, executable in source.files.items() if executable}
    files = [
        File(path=path, sha256=content.sha256, size=content.size, executable=path in runs)
        for path, content in sorted(contents.items())
    ]
    manifest = Manifest(
        format=FORMAT,
        program=program,
        target=wish.target,
        requirements=wish.requirements,
        files=tuple(files),
        models={model.name: model.sha256 for model in models},
        licences=tuple(text.licence for text in texts),
        unpacked_bytes=sum(wheel.unpacked_bytes for wheel in wheels),
    )
    return Parts(manifest, contents)


def _wheels(wish: Wish) -> tuple[Wheel, ...]:
    return tuple(wheel for name in (wish.requirements, _ONLY_READ) for wheel in _pinned(wish, name))


def _pinned(wish: Wish, name: str) -> tuple[Wheel, ...]:
    path = wish.source / "deploy" / "requirements" / f"{name}.txt"
    try:
        pins = read_pins(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"there are no pins at `{path}`", code="pins_invalid", hint="`make lock` writes them"
        ) from None
    if not wish.offline and not has_all(pins, wish.wheels, wish.target):
        download(path, wish.wheels, wish.target)
    return choose(pins, wish.wheels, wish.target)


def _version(source: Checkout) -> str:
    path = source.folder / "clinic" / "__init__.py"
    found = _VERSION.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    if found is None:
        raise InputError("the checkout has no version", code="source_missing", hint="is it this project?")
    return found[1]
