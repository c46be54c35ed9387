"""The administrator's page of backups."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinic.backup.create import create
from clinic.backup.drill import drill
from clinic.backup.site import Site
from clinic.config import BackupConfig
from clinic.domain import Role
from clinic.home import unlock_home
from clinic.records.patients import Patient
from tests.functional.web_world import CANARY, World


@pytest.fixture
def usb(world: World, tmp_path: Path) -> Path:
    """A configured destination."""
    folder = tmp_path / "usb"
    folder.mkdir(mode=0o700)
    world.services.config = world.services.config.model_copy(update={"backup": BackupConfig(destination=folder)})
    return folder


def site(world: World) -> Site:
    """Return the clinic as the worker sees it."""
    return Site(world.services.config, unlock_home(world.services.config), world.records)


def test_only_the_administrator_sees_it(world: World) -> None:
    """A clinician and an auditor are refused, the page and the buttons; the link is the administrator's."""
    for role in (Role.CLINICIAN, Role.AUDITOR):
        browser = world.browser(role)
        assert browser.get("/backups").status_code == 403
        assert browser.post("/backups/create").status_code == 403
        assert browser.post("/backups/drill").status_code == 403
    assert world.services.jobs.tasks == []
    assert 'href="/backups"' in world.browser(Role.ADMINISTRATOR).get("/users").text


def test_no_backup_and_no_destination_are_said(world: World) -> None:
    """Neither is passed over: the page warns, and offers no button that could not work."""
    page = world.browser(Role.ADMINISTRATOR).get("/backups").text
    assert "No backup was ever made" in page
    assert "no destination is configured" in page
    assert 'data-testid="backup-now"' not in page
    assert 'data-testid="drill-now"' not in page


def test_the_buttons_put_jobs_into_the_queue(world: World, usb: Path) -> None:
    """Each once; while it waits the page says so and the button is off."""
    assert usb.is_dir()
    create(site(world))
    admin = world.browser(Role.ADMINISTRATOR)
    admin.get("/backups")
    assert admin.post("/backups/create").status_code == 303
    assert admin.post("/backups/drill").status_code == 303
    assert world.services.jobs.tasks == ["create", "drill"]
    page = admin.get("/backups").text
    assert "Waiting for the worker: create, drill" in page
    assert page.count(" disabled>") == 2


def test_a_backup_and_a_drill_are_shown(world: World, usb: Path, patient: Patient) -> None:
    """Fresh and good; each backup with its size and whether it is at hand; nothing of a patient."""
    made = create(site(world))
    drill(site(world))
    admin = world.browser(Role.ADMINISTRATOR)
    page = admin.get("/backups").text
    assert made.manifest.backup in page
    assert ">Fresh<" in page
    assert ">Good<" in page
    assert "<td>Yes</td>" in page
    usb.rename(usb.with_name("away"))
    page = admin.get("/backups").text
    assert "<td>No</td>" in page
    assert CANARY not in page
    assert patient.id not in page


def test_a_failure_stays_in_sight(world: World, usb: Path) -> None:
    """With its code, until a backup goes well."""
    usb.rmdir()
    with pytest.raises(Exception, match="no such folder"):
        create(site(world))
    page = world.browser(Role.ADMINISTRATOR).get("/backups").text
    assert "destination_missing" in page
    usb.mkdir(mode=0o700)
    create(site(world))
    assert "backup-failure" not in world.browser(Role.ADMINISTRATOR).get("/backups").text


def test_a_queue_that_takes_nothing_is_said(world: World, usb: Path) -> None:
    """The job store is broken: an error page in our words, no backup that is believed to be on its way."""
    assert usb.is_dir()
    world.services.jobs.broken = True
    admin = world.browser(Role.ADMINISTRATOR)
    admin.get("/backups")
    response = admin.post("/backups/create")
    assert response.status_code == 503
    assert "worker" in response.text
