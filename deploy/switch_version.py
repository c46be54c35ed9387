#!/usr/bin/env python3
"""Make a version that was verified and copied ready, and put it in force; or put the version before in force again.

    switch_version.py VERSION --root ROOT [--data FOLDER ...]      run by install_bundle.py, which holds the lock
    switch_version.py --rollback --root ROOT [--data FOLDER ...]

Standard library only, for it runs before there is an environment.  In this order: the licences are accepted, the
environment is made from the wheels and tried, `installed.json` says that the version is whole, the data folder is
backed up and migrated, and only then `current` is pointed at the version, at once.  Killed anywhere, `current` points
to a whole version, and the same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # `-I` leaves it out; both were verified together

from install_bundle import Refused, require, say, telling

Manifest = dict[str, Any]


def write_whole(path: Path, document: object) -> None:
    """Write a small JSON file that is the old one or the new one, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def is_whole(version: Path) -> bool:
    """Tell whether a version was installed to its end: the file that says so is written last."""
    return (version / "installed.json").is_file()


def linked(root: Path, name: str) -> Path | None:
    """Return the version that `current` or `previous` points to."""
    link = root / name
    return root / link.readlink() if link.is_symlink() else None


def link(root: Path, name: str, version: Path) -> None:
    """Point `current` or `previous` at a version, at once."""
    beside = root / f".{name}.new"
    beside.unlink(missing_ok=True)
    beside.symlink_to(version.relative_to(root))
    beside.replace(root / name)
    sync_folder(root)


def remove(version: Path) -> None:
    """Remove a version, first what says that it was copied and that it is whole."""
    (version / "manifest.json").unlink(missing_ok=True)
    (version / "installed.json").unlink(missing_ok=True)
    if version.exists():
        shutil.rmtree(version)


