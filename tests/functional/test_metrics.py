"""`/metrics`: who may scrape it, what it says, and that nothing of a patient, an account or an encounter is in it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from clinic import metrics
from clinic.audit.events import WitnessAdded
from clinic.audit.latch import Reason
from clinic.backup.history import Drilled, Failed, History, Kept
from clinic.config import Config
from clinic.domain import OPERATOR, Consent, Prompt, utc_now
from clinic.errors import GenerationError
from clinic.home import unlock_home
from clinic.metrics import Family, Histogram, Watch, exposition, gauges, memory_available
from clinic.records.engine import open_engine
from clinic.records.records import Records
from tests.campaigns.canaries import FORMS, new_canary
from tests.functional.test_audit_first import FakeGenerator, dictate, run
from tests.functional.web_world import ORIGIN, World

TOKEN = "0123456789abcdef" * 2
HEADER = re.compile(r"# (HELP [a-z_]+ [^\n\\]+|TYPE [a-z_]+ (gauge|counter|histogram))")
SAMPLE = re.compile(r'([a-z_]+)(\{([a-z]+="[^"\\]*")(,[a-z]+="[^"\\]*")*\})? (-?\d+(\.\d+)?(e[+-]?\d+)?)')
"""The text format, version 0.0.4, without what we do not use (time stamps, escapes, NaN)."""


def let_scrape(world: World, token: str = TOKEN, mode: int = 0o600) -> None:
    """Put a token into the data folder."""
    path = world.services.config.metrics_token_file
    path.write_text(f"{token}\n")
    path.chmod(mode)


def scrape(world: World, token: str = TOKEN) -> str:
    """Return what a scrape with this token gets."""
    response = world.app.test_client().get("/metrics", headers={"Authorization": f"Bearer {token}"}, base_url=ORIGIN)
    assert response.status_code == 200
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    return response.text


def series(text: str) -> dict[str, float]:
    """Return the values by name and labels; what is not in the format fails."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert HEADER.fullmatch(line), line
            continue
        match = SAMPLE.fullmatch(line)
        assert match is not None, line
        name = line.rpartition(" ")[0]
        assert name not in found
        found[name] = float(match[5])
    return found


def test_without_the_token_nothing_is_said(world: World) -> None:
    """No token file, no page; then only the whole token opens it, and a wrong one is told nothing."""
    client = world.app.test_client()
    assert client.get("/metrics", base_url=ORIGIN).status_code == 404
    let_scrape(world)
    for header in ({}, *({"Authorization": v} for v in ("Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}0", TOKEN))):
        response = client.get("/metrics", headers=header, base_url=ORIGIN)
        assert (response.status_code, response.headers["WWW-Authenticate"]) == (401, "Bearer"), header
        assert "clinic_" not in response.text
    assert "clinic_audit_entries" in scrape(world)


@pytest.mark.parametrize(
    ("token", "mode"), [(TOKEN[:31], 0o600), ("", 0o600), (TOKEN, 0o644), ("é" * 40, 0o600)], ids=range(4)
)
def test_an_unfit_token_is_none(world: World, token: str, mode: int) -> None:
    """One that is short, empty, readable by others or no text opens nothing, not even to who knows it."""
    let_scrape(world, token, mode)
    response = world.app.test_client().get(
        "/metrics", headers={"Authorization": f"Bearer {token}".encode().decode("latin-1")}, base_url=ORIGIN
    )
    assert response.status_code == 404


def test_a_signed_in_browser_gets_nothing_either(world: World) -> None:
    """A session is no token."""
    let_scrape(world)
    for role in world.users:
        assert world.browser(role).get("/metrics").status_code == 401


def test_it_is_limited(world: World) -> None:
    """Nobody guesses by the thousand, or keeps the box busy."""
    let_scrape(world)
    client = world.app.test_client()
    codes = {client.get("/metrics", base_url=ORIGIN).status_code for _ in range(70)}
    assert codes == {401, 429}


def test_it_answers_while_everything_is_stopped(world: World) -> None:
    """That is when somebody should be told."""
    let_scrape(world)
    assert series(scrape(world))["clinic_audit_latched"] == 0
    world.records.guard.latch(Reason.DISK_FULL)
    assert series(scrape(world))["clinic_audit_latched"] == 1


def test_nothing_of_a_patient_is_in_it(world: World) -> None:
    """Names, words and ids of everybody, in every form, before and after; the series are the same whatever is done."""
    let_scrape(world)
    first = series(scrape(world))
    canaries = [new_canary() for _ in range(3)]
    config, records = world.services.config, world.records
    encounters = [
        dictate(records, text=f"cough and {canaries[1]} " * 12, name=canaries[0]),
        dictate(records, name=canaries[2], consent=Consent.REFUSED),
    ]

    def fail(_prompt: Prompt) -> None:
        raise GenerationError("the model server stopped", code="model_interrupted")

    run(config, records, FakeGenerator(), encounters[0])
    for encounter, generator in ((encounters[1], FakeGenerator()), (dictate(records), FakeGenerator(fail))):
        with pytest.raises(Exception, match=r"."):
            run(config, records, generator, encounter)
    text = scrape(world)
    with records.read() as tx:
        people = [tx.encounters.get(encounter).patient_id for encounter in encounters]
    secret = [*canaries, *encounters, *people, *(records.audit.pseudonym(each) for each in people), TOKEN]
    secret += [user.id for user in world.users.values()] + [user.display_name for user in world.users.values()]
    for word in map(str, secret):
        assert word not in text
        for name, form in FORMS.items():
            assert form(word) not in text.encode(), name
    assert set(series(text)) == set(first)
    done = {name: value - first[name] for name, value in series(text).items() if "_total" in name or "_count" in name}
    assert {name: n for name, n in done.items() if n} == {
        'clinic_jobs_total{kind="generation",end="completed"}': 1,
        'clinic_jobs_total{kind="generation",end="failed"}': 1,
        'clinic_jobs_total{kind="generation",end="denied"}': 1,
        'clinic_stage_seconds_count{stage="generate"}': 2,
        'clinic_stage_seconds_count{stage="verify"}': 1,
    }


