"""Reading a bundle: each kind of damage is refused, by name, by both readers; and so is each single changed bit."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from clinic.audit.checkpoint import NoteSigner
from clinic.bundle.keys import signer_of
from clinic.bundle.medium import Place
from clinic.bundle.verify import verify
from clinic.domain import canonical_json
from clinic.errors import ClinicError
from tests.unit.bundle.bundle_world import SIGNER, VKEY, load
from tests.unit.bundle.conftest import Built

STRANGER = signer_of(b"\x08" * 32)
PATH_OF_LEAF = "wheels/leaf-1.0.0-py3-none-any.whl"
FLIPS, CUTS = 300, 60

Reader = Callable[..., str]
Damage = Callable[[Built], object]


def by_the_program(bundle: Path, vkey: str = VKEY) -> str:
    """Return `whole`, or the code with which `clinic bundle verify` refuses."""
    try:
        verify(bundle, vkey=vkey)
    except ClinicError as error:
        return f"{error.code}: {error}"
    return "whole"


def by_the_installer(bundle: Path, vkey: str = VKEY, *, installer: ModuleType | None = None) -> str:
    """Return `whole`, or the code with which the installer refuses."""
    installer = installer or load()
    try:
        medium = installer.Medium(bundle)
        manifest, _ = installer.read_manifest(medium, vkey)
        installer.check_contents(medium, manifest)
        for file in manifest["files"]:
            installer.read_file(medium, file)
    except installer.Refused as verdict:
        return f"{verdict.code}: {verdict}"
    return "whole"


READERS = [pytest.param(by_the_program, id="program"), pytest.param(by_the_installer, id="installer")]


def leaf(built: Built) -> Path:
    """Return the object of a wheel."""
    return built.folder / "objects" / built.manifest.by_path[PATH_OF_LEAF].sha256


def signed(built: Built, change: Callable[[dict[str, object]], object], signer: NoteSigner = SIGNER) -> None:
    """Sign a manifest that was changed."""
    document = built.manifest.model_dump(mode="json")
    change(document)
    (built.folder / "manifest").write_bytes(signer.sign(canonical_json(document).decode() + "\n").encode())


def first_file(name: str, value: object) -> Callable[[dict[str, object]], object]:
    """Change one field of the first file of a manifest."""

    def change(document: dict[str, object]) -> None:
        files = document["files"]
        assert isinstance(files, list)
        files[0][name] = value

    return change


def append(path: Path, data: bytes) -> None:
    """Write behind the end of a file."""
    path.write_bytes(path.read_bytes() + data)


def replace(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else in a file's place."""
    path.unlink()
    make(path)


def link_objects(folder: Path) -> None:
    """Put a link in the place of the folder of objects."""
    (folder / "objects").rename(folder.parent / "o")
    (folder / "objects").symlink_to(folder.parent / "o")


