"""Text while it is recorded: provisional, behind everybody's draft, nothing invented, and never in a note."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import numpy as np
import pytest

from clinic.config import Config
from clinic.domain import OPERATOR, Consent, EncounterKind, EncounterState, Transcript, utc_now
from clinic.jobs import listening as listening_module
from clinic.jobs.listening import BEHIND_S, Hearing, Listening
from clinic.jobs.workflows import Running
from clinic.records.encounters import Encounter
from clinic.records.live_texts import LiveLine, LiveText
from clinic.records.patients import PatientData
from clinic.records.recordings import Recording
from clinic.records.records import Records
from clinic.services import build_consultation
from clinic.speech.decode import Samples, decode
from clinic.speech.sharing import SharedTranscriber
from clinic.speech.text import text_to_transcript
from clinic.speech.transcriber import Overheard, Progress
from clinic.speech.whisper import WhisperTranscriber
from clinic.weights import WHISPER_BASE, assemble
from tests.conftest import MODELS, SAMPLE
from tests.functional.test_audit_first import TEXT, FakeGenerator
from tests.unit.speech.sound import FORMATS, encode

RATE = 16_000
SLICE_S = 2
DECODED_S = 5.0


def as_chunks(sound: Samples) -> list[bytes]:
    """Return sound as WebM, cut without regard to its structure, about two seconds a piece, as MediaRecorder does."""
    at_48_khz = np.interp(np.arange(len(sound) * 3) / 3, np.arange(len(sound)), sound).astype(np.float32)
    data = encode(at_48_khz, FORMATS["webm-opus"])
    size = SLICE_S * RATE * len(data) // len(sound)
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.fixture(scope="module")
def whisper() -> SharedTranscriber:
    """The recogniser as the worker has it."""
    return SharedTranscriber(
        lambda: WhisperTranscriber(assemble(WHISPER_BASE, MODELS), threads=1, model_sha256="0" * 64)
    )


@pytest.fixture(scope="module")
def sample() -> list[bytes]:
    """The first 40 s of the sample."""
    return as_chunks(decode([SAMPLE.read_bytes()], max_duration_s=600).samples[: 40 * RATE])


@dataclass
class Live:
    """A recording that runs, with somebody who reads along."""

    records: Records
    encounter: Encounter
    recording: Recording
    sent: int = 0

    def send(self, *chunks: bytes) -> None:
        """Send chunks."""
        for chunk in chunks:
            with self.records.write() as tx:
                tx.recordings.append(self.recording.id, self.sent, chunk)
            self.sent += 1

    def text(self) -> LiveText | None:
        """Return what the page would show."""
        with self.records.read() as tx:
            return tx.live_texts.get(self.encounter.id)

    def words(self) -> str:
        """Return the words of it."""
        text = self.text()
        return " ".join(line.text for line in text.lines).lower() if text else ""

    def end(self) -> None:
        """End the recording, and queue the encounter."""
        with self.records.write() as tx:
            tx.recordings.complete(self.recording.id, chunks=self.sent, actor=OPERATOR)
            tx.encounters.mark(self.encounter.id, state=EncounterState.QUEUED)


def begin(records: Records) -> Live:
    """Begin a recording."""
    with records.write() as tx:
        patient = tx.patients.create(PatientData(name="Live Test"), actor=OPERATOR)
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.CONSULTATION, template="soap", language="en", actor=OPERATOR
        )
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, OPERATOR)
        recording = tx.recordings.start(encounter.id, mime="audio/webm;codecs=opus", actor=OPERATOR)
        tx.live_texts.want(recording.id)
    return Live(records, encounter, recording)


@contextmanager
def listens(records: Records, hearing: Hearing, *, may_hear: Callable[[], bool] = lambda: True) -> Iterator[Listening]:
    """What listens, ended with its children."""
    one = Listening(records, hearing, may_hear=may_hear, max_duration_s=7200)
    try:
        yield one
    finally:
        one.close()


def until(listening: Listening, done: Callable[[], bool]) -> None:
    """Look again until that is so; what was sent has to be decoded first."""
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline
        listening.step()
        time.sleep(0.05)


@dataclass
class Counting:
    """A recogniser that notes what it was given, and says a word for each second."""

    seconds: list[float] = field(default_factory=list)
    model: str = "counting"
    model_sha256: str = "0" * 64

    def overhear(
        self, audio: Samples, *, language: str | None = None, unless: Callable[[], bool] = lambda: False
    ) -> Overheard | None:
        """Hear, unless somebody else is waiting."""
        if unless():
            return None
        self.seconds.append(len(audio) / RATE)
        segment = text_to_transcript("heard").segments[0].model_copy(update={"start": 0.0, "end": len(audio) / RATE})
        return Overheard((segment,), language)

    def transcribe(
        self, audio: Samples, *, language: str | None = None, progress: Progress | None = None
    ) -> Transcript:
        """Return a transcript that has nothing to do with what was overheard."""
        del audio, language, progress
        return text_to_transcript(f"{TEXT} {TEXT}").model_copy(
            update={"model": self.model, "model_sha256": self.model_sha256}
        )


@pytest.mark.models
def test_what_is_said_is_shown_while_it_is_recorded(
    records: Records, whisper: SharedTranscriber, sample: list[bytes]
) -> None:
    """Chunk by chunk, a few seconds behind, in order, with times; the log and the transcripts know nothing of it."""
    live = begin(records)
    before = [entry.event for entry in records.audit.entries()]
    with listens(records, whisper) as listening:
        for chunk in sample:
            live.send(chunk)
            listening.step()
        until(listening, lambda: "ibuprofen" in live.words())
        text = live.text()
    assert text is not None
    assert "sore throat" in live.words()
    assert "headache" in live.words()
    assert 25 < text.heard_until <= 40
    starts = [line.start for line in text.lines]
    assert starts == sorted(starts)
    assert all(line.start <= line.end <= text.heard_until + 0.5 for line in text.lines)
    assert [entry.event for entry in records.audit.entries()] == before
    with records.read() as tx:
        assert tx.transcripts.current(live.encounter.id) is None


@pytest.mark.models
def test_silence_and_noise_invent_nothing(records: Records, whisper: SharedTranscriber) -> None:
    """Half a minute of nothing and of hiss: not one line, and the recogniser is hardly asked."""
    live = begin(records)
    noise = np.random.default_rng(7).normal(0, 0.02, 16 * RATE).astype(np.float32)
    with listens(records, whisper) as listening:
        for chunk in as_chunks(np.concatenate([np.zeros(16 * RATE, np.float32), noise])):
            live.send(chunk)
        until(listening, lambda: (text := live.text()) is not None and text.heard_until > 24)
    text = live.text()
    assert text is not None
    assert text.lines == ()


def test_a_job_goes_first(records: Records, sample: list[bytes]) -> None:
    """While one waits or runs nothing is heard; then it goes on where it was.  Negative control: unasked, it hears."""
    live, hearing, jobs = begin(records), Counting(), Running()
    live.send(*sample)
    with listens(records, hearing, may_hear=jobs.nothing) as listening:
        with jobs.holding("another encounter"):
            for _ in range(5):
                assert listening.step() == 0
                time.sleep(0.05)
            assert hearing.seconds == []
        until(listening, lambda: bool(hearing.seconds))
        known = live.text()
    assert known is not None
    assert sum(hearing.seconds) <= known.heard_until
    with listens(records, unhindered := Counting()) as listening, jobs.holding("another encounter"):
        until(listening, lambda: bool(unhindered.seconds))


def test_the_full_transcription_waits_for_one_stretch_at_most() -> None:
    """What is being heard in passing is given up as soon as a job wants the recogniser; without that it goes on."""
    given_up: list[bool] = []
    started = threading.Event()

    class Slow(Counting):
        """Hears for two seconds, a segment at a time."""

        def overhear(
            self, audio: Samples, *, language: str | None = None, unless: Callable[[], bool] = lambda: False
        ) -> Overheard | None:
            started.set()
            for _ in range(200):
                if unless():
                    given_up.append(True)
                    return None
                time.sleep(0.01)
            given_up.append(False)
            return super().overhear(audio, language=language)

    shared = SharedTranscriber(Slow)
    sound = np.zeros(RATE, np.float32)
    passing = threading.Thread(target=lambda: shared.overhear(sound))
    passing.start()
    assert started.wait(5)
    began = time.monotonic()
    shared.transcribe(sound)
    assert time.monotonic() - began < 1.0
    passing.join(5)
    assert given_up == [True]
    shared.overhear(sound)
    assert given_up == [True, False]


def test_the_box_rests_after_each_stretch(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the stretch took; four times as long where that shows a busy box."""
    rests: list[float] = []
    with listens(records, Counting()) as listening:
        for took, heard in ((0.5, 10.0), (3.0, 10.0), (6.0, 10.0)):
            monkeypatch.setattr(listening, "_rest", 1.0)
            listening._tire(took, heard)
            rests.append(listening._rest)
    assert rests == [1.0, 3.0, 24.0]


