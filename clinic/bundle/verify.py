"""Reading all of a bundle against what was signed.

Rules kept here:

* The signature first: nothing else of the bundle is looked at before it holds.
* Every byte is read, in the order of the manifest; the first file that is not as it was signed is named.
* Nothing may be there that the manifest does not name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from clinic.bundle.manifest import LARGEST, SCRIPT, SCRIPT_PATH, Manifest, read_manifest
from clinic.bundle.medium import MANIFEST, OBJECTS, Place, damaged, extra, places
from clinic.errors import BundleError

Progress = Callable[[int, int], None]


def verify(path: Path, *, vkey: str, progress: Progress = lambda _done, _total: None) -> Manifest:
    """Return the manifest of a bundle of which every byte is as the owner of `vkey` signed it.

    Raises:
        InputError: `vkey_invalid`.
        BundleError: `bundle_missing`, `bundle_signature`, `bundle_malformed`, `bundle_newer`, `bundle_unsafe`,
            `bundle_incomplete`, `bundle_damaged`, `bundle_extra`.
    """
    found = places(path)
    manifest = read_manifest(found[MANIFEST].read(LARGEST + 1), vkey=vkey)
    _require_contents(found, manifest)
    total, done = sum(file.size for file in manifest.files), 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    for file in manifest.files:
        try:
            is_same = found[f"{OBJECTS}/{file.sha256}"].sha256(step) == file.sha256
        except OSError as error:
            raise damaged(f"`{file.path}` cannot be read: {(error.strerror or 'unknown reason').lower()}") from None
        if not is_same:
            raise damaged(f"`{file.path}` is not as it was signed")
    return manifest


def _require_contents(found: Mapping[str, Place], manifest: Manifest) -> None:
    for file in manifest.files:
        place = found.get(f"{OBJECTS}/{file.sha256}")
        if place is None:
            raise _incomplete(file.path)
        if place.size != file.size:
            raise damaged(f"`{file.path}` has {place.size} bytes instead of {file.size}")
    if SCRIPT not in found:
        raise _incomplete(SCRIPT)
    more = sorted(set(found) - {MANIFEST, SCRIPT} - {f"{OBJECTS}/{file.sha256}" for file in manifest.files})
    if more:
        raise extra(more[0])
    if found[SCRIPT].sha256() != manifest.by_path[SCRIPT_PATH].sha256:
        raise damaged(f"`{SCRIPT}` is not the one that was signed")


def _incomplete(path: str) -> BundleError:
    return BundleError(
        f"`{path}` is missing", code="bundle_incomplete", hint="copy the bundle anew; let the disk finish writing"
    )
