#!/usr/bin/env python3
"""Verify a bundle and install it, on a box that has nothing but python3 and its venv module: read this first.

    python3 -I install_bundle.py BUNDLE --vkey KEY --verify     look at every byte, change nothing
    python3 -I install_bundle.py BUNDLE --vkey KEY              verify and install; again: nothing is to be done
    python3 -I install_bundle.py --rollback                     go back to the version before

Standard library only, no network; shares no code with the clinic's program.  The format is `clinic/bundle/FORMAT.md`.
BUNDLE is a folder or a .tar file.  KEY is the builder's verifier key, from a paper, not from the same disk.  This
program verifies and copies; what it then runs, `deploy/switch_version.py`, is one of the files that it has verified.

With `--data FOLDER`: if its database is of an older version, the version in force makes a backup and the new one
migrates it, before anything is switched.  Whatever fails, the version in force stays; killed, run it again.
Exit: 0 done; 1 refused, and nothing that is in use was changed; 2 wrong use, or licences that nobody accepted.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.isolated:  # else Python would import from the folder that this lies in
    sys.exit("run it as: python3 -I install_bundle.py ...")

import argparse
import base64
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

FORMAT = "clinic-bundle-v1"
BLOCK, LONGEST, MOST, SPARE = 1 << 20, 1 << 20, 100_000, 64 << 20
OBJECT = re.compile(r"objects/[0-9a-f]{64}")
PATH = re.compile(r"(?:program|wheels|models|licences|debian)(?:/[A-Za-z0-9_+~][A-Za-z0-9._+~-]*)+|sbom\.json")
SCRIPT, SCRIPT_PATH = "install_bundle.py", "program/deploy/install_bundle.py"
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D, ROOT_OF_MINUS_1 = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P)
BASE_Y = 4 * pow(5, -1, P) % P


class Refused(Exception):  # noqa: N818 - it is a verdict
    """The bundle or the box is not what it must be: a stable code and one line.  `exit` is the program's status."""

    def __init__(self, code: str, message: str, exit_code: int = 1) -> None:
        super().__init__(f"REFUSED ({code}): {message}")
        self.code, self.exit_code = code, exit_code


def require(right: object, code: str, message: str) -> None:
    """Refuse what is not right."""
    if not right:
        raise Refused(code, message)


def say(message: str) -> None:
    """Tell the person, on stderr."""
    print(message, file=sys.stderr, flush=True)


# --- Ed25519, verification only (RFC 8032, 5.1.3, 5.1.7, 6); a point is X, Y, Z, T with x = X/Z, y = Y/Z, T = XY/Z


def add(p: tuple[int, ...], q: tuple[int, ...]) -> tuple[int, ...]:
    """Add two points."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(scalar: int, point: tuple[int, ...]) -> tuple[int, ...]:
    """Add a point to itself so many times."""
    total: tuple[int, ...] = (0, 1, 1, 0)
    while scalar:
        total, point, scalar = add(total, point) if scalar & 1 else total, add(point, point), scalar >> 1
    return total


def point(data: bytes) -> tuple[int, ...] | None:
    """Decode a point; None where there is none with this encoding."""
    y, sign = int.from_bytes(data, "little") & (1 << 255) - 1, data[31] >> 7
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * ROOT_OF_MINUS_1 % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        return None
    x = x if x & 1 == sign else P - x
    return x, y, 1, x * y % P


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether this key made this signature over this message."""
    if (len(public), len(signature)) != (32, 64):
        return False
    key, commitment = point(public), point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key is None or commitment is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    base = point(BASE_Y.to_bytes(32, "little"))
    left, right = multiply(s, base), add(commitment, multiply(k, key))  # type: ignore[arg-type] # the base is a point
    return not any((left[i] * right[2] - right[i] * left[2]) % P for i in (0, 1))


# --- the medium: a folder or a tar file with `manifest`, `install_bundle.py`, `objects/<sha256>`, and nothing else


class Medium:
    """The files of a bundle: name to size and place; only plain files under the few names that there may be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, tuple[int, int]] = {}
        require(not path.is_symlink() and path.exists(), "bundle_missing", f"there is no bundle at {path}")
        for name, size, start in tar_files(path) if path.is_file() else folder_files(path):
            known = name in ("manifest", SCRIPT) or OBJECT.fullmatch(name)
            right = known and name not in self.files and len(self.files) < MOST
            require(right, "bundle_extra", f"holds more than it may, first: {name[:200]!r}")
            self.files[name] = (size, start)
        require("manifest" in self.files, "bundle_missing", f"there is no bundle at {path}: it has no manifest")

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file at its beginning."""
        start = self.files[name][1]
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(self.path if start else self.path / name, flags), "rb") as file:
            file.seek(start)
            yield file

    def stream(self, name: str, write: Callable[[bytes], object] = len) -> str:
        """Give a file to `write`, block by block; return its SHA-256."""
        digest, left = hashlib.sha256(), self.files[name][0]
        with self.open(name) as file:
            while left and (block := file.read(min(BLOCK, left))):
                digest.update(block)
                write(block)
                left -= len(block)
        return digest.hexdigest()


