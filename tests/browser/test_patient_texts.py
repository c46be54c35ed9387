"""What is handed to patients: one page each, large print, easy words, nothing loaded from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.conftest import ROOT

TEXTS = ("notice", "consent")
POINT = 96 / 72
LEAST_POINTS = 16
"""RNIB's clear print guideline calls 16 points and more large print."""

EASY = 80.0
"""Flesch reading ease of 80 to 90: conversational English, school year six."""


def source(name: str) -> str:
    """Return the page."""
    return (ROOT / "docs" / "patients" / f"{name}.html").read_text(encoding="utf-8")


def pages(browser: Browser, html: str) -> int:
    """Return how many sheets it takes to print."""
    page = browser.new_page()
    page.set_content(html)
    paper = page.pdf(prefer_css_page_size=True)
    page.close()
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", paper))


def words_of(html: str) -> list[str]:
    """Return the sentences that somebody reads."""
    body = re.sub(r"(?s)<head>.*?</head>", "", html)
    text = re.sub(r"</?(?:p|li|h\d|ul)[^>]*>", ".", body)
    text = re.sub(r"<[^>]+>|&nbsp;|_+|☐", " ", text)
    return [s for s in re.split(r"[.?!:]+", text) if re.search(r"[a-zA-Z]", s)]


def syllables(word: str) -> int:
    """Return the number of groups of vowels, a silent e at the end left out: the usual approximation."""
    groups = len(re.findall(r"[aeiouy]+", word.lower()))
    silent = word.lower().endswith("e") and not word.lower().endswith("le") and groups > 1
    return max(1, groups - silent)


def reading_ease(html: str) -> float:
    """Return the Flesch reading ease."""
    sentences = words_of(html)
    words = [word for sentence in sentences for word in re.findall(r"[A-Za-z']+", sentence)]
    return 206.835 - 1.015 * len(words) / len(sentences) - 84.6 * sum(map(syllables, words)) / len(words)


@pytest.mark.parametrize("name", TEXTS)
def test_it_is_one_page(chromium: Browser, name: str) -> None:
    """It fits on one side of A4, and the control, the same twice, does not."""
    html = source(name)
    assert pages(chromium, html) == 1
    body = html.split("<body>")[1].split("</body>")[0]
    assert pages(chromium, html.replace("</body>", body + "</body>")) > 1


@pytest.mark.parametrize("name", TEXTS)
def test_it_is_large_print(chromium: Browser, name: str) -> None:
    """No letter on it is smaller than large print."""
    page = chromium.new_page()
    page.set_content(source(name))
    sizes = page.eval_on_selector_all("body *", "found => found.map(e => parseFloat(getComputedStyle(e).fontSize))")
    page.close()
    assert len(sizes) > 5
    assert min(sizes) >= LEAST_POINTS * POINT


@pytest.mark.parametrize("name", TEXTS)
def test_it_is_easy_to_read(name: str) -> None:
    """Short words and sentences; a paragraph of our own documentation is the control."""
    assert reading_ease(source(name)) >= EASY
    assert reading_ease("<p>" + (ROOT / "docs" / "data-protection.md").read_text("utf-8")[:600] + "</p>") < EASY


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    """A page that somebody opens on any machine asks nobody for anything."""
    assert not re.search(r"(?i)<(script|img|link|iframe)|url\(|https?:", source(name))
    assert Path(ROOT / "docs" / "patients" / "README.md").is_file()
