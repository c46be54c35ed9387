"""Vectors of FORMAT.md, section 6, made by an implementation that shares no code with ours, through every reader."""

from __future__ import annotations

import base64
import runpy
from pathlib import Path
from typing import Any

import pytest

from clinic.audit.events import AuditOpened, KeySealed, LoggedOut, LoginFailed, LoginSucceeded, PatientViewed
from clinic.audit.export import export
from clinic.domain import OPERATOR
from tests.unit.audit.audit_store import SteadyClock, Store
from tests.unit.audit.export_parts import (
    RECIPIENT,
    SAME,
    Parts,
    verdict,
    verdict_of_the_program,
    write,
)

FOLDER = Path(__file__).resolve().parents[2] / "vectors" / "audit"
FILES = sorted(FOLDER.glob("*.txt"))
EVERY = [pytest.param(path, id=path.stem) for path in FILES]
Members = list[tuple[str, bytes]]


def read_vector(text: str) -> tuple[dict[str, str], list[str], Members]:
    """Return headers, notes that were seen, and the files of the archive; anything unknown is fatal."""
    head, _, body = text.partition("\n\n")
    pairs = [line.split(": ", 1) for line in head.splitlines()]
    seen = [base64.b64decode(value).decode() for name, value in pairs if name == "seen"]
    headers = {name: value for name, value in pairs if name != "seen"}
    if set(headers) != {"expect", "comment", "vkey"} or len(headers) + len(seen) != len(pairs):
        raise ValueError(f"headers: {sorted(headers)}")
    files = [part.partition("\n") for part in body.removeprefix("== ").split("\n== ")]
    last = len(files) - 1
    members = [(name, (text if at == last else text + "\n").encode()) for at, (name, _, text) in enumerate(files)]
    if not {name for name, _ in members} <= {"manifest.json", "proofs.jsonl", "entries.jsonl"}:
        raise ValueError("unknown file")
    return headers, seen, members


def test_the_vectors_are_those_of_the_generator() -> None:
    """A vector edited by hand, left out or added does not go unnoticed."""
    made: dict[str, str] = runpy.run_path(str(FOLDER / "generate.py"))["vectors"]()
    assert {path.stem: path.read_text("utf-8") for path in FILES} == made
    assert len(made) > 20


@pytest.mark.parametrize("path", EVERY)
def test_every_reader_says_what_the_vector_expects(path: Path, tmp_path: Path) -> None:
    """The auditor's script and the program, each with the problem and the first bad entry."""
    headers, seen, members = read_vector(path.read_text("utf-8"))
    export = write(tmp_path / "export.age", members)
    problem, _, entry = headers["expect"].partition(" ")
    expected = ("ok" if problem == "verified" else problem), (int(entry) if entry else None)
    assert verdict(export, vkey=headers["vkey"], seen=seen) == expected
    theirs = verdict_of_the_program(export, vkey=headers["vkey"], seen=seen)
    assert theirs[0] in SAME.get(expected[0], {expected[0]})
    assert theirs[1] == expected[1]


def test_there_is_a_vector_for_every_answer() -> None:
    """Good ones and bad ones."""
    answers = {read_vector(path.read_text("utf-8"))[0]["expect"] for path in FILES}
    assert answers > {"verified", "proof", "undecided", "forked", "checkpoint", "manifest"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("export_v3", {}),
        ("export_v3_range", {"first": 6}),
        ("export_v3_seen_asked_for", {"first": 6, "seen": [4]}),
        ("export_v3_seen_longer", {"first": 6, "last": 6}),
    ],
)
def test_the_program_writes_the_vector(store: Store, tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    """Byte for byte."""
    log = store.log()
    for number, happened in enumerate(
        (
            AuditOpened(format_version=1),
            LoginSucceeded(user_id="u-1"),
            PatientViewed(patient="ab" * 16),
            LoggedOut(user_id="u-1"),
            LoginFailed(user_id="unknown", reason="login_failed"),
            LoginSucceeded(user_id="u-2"),
            KeySealed(),
        ),
        start=1,
    ):
        named = number == 3
        log.append(happened, actor=OPERATOR, seal=(lambda _: bytes(range(33))) if named else None)
        if number in {2, 3, 6}:
            log.keep_checkpoint()
    done = export(log, [RECIPIENT], tmp_path / "export.age", actor=OPERATOR, clock=SteadyClock(), **options)
    _, _, members = read_vector((FOLDER / f"{name}.txt").read_text("utf-8"))
    assert Parts.of(done.path).members() == members


@pytest.mark.parametrize(
    "text",
    [
        "expect: verified\ncomment: x\n\n== manifest.json\n{}\n",
        "expect: verified\ncomment: x\nvkey: y\nmore: z\n\n== manifest.json\n{}\n",
        "expect: verified\nexpect: proof\ncomment: x\nvkey: y\n\n== manifest.json\n{}\n",
        "expect: verified\ncomment: x\nvkey: y\n\n== more.json\n{}\n",
    ],
)
def test_a_vector_with_anything_unknown_is_none(text: str) -> None:
    """The reader of vectors is strict, too."""
    with pytest.raises(ValueError, match=r"headers|unknown"):
        read_vector(text)
