"""One real browser, from login to a locked note, with a fake microphone fed by the sample consultation.

The clinic runs as a user runs it: `clinic serve`, HTTPS, worker, model server.  No word of it lies in the clear after.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest
from fhir.resources.R4B.bundle import Bundle
from playwright.sync_api import Page, expect, sync_playwright

from clinic.config import Config
from clinic.home import open_records, unlock_home
from tests.browser.pages_world import wait_until_healthy
from tests.conftest import SAMPLE

CHROMIUM = shutil.which("chromium")
SURNAME = "Marble" + "".join(secrets.choice("aeioubdfgklmnprst") for _ in range(12))
PATIENT = f"Quintessa {SURNAME}"  # a name that stands nowhere else on this machine
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
TEMPORARY = [Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]  # noqa: S108 - looked into, not written
START_S = 60
JOB_S = 300
NEW_CONNECTION_MS = 3000
"""Longer than the server keeps an idle connection (gunicorn: 2 s)."""
# On a busy machine Chromium's pretended microphone stutters: one word of each half may be misheard.
BEFORE_THE_PAUSE = ("sore throat", "ibuprofen", "penicillin")
AFTER_THE_PAUSE = ("azithromycin", "emergency")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.models,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium (`make tools`)"),
]


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def clinic(make_home: Callable[..., Config]) -> Iterator[Config]:
    """A whole clinic as `clinic serve --demo` runs it."""
    config = make_home(port=free_port())
    temporary = config.home.parent / "tmp"
    temporary.mkdir()
    with (config.logs_dir / "serve.log").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "clinic", "serve", "--demo", "--home", str(config.home)],
            stdout=out,
            stderr=out,
            env=os.environ | {"TMPDIR": str(temporary)},
        )
    try:
        wait_until_healthy(config, process)
        yield config
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(40)


@pytest.fixture
def microphone(tmp_path: Path) -> Path:
    """The sample as a 48 kHz WAV, which Chromium plays as its microphone."""
    target = tmp_path / "microphone.wav"
    with av.open(str(SAMPLE)) as source, av.open(str(target), "w", format="wav") as sink:
        stream = sink.add_stream("pcm_s16le", rate=48_000, layout="mono")
        resampler = av.AudioResampler(format="s16", layout="mono", rate=48_000)
        for frame in source.decode(audio=0):
            for piece in resampler.resample(frame):
                sink.mux(stream.encode(piece))
        sink.mux(stream.encode(None))
    return target


@pytest.fixture
def page(clinic: Config, microphone: Path, tmp_path: Path) -> Iterator[Page]:
    """A page of a fresh headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=CHROMIUM,
            headless=True,
            args=[*FLAGS, f"--use-file-for-fake-audio-capture={microphone}%noloop"],
            ignore_https_errors=True,
            base_url=f"https://localhost:{clinic.web.port}",
            permissions=["microphone"],
        )
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        yield page
        browser.close()
        assert problems == []


def sample_seconds() -> float:
    """Return the length of the sample in seconds."""
    with av.open(str(SAMPLE)) as source:
        assert source.duration is not None
        return source.duration / 1_000_000


@pytest.mark.timeout(900)
def test_recording_becomes_a_signed_note(clinic: Config, page: Page) -> None:
    """Login, patient, consent, record with a pause, stages, evidence, flags, signature, lock; nothing in the clear."""
    started = time.time()
    save_certificate(page)
    log_in(page, "clinician")
    open_encounter(page)
    record_sample(page)
    review(page)
    sign(page)
    save_document(page)
    shots = os.environ.get("CLINIC_SCREENSHOTS")
    if shots:
        page.screenshot(path=f"{shots}/signed.png", full_page=True)
    check_records(clinic)
    heard = " ".join(spoken_words(clinic)).lower()
    assert sum(word in heard for word in BEFORE_THE_PAUSE) >= 2
    assert any(word in heard for word in AFTER_THE_PAUSE)
    assert (
        in_the_clear([clinic.home, clinic.home.parent / "tmp"], [SURNAME, *spoken_words(clinic)], since=started) == []
    )
    assert in_the_clear(TEMPORARY, [SURNAME], since=started) == []


def log_in(page: Page, username: str) -> None:
    """Log in with a demonstration account."""
    page.goto("/")
    page.get_by_test_id("login-username").fill(username)
    page.get_by_test_id("login-password").fill("demonstration")
    page.get_by_test_id("login-submit").click()


def open_encounter(page: Page) -> None:
    """Create a patient and an encounter, and record consent."""
    page.get_by_test_id("patient-new").first.click()
    page.get_by_test_id("patient-name").fill(PATIENT)
    page.get_by_test_id("patient-save").click()
    page.get_by_test_id("encounter-new").first.click()
    page.get_by_test_id("consent-given").click()


def record_sample(page: Page) -> None:
    """Record the sample with a pause of a second in the middle, while talk goes on, and stop after its end.

    Meanwhile the page shows what the box has heard so far, as provisional.
    """
    page.get_by_test_id("record-start").click()
    expect(page.get_by_test_id("record-pause")).to_be_visible(timeout=1000 * START_S)
    page.wait_for_timeout(500 * sample_seconds())
    expect(page.get_by_test_id("live-lines").locator("li").first).to_be_visible(timeout=1000 * START_S)
    expect(page.locator("#live .badge")).to_have_text("provisional")
    shots = os.environ.get("CLINIC_SCREENSHOTS")
    if shots:
        page.screenshot(path=f"{shots}/recording.png", full_page=True)
    page.get_by_test_id("record-pause").click()
    page.wait_for_timeout(1000)
    page.get_by_test_id("record-resume").click()
    page.wait_for_timeout(500 * sample_seconds() + 1500)
    page.get_by_test_id("record-stop").click()


