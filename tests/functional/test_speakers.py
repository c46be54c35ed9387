"""Who speaks, through the flow: named in a consultation, recorded, never in a dictation, and missing in plain sight."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from clinic.consultation import Consultation
from clinic.domain import EncounterId, EncounterKind, EncounterState, Role, Segment, Transcript, Word
from clinic.errors import ConfigError
from clinic.policy.detectors.red_flags import transcript_red_flags
from clinic.records.patients import Patient
from clinic.speech import attribution
from clinic.speech.speakers import Turn
from clinic.speech.voice import VoiceEncoder
from tests.conftest import SAMPLE
from tests.functional.web_world import NOTE, Browser, World

SENTENCES = (
    "Good morning, how can I help you today? Do you have any fever?",
    "I have had a cough for two weeks, doctor, and I feel tired.",
    "I'll listen to your chest. Have you any pain?",
    "No, but my throat hurts and I was not able to sleep.",
)


def transcript() -> Transcript:
    """Four sentences of two people, two words a second."""
    segments, at = [], 0.0
    for number, text in enumerate(SENTENCES, start=1):
        words = tuple(
            Word(text=w, start=at + n / 2, end=at + n / 2 + 0.5, probability=0.9) for n, w in enumerate(text.split())
        )
        at = words[-1].end
        segments.append(Segment(id=f"s{number}", text=text, start=words[0].start, end=at, confidence=0.9, words=words))
    return Transcript(segments=tuple(segments), language="en", duration_s=at, model="fake", model_sha256="cd" * 32)


def turns(*_: object) -> tuple[Turn, ...]:
    """Return a turn for each sentence, of two voices in turns."""
    spans = [(s.start or 0.0, s.end or 0.0) for s in transcript().segments]
    return tuple(Turn(start, end, n % 2, 0.2) for n, (start, end) in enumerate(spans))


class Recogniser:
    """Hears the four sentences in whatever it is given."""

    model = "fake"
    model_sha256 = "cd" * 32

    def transcribe(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Transcript:
        """Return the fixed transcript."""
        del audio, language, progress
        return transcript()


def missing() -> VoiceEncoder:
    """Fail as the real loader does without its package."""
    raise ConfigError("no weights", code="weights_missing")


Speakers = Callable[[], VoiceEncoder] | None


def heard(
    world: World, patient: Patient, speakers: Speakers, *, kind: EncounterKind = EncounterKind.CONSULTATION
) -> tuple[EncounterId, Transcript]:
    """Take a recording through transcription and return what was stored."""
    encounter = world.encounter(patient, kind=kind)
    with world.records.write() as tx:
        recording = tx.recordings.start(encounter.id, mime="audio/flac", actor=world.actor())
        tx.recordings.append(recording.id, 0, SAMPLE.read_bytes()[: 1 << 20])
        tx.recordings.complete(recording.id, chunks=1, actor=world.actor())
    flow = Consultation(
        world.records,
        policy_set=lambda: pytest.fail("nothing is decided here"),
        transcriber=Recogniser,
        speakers=speakers,
        generator=lambda: pytest.fail("nothing is written here"),
        max_audio_s=600,
    )
    flow.transcribe(encounter.id, actor=world.actor())
    with world.records.read() as tx:
        stored = tx.transcripts.current(encounter.id)
    assert stored is not None
    return encounter.id, stored


def names(stored: Transcript) -> list[str | None]:
    """Return the speaker of each segment."""
    return [segment.speaker for segment in stored.segments]


def test_a_consultation_names_its_speakers(world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names stand in the stored transcript and on the page; the log says how many, by which model, and no more."""
    monkeypatch.setattr(attribution, "tell_apart", turns)
    encounter, stored = heard(world, patient, lambda: None)  # type: ignore[arg-type, return-value]
    assert names(stored) == ["clinician", "patient", "clinician", "patient"]
    entry = list(world.records.audit.entries())[-1]
    assert entry.event == "speakers.assigned"
    assert b'"segments":4,"speakers":2' in entry.body
    assert world.records.sweep() == ()
    page = world.browser(Role.CLINICIAN).get(f"/encounters/{encounter}").text
    assert page.count('class="speaker"') == 4


