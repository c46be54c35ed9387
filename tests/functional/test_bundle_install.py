"""Installing a bundle on an empty box: whole or not at all, and back again.

The box is a network namespace without a route, the system's Python, no environment; the program is a small one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from clinic.bundle.build import Wish, build
from clinic.bundle.keys import signer_of
from tests.unit.bundle.bundle_world import (
    BASE_PYTHON,
    INSTALLER,
    SIGNER,
    TARGET,
    VKEY,
    git,
    killed_at,
    load,
    make_bundle,
    make_project,
    make_wheel,
    pin,
    run_installer,
)

STRANGER = str(signer_of(b"\x09" * 32).key)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Versions 1.0 (a folder) and 1.1 (a file) of a small program."""
    place = tmp_path_factory.mktemp("i")
    make_bundle(place / "one", place / "v1", version="1.0")
    make_bundle(place / "two", place / "v2.tar", version="1.1")
    return place / "v1", place / "v2.tar"


def in_force(root: Path) -> str:
    """Return what the program says that `current` points to; it must be whole."""
    assert (root / "current" / "installed.json").is_file()
    program = root / "current" / ".venv" / "bin" / "clinic"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return said.strip().removeprefix("clinic, version ")


def test_from_an_empty_box_to_the_next_version_and_back(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """Licence, installation, a second time, upgrade, roll-back, and nothing left that is not needed."""
    one, two = bundles
    root = tmp_path / "opt"
    unaccepted = run_installer(one, "--vkey", VKEY, "--root", root)
    assert unaccepted.returncode == 2
    assert "licence_unaccepted" in unaccepted.stderr
    assert not root.exists()

    first = run_installer(one, "--vkey", VKEY, "--root", root, "--accept-licences", isolated=True)
    assert first.returncode == 0, first.stderr
    assert in_force(root) == "1.0, with leaf"
    wheels = [path for path in (root / "current").resolve().rglob("*.whl") if "_bundled" not in path.parts]
    assert wheels == []
    (accepted,) = json.loads((root / "current" / "installed.json").read_text(encoding="utf-8"))["licences"]
    assert (accepted["id"], accepted["how"]) == ("whisper-base", "option")

    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    again = run_installer(one, "--vkey", VKEY, "--root", root)
    assert again.stdout.endswith("is in force already: nothing to do\n")
    after = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    assert {p for p in before | after if before.get(p) != after.get(p)} <= {root / ".lock"}

    second = run_installer(two, "--vkey", VKEY, "--root", root)  # the licence was accepted: not asked again
    assert second.returncode == 0, second.stderr
    assert in_force(root) == "1.1, with leaf"
    assert (root / "previous").is_symlink()

    back = run_installer("--rollback", "--root", root)
    assert back.stdout.startswith("back to clinic 1.0")
    assert in_force(root) == "1.0, with leaf"
    forth = run_installer(two, "--vkey", VKEY, "--root", root)
    assert forth.returncode == 0
    assert in_force(root) == "1.1, with leaf"
    assert len(list((root / "versions").iterdir())) == 2


@pytest.fixture(scope="session")
def first_installed(bundles: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box with version 1.0, copied for each test: only its links are relative, so it is looked at, not moved."""
    root = tmp_path_factory.mktemp("box") / "opt"
    done = run_installer(bundles[0], "--vkey", VKEY, "--root", root, "--accept-licences")
    assert done.returncode == 0, done.stderr
    return root


def test_a_licence_is_shown_and_asked_for(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """At a terminal the words of the licence come up; whoever does not type `accept` gets nothing installed."""
    root = tmp_path / "opt"
    leader, follower = os.openpty()
    command = [BASE_PYTHON, "-I", INSTALLER, bundles[0], "--vkey", VKEY, "--root", root]
    with os.fdopen(leader, "r+b", buffering=0) as terminal:
        running = subprocess.Popen([str(part) for part in command], stdin=follower, stdout=follower, stderr=follower)
        os.close(follower)
        terminal.write(b"yes\n")
        assert running.wait(timeout=60) == 2
        shown = terminal.read(10_000).decode()
    assert "You may." in shown
    assert "MIT was not accepted" in shown
    assert not (root / "current").exists()
    assert not (root / "accepted-licences.json").exists()


def test_a_licence_is_accepted_once(
    bundles: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed at a terminal, an acceptance is kept with its time, and not asked for again; another text is."""
    installer, switch, version = load(), load("switch_version"), tmp_path / "v"
    medium = installer.Medium(bundles[0])
    manifest, _ = installer.read_manifest(medium, VKEY)
    installer.copy_files(tmp_path, version, medium, manifest)
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))

    def accept(prompt: str) -> str:
        asked.append(prompt)
        return "accept"

    monkeypatch.setattr("builtins.input", accept)
    accepted = [switch.accept_licences(tmp_path, version, manifest, accept=False) for _ in range(2)]
    assert accepted[0] == accepted[1]
    assert (accepted[0][0]["how"], len(asked)) == ("typed", 1)
    for file in manifest["files"]:
        if file["path"].startswith("licences/"):
            file["sha256"] = "0" * 64
    switch.accept_licences(tmp_path, version, manifest, accept=False)
    assert len(asked) == 2