MATRIX: dict[str, tuple[Damage, str]] = {
    "changed-wheel": (lambda b: leaf(b).write_bytes(b"x" * leaf(b).stat().st_size), "bundle_damaged"),
    "shorter-wheel": (lambda b: leaf(b).write_bytes(leaf(b).read_bytes()[:-1]), "bundle_damaged"),
    "longer-wheel": (lambda b: append(leaf(b), b"x"), "bundle_damaged"),
    "missing-wheel": (lambda b: leaf(b).unlink(), "bundle_incomplete"),
    "empty-wheel": (lambda b: leaf(b).write_bytes(b""), "bundle_damaged"),
    "changed-installer": (lambda b: append(b.folder / "install_bundle.py", b"#"), "bundle_damaged"),
    "missing-installer": (lambda b: (b.folder / "install_bundle.py").unlink(), "bundle_incomplete"),
    "wheel-is-a-link": (lambda b: replace(leaf(b), lambda p: p.symlink_to("/etc/passwd")), "bundle_unsafe"),
    "wheel-is-a-pipe": (lambda b: replace(leaf(b), os.mkfifo), "bundle_unsafe"),
    "wheel-is-a-folder": (lambda b: replace(leaf(b), Path.mkdir), "bundle_unsafe"),
    "objects-is-a-link": (lambda b: link_objects(b.folder), "bundle_unsafe"),
    "another-object": (lambda b: (b.folder / "objects" / ("0" * 64)).write_bytes(b""), "bundle_extra"),
    "strange-object": (lambda b: (b.folder / "objects" / "x").write_bytes(b""), "bundle_extra"),
    "another-file": (lambda b: (b.folder / "hashlib.py").write_bytes(b""), "bundle_extra"),
    "second-manifest": (lambda b: (b.folder / "manifest.2").write_bytes(b""), "bundle_extra"),
    "another-folder": (lambda b: (b.folder / "more").mkdir(), "bundle_unsafe"),
    "no-manifest": (lambda b: (b.folder / "manifest").unlink(), "bundle_missing"),
    "empty-manifest": (lambda b: (b.folder / "manifest").write_bytes(b""), "bundle_signature"),
    "cut-manifest": (lambda b: (b.folder / "manifest").write_bytes(b"{}\n\n"), "bundle_signature"),
    "strangers-manifest": (lambda b: signed(b, lambda _d: None, STRANGER), "bundle_signature"),
    "swapped-digest": (
        lambda b: (b.folder / "manifest").write_bytes(
            (b.folder / "manifest").read_bytes().replace(leaf(b).name.encode(), b"0" * 64)
        ),
        "bundle_signature",
    ),
    "signed-dots": (lambda b: signed(b, first_file("path", "program/../../etc/cron.d/x")), "bundle_unsafe"),
    "signed-absolute": (lambda b: signed(b, first_file("path", "/etc/passwd")), "bundle_unsafe"),
    "signed-hidden": (lambda b: signed(b, first_file("path", "program/.venv/x")), "bundle_unsafe"),
    "signed-elsewhere": (lambda b: signed(b, first_file("path", "installed.json")), "bundle_unsafe"),
    "signed-digest": (lambda b: signed(b, first_file("sha256", "../../etc/passwd")), "bundle_unsafe"),
    "signed-newer": (lambda b: signed(b, lambda d: d.update(format="clinic-bundle-v2")), "bundle_newer"),
    "signed-without-files": (lambda b: signed(b, lambda d: d.pop("files")), "bundle_malformed"),
    "signed-other-form": (
        lambda b: (b.folder / "manifest").write_bytes(
            SIGNER.sign(json.dumps(b.manifest.model_dump(mode="json"), sort_keys=True) + "\n").encode()
        ),
        "bundle_malformed",
    ),
    "signed-nonsense": (
        lambda b: (b.folder / "manifest").write_bytes(SIGNER.sign("[]\n").encode()),
        "bundle_malformed",
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", sorted(MATRIX))
def test_each_kind_of_damage_has_its_code(built: Built, name: str, reader: Reader) -> None:
    """Each way to change a bundle is refused with its own code; one that hits a file names it."""
    assert reader(built.folder) == "whole"
    damage, code = MATRIX[name]
    damage(built)
    said = reader(built.folder)
    assert said.startswith(f"{code}: "), said
    if name in ("changed-wheel", "shorter-wheel", "longer-wheel", "missing-wheel", "empty-wheel"):
        assert PATH_OF_LEAF in said


def test_matrix_is_of_this_size() -> None:
    """So many kinds of damage are tried by each of the two readers."""
    assert len(MATRIX) == 30


@pytest.mark.parametrize("reader", READERS)
def test_another_key_is_refused(built: Built, reader: Reader) -> None:
    """A bundle that somebody else signed is refused, and a mistyped key is told from a wrong one."""
    assert reader(built.folder, str(STRANGER.key)).startswith("bundle_signature: ")
    assert reader(built.tar, VKEY).startswith("whole")
    for mistyped in (VKEY[:-2], VKEY.replace("+", "-"), VKEY[:-6] + "AAAAA=", "", "a+b+c"):
        assert reader(built.folder, mistyped).startswith("vkey_invalid: "), mistyped


def test_without_the_digests_damage_passes(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where digests are believed and not computed, both readers call a changed wheel whole."""
    MATRIX["changed-wheel"][0](built)
    assert by_the_program(built.folder) != "whole"
    script = built.manifest.by_path["program/deploy/install_bundle.py"].sha256

    def believed(self: Place, _step: object = None) -> str:
        return script if self.path.name == "install_bundle.py" else self.path.name

    monkeypatch.setattr(Place, "sha256", believed)
    assert by_the_program(built.folder) == "whole"
    installer = load()
    monkeypatch.setattr(installer, "read_file", lambda *_arguments: None)
    assert by_the_installer(built.folder, installer=installer) == "whole"


def test_without_the_signature_a_changed_manifest_passes(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where every signature holds, a stranger's manifest is taken for the builder's."""
    text = (built.folder / "manifest").read_bytes().replace(b'"version":"1.0"', b'"version":"6.6"')
    (built.folder / "manifest").write_bytes(text)
    installer = load()
    assert by_the_installer(built.folder, installer=installer).startswith("bundle_signature: ")
    monkeypatch.setattr(installer, "is_signed", lambda *_arguments: True)
    assert by_the_installer(built.folder, installer=installer) == "whole"


@pytest.mark.parametrize("reader", READERS)
def test_any_changed_bit_is_found(built: Built, reader: Reader) -> None:
    """A flipped bit anywhere in the file, spread over all of it, and at both ends, is refused."""
    good = built.tar.read_bytes()
    places = sorted({*range(0, len(good), len(good) // FLIPS), *range(8), *range(len(good) - 8, len(good))})
    accepted = []
    for number, place in enumerate(places):
        damaged = bytearray(good)
        damaged[place] ^= 1 << number % 8
        built.tar.write_bytes(damaged)
        if reader(built.tar) == "whole":
            accepted.append(place)
    assert len(places) >= FLIPS
    assert accepted == []


@pytest.mark.parametrize("reader", READERS)
def test_a_truncated_copy_is_found(built: Built, reader: Reader) -> None:
    """A file that was cut off anywhere, also at the border of a block, is refused."""
    good = built.tar.read_bytes()
    lengths = {*range(0, len(good), len(good) // CUTS), len(good) - 1, len(good) - 512, len(good) - 1024, 0, 511, 512}
    for length in sorted(lengths):
        built.tar.write_bytes(good[:length])
        assert reader(built.tar) != "whole", length
    assert len(lengths) >= CUTS


def entry(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """Return a member of a tar archive as an attacker writes it."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


TAR_MATRIX = {
    "link": (entry("objects/" + "1" * 64, kind=tarfile.SYMTYPE, link="/etc/passwd"), "bundle_unsafe"),
    "hard-link": (entry("objects/" + "1" * 64, kind=tarfile.LNKTYPE, link="manifest"), "bundle_unsafe"),
    "device": (entry("objects/" + "1" * 64, kind=tarfile.CHRTYPE), "bundle_unsafe"),
    "folder": (entry("objects", kind=tarfile.DIRTYPE), "bundle_unsafe"),
    "dots": (entry("../../etc/cron.d/x", b"x"), "bundle_extra"),
    "absolute": (entry("/etc/passwd", b"x"), "bundle_extra"),
    "second-manifest": (entry("manifest", b"x"), "bundle_extra"),
    "other-owner": (
        entry("objects/" + "1" * 64).replace(b"0000644", b"0000777", 1),
        "bundle_damaged",
    ),
    "long-name": (entry("a" * 200), "bundle_unsafe"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", sorted(TAR_MATRIX))
def test_a_hostile_archive_is_refused(built: Built, name: str, reader: Reader) -> None:
    """Links, devices, names that lead out, a second manifest, or another form of header are refused."""
    member, code = TAR_MATRIX[name]
    built.tar.write_bytes(member + built.tar.read_bytes())
    said = reader(built.tar)
    assert said.startswith(f"{code}: "), said


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_bundle(built: Built, reader: Reader, tmp_path: Path) -> None:
    """Nothing, an empty folder, a text, a link to a bundle: each is refused."""
    (tmp_path / "text").write_text("hello", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(built.folder)
    assert reader(tmp_path / "nowhere").startswith("bundle_missing: ")
    assert reader(tmp_path / "empty").startswith("bundle_missing: ")
    assert reader(tmp_path / "link").startswith("bundle_missing: ")
    assert reader(tmp_path / "text").startswith("bundle_damaged: ")


def test_memory_stays_flat(tmp_path: Path) -> None:
    """Reading an object of 64 MiB takes a few blocks of memory, whatever its size."""
    import tracemalloc

    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    Place(big, 0, 64 << 20).sha256()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