def folder_files(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and 0 of every file; refuse whatever is neither file nor folder."""
    for entry in sorted(os.scandir(path), key=lambda one: one.name):
        status = entry.stat(follow_symlinks=False)
        plain = stat.S_ISREG(status.st_mode) or (stat.S_ISDIR(status.st_mode) and entry.name == "objects")
        require(plain, "bundle_unsafe", f"{entry.name[:200]!r} is neither a plain file nor the folder of objects")
        if entry.name == "objects":
            yield from ((f"objects/{name}", size, start) for name, size, start in folder_files(Path(entry)))
        else:
            yield entry.name, status.st_size, 0


def tar_files(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, size and start of every file of a tar archive, which must be in the one form that we write."""
    with path.open("rb") as file:
        while (header := file.read(512)) != bytes(512):
            try:
                found = tarfile.TarInfo.frombuf(header, "utf-8", "replace")
            except tarfile.HeaderError:
                raise Refused("bundle_damaged", f"{path.name} is no bundle, or cut off or damaged") from None
            require(found.isreg(), "bundle_unsafe", f"{found.name!r} is not a plain file")
            plain = tarfile.TarInfo(found.name)
            plain.size, start = found.size, file.tell()
            require(plain.tobuf(tarfile.GNU_FORMAT) == header, "bundle_damaged", f"{path.name} is not as we write it")
            yield found.name, found.size, start
            file.seek(start + found.size)
            padding = -found.size % 512
            require(file.read(padding) == bytes(padding), "bundle_damaged", f"{path.name} is cut off in {found.name!r}")
        end = file.read(513)
        require(len(end) >= 512, "bundle_damaged", f"{path.name} is cut off")  # noqa: PLR2004 - tar's block
        require(end == bytes(512), "bundle_extra", f"{path.name} holds more than it may, after its end")


def read_manifest(medium: Medium, vkey: str) -> tuple[dict[str, Any], bytes]:
    """Return what the owner of `vkey` signed, also as it was signed: its SHA-256 names the version."""
    with medium.open("manifest") as file:
        note = file.read(min(LONGEST, medium.files["manifest"][0]))
    name, key_id, material = read_vkey(vkey)
    end = note.rfind(b"\n\n") + 1
    text, mark, signatures = note[:end], f"\N{EM DASH} {name} ", list[bytes]()
    with contextlib.suppress(ValueError):
        lines = note[end + 1 :].decode().splitlines()
        signatures = [base64.b64decode(line[len(mark) :], validate=True) for line in lines if line.startswith(mark)]
    right = any(one[:4] == key_id and is_signed(material, text, one[4:]) for one in signatures)
    require(right, "bundle_signature", "the manifest is not signed by this key, or was changed or cut off")
    return parsed(text), text


def read_vkey(vkey: str) -> tuple[str, bytes, bytes]:
    """Return name, key id and public key of `name+keyid+base64(type and key)`."""
    name, _, rest = vkey.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    with contextlib.suppress(ValueError):
        material = base64.b64decode(encoded, validate=True)
        expected = hashlib.sha256(name.encode() + b"\n" + material).digest()[:4]
        if (len(material), material[:1], key_id) == (33, b"\x01", expected.hex()):
            return name, expected, material[1:]
    raise Refused("vkey_invalid", "the verifier key is mistyped: name+8 digits+base64, as `bundle key` prints it", 2)


def parsed(text: bytes) -> dict[str, Any]:
    """Read the manifest, strictly; add `at`: what it says of each path."""
    try:
        manifest: dict[str, Any] = json.loads(text)
        one_form = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        require(manifest["format"] == FORMAT, "bundle_newer", "another format: use the install_bundle.py in the bundle")
        require(one_form == text, "bundle_malformed", "the manifest is not in its one form")
        at = manifest["at"] = {file["path"]: file for file in manifest["files"]}
        for path, file in at.items():
            right = PATH.fullmatch(path) and re.fullmatch("[0-9a-f]{64}", file["sha256"])
            require(right, "bundle_unsafe", f"{path[:200]!r} is not a name that may stand in a manifest")
        require(len(at) == len(manifest["files"]), "bundle_unsafe", "a path stands twice in the manifest")
    except (ValueError, TypeError, LookupError, AttributeError):
        raise Refused("bundle_malformed", "what was signed is no manifest") from None
    return manifest


def check_contents(medium: Medium, manifest: dict[str, Any]) -> None:
    """Refuse a file that is not there, is longer or shorter than it should be, or of which nobody speaks."""
    wanted = {"manifest", SCRIPT}
    for file in manifest["files"]:
        name = f"objects/{file['sha256']}"
        require(name in medium.files, "bundle_incomplete", f"{file['path']} is missing")
        size = medium.files[name][0]
        require(size == file["size"], "bundle_damaged", f"{file['path']} has {size} bytes instead of {file['size']}")
        wanted.add(name)
    require(SCRIPT in medium.files, "bundle_incomplete", f"{SCRIPT} is missing")
    more = sorted(set(medium.files) - wanted)
    require(not more, "bundle_extra", f"holds more than the manifest says, first: {more[:1]}")
    same = medium.stream(SCRIPT) == manifest["at"][SCRIPT_PATH]["sha256"]
    require(same, "bundle_damaged", f"{SCRIPT} is not the one that was signed")


def read_file(medium: Medium, file: dict[str, Any], write: Callable[[bytes], object] = len) -> None:
    """Read a file to its end; refuse it, by name, if it is not as it was signed."""
    same = medium.stream(f"objects/{file['sha256']}", write) == file["sha256"]
    require(same, "bundle_damaged", f"{file['path']} is not as it was signed")


def each(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every file, telling how far it is."""
    total, done, told = sum(file["size"] for file in manifest["files"]) or 1, 0, 0
    for file in manifest["files"]:
        yield file
        done += file["size"]
        if (percent := 100 * done // total) >= told + 10:
            told = percent
            say(f"  {percent:3} %  {done >> 20} of {total >> 20} MiB")


# --- the box: root/versions/<digest>/, root/models/<digest>/, and two links, `current` and `previous`


def check_box(root: Path, manifest: dict[str, Any]) -> None:
    """Refuse another Python, another machine, an older C library, too little room; nothing was written yet."""
    target = manifest["target"]
    here = {"python": "{}.{}".format(*sys.version_info), "machine": platform.machine()}
    for name, found in here.items():
        require(found == target[name], "box_unfit", f"made for {name} {target[name]}, this box has {found}")
    glibc = tuple(map(int, (platform.libc_ver()[1] or "0").split(".")))
    right = glibc >= tuple(map(int, target["glibc"].split(".")))
    require(right, "box_unfit", f"made for glibc {target['glibc']} or newer, this box has {platform.libc_ver()[1]}")
    venv = importlib.util.find_spec("ensurepip")  # Debian splits it off
    require(venv, "box_unfit", "Python's venv module is not whole: apt install python3-venv")
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    need = sum(file["size"] for file in manifest["files"]) + manifest["unpacked_bytes"] + SPARE
    free = shutil.disk_usage(existing).free
    require(free >= need, "disk_full", f"{need >> 20} MiB are needed under {existing}, {free >> 20} MiB are free")


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Be the only installation that runs here."""
    root.mkdir(parents=True, exist_ok=True)
    right = root.stat().st_uid == os.geteuid()  # else its owner chooses what runs here as root
    require(right, "box_unfit", f"{root} belongs to another account: chown it to whoever installs, or choose another")
    require(not root.stat().st_mode & 0o022, "box_unfit", f"others may write to {root}: chmod go-w {root}")
    with (root / ".lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)  # noqa: FBT003 - what it starts holds the lock on, if it is killed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("install_running", "another installation runs: wait for it") from None
        yield


def place(root: Path, version: Path, path: str, models: dict[str, str]) -> Path | None:
    """Return where a file goes: the program to the top of the version, models beside all versions, by their digest."""
    first, _, rest = path.partition("/")
    if first != "models":
        return version / (rest if first == "program" else path)
    digest, inside = models[rest.partition("/")[0]], rest.partition("/")[2]
    return None if (root / "models" / digest).is_dir() else root / "models" / f".{digest}.new" / inside


def copy_files(root: Path, version: Path, medium: Medium, manifest: dict[str, Any]) -> None:
    """Copy everything, verified while it is copied: what is used later is what was read here."""
    models: dict[str, str] = manifest["models"]
    shutil.rmtree(version, ignore_errors=True)  # what was killed on its way is made anew
    for file in each(manifest):
        target = place(root, version, file["path"], models)
        if target is None:  # this model is here already
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            read_file(medium, file, out.write)
            out.flush()
            os.fsync(out.fileno())
        target.chmod(0o755 if file["executable"] else 0o644)
    for name, digest in models.items():
        kept, new = root / "models" / digest, root / "models" / f".{digest}.new"
        if not kept.is_dir():
            new.rename(kept)
        (version / "models").mkdir(exist_ok=True)
        (version / "models" / name).symlink_to(Path("../../../models") / digest)


def is_copied(version: Path, text: bytes) -> bool:
    """Tell whether a version was copied to its end: its manifest is written last, and may have been cut off."""
    copied = version / "manifest.json"
    return copied.is_file() and copied.read_bytes() == text


def install(options: argparse.Namespace, passed: list[str]) -> int:
    """Verify or install a bundle; return the exit status."""
    root, medium = options.root.absolute(), Medium(options.bundle)
    manifest, text = read_manifest(medium, options.vkey)
    digest = hashlib.sha256(text).hexdigest()
    version, name = root / "versions" / digest, f"clinic {manifest['program']['version']} ({digest[:12]})"
    if options.verify or not is_copied(version, text):
        check_contents(medium, manifest)
    if options.verify:
        for file in each(manifest):
            read_file(medium, file)
        print(f"VERIFIED: {name}, {len(manifest['files'])} files, signed by {options.vkey.partition('+')[0]}")
        return 0
    is_data = not options.data or (options.data / "clinic.toml").is_file()
    require(is_data, "data_refused", f"there is no data folder at {options.data}")
    if not is_copied(version, text):
        check_box(root, manifest)
        asked = not manifest["licences"] or (root / "accepted-licences.json").exists()
        if not (asked or options.accept_licences or sys.stdin.isatty()):
            raise Refused("licence_unaccepted", "nobody is here to accept the licences: --accept-licences", 2)
    with alone(root):
        if not is_copied(version, text):
            say(f"copying {name} to {version}")
            copy_files(root, version, medium, manifest)
            with (version / "manifest.json").open("wb") as out:  # last: what it names is there, and was verified
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
        return run_switch(version, [str(version), "--vkey", options.vkey, *passed])


def roll_back(root: Path, passed: list[str]) -> int:
    """Put the version before in force again."""
    require((root / "current").exists(), "version_missing", f"nothing is installed in {root}")
    with alone(root):
        return run_switch((root / "current").resolve(), ["--rollback", *passed])


def run_switch(version: Path, arguments: list[str]) -> int:
    """Go on with the program of a version, which was verified when it was copied."""
    command = [sys.executable, "-I", str(version / "deploy/switch_version.py"), *arguments]
    return subprocess.run(command, check=False, close_fds=False).returncode


def telling(work: Callable[[], int]) -> int:
    """Do it; tell what went wrong in one line."""
    try:
        return work()
    except Refused as verdict:
        say(str(verdict))
        return verdict.exit_code
    except OSError as error:
        say(f"REFUSED (io_failed): {error.filename}: {error.strerror}; mend that and run it again")
    except (KeyboardInterrupt, EOFError):
        say("interrupted; the version in force stays, and the next run goes on")
    return 1


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, do it, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?")
    parser.add_argument("--vkey", help="the builder's verifier key")
    parser.add_argument("--verify", action="store_true", help="verify only")
    parser.add_argument("--rollback", action="store_true", help="put the version before in force again")
    parser.add_argument("--root", type=Path, default=Path("/opt/clinic"), help="default: /opt/clinic")
    parser.add_argument("--accept-licences", action="store_true", help="accept the models' licences, for scripts")
    parser.add_argument("--data", type=Path, help="the clinic's data folder")
    parser.add_argument("--backup-to", type=Path, help="for the backup; default: the clinic's `backup.destination`")
    parser.add_argument("--through", help="put before the command that unlocks, e.g. 'systemd-run ...'")
    options = parser.parse_args(arguments)
    if options.rollback == bool(options.bundle) or bool(options.bundle) != bool(options.vkey):
        parser.error("give a bundle and --vkey, or --rollback")
    os.umask(0o022)
    given = {"--root": options.root.absolute(), "--data": options.data and options.data.absolute()}
    given |= {"--backup-to": options.backup_to and options.backup_to.absolute(), "--through": options.through}
    passed = [f"{name}={value}" for name, value in given.items() if value]
    passed += ["--accept-licences"] if options.accept_licences else []
    if not options.rollback:
        return telling(lambda: install(options, passed))
    return telling(lambda: roll_back(options.root.absolute(), passed))


if __name__ == "__main__":
    raise SystemExit(main())
