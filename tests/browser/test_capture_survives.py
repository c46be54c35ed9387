"""Recording outlives a lost network and a reload: what was not acknowledged is kept sealed, and sent afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from clinic.domain import Consent, EncounterId, EncounterKind
from clinic.records.patients import PatientData
from clinic.speech.decode import decode
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.browser.pages_world import CLINICIAN, Site, signed_in_page

RATE = 48_000
SLICE_S = 2
CHUNKS = "**/recordings/*/chunks/*"
SLOW_MS = 30_000
LOUD = 0.05
ROOM_TO_TYPE = 150
EBML = b"\x1a\x45\xdf\xa3"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium (`make tools`)"),
]

KEPT = """async () => {
  const database = await new Promise((done, failed) => {
    const asked = indexedDB.open("clinic-chunks");
    asked.onsuccess = () => done(asked.result);
    asked.onerror = () => failed(asked.error);
  });
  if (!database.objectStoreNames.contains("chunks")) return [];
  const all = await new Promise((done) => {
    const asked = database.transaction("chunks").objectStore("chunks").getAll();
    asked.onsuccess = () => done(asked.result);
  });
  database.close();
  return all.map(({ recording, index, data }) => ({ recording, index, bytes: [...new Uint8Array(data)] }));
}"""
CLEAR = """() => new Promise((done) => {
  const asked = indexedDB.open("clinic-chunks");
  asked.onsuccess = () => {
    const change = asked.result.transaction("chunks", "readwrite");
    change.objectStore("chunks").clear();
    change.oncomplete = () => { asked.result.close(); done(null); };
  };
})"""
STORED = "() => [localStorage.length, sessionStorage.length, document.cookie.length]"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium with a microphone: a quiet second, a loud one, a far too loud one, again and again."""
    sound = tmp_path_factory.mktemp("microphone") / "tone.wav"
    tone(sound)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            headless=True,
            args=[
                *FLAGS,
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={sound}",
            ],
        )
        yield browser
        browser.close()


def tone(path: Path) -> None:
    """Write a tone that swells."""
    seconds = np.arange(3 * RATE) / RATE
    sound = np.sin(2 * np.pi * 220 * seconds) * np.repeat([0.1, 0.4, 0.3], RATE)
    with av.open(str(path), "w", format="wav") as sink:
        stream = sink.add_stream("pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((sound * 32767).astype(np.int16)[None, :], format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            sink.mux(packet)


@pytest.fixture
def context(site: Site, chromium: Browser) -> Iterator[BrowserContext]:
    """A browser of its own."""
    context = chromium.new_context(ignore_https_errors=True, base_url=site.address, permissions=["microphone"])
    yield context
    context.close()


@pytest.fixture
def encounter(site: Site) -> EncounterId:
    """An encounter with consent, of the one who signs in."""
    actor = site.users[CLINICIAN].actor
    with site.records.write() as tx:
        patient = tx.patients.create(PatientData(name="Ada Example"), actor)
        opened = tx.encounters.open(
            patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=actor
        )
        tx.encounters.record_consent(opened.id, Consent.GIVEN, actor)
    return opened.id


def open_page(site: Site, context: BrowserContext, encounter: EncounterId) -> Page:
    """Sign in and go to the recorder; leaving a page that is busy is confirmed."""
    page = signed_in_page(site, context, CLINICIAN)
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"/encounters/{encounter}")
    return page


def pieces(page: Page, kind: str) -> int:
    """Return how many pieces are `pending` or `acknowledged`."""
    return int(page.get_by_test_id("upload-state").get_attribute(f"data-{kind}") or 0)


def record(page: Page, seconds: float, *, cut_off_after: int) -> None:
    """Record; after so many acknowledged pieces the box is not reached any more."""
    page.get_by_test_id("record-start").click()
    expect(page.get_by_test_id("upload-state")).to_have_attribute(
        "data-acknowledged", str(cut_off_after), timeout=SLOW_MS
    )
    page.route(CHUNKS, lambda route: route.abort())
    page.wait_for_timeout(1000 * seconds)
    assert pieces(page, "pending") >= 2


