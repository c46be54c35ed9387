"""Private files: the old one or the new one, whatever happens; never another person's, never half."""

import errno
import fcntl
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clinic.crypto.durable import create_private, exclusive, read_private, replace_private
from clinic.crypto.keys import KeyBytes, add_kek, create_keyring, unlock
from clinic.errors import ConfigError, SealedError, StorageError

CALLS = ("open", "write", "fsync", "fchmod", "fchown", "replace", "link", "unlink", "close")
OLD, NEW = b"old " * 100, b"new " * 200
SECRET = KeyBytes.generate("insecure-key-file")


def killed_at(call: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that dies by SIGKILL right before its `call`-th system call; False if it got through."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*args: object, **kwargs: object) -> object:
                nonlocal count
                count += 1
                if count == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return wrapper

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        action()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def sweep(path: Path, action: Callable[[], object], check: Callable[[], object]) -> int:
    """Kill `action` before each of its system calls in turn, starting from the old file; count the kills."""
    for call in range(1, 100):
        path.write_bytes(OLD)
        path.chmod(0o600)
        if not killed_at(call, action):
            return call - 1
        check()
    raise AssertionError("the action never ends")


def replace_file(path: Path) -> None:
    """Replace the file as the program does."""
    with exclusive(path.parent):
        replace_private(path, NEW)


def test_a_kill_anywhere_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    """Dying before any system call of a replacement never leaves a half or missing file."""
    path = tmp_path / "keys.json"
    seen = set()

    def check() -> None:
        data = read_private(path, max_bytes=10_000)
        assert data in (OLD, NEW)
        seen.add(data)

    kills = sweep(path, lambda: replace_file(path), check)
    assert kills >= 8
    assert seen == {OLD, NEW}


def test_writing_in_place_would_be_caught(tmp_path: Path) -> None:
    """Negative control: the same sweep finds what a plain overwrite leaves behind."""
    path = tmp_path / "keys.json"
    broken = []

    def overwrite() -> None:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, NEW[:10])
        os.write(fd, NEW[10:])
        os.close(fd)

    def check() -> None:
        broken.append(path.read_bytes() not in (OLD, NEW))

    sweep(path, overwrite, check)
    assert any(broken)


def test_a_kill_during_rotation_leaves_a_keyring_that_opens(tmp_path: Path) -> None:
    """Whenever the power goes during a key rotation, the keyring opens, before or after it."""
    path = tmp_path / "keys.json"
    create_keyring(path, secrets=[SECRET])
    for call in range(1, 100):
        before = unlock(path, SECRET).key_id
        if not killed_at(call, lambda: add_kek(path, SECRET)):
            return
        assert unlock(path, SECRET).key_id in (before, before + 1)
    raise AssertionError("the rotation never ends")


def test_a_kill_during_creation_leaves_nothing_or_all(tmp_path: Path) -> None:
    """A first start that dies leaves no file or a whole one, and can be repeated."""
    path = tmp_path / "keys.json"
    for call in range(1, 100):
        survived = not killed_at(call, lambda: create_keyring(path, secrets=[SECRET]))
        if path.exists():
            unlock(path, SECRET)
            path.unlink()
        if survived:
            return
    raise AssertionError("the creation never ends")


def test_what_a_crash_left_beside_the_file_is_removed(tmp_path: Path) -> None:
    """The next write clears leftovers of this file, and nothing else."""
    path = tmp_path / "keys.json"
    for name in (".keys.json.0123.tmp", ".other.json.0123.tmp", ".keys.json.orig"):
        (tmp_path / name).write_bytes(b"x")
    replace_file(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".keys.json.orig", ".other.json.0123.tmp", "keys.json"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "fchmod", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=["full", "broken", "read-only"])