def printable(text: str) -> str:
    """Return a text without what would steer the terminal that shows it."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")


def accept_licences(root: Path, version: Path, manifest: Manifest, *, accept: bool) -> list[dict[str, str]]:
    """Show each licence that was not accepted on this box before, and ask; return all of them, accepted."""
    store = root / "accepted-licences.json"
    known = {one["sha256"]: one for one in (json.loads(store.read_bytes()) if store.exists() else [])}
    digests = {file["path"]: file["sha256"] for file in manifest["files"]}
    for one in manifest["licences"]:
        digest, words = digests[one["path"]], printable((version / one["path"]).read_text("utf-8", "replace"))
        if digest in known:
            continue
        if not accept and not sys.stdin.isatty():
            message = f"{one['name']}: nobody is here to accept it; --accept-licences accepts it for you"
            raise Refused("licence_unaccepted", message, 2)
        say(f"\n===== {one['name']}, of {one['id']} =====\n")
        say(f"(accepted by option; the text is {one['path']})" if accept else words)
        if not accept and input(f"Do you accept {one['name']} for this clinic? Type accept: ").strip() != "accept":
            raise Refused("licence_unaccepted", f"{one['name']} was not accepted; nothing was changed", 2)
        at, how = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "option" if accept else "typed"
        known[digest] = {"id": one["id"], "name": one["name"], "sha256": digest, "how": how, "at": at}
        write_whole(store, list(known.values()))
    return [known[digests[one["path"]]] for one in manifest["licences"]]


def names_only_read(version: Path) -> frozenset[str]:
    """Return the packages of which the program only reads a file, and never imports any code."""
    lines = (version / "deploy/requirements/weights.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(distribution(line.partition("==")[0]) for line in lines if "==" in line)


def distribution(name: str) -> str:
    """Return a distribution's name in the one way in which names are compared."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def make_environment(version: Path, manifest: Manifest) -> None:
    """Make the version's own Python environment from the wheels, by hash, without any index, and try it."""
    python, script = version / ".venv/bin/python", version / ".venv/bin/clinic"
    clean = {"PATH": os.defpath, "HOME": str(version), "LANG": "C.UTF-8", "PIP_CONFIG_FILE": os.devnull}

    def run(what: str, *command: object) -> str:
        arguments = [str(part) for part in command]
        done = subprocess.run(
            arguments, env=clean, cwd=version, close_fds=False, capture_output=True, text=True, check=False
        )
        message = f"{what} failed; the version in force stays: {(done.stderr or done.stdout).strip()[-2000:]}"
        require(done.returncode == 0, "install_failed", message)
        return done.stdout

    only_read = names_only_read(version)
    lines: dict[bool, list[str]] = {False: [], True: []}
    for file in (file for file in manifest["files"] if file["path"].startswith("wheels/")):
        of = lines[distribution(Path(file["path"]).name.split("-")[0]) in only_read]
        of.append(f"./{file['path']} --hash=sha256:{file['sha256']}\n")
    (version / "wheels/pins.txt").write_text("".join(lines[False]), encoding="utf-8")
    (version / "wheels/only-read.txt").write_text("".join(lines[True]), encoding="utf-8")
    if script.parent.parent.exists():  # what was killed on its way is made anew
        shutil.rmtree(script.parent.parent)
    run("venv", sys.executable, "-I", "-m", "venv", version / ".venv")
    pip = (python, "-I", "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "--no-input")
    only = ("--no-index", "--find-links", version / "wheels", "--no-deps", "--require-hashes", "--only-binary=:all:")
    run("pip install", *pip, "install", "--quiet", *only, "-r", version / "wheels/pins.txt")
    run("pip check", *pip, "check")
    if lines[True]:  # after the check: what these depend on is not wanted
        run("pip install", *pip, "install", "--quiet", *only, "-r", version / "wheels/only-read.txt")
    (packages,) = (version / ".venv/lib").glob("python3*/site-packages")
    (packages / "clinic.pth").write_text(f"{version}\n", encoding="utf-8")
    script.write_text(f"#!{python}\nimport sys\n\nfrom clinic.cli import main\n\nsys.exit(main())\n", encoding="utf-8")
    script.chmod(0o755)
    run("compileall", python, "-I", "-m", "compileall", "-q", version / "clinic")
    said = run("the new program", script, "--version")
    require(manifest["program"]["version"] in said, "install_failed", f"the new program says: {said[:200]}")


def settle_data(root: Path, version: Path, options: argparse.Namespace) -> None:
    """Let the new version look after the data folder: backup by the version in force, migration, entry in the log."""
    old, data = linked(root, "current"), options.data
    require((data / "clinic.toml").is_file(), "data_refused", f"there is no data folder at {data}")
    command = [*shlex.split(options.through or ""), version / ".venv/bin/clinic", "bundle", "settle", "--home", data]
    command += ["--old", old / ".venv/bin/clinic"] if old else []
    command += ["--backup-to", options.backup_to] if options.backup_to else []
    account: dict[str, Any] = {"stdout": sys.stderr}
    if os.geteuid() == 0 and not options.through and (owner := data.stat()).st_uid:
        account |= {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    done = subprocess.run([str(part) for part in command], cwd="/", check=False, close_fds=False, **account)
    require(done.returncode == 0, "data_refused", "the data folder was not taken over; the version in force stays")


def switch(root: Path, version: Path) -> None:
    """Put a version in force, and remember the one before."""
    before = linked(root, "current")
    if before == version:
        return
    if before is not None and is_whole(before):
        link(root, "previous", before)
    link(root, "current", version)


def prune(root: Path) -> None:
    """Remove what is neither in force nor the version before."""
    kept = [version for name in ("current", "previous") if (version := linked(root, name))]
    for version in set((root / "versions").iterdir()) - set(kept):
        with contextlib.suppress(OSError):  # the next installation tries again
            remove(version)
    for version in kept:
        shutil.rmtree(version / "wheels", ignore_errors=True)  # installed: not needed again
    used = {model.resolve() for version in kept for model in version.glob("models/*")}
    for model in (root / "models").glob("*"):
        if model.resolve() not in used:
            shutil.rmtree(model, ignore_errors=True)


def finish(options: argparse.Namespace) -> int:
    """Make a version whole, and put it in force."""
    root, version = options.root, options.version
    manifest: Manifest = json.loads((version / "manifest.json").read_bytes())
    accepted = accept_licences(root, version, manifest, accept=options.accept_licences)
    name = f"clinic {manifest['program']['version']} ({version.name[:12]})"
    nothing_to_do = is_whole(version) and linked(root, "current") == version
    if not is_whole(version):
        say(f"making the environment of {name}")
        make_environment(version, manifest)
        about = {key: manifest[key] for key in ("program", "target", "requirements")}
        about |= {"bundle": version.name, "vkey": options.vkey, "licences": accepted}
        write_whole(version / "installed.json", about)
    if options.data:
        settle_data(root, version, options)
    switch(root, version)
    prune(root)
    print(f"{name} is in force already: nothing to do" if nothing_to_do else f"{name} is in force")
    return 0


def roll_back(options: argparse.Namespace) -> int:
    """Put the version before in force again."""
    root = options.root
    now, before = linked(root, "current"), linked(root, "previous")
    if now is None or before is None or now == before or not is_whole(before):
        raise Refused("version_missing", "there is no version before this one on the box")
    if options.data:
        settle_data(root, before, options)
    link(root, "current", before)
    link(root, "previous", now)
    about = json.loads((before / "installed.json").read_bytes())
    print(f"back to clinic {about['program']['version']} ({before.name[:12]})")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, do it, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", type=Path, nargs="?")
    parser.add_argument("--vkey")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--rollback", action="store_true")
    parser.add_argument("--accept-licences", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--backup-to", type=Path)
    parser.add_argument("--through")
    options = parser.parse_args(arguments)
    os.umask(0o022)
    return telling(lambda: roll_back(options) if options.rollback else finish(options))


if __name__ == "__main__":
    raise SystemExit(main())