def test_the_data_folder_is_taken_over_before_the_switch(
    bundles: tuple[Path, Path], first_installed: Path, tmp_path: Path
) -> None:
    """The new version is asked to settle the data, through the command given, and where it fails the old one stays."""
    root, data, calls = first_installed, tmp_path / "data", tmp_path / "calls"
    data.mkdir()
    (data / "clinic.toml").touch()
    for bundle in (bundles[1], bundles[0]):
        assert run_installer(bundle, "--vkey", VKEY, "--root", root).returncode == 0
    old = (root / "current").resolve()
    common = (bundles[1], "--vkey", VKEY, "--root", root, "--data", data, "--backup-to", tmp_path)
    through = f"env CLINIC_TEST_CALLS={calls}"
    assert refused(*common, "--through", f"{through} CLINIC_TEST_EXIT=5") == "data_refused"
    assert (root / "current").resolve() == old
    assert run_installer(*common, "--through", through).returncode == 0
    assert in_force(root) == "1.1, with leaf"
    asked = f"1.1 bundle settle --home {data} --old {old}/.venv/bin/clinic --backup-to {tmp_path}\n"
    assert calls.read_text(encoding="utf-8") == asked * 2


POINTS = [
    pytest.param("install_bundle.py", "read_file", 4, id="copying"),
    pytest.param("switch_version.py", "sync_folder", 1, id="first-sync"),
    pytest.param("switch_version.py", "sync_folder", 2, id="second-sync"),
]
MORE_POINTS = [
    pytest.param("install_bundle.py", "run_switch", 1, id="copied"),
    pytest.param("switch_version.py", "run", 1, id="venv"),
    pytest.param("switch_version.py", "run", 2, id="pip"),
    pytest.param("switch_version.py", "run", 4, id="compile"),
    pytest.param("switch_version.py", "write_whole", 1, id="before-whole"),
    pytest.param("switch_version.py", "switch", 1, id="whole"),
    pytest.param("switch_version.py", "link", 2, id="between-the-links"),
    pytest.param("switch_version.py", "prune", 1, id="switched"),
]


def upgrade(root: Path, bundle: Path, file: str, function: str, count: int) -> int:
    """Upgrade, and be killed at that point; return the status of what was killed."""
    arguments = [str(bundle), "--vkey", VKEY, "--root", str(root)]
    if file == "install_bundle.py":
        return killed_at(lambda: load().main(arguments), function, count, file)
    installer = load()
    medium = installer.Medium(bundle)
    manifest, text = installer.read_manifest(medium, VKEY)
    version = root / "versions" / installer.hashlib.sha256(text).hexdigest()
    if not (version / "manifest.json").exists():
        installer.copy_files(root, version, medium, manifest)
        (version / "manifest.json").write_bytes(text)
    rest = [str(version), "--vkey", VKEY, "--root", str(root)]
    return killed_at(lambda: load("switch_version").main(rest), function, count, file)


