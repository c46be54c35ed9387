"""The layout's promises, read from the code itself: who may import whom, and who may touch what."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "clinic"

LAYERS = (
    {"errors"},
    {"domain", "config", "weights", "failures", "defects"},
    {"crypto"},
    {"audit"},
    {"policy", "speech", "records"},
    {"generation", "verification"},
    {"facts", "handover", "evaluation", "interop"},
    {"asking", "past_decisions", "capture"},
    {"releasing"},
    {"consultation", "documents"},
    {"jobs"},
    {"rotation"},
    {"home"},
    {"backup", "bundle"},
    {"box", "control", "metrics", "services"},
    {"headless", "doctor", "supervisor"},
    {"web", "api"},
    {"app"},
    {"cli"},
    {"__main__"},
)
"""Lowest first.  A room may import from its own row's own room and from all rows below, nothing else."""

ONLY = {
    "flask": {"web", "api", "app"},
    "sqlalchemy": {"records", "audit", "jobs"},  # jobs: only the exception that DBOS lets through
    "httpx": {"generation"},
    "dbos": {"jobs"},
    "cedarpy": {"policy"},
    "faster_whisper": {"speech"},
    "av": {"speech"},
    "xllamacpp": {"generation"},
    "pyrage": {"audit", "backup"},
    "packaging": {"bundle"},
    "webauthn": {"records"},
}
"""A library that only these rooms may import."""

TOP_LEVEL = {"clinic", "migrations", "deploy", "tests", "policies", "docs"}


def rank(room: str) -> int:
    """Return the row of a room."""
    for number, row in enumerate(LAYERS):
        if room in row:
            return number
    raise AssertionError(f"`{room}` is not in the layer table")


def room_of(path: Path) -> str:
    """Return the room that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(source: str) -> set[str]:
    """Return the dotted names that a module imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def violations(room: str, source: str) -> list[str]:
    """Return what a module of `room` imports against the rules."""
    wrong = []
    for name in sorted(imports(source)):
        parts = name.split(".")
        if parts[0] == "clinic" and len(parts) > 1 and parts[1] != "__version__":
            other = parts[1]
            if other != room and rank(other) >= rank(room):
                wrong.append(name)
        elif parts[0] in ONLY and room not in ONLY[parts[0]]:
            wrong.append(name)
    return wrong


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    """A module imports only from rooms below its own, and only the libraries that its room may use."""
    assert violations(room_of(path), path.read_text(encoding="utf-8")) == []


def test_rule_is_enforced() -> None:
    """The check itself fails when a lower room imports a higher one, or a room a library that is not its own."""
    assert violations("crypto", "from clinic.records.records import Records") != []
    assert violations("policy", "import httpx") != []
    assert violations("records", "from clinic.policy.gate import ReleaseGate") != []


def test_one_module_talks_http() -> None:
    """Exactly one module imports the HTTP client."""
    users = [path for path in MODULES if any(n.split(".")[0] == "httpx" for n in imports(path.read_text("utf-8")))]
    assert [str(path.relative_to(PACKAGE)) for path in users] == ["generation/client.py"]


@pytest.mark.parametrize("room", ["crypto/envelope.py", "policy/engine.py", "verification"])
def test_pure_rooms_do_no_io(room: str) -> None:
    """Sealing, deciding and verifying neither open files nor sockets, nor start processes."""
    target = PACKAGE / room
    paths = [target] if target.suffix else [p for p in target.rglob("*.py") if "data" not in p.parts]
    forbidden = {"socket", "subprocess", "sqlite3", "urllib", "http"}
    for path in paths:
        used = {name.split(".")[0] for name in imports(path.read_text("utf-8"))}
        assert not used & forbidden, path


def test_top_level_folders_are_the_agreed_ones() -> None:
    """No other top-level folder is committed."""
    import subprocess

    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    folders = {line.split("/")[0] for line in listed.splitlines() if "/" in line and not line.startswith(".")}
    assert folders <= TOP_LEVEL