def test_who_is_far_behind_skips_and_says_so(records: Records) -> None:
    """Of more than two minutes only the last seconds are heard; the line between says that nobody listened."""
    live, hearing = begin(records), Counting()
    sound = decode([SAMPLE.read_bytes()], max_duration_s=600).samples
    live.send(*as_chunks(np.concatenate([sound, sound, sound])[: 200 * RATE]))
    with listens(records, hearing) as listening:
        until(listening, lambda: (text := live.text()) is not None and text.heard_until > 185)
    text = live.text()
    assert text is not None
    skipped = [line for line in text.lines if line.skipped]
    assert skipped
    assert sum(line.end - line.start for line in skipped) > 200 - BEHIND_S - 30
    assert all(line.text == "" for line in skipped)


def test_a_worker_that_was_started_anew_goes_on(records: Records, sample: list[bytes]) -> None:
    """What was heard is not heard again, and nothing is left out."""
    live, first, second = begin(records), Counting(), Counting()
    live.send(*sample[:10])
    with listens(records, first) as listening:
        until(listening, lambda: bool(first.seconds))
    known = live.text()
    assert known is not None
    live.send(*sample[10:])
    with listens(records, second) as listening:
        until(listening, lambda: bool(second.seconds))
    text = live.text()
    assert text is not None
    assert text.lines[: len(known.lines)] == known.lines
    spoken = [line for line in text.lines if line.start >= known.heard_until]
    assert len(spoken) == len(second.seconds)
    assert sum(first.seconds) + sum(second.seconds) <= text.heard_until + 0.1


