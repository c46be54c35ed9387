"""What a bundle says of itself: the signed list of its files (`FORMAT.md`, section 2).

Rules kept here:

* It is read only after the signature of the one expected key holds, and only in its one form.
* A path is made of plain names under five folders: no link, no `..`, nothing hidden, nothing absolute.
* Its SHA-256 names the bundle, and so the installed version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from clinic.audit.checkpoint import NoteSigner, VerifierKey, open_note
from clinic.domain import canonical_json
from clinic.errors import AuditError, BundleError, InputError

FORMAT: Final = "clinic-bundle-v1"
LARGEST: Final = 1_000_000
"""Bytes of a manifest: what a signed note may hold."""
SCRIPT: Final = "install_bundle.py"
SCRIPT_PATH: Final = f"program/deploy/{SCRIPT}"
SBOM_PATH: Final = "sbom.json"

_NAME = r"[A-Za-z0-9_+~][A-Za-z0-9._+~-]*"
_PATH: Final = rf"^(?:(?:program|wheels|models|licences|debian)(?:/{_NAME})+|sbom\.json)$"
Path_ = Annotated[str, StringConstraints(pattern=_PATH)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=rf"^{_NAME}$")]
Line = Annotated[str, StringConstraints(pattern=r"^[ -~]{1,200}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class File(_Part):
    """One file: where it goes, what it holds."""

    path: Path_
    sha256: Digest
    size: Annotated[int, Field(ge=0)]
    executable: bool


class Target(_Part):
    """The box that a bundle is for: Python (as `3.11`), machine (as `x86_64`), oldest C library (as `2.36`)."""

    python: Annotated[str, StringConstraints(pattern=r"^3\.[0-9]{1,2}$")]
    machine: Name
    glibc: Annotated[str, StringConstraints(pattern=r"^2\.[0-9]{1,2}$")]


class Program(_Part):
    """Our own program: its version, and the commit it was taken from."""

    version: Name
    commit: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]


class Licence(_Part):
    """A licence to be accepted before the models that it covers are used; `path` is its text."""

    id: Name
    name: Line
    path: Path_
    covers: tuple[Line, ...]


class Manifest(_Part):
    """The whole list.

    Attributes:
        requirements: which pinned set the wheels are: `embedded` or `gpu`.
        models: name of each model folder to the digest over its files (`clinic.generation.profiles.folder_sha256`).
        unpacked_bytes: what the wheels take when they are installed.
    """

    format: str
    program: Program
    target: Target
    requirements: Name
    files: tuple[File, ...]
    models: Mapping[str, Digest]
    licences: tuple[Licence, ...]
    unpacked_bytes: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Manifest:
        paths = [file.path for file in self.files]
        if paths != sorted(set(paths)):
            raise ValueError("paths are sorted and stand once")
        folders = {path.split("/")[1] for path in paths if path.startswith("models/")}
        texts = {licence.path for licence in self.licences}
        if folders != set(self.models) or not texts <= set(paths) or not {SCRIPT_PATH, SBOM_PATH} <= set(paths):
            raise ValueError("models, licences, installer and SBOM are among the files")
        return self

    @property
    def digest(self) -> str:
        """The name of the bundle: SHA-256 of what is signed."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    @property
    def by_path(self) -> Mapping[str, File]:
        """The files by their path."""
        return {file.path: file for file in self.files}

    def text(self) -> str:
        """Return the one line that is signed."""
        return canonical_json(self.model_dump(mode="json")).decode() + "\n"

    def pack(self, signer: NoteSigner) -> bytes:
        """Return it signed.

        Raises:
            InputError: `input_invalid` if it has more files than a manifest may name.
        """
        if len(note := signer.sign(self.text())) > LARGEST:
            raise InputError("the bundle has too many files", hint="models in fewer files; not the tests of a model")
        return note.encode()


def read_manifest(note: bytes, *, vkey: str) -> Manifest:
    """Return what the owner of `vkey` signed.

    Raises:
        InputError: `vkey_invalid`.
        BundleError: `bundle_signature`, `bundle_newer`, `bundle_malformed`, `bundle_unsafe`.
    """
    text = _signed(note, _key(vkey))
    try:
        document: Any = json.loads(text)
        if isinstance(document, dict) and document.get("format") != FORMAT:
            raise BundleError(
                "the bundle is of a format that this program does not know",
                code="bundle_newer",
                hint="use the install_bundle.py that lies in the bundle",
            )
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise _invalid(error) from None
    except (ValueError, RecursionError):
        raise _malformed("it is no JSON") from None
    if manifest.text() != text:
        raise _malformed("it is not in its one form")
    return manifest


def _key(vkey: str) -> VerifierKey:
    try:
        return VerifierKey.parse(vkey)
    except AuditError:
        raise InputError(
            "that is no verifier key",
            code="vkey_invalid",
            hint="name+8 digits+base64, in one piece, as `clinic bundle key` printed it",
        ) from None


def _signed(note: bytes, key: VerifierKey) -> str:
    try:
        return open_note(note.decode(), key=key)
    except (AuditError, UnicodeDecodeError):
        raise BundleError(
            "the manifest is not signed by this key, or was changed or cut off",
            code="bundle_signature",
            hint="compare the key with the builder's, by telephone or on paper; copy the bundle anew",
        ) from None


def _invalid(error: ValidationError) -> BundleError:
    where = error.errors(include_input=False, include_url=False)[0]["loc"]
    if where and where[-1] in ("path", "sha256"):
        return BundleError(
            "the manifest holds a name that may not stand there",
            code="bundle_unsafe",
            hint="do not use this bundle; tell whoever built it",
        )
    return _malformed(f"`{'.'.join(map(str, where))}` is not valid" if where else "it contradicts itself")


def _malformed(what: str) -> BundleError:
    return BundleError(f"what was signed is no manifest: {what}", code="bundle_malformed", hint="build the bundle anew")
