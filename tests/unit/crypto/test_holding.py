"""Whoever has the keys holds them; nobody rotates them meanwhile."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import pytest

from clinic.crypto.holding import alone, keep, share
from clinic.crypto.keyring import Keyring
from clinic.errors import ConfigError, StorageError


def test_a_keyring_in_memory_keeps_others_from_rotating(tmp_path: Path) -> None:
    """As long as the object lives the lock is held; when it goes, the keys are free."""
    keyring = Keyring.generate()
    keep(share(tmp_path), keyring)
    with pytest.raises(ConfigError) as caught, alone(tmp_path):
        raise AssertionError
    assert caught.value.code == "keys_in_use"
    del keyring
    gc.collect()
    with alone(tmp_path):
        pass


def test_many_may_have_the_keys(tmp_path: Path) -> None:
    """Sharing is shared."""
    for descriptor in [share(tmp_path) for _ in range(3)]:
        os.close(descriptor)


def test_unlocking_waits_for_a_rotation_and_gives_up(tmp_path: Path) -> None:
    """While the keys are held alone, nobody gets them; afterwards somebody who waited does."""
    with alone(tmp_path):
        with pytest.raises(ConfigError) as caught:
            share(tmp_path, patience_s=0)
        assert caught.value.code == "keys_in_use"
        got: list[int] = []
        waiting = threading.Thread(target=lambda: got.append(share(tmp_path)))
        waiting.start()
        waiting.join(0.3)
        assert got == []
    waiting.join(10)
    os.close(got[0])


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    """The lock ends with the process."""
    child = os.fork()
    if child == 0:
        share(tmp_path)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    with alone(tmp_path):
        pass


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A file in place of the folder is a plain error."""
    (tmp_path / "run").write_text("")
    with pytest.raises(StorageError, match="cannot open"):
        share(tmp_path / "run")