def killed_and_repeated(root: Path, bundle: Path, file: str, function: str, count: int) -> None:
    """Kill an upgrade there; what is in force is whole, and the same command ends it."""
    assert upgrade(root, bundle, file, function, count) == -9
    assert in_force(root) in ("1.0, with leaf", "1.1, with leaf")
    done = run_installer(bundle, "--vkey", VKEY, "--root", root)
    assert done.returncode == 0, done.stderr
    assert in_force(root) == "1.1, with leaf"
    assert (root / "previous" / "installed.json").is_file()
    assert not list((root / "versions").glob("*/wheels"))
    back = run_installer("--rollback", "--root", root)
    assert back.returncode == 0, back.stderr


@pytest.mark.parametrize(("file", "function", "count"), POINTS)
def test_killed_on_the_way(
    first_installed: Path, bundles: tuple[Path, Path], file: str, function: str, count: int
) -> None:
    """Killed while it copies or switches, `current` points to a whole version, and the next run goes on."""
    run_installer(bundles[0], "--vkey", VKEY, "--root", first_installed)
    if function == "read_file":  # else the new version is there already, and only put in force
        shutil.rmtree((first_installed / "previous").resolve(), ignore_errors=True)
    killed_and_repeated(first_installed, bundles[1], file, function, count)


@pytest.mark.campaign
@pytest.mark.parametrize(("file", "function", "count"), [*POINTS, *MORE_POINTS])
def test_killed_anywhere(bundles: tuple[Path, Path], tmp_path: Path, file: str, function: str, count: int) -> None:
    """Killed in each step of an upgrade, with nothing of the new version there before."""
    root = tmp_path / "opt"
    assert run_installer(bundles[0], "--vkey", VKEY, "--root", root, "--accept-licences").returncode == 0
    killed_and_repeated(root, bundles[1], file, function, count)


