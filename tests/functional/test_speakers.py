"""Who speaks, through the flow: named in a consultation, recorded, never in a dictation, and missing in plain sight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from clinic.consultation import Consultation
from clinic.domain import EncounterId, EncounterKind, Role, Segment, Transcript, Word
from clinic.errors import ConfigError
from clinic.policy.detectors.red_flags import transcript_red_flags
from clinic.records.patients import Patient
from clinic.speech import attribution
from clinic.speech.speakers import Turn
from clinic.speech.voice import VoiceEncoder
from tests.conftest import SAMPLE
from tests.functional.web_world import World

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