def review(page: Page) -> None:
    """Wait for the draft, hear the evidence of one statement, decide on every flag."""
    statements = page.get_by_test_id("statement")
    expect(statements.first).to_be_visible(timeout=1000 * JOB_S)
    shots = os.environ.get("CLINIC_SCREENSHOTS")
    if shots:
        page.screenshot(path=f"{shots}/review.png", full_page=True)
    assert page.get_by_test_id("segment").count() > 3
    page.wait_for_load_state("load")  # a click before the page's modules have run would be lost
    supported = page.locator('[data-testid="statement"][data-status="supported"]')
    with page.expect_response(re.compile("/clip|/audio")) as clip:
        supported.first.click()
    assert clip.value.ok
    assert clip.value.headers["content-type"].startswith("audio/")
    while page.locator('[data-testid="statement"][data-status="flagged"]').count():
        flagged = page.locator('[data-testid="statement"][data-status="flagged"]').first
        before = page.locator('[data-testid="statement"][data-status="flagged"]').count()
        flagged.get_by_test_id("statement-confirm").click()
        expect(page.locator('[data-testid="statement"][data-status="flagged"]')).to_have_count(before - 1)


def sign(page: Page) -> None:
    """Sign with the attestation and see the note locked."""
    page.get_by_test_id("sign").click()
    page.get_by_test_id("attestation").check()
    page.get_by_test_id("sign-submit").click()
    expect(page.get_by_test_id("note-locked")).to_be_visible()


def save_certificate(page: Page) -> None:
    """Save the clinic's certificate in a browser that does not trust it yet, over a new connection.

    With the attribute `download` on its link the browser cancels: it lets only navigations past a warning.
    """
    page.goto("/ca")
    page.wait_for_timeout(NEW_CONNECTION_MS)
    with page.expect_download() as saved:
        page.get_by_test_id("ca-save").click()
    assert saved.value.failure() is None
    assert saved.value.suggested_filename == "clinic-ca.pem"
    saved.value.delete()


def save_document(page: Page) -> None:
    """Save the note for another system: a valid FHIR document that names the model and the audit entry behind it."""
    page.wait_for_timeout(NEW_CONNECTION_MS)
    with page.expect_download() as saved:
        page.get_by_test_id("note-export").click()
    assert saved.value.failure() is None
    assert saved.value.suggested_filename.startswith("note-")
    data = saved.value.path().read_bytes()
    saved.value.delete()  # what the clinician saved is theirs; nothing else may be found below /tmp
    Bundle.model_validate_json(data)
    kinds = [entry["resource"]["resourceType"] for entry in json.loads(data)["entry"]]
    assert kinds[0] == "Composition"
    assert {"Device", "Provenance"} <= set(kinds)


def check_records(clinic: Config) -> None:
    """The log verifies and tells the story in the right order."""
    records = open_records(clinic, unlock_home(clinic))
    assert records.audit.verify().ok
    events = [entry.event for entry in records.audit.entries()]
    story = [
        "login.succeeded",
        "patient.created",
        "encounter.opened",
        "consent.recorded",
        "recording.started",
        "recording.completed",
        "transcription.completed",
        "generation.authorized",
        "generation.completed",
        "note.drafted",
        "audio.played",
        "note.signed",
        "note.exported",
    ]
    positions = [events.index(name) for name in story]
    assert positions == sorted(positions)


def spoken_words(clinic: Config) -> list[str]:
    """Return stretches of the transcript and the note that would betray a leak."""
    records = open_records(clinic, unlock_home(clinic))
    with records.read() as tx:
        encounter = tx.encounters.recent(limit=1)[0]
        transcript = tx.transcripts.current(encounter.id)
        note = tx.notes.get(encounter.id)
    assert transcript is not None
    assert note is not None
    return [s.text for s in transcript.segments] + [s.text for s in note.note.statements if len(s.text) > 20]


def in_the_clear(places: list[Path], canaries: list[str], *, since: float) -> list[str]:
    """Return every file below these places, changed since, that holds one of the words."""
    needles = [canary.encode() for canary in canaries] + [canary.encode("utf-16-le") for canary in canaries]
    found = []
    walks = (walk for place in places for walk in os.walk(place))  # passes over folders that go while it looks
    for path in (Path(folder) / name for folder, _, names in walks for name in names):
        if path.is_symlink() or not path.is_file() or "profile" in path.parts:
            continue
        try:
            data = path.read_bytes() if path.stat().st_mtime >= since else b""
        except OSError:
            continue
        if any(needle in data for needle in needles):
            found.append(str(path))
    return found


def test_search_finds_what_lies_in_the_clear(config: Config) -> None:
    """The search itself works: a word written into a log is found, below the data folder and below /tmp."""
    log = config.logs_dir / "worker.log"
    log.write_text(f"oops {PATIENT}\n", encoding="utf-8")
    assert in_the_clear([config.home], [SURNAME], since=0) == [str(log)]
    assert in_the_clear(TEMPORARY, [SURNAME], since=0) == [str(log)]