def test_a_label_with_an_id_would_be_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a series for each encounter is one that was not there before."""
    real = Watch.families

    def careless(watch: Watch) -> tuple[Family, ...]:
        labels = ({"encounter": entry.body.hex()} for entry in world.records.audit.named("encounter.opened"))
        return (*real(watch), Family("clinic_x", "x", "gauge", tuple(("", each, 1.0) for each in labels)))

    monkeypatch.setattr(Watch, "families", careless)
    let_scrape(world)
    first = set(series(scrape(world)))
    dictate(world.records)
    assert set(series(scrape(world))) != first


def test_what_it_says_of_the_box(config: Config, records: Records) -> None:
    """Ages count from what happened; what never happened is absent, not zero."""
    fresh = {family.name for family in gauges(config, records, lambda: 3)}
    assert not fresh & {"clinic_backup_age_seconds", "clinic_witness_age_seconds", "clinic_backup_drill_age_seconds"}
    with records.write() as tx:
        tx.append(WitnessAdded(witness="tablet", entries=1, root="0" * 64), actor=OPERATOR)
    later = utc_now() + timedelta(hours=2)
    now = {f.name: f.values[0][2] for f in gauges(config, records, lambda: 3, clock=lambda: later)}
    assert now["clinic_jobs_queued"] == 3
    assert 7190 < now["clinic_witness_age_seconds"] < 7300
    assert now["clinic_audit_entries"] == records.audit.size()
    assert now["clinic_model_server_up"] == 0
    assert 390 < now["clinic_certificate_expires_seconds"] / 86400 < 398
    assert 0 < now["clinic_disk_free_bytes"] < now["clinic_disk_size_bytes"]
    assert now["clinic_memory_available_bytes"] > 1 << 20


def test_what_cannot_be_found_out_hides_nothing_else(config: Config, records: Records) -> None:
    """A certificate that is gone, a job store that breaks: their lines are missing, all others are there."""
    whole = {family.name for family in gauges(config, records, lambda: 0)}
    (config.tls_dir / "server.pem").unlink()

    def broken() -> int:
        raise GenerationError("no")

    left = {family.name for family in gauges(config, records, broken)}
    assert whole - left == {"clinic_certificate_expires_seconds", "clinic_jobs_queued"}


def test_a_backup_and_its_drill_have_an_age(config: Config, records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ages are those of the history that the page shows."""
    before = utc_now() - timedelta(hours=5)
    kept = Kept("b", "d", before, entries=1, size=1, through=1)
    drill = Drilled("b", before, "ok", 3)
    failed = Failed("create", "disk_full", before)
    known = History(last=kept, drill=drill, failures=(failed,))
    monkeypatch.setattr(metrics, "history", lambda _audit: known)
    now = {f.name: f.values[0][2] for f in gauges(config, records, lambda: 0)}
    assert now["clinic_backup_age_seconds"] == pytest.approx(5 * 3600, abs=30)
    assert now["clinic_backup_drill_age_seconds"] == pytest.approx(5 * 3600, abs=30)
    assert now["clinic_backup_failures"] == 1


def test_the_buckets_add_up() -> None:
    """Each bucket holds those below it, the last holds all, and a value on the bound belongs to it."""
    histogram = Histogram()
    for seconds in (0.5, 1.0, 1.1, 45.0, 99999.0):
        histogram.observe(seconds)
    values = {labels.get("le", suffix): value for suffix, labels, value in histogram.values({"stage": "generate"})}
    assert (values["1.0"], values["2.0"], values["60.0"], values["1800.0"]) == (2, 3, 4, 4)
    assert values["+Inf"] == values["_count"] == 5
    assert values["_sum"] == pytest.approx(100046.6)
    series(exposition([Family("clinic_stage_seconds", "x", "histogram", tuple(histogram.values({"stage": "a"})))]))


def test_what_never_ends_is_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered between scrapes has a bound."""
    monkeypatch.setattr(metrics, "_MOST_OPEN", 2)
    watch = Watch(world.records.audit)
    for number in range(5):
        watch._begin("generate", f"g{number}", utc_now())
    assert [what for _, what in watch._open] == ["g3", "g4"]


def test_memory_is_read_off_the_kernel(tmp_path: Path) -> None:
    """Kibibytes, as it writes them; a kernel that does not say is no zero."""
    table = tmp_path / "meminfo"
    table.write_text("MemTotal: 9 kB\nMemAvailable:    1024 kB\n")
    assert memory_available(table) == 1 << 20
    table.write_text("MemTotal: 9 kB\n")
    assert memory_available(table) is None


def test_it_begins_where_the_log_stands(config: Config, records: Records) -> None:
    """What was before the first scrape is not counted, and nothing is counted twice."""
    run(config, records, FakeGenerator(), dictate(records))
    again = Records(open_engine(config.database), keyring=unlock_home(config))
    watch = Watch(again.audit)

    def completed() -> float:
        (ends, _) = watch.families()
        return next(v for _, labels, v in ends.values if labels == {"kind": "generation", "end": "completed"})

    assert completed() == 0
    run(config, records, FakeGenerator(), dictate(records))
    assert (completed(), completed()) == (1, 1)