def moments(page: Page) -> Iterator[None]:
    """Let time pass, a little at a time."""
    for _ in range(SLOW_MS // 100):
        yield
        page.wait_for_timeout(100)


def stored_s(site: Site, encounter: EncounterId) -> tuple[float, int]:
    """Return how many seconds of the recording are on the box, and in how many chunks."""
    with site.records.read() as tx:
        recording = tx.recordings.for_encounter(encounter)
        assert recording is not None
        chunks = list(tx.recordings.chunks(recording.id))
    return decode(chunks, max_duration_s=600).duration_s, len(chunks)


def test_a_reload_without_a_network_loses_nothing(site: Site, context: BrowserContext, encounter: EncounterId) -> None:
    """What waited is sealed in the browser, is sent by the next page, and the recording goes on as one."""
    page = open_page(site, context, encounter)
    record(page, 3 * SLICE_S, cut_off_after=2)
    pending, known = pieces(page, "pending"), pieces(page, "acknowledged")
    kept = page.evaluate(KEPT)
    assert [chunk["index"] for chunk in kept][:pending] == list(range(known, known + pending))
    with site.records.read() as tx:
        recording = tx.recordings.for_encounter(encounter)
        assert recording is not None
        (header,) = [tx.recordings.chunk(recording.id, 0)[:16]]
    assert header[:4] == EBML
    assert not any(EBML in bytes(chunk["bytes"]) or b"opus" in bytes(chunk["bytes"]).lower() for chunk in kept)
    assert page.evaluate(STORED) == [0, 0, 0]
    page.unroute(CHUNKS)
    page.reload()
    expect(page.get_by_test_id("resume-count")).to_contain_text("were still kept", timeout=SLOW_MS)
    assert page.evaluate(KEPT) == []
    before_s, chunks = stored_s(site, encounter)
    assert chunks >= known + pending
    assert before_s >= SLICE_S * (known + pending) - 0.5
    page.get_by_test_id("recording-go-on").click()
    expect(page.get_by_test_id("upload-state")).to_have_attribute("data-acknowledged", str(chunks + 2), timeout=SLOW_MS)
    page.get_by_test_id("record-stop").click()
    expect(page.get_by_test_id("stage-transcribe")).to_be_visible(timeout=SLOW_MS)
    with site.records.read() as tx:
        found = tx.recordings.for_encounter(encounter)
    assert found is not None
    assert (found.id, found.complete) == (recording.id, True)
    assert stored_s(site, encounter)[0] >= before_s + 2 * SLICE_S - 0.5
    assert page.evaluate(KEPT) == []


def test_without_keeping_it_would_be_lost(site: Site, context: BrowserContext, encounter: EncounterId) -> None:
    """Negative control: with nothing kept in the browser, the reload loses what was not acknowledged."""
    page = open_page(site, context, encounter)
    record(page, 2 * SLICE_S, cut_off_after=1)
    known = pieces(page, "acknowledged")
    page.evaluate(CLEAR)
    page.unroute(CHUNKS)
    page.reload()
    expect(page.get_by_test_id("recording-finish")).to_be_enabled(timeout=SLOW_MS)
    assert "still kept" not in page.get_by_test_id("resume-count").inner_text()
    assert stored_s(site, encounter)[1] == known
    page.get_by_test_id("recording-finish").click()
    expect(page.get_by_test_id("stage-transcribe")).to_be_visible(timeout=SLOW_MS)


def test_another_clinician_opens_nothing_of_it(site: Site, context: BrowserContext, encounter: EncounterId) -> None:
    """Who may not record gets no key: what lies in a shared browser stays closed."""
    page = open_page(site, context, encounter)
    record(page, 2 * SLICE_S, cut_off_after=1)
    answer = page.evaluate(
        """async (url) => (await fetch(url, {method: "POST", headers: {"Content-Type": "application/json",
             "X-CSRFToken": document.querySelector('meta[name="csrf-token"]').content},
             body: JSON.stringify({mime: "audio/webm;codecs=opus", resume: true})})).json()""",
        f"/encounters/{encounter}/recording",
    )
    assert set(answer) == {"id", "received", "complete", "key"}
    with site.records.write() as tx:
        tx.encounters.record_consent(encounter, Consent.WITHDRAWN, site.users[CLINICIAN].actor)
    page.reload()
    assert page.get_by_test_id("recording-finish").count() == 0
    assert len(page.evaluate(KEPT)) >= 2


def test_the_microphone_is_tested_before(site: Site, context: BrowserContext, encounter: EncounterId) -> None:
    """The level moves, nothing is recorded, and a recording may begin right out of the test."""
    page = open_page(site, context, encounter)
    page.get_by_test_id("record-test").click()
    expect(page.locator("#recorder-state")).to_contain_text("Nothing is recorded")
    assert any(page.evaluate("document.getElementById('level').value") > LOUD for _ in moments(page))
    expect(page.get_by_test_id("silence")).to_be_hidden()
    page.get_by_test_id("record-test-end").click()
    expect(page.get_by_test_id("record-test")).to_be_visible()
    page.get_by_test_id("record-test").click()
    page.get_by_test_id("record-start").click()
    expect(page.get_by_test_id("record-stop")).to_be_visible(timeout=SLOW_MS)
    with site.records.read() as tx:
        assert tx.recordings.for_encounter(encounter) is not None


def test_a_moment_is_marked_and_a_note_typed(site: Site, context: BrowserContext, encounter: EncounterId) -> None:
    """Each with its time in the recording; the end waits for what the box has not got yet; a reload shows them."""
    page = open_page(site, context, encounter)
    assert not page.get_by_test_id("moment-mark").is_visible()
    page.get_by_test_id("record-start").click()
    expect(page.get_by_test_id("upload-state")).to_have_attribute("data-acknowledged", "1", timeout=SLOW_MS)
    page.set_viewport_size({"width": 390, "height": 800})
    field = page.get_by_test_id("moment-text").bounding_box()
    assert field is not None
    assert field["width"] > ROOM_TO_TYPE  # beside two buttons nothing was left of it on a phone
    page.get_by_test_id("moment-mark").click()
    page.route("**/moments", lambda route: route.abort())
    page.get_by_test_id("moment-text").fill("looks pale")
    page.get_by_test_id("moment-text").press("Enter")
    expect(page.get_by_test_id("moment-list")).to_contain_text("looks pale not stored yet")
    page.unroute("**/moments")
    expect(page.get_by_test_id("moment-list")).not_to_contain_text("not stored yet", timeout=SLOW_MS)
    page.get_by_test_id("record-stop").click()
    expect(page.get_by_test_id("stage-transcribe")).to_be_visible(timeout=SLOW_MS)
    with site.records.read() as tx:
        mark, note = tx.moments.of_encounter(encounter)
    assert (mark.text, note.text) == ("", "looks pale")
    assert 1 < mark.at <= note.at < 30
