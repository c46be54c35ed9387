"""Keys from outside: the systemd credential and the development key file."""

import os
import stat
from pathlib import Path

import pytest

from clinic.crypto.sources import create_insecure_key_file, load_credential, read_insecure_key_file
from clinic.errors import ConfigError, SealedError

HEX = "0123456789abcdef" * 4


def credential(folder: Path, text: str, mode: int = 0o400) -> dict[str, str]:
    """Lay out a credential as systemd does; return the environment."""
    path = folder / "clinic-key"
    path.write_text(text, encoding="ascii")
    path.chmod(mode)
    return {"CREDENTIALS_DIRECTORY": str(folder)}


@pytest.mark.parametrize("text", [HEX, HEX + "\n", HEX.upper() + "\r\n"], ids=["bare", "line end", "upper case"])
@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600], ids=oct)
def test_a_credential_is_read(tmp_path: Path, text: str, mode: int) -> None:
    """The 64 digits are the key; the group bits that systemd's ACL shows are no fault."""
    key = load_credential(credential(tmp_path, text, mode))
    assert (key.material, key.kind) == (bytes.fromhex(HEX), "credential")


def test_without_systemd_the_credential_is_missing(tmp_path: Path) -> None:
    """No variable, an empty one, and a folder without the file are all `key_missing`."""
    for environ in ({}, {"CREDENTIALS_DIRECTORY": ""}, {"CREDENTIALS_DIRECTORY": str(tmp_path)}):
        with pytest.raises(SealedError) as caught:
            load_credential(environ)
        assert caught.value.code == "key_missing"


@pytest.mark.parametrize("text", ["", HEX[:-1], HEX + "0", HEX[:-1] + "g", "passphrase"])
def test_anything_else_is_refused_rather_than_stretched(tmp_path: Path, text: str) -> None:
    """A credential that is no key is refused, without quoting it."""
    with pytest.raises(SealedError) as caught:
        load_credential(credential(tmp_path, text))
    assert caught.value.code == "key_malformed"
    assert not text or text not in str(caught.value)


def test_a_credential_open_to_the_world_is_refused(tmp_path: Path) -> None:
    """Readable by everybody is no secret."""
    with pytest.raises(SealedError) as caught:
        load_credential(credential(tmp_path, HEX, 0o444))
    assert caught.value.code == "key_file_exposed"


def test_the_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service reads its own environment."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", credential(tmp_path, HEX)["CREDENTIALS_DIRECTORY"])
    assert load_credential().material == bytes.fromhex(HEX)


def test_the_development_key_is_a_round_trip(tmp_path: Path) -> None:
    """What is created is read again, from a file that only its owner can read."""
    path = tmp_path / "INSECURE-development.key"
    created = create_insecure_key_file(path)
    assert read_insecure_key_file(path).material == created.material
    assert created.kind == "insecure-key-file"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == created.to_text()


def test_the_development_key_is_not_overwritten(tmp_path: Path) -> None:
    """Creating it twice keeps the first."""
    path = tmp_path / "key"
    created = create_insecure_key_file(path)
    with pytest.raises(ConfigError) as caught:
        create_insecure_key_file(path)
    assert caught.value.code == "keys_exist"
    assert read_insecure_key_file(path).material == created.material


def test_a_development_key_open_to_the_group_is_refused(tmp_path: Path) -> None:
    """Even the insecure key is the owner's alone."""
    path = tmp_path / "key"
    create_insecure_key_file(path)
    path.chmod(0o640)
    with pytest.raises(SealedError) as caught:
        read_insecure_key_file(path)
    assert caught.value.code == "key_file_exposed"


def test_a_missing_development_key_is_key_missing(tmp_path: Path) -> None:
    """No file, no key."""
    with pytest.raises(SealedError) as caught:
        read_insecure_key_file(tmp_path / "key")
    assert caught.value.code == "key_missing"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_another_users_key_is_unreadable(tmp_path: Path) -> None:
    """Without the right to read it the answer is to use the right account."""
    path = tmp_path / "key"
    create_insecure_key_file(path)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        try:
            read_insecure_key_file(path)
        except SealedError as error:
            os._exit(0 if error.code == "key_file_unreadable" else 2)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
