"""docs/traceability: no item of a standard is missing, and what a row names is there."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "traceability"
STATES = ("met", "partly", "not", "n/a")

# How many requirements of levels 1 and 2 each section of ASVS 5.0.0 has; in this standard those of level 3 come last.
ASVS_SECTIONS = re.findall(
    r"\S+",
    """
1.1 2  1.2 9  1.3 11  1.4 3  1.5 2  2.1 3  2.2 3  2.3 4  2.4 1  3.2 2  3.3 4  3.4 6  3.5 5  3.7 2  4.1 3  4.2 1
4.3 2  4.4 4  5.1 1  5.2 3  5.3 2  5.4 3  6.1 3  6.2 12  6.3 4  6.4 4  6.5 5  6.6 3  6.8 4  7.1 3  7.2 4  7.3 2
7.4 5  7.5 2  7.6 2  8.1 2  8.2 3  8.3 1  8.4 1  9.1 3  9.2 4  10.1 2  10.2 2  10.3 4  10.4 11  10.5 5  10.6 2
10.7 3  11.1 2  11.2 3  11.3 3  11.4 4  11.5 1  11.6 1  12.1 3  12.2 2  12.3 4  13.1 1  13.2 5  13.3 2  13.4 5
14.1 2  14.2 4  14.3 3  15.1 3  15.2 3  15.3 7  16.1 1  16.2 5  16.3 4  16.4 3  16.5 3  17.1 1  17.2 4  17.3 2
""",
)

HIPAA = re.findall(
    r"\S+", "(a)(1) (a)(2)(i) (a)(2)(ii) (a)(2)(iii) (a)(2)(iv) (b) (c)(1) (c)(2) (d) (e)(1) (e)(2)(i) (e)(2)(ii)"
)

AISVS_LEVEL_1 = re.findall(
    r"\S+",
    """
1.1.1 1.2.1 2.1.1 2.1.2 2.1.3 2.1.4 2.1.5 2.2.1 2.2.2 3.1.1 3.2.1 3.4.1 4.1.1 4.1.2 4.3.1 6.1.1 6.1.2 6.2.1 7.1.1
7.1.2 7.3.1 7.4.1 7.4.2 8.1.1 8.2.1 9.1.1 9.1.2 9.2.1 9.3.1 9.3.2 9.6.1 10.1.1 10.2.1 10.2.2 10.2.3 10.3.1 10.3.2
10.4.1 10.4.2 10.4.3 11.1.1 11.1.2 11.1.3 11.2.1 11.2.2 11.3.1 12.1.1 12.2.1 12.3.1 12.4.1 12.6.1 12.6.2
""",
)

ITEMS = {
    "hipaa": [f"164.312{item}" for item in HIPAA],
    "asvs": [
        f"V{section}.{number}"
        for section, count in zip(ASVS_SECTIONS[::2], ASVS_SECTIONS[1::2], strict=True)
        for number in range(1, int(count) + 1)
    ],
    "aisvs": [f"C{item}" for item in AISVS_LEVEL_1],
}


@dataclass(frozen=True)
class Row:
    """One item as a page tells of it."""

    item: str
    state: str
    code: tuple[str, ...]
    held_by: str
    note: str

    @property
    def tests(self) -> list[str]:
        """Return the tests that the row names."""
        return re.findall(r"`([^`]+)`", self.held_by)


def rows(text: str) -> list[Row]:
    """Return the rows of a page's tables."""
    found = []
    for line in text.splitlines():
        if re.match(r"\| (V|C|164)[\d.(]", line):
            item, _, state, code, held_by, note = (cell.strip() for cell in line.strip().strip("|").split("|"))
            found.append(Row(item, state.strip("*"), tuple(re.findall(r"`([^`]+)`", code)), held_by, note))
    return found


def page(name: str) -> str:
    """Return the text of a page."""
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


@cache
def named_in(path: Path) -> frozenset[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_")


def problems(name: str, text: str) -> list[str]:
    """Return what is wrong with a page."""
    found, told = rows(text), []
    seen = Counter(row.item for row in found)
    told += [f"{item}: no row" for item in ITEMS[name] if item not in seen]
    told += [f"{item}: no such item, or twice" for item, n in seen.items() if n > 1 or item not in ITEMS[name]]
    for row in found:
        told += [f"{row.item}: `{path}` does not exist" for path in row.code if not (ROOT / path).exists()]
        for test in row.tests:
            path, _, function = test.partition("::")
            file = ROOT / "tests" / path
            if not file.is_file() or function not in named_in(file):
                told.append(f"{row.item}: no test `{test}`")
        if row.state not in STATES:
            told.append(f"{row.item}: `{row.state}` is no state")
        elif row.state == "met" and not (row.code and (row.tests or row.held_by == "document")):
            told.append(f"{row.item}: met, without code or test")
        elif row.state != "met" and not row.note:
            told.append(f"{row.item}: {row.state}, without a reason")
        elif row.state == "partly" and not row.code:
            told.append(f"{row.item}: partly, without code")
    return told


@pytest.mark.parametrize("name", ITEMS)
def test_every_item_is_told_of(name: str) -> None:
    """Nothing is missing, nothing is named that is not there."""
    assert problems(name, page(name)) == []


def test_the_lists_have_the_published_sizes() -> None:
    """ASVS 5.0.0 has 70 requirements of level 1 and 183 of level 2."""
    assert {name: len(items) for name, items in ITEMS.items()} == {"hipaa": 12, "asvs": 253, "aisvs": 52}


def test_the_counts_are_those_of_the_tables() -> None:
    """What the first page sums up is what the tables say."""
    summary = page("README")
    for name in ITEMS:
        states = Counter(row.state for row in rows(page(name)))
        counts = " | ".join(str(states[state]) for state in STATES)
        assert f"({name}.md) | {states.total()} | {counts} |" in summary


REAL = "| V1.2.4 | a | met | `clinic/errors.py` | `unit/test_docs.py::test_links_lead_somewhere` | |"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (REAL.replace("V1.2.4", "V1.2.10"), "V1.2.10: no such item, or twice"),
        (f"{REAL}\n{REAL}", "V1.2.4: no such item, or twice"),
        (REAL.replace("errors.py", "no_errors.py"), "V1.2.4: `clinic/no_errors.py` does not exist"),
        (
            REAL.replace("lead_somewhere", "lead_nowhere"),
            "V1.2.4: no test `unit/test_docs.py::test_links_lead_nowhere`",
        ),
        (
            REAL.replace("unit/test_docs", "unit/no_docs"),
            "V1.2.4: no test `unit/no_docs.py::test_links_lead_somewhere`",
        ),
        (REAL.replace("| met |", "| fine |"), "V1.2.4: `fine` is no state"),
        (REAL.replace("| met |", "| partly |"), "V1.2.4: partly, without a reason"),
        ("| V1.2.4 | a | **not** | | | |", "V1.2.4: not, without a reason"),
        ("| V1.2.4 | a | partly | | | why |", "V1.2.4: partly, without code"),
        ("| V1.2.4 | a | met | `clinic/errors.py` | | |", "V1.2.4: met, without code or test"),
        ("| V1.2.4 | a | met | | document | |", "V1.2.4: met, without code or test"),
    ],
    ids=range(11),
)
def test_what_is_wrong_is_said(line: str, said: str) -> None:
    """Negative controls: each kind of wrong row, and the missing rows of a page that has only this one."""
    told = problems("asvs", line)
    assert said in told
    assert "V16.5.3: no row" in told
    assert not any(text.startswith("V1.2.4:") for text in problems("asvs", REAL))