def test_a_refusing_disk_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    """A full, broken or read-only disk gives `disk_full`, the old file, and no litter."""
    path = tmp_path / "keys.json"
    path.write_bytes(OLD)
    real = os.open

    def refuse(*args: Any, **kwargs: Any) -> int:
        if call == "open" and not args[1] & os.O_CREAT:
            return real(*args, **kwargs)
        raise OSError(number, os.strerror(number))

    with exclusive(tmp_path), monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(StorageError) as caught:
            replace_private(path, NEW)
    assert caught.value.code == "disk_full"
    assert os.strerror(number).lower() in str(caught.value)
    assert path.read_bytes() == OLD
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


def test_a_disk_that_refuses_a_new_file_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creation on a file system without hard links, or a full one, says so and leaves nothing."""

    def refuse(*_args: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError):
        create_private(tmp_path / "keys.json", NEW)
    assert list(tmp_path.iterdir()) == []


def test_data_is_synced_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut cannot bring the new name without the new data."""
    calls: list[str] = []

    def recorded(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def wrapper(*args: object) -> object:
            folder = isinstance(args[0], int) and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            calls.append(f"{name} folder" if folder else name)
            return real(*args)

        return wrapper

    for name in ("write", "fsync", "replace", "link"):
        monkeypatch.setattr(os, name, recorded(name))
    create_private(tmp_path / "keys.json", OLD)
    replace_private(tmp_path / "keys.json", NEW)
    assert calls == ["write", "fsync", "link", "fsync folder", "write", "fsync", "replace", "fsync folder"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that takes a few bytes at a time still gets all of them."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
    replace_private(tmp_path / "keys.json", NEW)
    assert (tmp_path / "keys.json").read_bytes() == NEW


@pytest.mark.parametrize("mask", [0o000, 0o077, 0o777])
def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path, mask: int) -> None:
    """Written files have the mode that was asked for."""
    before = os.umask(mask)
    try:
        replace_private(tmp_path / "a", NEW)
        replace_private(tmp_path / "b", NEW, mode=0o644)
        create_private(tmp_path / "c", NEW)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "abc"]
    assert modes == [0o600, 0o644, 0o600]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_the_file_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    """An administrator who changes keys as root does not lock the service out."""
    os.chown(tmp_path, 65534, 65534)
    replace_private(tmp_path / "keys.json", NEW)
    assert (tmp_path / "keys.json").stat().st_uid == 65534


def test_others_write_as_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root nobody is given anything."""

    def forbidden(*_args: object) -> None:
        raise AssertionError("nothing is given away")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "fchown", forbidden)
    replace_private(tmp_path / "keys.json", NEW)


def test_links_pipes_folders_and_large_files_are_refused(tmp_path: Path) -> None:
    """Something else in place of the key file is refused at once, without hanging."""
    real = tmp_path / "real"
    real.touch(mode=0o600)
    (tmp_path / "link").symlink_to(real)
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    (tmp_path / "large").touch(mode=0o600)
    (tmp_path / "large").write_bytes(bytes(101))
    for name in ("link", "pipe", "folder", "large"):
        with pytest.raises(SealedError) as caught:
            read_private(tmp_path / name, max_bytes=100)
        assert caught.value.code == "key_file_unreadable"


def test_a_file_of_exactly_the_limit_is_read(tmp_path: Path) -> None:
    """The limit itself is allowed."""
    replace_private(tmp_path / "a", bytes(100))
    assert read_private(tmp_path / "a", max_bytes=100) == bytes(100)


def test_two_writers_take_turns(tmp_path: Path) -> None:
    """While one process holds the folder, another waits."""
    child = os.fork()
    if child == 0:
        with exclusive(tmp_path):
            (tmp_path / "held").touch()
            time.sleep(0.3)
            (tmp_path / "done").touch()
        os._exit(0)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    with exclusive(tmp_path):
        assert (tmp_path / "done").exists()
    os.waitpid(child, 0)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """Without the data folder there is nothing to hold."""
    with pytest.raises(ConfigError) as caught, exclusive(tmp_path / "none"):
        pass
    assert caught.value.code == "home_missing"
