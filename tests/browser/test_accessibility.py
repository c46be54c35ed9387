"""axe-core over every page that a clinician sees, light and dark; no sideways scrolling when the page is enlarged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from clinic.domain import Consent, EncounterKind, EncounterState, Stage
from tests.browser.conftest import NewPage
from tests.browser.pages_world import CLINICIAN, Site
from tests.browser.test_document_page import drafted, issued
from tests.browser.test_take_out import signed
from tests.browser.test_two_tabs import edit, elsewhere

AXE = Path(__file__).resolve().parents[2] / ".cache" / "axe" / "axe-core-4.11.0.js"
SHA256 = "e9e5863c33a874f09bc01acd9234b7e3c871479f5eef8802fa582544465e6d01"
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
DARK = {"runOnly": ["color-contrast"]}
"""What the colours can change."""
ENLARGED = (320, 640)
"""CSS pixels of a window 1280 wide at 400 % (WCAG 1.4.10) and at 200 %."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not AXE.is_file(), reason="needs axe-core (`make tools`, with npm)"),
]


@dataclass(frozen=True)
class Visit:
    """One page: its name, and how to get there."""

    name: str
    go: Callable[[Page], object]


def to(path: str) -> Callable[[Page], object]:
    """Return how to get to an address."""
    return lambda page: page.goto(path)


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, the one that was pinned."""
    source = AXE.read_bytes()
    assert hashlib.sha256(source).hexdigest() == SHA256
    return source.decode()


@pytest.fixture(scope="module")
def visits(site: Site) -> list[Visit]:
    """Every page of the clinician, in each state that it can have."""
    return list(every_page(site))


def every_page(site: Site) -> Iterator[Visit]:
    """Yield the pages."""
    someone = site.patient("Accessible Patient", record_number="AX-1", date_of_birth=date(1961, 3, 5))
    reviewed, done, stale = site.drafted(someone), signed(site, "Accessible Signed"), site.drafted(someone)
    asked_here = signed(site, "Accessible Question")
    elsewhere(site, reviewed, "n1", "Dry cough for nine weeks.")
    asked, recorded = site.encounter(someone), site.encounter(someone)
    queued, failed = site.encounter(someone), site.encounter(someone)
    actor = site.users[CLINICIAN].actor
    with site.records.write() as tx:
        fresh, typing = (
            tx.encounters.open(someone.id, kind=EncounterKind.DICTATION, template="soap", language="en", actor=actor)
            for _ in range(2)
        )
        tx.encounters.record_consent(typing.id, Consent.GIVEN, actor)
        tx.encounters.record_consent(asked.id, Consent.WITHDRAWN, actor)
        tx.encounters.mark(queued.id, state=EncounterState.RUNNING, stage=Stage.GENERATE)
        tx.encounters.mark(failed.id, state=EncounterState.FAILED, error_code="speech_empty")
        tx.notes.add_addendum(done.id, "Called back.", actor)
    yield Visit("today", to("/day?show=all"))
    yield Visit("patients", to("/patients"))
    yield Visit("search-similar", lambda page: search(page, "akcessible"))
    yield Visit("search-nobody", lambda page: search(page, "zzzzz"))
    yield Visit("patient-new", to("/patients/new"))
    yield Visit("patient-edit", to(f"/patients/{someone.id}/edit"))
    yield Visit("patient", to(f"/patients/{someone.id}"))
    yield Visit("patient-with-notes", lambda page: read_note(page, done.patient_id))
    yield Visit("accounting", to(f"/patients/{someone.id}/accounting"))
    yield Visit("shred", to(f"/patients/{someone.id}/shred"))
    yield Visit("consent", to(f"/encounters/{fresh.id}"))
    yield Visit("consent-withdrawn", to(f"/encounters/{asked.id}"))
    yield Visit("capture", to(f"/encounters/{recorded.id}"))
    yield Visit("capture-text", to(f"/encounters/{typing.id}"))
    yield Visit("processing", to(f"/encounters/{queued.id}"))
    yield Visit("failed", to(f"/encounters/{failed.id}"))
    yield Visit("review", to(f"/encounters/{reviewed.id}"))
    yield Visit("review-typing", lambda page: edit(page, stale, "Cough for nine weeks."))
    yield Visit("signed", to(f"/encounters/{done.id}"))
    yield Visit("draft-and-final", to(f"/encounters/{reviewed.id}/note/versions"))
    yield Visit("letter-draft", to(f"/documents/{drafted(site, 'Accessible Letter').id}"))
    sheet = drafted(site, "Accessible Sheet", "patient_instructions")
    yield Visit("instructions-draft", to(f"/documents/{sheet.id}"))
    yield Visit("letter-issued", to(f"/documents/{issued(site, 'Accessible Issued').id}?print=large"))
    yield Visit("answer", lambda page: ask(page, asked_here.id))
    yield Visit("password", to("/password"))
    yield Visit("second-factor", to("/second-factor"))
    yield Visit("not-found", to("/nowhere"))


def ask(page: Page, encounter_id: str) -> None:
    """Ask a record something."""
    page.goto(f"/encounters/{encounter_id}")
    page.get_by_text("Ask this patient's record").click()
    page.get_by_test_id("question").fill("Which medicines? Doxycycline?")
    page.get_by_test_id("question-ask").click()
    page.get_by_test_id("answer-quote").first.wait_for()


def search(page: Page, text: str) -> None:
    """Look for somebody."""
    page.goto("/patients")
    page.get_by_test_id("patient-search").fill(text)
    page.get_by_test_id("patient-search").press("Enter")
    page.get_by_role("heading", name="Found").wait_for()


def read_note(page: Page, patient_id: str) -> None:
    """Open an earlier note on a patient's page."""
    page.goto(f"/patients/{patient_id}")
    page.get_by_test_id("read-note").first.click()
    page.get_by_test_id("paper").wait_for()


