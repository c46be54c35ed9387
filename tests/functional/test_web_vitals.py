"""The administrator's page of the box's health, and the auditor's charts and single entries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clinic.audit.events import WitnessAdded
from clinic.audit.proof import verify_proof
from clinic.audit.witness import add
from clinic.config import Config, KeySource
from clinic.doctor import Finding, glance
from clinic.domain import EncounterId, Role
from clinic.errors import AuditError
from clinic.jobs.alive import worker_runs
from clinic.jobs.worker import only_worker
from clinic.records.patients import Patient
from clinic.web import vitals
from tests.functional.web_world import CANARY, World


def lights(world: World) -> dict[str, tuple[bool, str]]:
    """Return what the page says: by check, whether it is well, and its words."""
    page = world.browser(Role.ADMINISTRATOR).get("/box").text
    found = re.findall(r'<li class="light (well|mind|ill)">.*?<strong>(.*?)</strong> (.*?)</div>', page, re.DOTALL)
    return {name: (state == "well", re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", rest))) for state, name, rest in found}


def test_each_red_light_says_what_to_do(world: World) -> None:
    """A box without worker and model server: each is named, first, with the next step."""
    found = lights(world)
    assert len(found) == 18
    for check, step in (("Worker", "clinic serve"), ("Model server", "model.log")):
        assert (found[check][0], step in found[check][1]) == (False, True), check
    assert found["Certificate"][0]
    assert found["Audit latch"] == (True, " not set ")
    states = [well for well, _ in found.values()]
    assert states == sorted(states), "those that are not well stand first"
    page = world.browser(Role.ADMINISTRATOR).get("/box").text
    ill = len(re.findall(r'<li class="light ill">', page))
    assert f"{ill} of 18 checks need you." in page


def test_a_folder_for_development_is_not_called_well(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key, no backup, no witness: none is an error of the doctor, none is green."""
    found = lights(world)
    for check, step in (
        ("Key", "not for patients"),
        ("Backup", "clinic backup create"),
        ("Witness", "docs/auditing.md"),
        ("Backup drill", "make a backup first"),
    ):
        assert (found[check][0], step.lower() in found[check][1].lower()) == (False, True), check
    assert all(finding(world.services.config, world, check).ok for check in ("key", "backup", "witness"))
    box = world.browser(Role.ADMINISTRATOR)
    parts = [Finding("key", ok=True, detail="-", hint="do it", mind=True), Finding("disk", ok=True, detail="-")]
    monkeypatch.setattr(vitals, "glance", lambda *_: parts)
    monkeypatch.setattr(vitals, "guarded", lambda name, _: Finding(name, ok=True, detail="-"))
    assert "3 checks are well, 1 to think about." in box.get("/box").text
    monkeypatch.setattr(vitals, "glance", lambda *_: parts[1:])
    assert "All 3 checks are well." in box.get("/box").text


def test_lights_turn(world: World) -> None:
    """With a worker its light is well; a queue that grows, or cannot be read, is not."""
    with only_worker(world.services.config):
        assert lights(world)["Worker"] == (True, " runs ")
    assert lights(world)["Queue"] == (True, " nobody waits ")
    world.services.jobs.queued = [EncounterId(f"{n:032x}") for n in range(vitals.MANY + 1)]
    assert (lights(world)["Queue"][0], "21 encounters wait" in lights(world)["Queue"][1]) == (False, True)
    world.services.jobs.broken = True
    assert lights(world)["Queue"][0] is False


def test_a_witness_is_missed_and_seen(world: World) -> None:
    """Where patients are, a log that nobody outside has seen is red; with a checkpoint given back it is not."""
    config = world.services.config.model_copy(update={"key_source": KeySource.CREDENTIAL})
    assert not finding(config, world, "witness").ok
    log = world.records.audit
    add(config.home, log, name="front-desk", text=log.checkpoint())
    event = WitnessAdded(witness="front-desk", entries=log.size(), root="0" * 64)
    log.append(event, actor=world.actor(Role.ADMINISTRATOR))
    assert finding(config, world, "witness").ok


def finding(config: Config, world: World, check: str) -> Finding:
    """Return one finding of the quick look."""
    return next(each for each in glance(config, world.records) if each.check == check)


def test_the_page_is_the_administrators(world: World) -> None:
    """Nobody else's."""
    for role in (Role.CLINICIAN, Role.AUDITOR):
        assert world.browser(role).get("/box").status_code == 403
    assert 'href="/box"' in world.browser(Role.ADMINISTRATOR).get("/users").text


def test_the_worker_is_seen_without_touching_its_lock(world: World, tmp_path: Path) -> None:
    """Held, not held, never made; where the kernel shows no locks it is not known."""
    run = world.services.config.run_dir
    assert worker_runs(tmp_path) is False
    with only_worker(world.services.config):
        assert worker_runs(run) is True
        assert worker_runs(run, locks=tmp_path / "nothing") is None
    assert worker_runs(run) is False


def test_charts_say_in_words_what_they_show(world: World, patient: Patient) -> None:
    """Bars, words and table from the same numbers; no patient and no script."""
    world.browser(Role.CLINICIAN).get(f"/patients/{patient.id}")
    world.browser().sign_in("clinician", "wrong horse battery")
    page = world.browser(Role.AUDITOR).get("/audit/activity").text
    for ended in ("allowed", "refused"):
        assert f"Drafts, documents and questions that the policy {ended}" in page
    assert page.count("<svg") == 2, "what never happened has no picture"
    assert page.count("<rect") == 60
    words = [re.sub(r"\s+", " ", found) for found in re.findall(r'data-testid="chart-words">(.*?)</p>', page)]
    assert words[1:3] == ["None.", "None."]
    assert words[3].startswith("1 in all, most on ")
    assert CANARY not in page
    assert '<th scope="row">' in page
    assert world.browser(Role.ADMINISTRATOR).get("/audit/activity").status_code == 403


def test_one_entry_and_its_proof(world: World) -> None:
    """The entry is shown whole; its proof verifies for it, and for no other."""
    auditor = world.browser(Role.AUDITOR)
    entries = list(world.records.audit.entries())
    page = auditor.get("/audit/entries/2").text
    assert entries[1].hash.hex() in page
    assert entries[1].event in page
    proof = auditor.post("/audit/entries/2/proof")
    assert proof.headers["Content-Disposition"] == "attachment; filename=clinic-proof-2.txt"
    vkey = world.records.audit.vkey
    assert verify_proof(proof.text, entry_hash=entries[1].hash, vkey=vkey).size >= 2
    with pytest.raises(AuditError):
        verify_proof(proof.text, entry_hash=entries[2].hash, vkey=vkey)


@pytest.mark.parametrize("path", ["/audit/entries/0", "/audit/entries/99999", f"/audit/entries/{1 << 70}"])
def test_an_entry_that_is_not_there(world: World, path: str) -> None:
    """It is said so; there is no proof of it either."""
    auditor = world.browser(Role.AUDITOR)
    answer = auditor.get(path, json=True)
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"]) == (404, "entry_unknown")
    assert f"1 to {world.records.audit.size()}" in error["hint"]
    auditor.get("/audit")
    assert auditor.post(f"{path}/proof").status_code == auditor.get(path).status_code
