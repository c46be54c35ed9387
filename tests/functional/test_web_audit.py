"""The auditor's list: filtered by event, by account and by time, and pages that stay what they are while it grows."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from clinic.audit.events import LoginSucceeded
from clinic.domain import OPERATOR, Role
from clinic.home import unlock_home
from clinic.records.engine import open_engine
from clinic.records.patients import Patient
from clinic.records.records import Records
from tests.functional.web_world import Browser, World

MORNING = datetime(2100, 7, 1, 6, 30, tzinfo=UTC)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clinic five and a half hours ahead of UTC."""
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def numbers(page: str) -> list[int]:
    """Return the numbers of the entries that a page lists, in its order."""
    return [int(number) for number in re.findall(r'<tr><td class="number"><a [^>]*>(\d+)</a></td>', page)]


def link(page: str, name: str) -> str:
    """Return the address behind a pager's link."""
    found = re.search(rf'href="([^"]+)" data-testid="{name}"', page)
    assert found is not None, name
    return found.group(1).replace("&amp;", "&").partition("#")[0]


def grow(world: World, patient: Patient, count: int) -> None:
    """Let the log grow by so many looks at a patient."""
    with world.records.write() as tx:
        for _ in range(count):
            tx.patients.get(patient.id, world.actor())


def walk(auditor: Browser, name: str, page: str) -> list[int]:
    """Follow the pager to its end and return the numbers that were listed."""
    listed = numbers(page)
    while f'data-testid="{name}"' in page:
        page = auditor.get(link(page, name)).text
        listed += numbers(page)
    return listed


def test_pages_hold_every_entry_once(world: World, patient: Patient) -> None:
    """From the newest page to the oldest each entry is listed once, in order; and back again."""
    grow(world, patient, 130)
    auditor = world.browser(Role.AUDITOR)
    size = world.records.audit.size()
    first = auditor.get("/audit").text
    assert walk(auditor, "page-older", first) == list(range(size, 0, -1))
    assert f"All {size} entries." in first
    oldest = auditor.get("/audit?before=10").text
    back = walk(auditor, "page-newer", oldest)
    assert sorted(back) == list(range(1, size + 1))


def test_a_page_stays_what_it_is_while_the_log_grows(world: World, patient: Patient) -> None:
    """Between one page and the next the log grows by more than a page: nothing is shown twice, nothing is left out."""
    grow(world, patient, 130)
    auditor = world.browser(Role.AUDITOR)
    size = world.records.audit.size()
    page = auditor.get("/audit").text
    listed = numbers(page)
    while 'data-testid="page-older"' in page:
        grow(world, patient, 60)
        page = auditor.get(link(page, "page-older")).text
        listed += numbers(page)
    assert listed == list(range(size, 0, -1))
    assert numbers(auditor.get("/audit?before=51").text) == list(range(50, 0, -1))


def test_filter_by_event_and_by_account(world: World, patient: Patient) -> None:
    """One event, all of a kind, one account, both: exactly those, and the pager keeps the filter."""
    grow(world, patient, 60)
    auditor = world.browser(Role.AUDITOR)
    entries = list(world.records.audit.entries())
    clinician, admin = world.actor().user_id, world.users[Role.AUDITOR].id
    cases = {
        "event=patient.viewed": [e.seq for e in entries if e.event == "patient.viewed"],
        "event=patient.": [e.seq for e in entries if e.event.startswith("patient.")],
        f"actor={clinician}": [e.seq for e in entries if e.actor == clinician],
        f"actor={admin}&event=login.": [e.seq for e in entries if e.actor == admin and e.event.startswith("login.")],
    }
    for query, expected in cases.items():
        page = auditor.get(f"/audit?{query}").text
        assert walk(auditor, "page-older", page) == expected[::-1], query
        assert f"{len(expected)} of {len(entries)} entries match." in page
    assert len(cases["event=patient."]) > len(cases["event=patient.viewed"]) > 50


@pytest.mark.usefixtures("zone")
def test_times_are_of_the_zone_that_is_named(world: World) -> None:
    """The same moment, typed in UTC and in the clinic's time, finds the same entry; both ends are included."""
    auditor = world.browser(Role.AUDITOR)
    moments = iter([MORNING + timedelta(minutes=minutes) for minutes in range(3)])
    log = Records(
        open_engine(world.services.config.database),
        keyring=unlock_home(world.services.config),
        clock=lambda: next(moments),
    ).audit
    made = [log.append(LoginSucceeded(user_id="u-1"), actor=OPERATOR).seq for _ in range(3)]
    for zone, clock in (("utc", "06:31"), ("clinic", "12:01")):
        page = auditor.get(f"/audit?from=2100-07-01T{clock}&to=2100-07-01T{clock}&zone={zone}").text
        assert numbers(page) == [made[1]], zone
        assert f"1 Jul 2100, {clock}:00" in page
        assert "Clinic time (IST, UTC+05:30)" in page
    both = auditor.get("/audit?from=2100-07-01T06:30&to=2100-07-01T06:31:00&zone=utc").text
    assert numbers(both) == [made[1], made[0]]


@pytest.mark.parametrize(
    "query",
    [
        "event=x",
        "event=patient.viewed'--",
        "actor=%00",
        "from=yesterday",
        "from=2026-02-31T00:00",
        "from=2100-07-01T06:31%2B02:00",
        "from=2100-07-02T00:00&to=2100-07-01T00:00",
        "from=0001-01-01T00:00",
        "zone=mars",
        "before=x",
        "after=-1",
    ],
)
def test_a_filter_that_is_none_is_explained(world: World, query: str) -> None:
    """What to mend stands on the page; nothing is listed as if it had been understood."""
    answer = world.browser(Role.AUDITOR).get(f"/audit?{query}")
    assert answer.status_code == 422
    assert "error-box" in answer.text


def test_nothing_found_is_said(world: World) -> None:
    """An empty page says so, and leads back."""
    page = world.browser(Role.AUDITOR).get("/audit?event=note.signed").text
    assert "No entry matches." in page
    assert numbers(page) == []
    assert "Clear" in page


def test_a_changed_entry_does_not_hide_the_others(world: World) -> None:
    """A body that is no JSON any more is listed as such, beside all others; verification names it."""
    with closing(sqlite3.connect(world.services.config.database)) as thief:
        thief.execute("DROP TRIGGER audit_entries_no_update")
        thief.execute("UPDATE audit_entries SET body = x'ff7b' WHERE seq = 2")
        thief.commit()
    auditor = world.browser(Role.AUDITOR)
    page = auditor.get("/audit").text
    assert "cannot be read" in page
    assert 2 in numbers(page)
    assert "The first bad entry is number 2." in auditor.post("/audit/verify").text