def violations(page: Page, axe: str, rules: dict[str, list[str]] = RULES) -> list[str]:
    """Return what axe finds: rule and place, one line each."""
    page.evaluate(axe)
    found: Any = page.evaluate("rules => axe.run(document, rules)", rules)
    assert found["passes"], "axe looked at nothing"
    return [f"{rule['id']} {node['target']}" for rule in found["violations"] for node in rule["nodes"]]


def too_wide(page: Page) -> list[int]:
    """Return the widths at which the page scrolls sideways; wide tables scroll in a frame of their own."""
    found = []
    for width in ENLARGED:
        page.set_viewport_size({"width": width, "height": 720})
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(width)
    page.set_viewport_size({"width": 1280, "height": 720})
    return found


def test_every_page(visits: list[Visit], axe: str, new_page: NewPage) -> None:
    """WCAG 2.2 AA as far as a program can tell: no violation, in light and in dark; nothing cut off when enlarged."""
    page = new_page(refused=True)
    found, wide = {}, {}
    for visit in visits:
        page.emulate_media(color_scheme="light")
        visit.go(page)
        found[visit.name, "light"] = violations(page, axe)
        page.emulate_media(color_scheme="dark")
        found[visit.name, "dark"] = violations(page, axe, DARK)
        wide[visit.name] = too_wide(page)
    page = new_page(None)
    page.goto("/login")
    found["login", "light"] = violations(page, axe)
    assert {place: lines for place, lines in found.items() if lines} == {}
    assert {place: widths for place, widths in wide.items() if widths} == {}
    assert len(found) == 2 * len(visits) + 1


def test_a_violation_is_found(axe: str, new_page: NewPage) -> None:
    """Negative control: a field without a name, words without contrast and a box that is too wide are named."""
    page = new_page()
    page.goto("/patients/new")
    assert too_wide(page) == []
    page.evaluate(
        """() => {
          const field = document.createElement('input');
          const words = Object.assign(document.createElement('p'), { textContent: 'Hardly to be read' });
          words.setAttribute('class', 'muted');
          words.style.color = '#ccc';
          document.querySelector('main').append(field, words);
          field.style.width = '500px';
        }"""
    )
    assert too_wide(page) == [320]
    assert {line.split()[0] for line in violations(page, axe)} >= {"label", "color-contrast"}
