"""Documentation that must agree with the code: error codes, configuration keys."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from clinic.config import Config
from clinic.failures import FAILURES

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r'(?:code=|default_code(?:: ClassVar\[str\])? = )"([a-z_]+)"')

REFUSED = re.compile(r'["(]((?:bundle|box|data|disk|install|io|licence|version|vkey)_[a-z]+)[")]')


def documented(page: str) -> set[str]:
    """Return the words in backticks of a page."""
    return set(re.findall(r"`([a-z_.]+)`", (ROOT / "docs" / page).read_text(encoding="utf-8")))


def test_every_error_code_is_documented() -> None:
    """A code that the program can show stands in docs/errors.md."""
    used = {
        code
        for path in (ROOT / "clinic").rglob("*.py")
        for code in CODE.findall(path.read_text(encoding="utf-8"))
        if code != "error"
    }
    assert len(used) > 100
    assert used - documented("errors.md") == set()


def test_every_code_of_the_installer_is_documented() -> None:
    """What the installer refuses with stands in docs/errors.md, though it is no part of the program."""
    scripts = (ROOT / "deploy" / name for name in ("install_bundle.py", "switch_version.py"))
    used = {code for path in scripts for code in REFUSED.findall(path.read_text(encoding="utf-8"))}
    assert len(used) > 15
    assert used - documented("errors.md") == set()


def test_every_code_of_a_failed_job_is_documented() -> None:
    """What a failed job may show stands in docs/errors.md, too."""
    assert set(FAILURES) - documented("errors.md") == set()


def test_every_setting_is_documented() -> None:
    """Every key of the configuration stands in docs/configuration.md."""
    keys = set()
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys |= {f"{name}.{inner}" for inner in section.model_fields}
        elif name != "home":
            keys.add(name)
    assert keys - documented("configuration.md") == set()


def test_no_setting_is_documented_twice() -> None:
    """A key has one row, so one meaning."""
    rows = re.findall(
        r"^\| `([a-z_.]+)`", (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) > 20
    assert sorted(rows) == sorted(set(rows))


LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).lower()).replace(" ", "-") for heading in headings
    }


def broken_links(page: Path, text: str) -> list[str]:
    """Return the relative links of a page that lead nowhere: no such file, or no such heading in it."""
    broken = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    return broken


PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
        *(ROOT / "policies").glob("*.md"),
    ]
)


def test_links_lead_somewhere() -> None:
    """What a page points to is there, heading included."""
    assert len(PAGES) > 30
    assert {str(page): found for page in PAGES if (found := broken_links(page, page.read_text("utf-8")))} == {}


def test_broken_links_are_found() -> None:
    """Negative control: a file and a heading that do not exist."""
    page = ROOT / "docs" / "keys.md"
    assert broken_links(page, "[a](nowhere.md) [b](backup.md#no-such-thing) [c](backup.md#the-first-backup)") == [
        "nowhere.md",
        "backup.md#no-such-thing",
    ]