def test_a_half_copied_version_is_not_taken_for_whole(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """Control: a version without its last file is not whole, whatever else lies there."""
    switch = load("switch_version")
    version = tmp_path / "v"
    shutil.copytree(bundles[0], version)
    assert not switch.is_whole(version)
    (version / "installed.json").write_text("{}", encoding="utf-8")
    assert switch.is_whole(version)
    switch.remove(version)
    assert not version.exists()


@pytest.mark.parametrize("kept", [0, 100], ids=["empty", "half"])
def test_a_manifest_that_was_cut_off_is_copied_again(bundles: tuple[Path, Path], tmp_path: Path, kept: int) -> None:
    """Power that is lost while the last file of a copy is written: the same command ends it."""
    installer, root = load(), tmp_path / "opt"
    _, text = installer.read_manifest(installer.Medium(bundles[0]), VKEY)
    version = root / "versions" / installer.hashlib.sha256(text).hexdigest()
    version.mkdir(parents=True)
    (version / "manifest.json").write_bytes(text[:kept])
    done = run_installer(bundles[0], "--vkey", VKEY, "--root", root, "--accept-licences")
    assert done.returncode == 0, done.stderr
    assert in_force(root) == "1.0, with leaf"


def test_a_folder_of_another_account_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could put there what root then runs; whoever installs owns it."""
    installer, root = load(), tmp_path / "opt"
    with installer.alone(root):
        pass
    monkeypatch.setattr(installer.os, "geteuid", lambda: root.stat().st_uid + 1)
    with pytest.raises(installer.Refused, match="box_unfit"), installer.alone(root):
        pass


def refused(*arguments: object) -> str:
    """Return the code with which the installer refuses."""
    done = run_installer(*arguments)
    assert done.returncode in (1, 2), done.stdout
    return done.stderr.partition("REFUSED (")[2].partition(")")[0]


def test_refused_before_anything_is_written(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """A wrong key, a damaged copy, no bundle, nothing to go back to: a code each, and an empty folder stays empty."""
    root = tmp_path / "opt"
    common = ("--root", root, "--accept-licences")
    assert refused(bundles[0], "--vkey", STRANGER, *common) == "bundle_signature"
    assert refused(bundles[0], "--vkey", "nonsense", *common) == "vkey_invalid"
    assert refused(tmp_path, "--vkey", VKEY, *common) == "bundle_missing"
    cut = tmp_path / "cut.tar"
    cut.write_bytes(bundles[1].read_bytes()[:-5000])
    assert refused(cut, "--vkey", VKEY, *common) == "bundle_damaged"
    assert refused(bundles[0], "--vkey", VKEY, *common, "--data", tmp_path) == "data_refused"
    assert refused("--rollback", "--root", root) == "version_missing"
    assert not root.exists()


def test_a_byte_that_changes_after_the_sizes_were_checked(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """A damaged object with the right size is found while it is copied: the version never becomes whole."""
    usb, root = tmp_path / "usb", tmp_path / "opt"
    shutil.copytree(bundles[0], usb)
    largest = max((usb / "objects").iterdir(), key=lambda path: path.stat().st_size)
    largest.write_bytes(b"x" * largest.stat().st_size)
    assert refused(usb, "--vkey", VKEY, "--root", root, "--accept-licences") == "bundle_damaged"
    assert not (root / "current").exists()
    assert not list(root.glob("versions/*/*.json"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("python", "3.9", id="python"),
        pytest.param("machine", "riscv64", id="machine"),
        pytest.param("glibc", "2.99", id="glibc"),
    ],
)
def test_another_box_is_refused(bundles: tuple[Path, Path], tmp_path: Path, field: str, value: str) -> None:
    """A bundle for another Python, machine or C library is refused before anything is written."""
    installer = load()
    manifest, _ = installer.read_manifest(installer.Medium(bundles[0]), VKEY)
    installer.check_box(tmp_path, manifest)
    manifest["target"][field] = value
    with pytest.raises(installer.Refused, match="box_unfit") as caught:
        installer.check_box(tmp_path, manifest)
    assert value in str(caught.value)


def test_too_little_room_is_refused(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """The room for everything, unpacked, is asked for first."""
    installer = load()
    manifest, _ = installer.read_manifest(installer.Medium(bundles[0]), VKEY)
    manifest["unpacked_bytes"] = shutil.disk_usage(tmp_path).free
    with pytest.raises(installer.Refused, match="disk_full"):
        installer.check_box(tmp_path / "not" / "there", manifest)


def test_one_at_a_time_and_a_folder_of_its_own(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """A second installation is refused while one runs, and so is a folder that others may write to."""
    installer, root = load(), tmp_path / "opt"
    common = (bundles[0], "--vkey", VKEY, "--root", root, "--accept-licences")
    with installer.alone(root):
        assert refused(*common) == "install_running"
    root.chmod(0o777)
    assert refused(*common) == "box_unfit"


def test_it_takes_no_module_from_the_disk_that_it_lies_on(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    """A `hashlib.py` beside the installer is never imported: without `-I` it does not run at all."""
    usb = tmp_path / "usb"
    shutil.copytree(bundles[0], usb)
    (usb / "hashlib.py").write_text("print('owned')\n", encoding="utf-8")
    command = [BASE_PYTHON, str(usb / "install_bundle.py"), "--rollback"]
    bare = subprocess.run(command, capture_output=True, text=True, check=False)
    assert bare.returncode == 1
    assert "owned" not in bare.stdout
    isolated = subprocess.run([command[0], "-I", *command[1:]], capture_output=True, text=True, check=False)
    assert "owned" not in isolated.stdout
    assert isolated.returncode == 1


def test_a_wheel_that_needs_more_than_is_there(tmp_path: Path) -> None:
    """A set of wheels that does not hold what one of them requires fails in the new version, not in the clinic."""
    source, wheels = make_project(tmp_path)
    needy = make_wheel(wheels, "needy", metadata="License: MIT\nRequires-Dist: absent\n")
    pins = source / "deploy" / "requirements" / "embedded.txt"
    pins.write_text(pins.read_text(encoding="utf-8") + pin(needy), encoding="utf-8")
    git(source, "commit", "--quiet", "--all", "--message", "more")
    build(Wish(source=source, target=TARGET, wheels=wheels, offline=True), tmp_path / "out", SIGNER)
    root = tmp_path / "opt"
    done = run_installer(tmp_path / "out", "--vkey", VKEY, "--root", root, "--accept-licences")
    assert "install_failed" in done.stderr
    assert "absent" in done.stderr
    assert not (root / "current").exists()