@pytest.mark.parametrize("end", ["complete", "withdraw"])
def test_what_ended_is_let_go(records: Records, sample: list[bytes], end: str) -> None:
    """With the recording, or with the patient's consent, sound, child and text go."""
    live = begin(records)
    with listens(records, Counting()) as listening:
        live.send(*sample)
        until(listening, lambda: bool(live.words()))
        (child,) = [heard.decoder._child for heard in listening._heard.values()]
        assert child is not None
        assert child.poll() is None
        if end == "complete":
            live.end()
        else:
            with records.write() as tx:
                tx.encounters.record_consent(live.encounter.id, Consent.WITHDRAWN, OPERATOR)
        listening.step()
        assert listening._heard == {}
        assert child.poll() is not None
        assert live.text() is None


def test_hostile_sound_stops_nobody_else(records: Records, sample: list[bytes]) -> None:
    """A recording that cannot be decoded is left alone until it has ended; the other one is heard."""
    bad, good = begin(records), begin(records)
    bad.send(b"this is no sound" * 10_000)
    good.send(*sample)
    with listens(records, hearing := Counting()) as listening:
        until(listening, lambda: bool(good.words()))
        for _ in range(3):
            bad.send(b"nor is this one" * 50_000)
            time.sleep(0.3)
            listening.step()
        assert listening._refused == {bad.recording.id}
    assert hearing.seconds
    assert bad.words() == ""


def test_nothing_provisional_reaches_a_note(config: Config, records: Records, sample: list[bytes]) -> None:
    """A live text with words that nobody said: gone before the job begins; in no transcript, prompt or note."""
    live = begin(records)
    live.send(*sample)
    invented = LiveText((LiveLine(0.0, 4.0, "The patient takes zanzibarol."),), 4.0, "en")
    with records.write() as tx:
        assert tx.live_texts.store(live.recording.id, invented)
    live.end()
    assert live.text() is None
    generator, heard = FakeGenerator(), Counting()
    flow = build_consultation(config, records, transcriber=lambda: heard, generator=lambda: generator)
    flow._speakers = None
    note = flow.run(live.encounter.id, actor=OPERATOR)
    with records.read() as tx:
        transcript = tx.transcripts.current(live.encounter.id)
    assert transcript is not None
    seen = transcript.text + note.model_dump_json() + "".join(map(str, generator.history))
    assert "Cough for three days" in seen
    assert "zanzibarol" not in seen
    assert heard.seconds == []


def test_only_old_live_texts_are_forgotten(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording of yesterday that nobody ended loses its live text, not its sound."""
    live = begin(records)
    live.send(b"sound")
    listening_module.forget_old(records)
    assert live.text() == LiveText()
    tomorrow = utc_now() + timedelta(hours=25)
    monkeypatch.setattr(records, "_parts", replace(records._parts, clock=lambda: tomorrow))
    listening_module.forget_old(records)
    assert live.text() is None
    with records.read() as tx:
        assert list(tx.recordings.chunks(live.recording.id)) == [b"sound"]