@pytest.mark.parametrize(
    ("speakers", "kind"),
    [
        pytest.param(None, EncounterKind.CONSULTATION, id="switched off"),
        pytest.param(missing, EncounterKind.DICTATION, id="dictation"),
    ],
)
def test_nobody_is_asked_who_speaks(world: World, patient: Patient, speakers: Speakers, kind: EncounterKind) -> None:
    """Switched off, or where one person dictates: no name, no notice, no event."""
    _, stored = heard(world, patient, speakers, kind=kind)
    assert (names(stored), stored.speakers_error) == ([None] * 4, None)
    assert world.events()[-1] == "transcription.completed"


def test_without_its_model_the_transcript_stands_and_says_so(world: World, patient: Patient) -> None:
    """A missing package costs the names: it is recorded, and told on the page in plain words."""
    encounter, stored = heard(world, patient, missing)
    assert (names(stored), stored.speakers_error) == ([None] * 4, "weights_missing")
    assert [s.text for s in stored.segments] == list(SENTENCES)
    assert world.events()[-2:] == ["transcription.completed", "speakers.failed"]
    page = world.browser(Role.CLINICIAN).get(f"/encounters/{encounter}").text
    assert 'data-testid="speakers-error"' in page


def test_a_guessed_name_lowers_no_red_flag() -> None:
    """What was said in passing stays stated, whoever the machine takes the voice for; a typed name (control) counts."""
    text = "I woke up sweating, had crushing chest pain"
    typed = Segment(id="s1", text=text, speaker="clinician")
    spoken = typed.model_copy(update={"start": 0.0, "end": 3.0})
    assert [f.standing for f in transcript_red_flags(Transcript(segments=(spoken,)))] == ["stated"]
    assert [f.standing for f in transcript_red_flags(Transcript(segments=(typed,)))] == ["asked"]


# --- correcting ---------------------------------------------------------------------------------------


def corrected(world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> tuple[EncounterId, Browser]:
    """Return an encounter of which the speakers were heard, reviewed in a browser."""
    monkeypatch.setattr(attribution, "tell_apart", turns)
    encounter, _ = heard(world, patient, lambda: None)  # type: ignore[arg-type, return-value]
    with world.records.write() as tx:
        tx.encounters.mark(encounter, state=EncounterState.DENIED)
    return encounter, world.browser(Role.CLINICIAN)


def shown_version(browser: Browser, encounter: EncounterId) -> str:
    """Load the page and return the version of the transcript that it shows."""
    found = re.search(r'name="sha256" value="([0-9a-f]{64})"', browser.get(f"/encounters/{encounter}").text)
    assert found is not None
    return found.group(1)


def current(world: World, encounter: EncounterId) -> Transcript:
    """Return the newest transcript."""
    with world.records.read() as tx:
        stored = tx.transcripts.current(encounter)
    assert stored is not None
    return stored


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ("swap", ["patient", "clinician", "patient", "clinician"]),
        ("one:s2:clinician", ["clinician", "clinician", "clinician", "patient"]),
        ("all:patient:relative", ["clinician", "relative", "clinician", "relative"]),
    ],
    ids=["swap", "one", "all"],
)
def test_one_click_corrects(
    world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch, change: str, after: list[str]
) -> None:
    """One request changes who spoke, and nothing else; it is recorded, and one more brings back what was heard."""
    encounter, browser = corrected(world, patient, monkeypatch)
    before = current(world, encounter)
    done = browser.post(f"/encounters/{encounter}/speakers", change=change, sha256=shown_version(browser, encounter))
    assert done.status_code == 303
    stored = current(world, encounter)
    assert names(stored) == after
    assert [s.model_copy(update={"speaker": None}) for s in stored.segments] == [
        s.model_copy(update={"speaker": None}) for s in before.segments
    ]
    entry = [e for e in world.records.audit.entries() if e.event == "speakers.corrected"][-1]
    count = sum(a != b for a, b in zip(names(before), after, strict=True))
    assert f'"segments":{count},'.encode() in entry.body
    with world.records.read() as tx:
        assert tx.transcripts.first(encounter) == before
    assert world.records.sweep() == ()
    browser.post(f"/encounters/{encounter}/speakers", change="automatic", sha256=shown_version(browser, encounter))
    assert current(world, encounter) == before
    assert world.records.audit.verify().ok


