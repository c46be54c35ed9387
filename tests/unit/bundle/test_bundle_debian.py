"""Debian packages: what apt says beforehand is what is taken.  apt itself is played here, for it needs a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from clinic.bundle.debian import fetch
from clinic.errors import ClinicError

DATA = b"a package"
FILE = "age_1%3a1.1.1-1_amd64.deb"


def play_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, said: bytes = DATA) -> None:
    """Put an `apt-get` first that knows one package, and says this content of it."""
    digest = hashlib.sha256(said).hexdigest()
    script = tmp_path / "bin" / "apt-get"
    script.parent.mkdir()
    script.write_text(
        f"""#!/bin/sh
[ "$3" = age ] || exit 100
[ "$1" = --print-uris ] && echo "'http://deb/x/{FILE}' {FILE} {len(said)} SHA256:{digest}" && exit 0
printf '{DATA.decode()}' > '{FILE}'
""",
        encoding="utf-8",
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")


def test_a_package_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, version with epoch, and digest are apt's; what is there already is taken."""
    play_apt(tmp_path, monkeypatch)
    found = fetch("age", tmp_path / "debs")
    assert (found.name, found.version, found.architecture) == ("age", "1:1.1.1-1", "amd64")
    assert found.file == "age_1+1.1.1-1_amd64.deb"
    assert fetch("age", tmp_path / "debs") == found


@pytest.mark.parametrize("name", ["nothing", "--help", "age; ls", ""])
def test_an_unknown_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A name that apt does not know, or that is none, is refused."""
    play_apt(tmp_path, monkeypatch)
    with pytest.raises(ClinicError) as caught:
        fetch(name, tmp_path / "debs")
    assert caught.value.code == "package_unknown"


def test_another_file_than_debian_signed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes is held against what apt said beforehand."""
    play_apt(tmp_path, monkeypatch, said=b"something else")
    with pytest.raises(ClinicError) as caught:
        fetch("age", tmp_path / "debs")
    assert caught.value.code == "download_failed"