def test_the_button_of_a_line_offers_the_other(world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two speakers a click on a name gives the line to the other; nothing corrected, nothing to bring back."""
    encounter, browser = corrected(world, patient, monkeypatch)
    page = browser.get(f"/encounters/{encounter}").text
    assert re.findall(r'value="(one:s\d:\w+)"', page) == [
        "one:s1:patient",
        "one:s2:clinician",
        "one:s3:patient",
        "one:s4:clinician",
    ]
    assert "speakers-automatic" not in page


@pytest.mark.parametrize(
    "change",
    ["one:s2:Dr. Miller", "one:s2:<b>", "all:patient:", "one:s2", "else", "swap:s1:patient"],
    ids=["a name", "markup", "nobody", "half", "unknown", "too much"],
)
def test_other_changes_are_refused(
    world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """What is not on the list changes nothing and is not repeated."""
    encounter, browser = corrected(world, patient, monkeypatch)
    before, events = current(world, encounter), world.events().count("speakers.corrected")
    done = browser.post(f"/encounters/{encounter}/speakers", change=change, sha256=shown_version(browser, encounter))
    assert done.status_code == 422
    assert "Miller" not in done.text
    assert (current(world, encounter), world.events().count("speakers.corrected")) == (before, events)


def test_an_unknown_segment_is_refused(world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that is not there is not made."""
    encounter, browser = corrected(world, patient, monkeypatch)
    sha256 = shown_version(browser, encounter)
    assert browser.post(f"/encounters/{encounter}/speakers", change="one:s99:patient", sha256=sha256).status_code == 404


def test_a_replayed_correction_is_a_conflict(world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sent twice, a swap does not undo itself: the second names a version that is no longer the newest."""
    encounter, browser = corrected(world, patient, monkeypatch)
    sha256 = shown_version(browser, encounter)
    answers = [
        browser.post(f"/encounters/{encounter}/speakers", change="swap", sha256=sha256).status_code for _ in range(2)
    ]
    assert answers == [303, 409]
    assert names(current(world, encounter))[0] == "patient"


@pytest.mark.parametrize("state", [EncounterState.QUEUED, EncounterState.RUNNING])
def test_not_while_the_job_runs(
    world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch, state: EncounterState
) -> None:
    """The transcript that a job works on stays."""
    encounter, browser = corrected(world, patient, monkeypatch)
    sha256 = shown_version(browser, encounter)
    with world.records.write() as tx:
        tx.encounters.mark(encounter, state=state)
    assert browser.post(f"/encounters/{encounter}/speakers", change="swap", sha256=sha256).status_code == 409
    assert names(current(world, encounter))[0] == "clinician"


def test_not_once_signed(world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a note was signed over stays as it was read."""
    encounter, browser = corrected(world, patient, monkeypatch)
    sha256 = shown_version(browser, encounter)
    note = NOTE.model_copy(update={"statements": NOTE.statements[:1]})
    with world.records.write() as tx:
        tx.notes.store_draft(encounter, note, generation_id=None, actor=world.actor())
        tx.encounters.mark(encounter, state=EncounterState.DRAFTED)
        tx.notes.sign(encounter, expected_version=1, attestation="read", actor=world.actor())
    assert browser.post(f"/encounters/{encounter}/speakers", change="swap", sha256=sha256).status_code == 409
    assert "speakers-form" not in browser.get(f"/encounters/{encounter}").text
    assert names(current(world, encounter))[0] == "clinician"


def test_a_colleague_corrects_nothing(world: World, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another clinician sees the names without buttons, and a forged request is refused."""
    encounter, browser = corrected(world, patient, monkeypatch)
    sha256, colleague = shown_version(browser, encounter), world.colleague()
    assert "speakers-form" not in colleague.get(f"/encounters/{encounter}").text
    assert colleague.post(f"/encounters/{encounter}/speakers", change="swap", sha256=sha256).status_code == 409
    assert names(current(world, encounter))[0] == "clinician"
