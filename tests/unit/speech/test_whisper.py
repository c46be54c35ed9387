"""`clinic.speech.whisper` on real sound with the real embedded model."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from clinic.demo import SAMPLE, script
from clinic.domain import Transcript, Word
from clinic.errors import ConfigError, InputError, TranscriptionError
from clinic.speech.attribution import name_speakers
from clinic.speech.decode import decode
from clinic.speech.guards import Span
from clinic.speech.transcriber import mean_confidence, speech_ms
from clinic.speech.voice import load_voice_encoder
from clinic.speech.whisper import BLOCK_S, WhisperTranscriber, blocks, confidence, unheard
from clinic.weights import WHISPER_BASE, assemble
from tests.unit.speech.sound import tone
from tests.unit.speech.wer import normal, word_error_rate

MODELS = Path(__file__).resolve().parents[3] / ".cache" / "models"


@pytest.fixture(scope="module")
def whisper() -> WhisperTranscriber:
    """The embedded model on one thread."""
    folder = assemble(WHISPER_BASE, MODELS)
    return WhisperTranscriber(folder, threads=1, model_sha256=WHISPER_BASE.sha256, model=WHISPER_BASE.name)


@pytest.fixture(scope="module")
def sample(whisper: WhisperTranscriber) -> tuple[Transcript, list[float]]:
    """The sample consultation as transcribed, and the progress that was reported."""
    progress: list[float] = []
    sound = decode([SAMPLE.read_bytes()], max_duration_s=600).samples
    return whisper.transcribe(sound, language="en", progress=progress.append), progress


def word(start: float, end: float) -> Word:
    """Return some word at these seconds."""
    return Word(text="word", start=start, end=end, probability=0.5)


@pytest.mark.models
def test_sample_is_heard_almost_without_error(sample: tuple[Transcript, list[float]]) -> None:
    """The word error rate of the sample consultation stays below 5 %."""
    said = " ".join(turn.text for turn in script())
    assert word_error_rate(said, " ".join(s.text for s in sample[0].segments)) < 0.05


@pytest.mark.models
@pytest.mark.parametrize(
    "fact",
    [
        "allergic to penicillin",
        "ibuprofen 400 milligrams three times a day",
        "azithromycin 500 milligrams once a day for three days",
        "1 gram up to four times a day",
        "38.4 degrees",
        "132 over 84",
        "no cough",
        "left side",
    ],
)
def test_sample_keeps_its_clinical_facts(sample: tuple[Transcript, list[float]], fact: str) -> None:
    """Drugs, doses, the allergy, measured values, a negation and a side are heard right."""
    assert " ".join(normal(fact)) in " ".join(normal(" ".join(s.text for s in sample[0].segments)))


@pytest.mark.models
def test_transcript_is_complete(sample: tuple[Transcript, list[float]]) -> None:
    """Segments are sentences with ids, rising times, words and confidences; the model and language are named."""
    transcript, progress = sample
    assert [s.id for s in transcript.segments] == [f"s{n + 1}" for n in range(len(transcript.segments))]
    assert (transcript.language, transcript.model) == ("en", "whisper-base")
    assert transcript.model_sha256 == WHISPER_BASE.sha256
    assert transcript.duration_s == pytest.approx(84.28, abs=0.1)
    starts = [w.start for s in transcript.segments for w in s.words]
    assert starts == sorted(starts)
    assert all(s.text == " ".join(w.text for w in s.words) and s.speaker is None for s in transcript.segments)
    assert 0.7 < (mean_confidence(transcript) or 0) <= 1
    assert 60_000 < speech_ms(transcript) < 84_000
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == (0.0, 1.0)
    assert len(progress) > 3


@pytest.mark.models
def test_sample_is_told_apart(sample: tuple[Transcript, list[float]]) -> None:
    """Of the sample's words nearly all go to who says them in the script, and hardly any to the other."""
    sound = decode([SAMPLE.read_bytes()], max_duration_s=600).samples
    told = name_speakers(sample[0], sound, lambda: load_voice_encoder(MODELS))
    assert told.speakers_error is None
    said = [(word, turn.speaker.lower()) for turn in script() for word in normal(turn.text)]
    heard = [(word, segment.speaker) for segment in told.segments for word in normal(segment.text)]
    pairs = SequenceMatcher(None, [w for w, _ in said], [w for w, _ in heard], autojunk=False).get_matching_blocks()
    both = [(said[p.a + n][1], heard[p.b + n][1]) for p in pairs for n in range(p.size)]
    right = sum(truth == name for truth, name in both)
    unknown = sum(name is None for _, name in both)
    assert len(both) > 0.9 * len(said)
    assert right > 0.9 * len(both), (right, unknown, len(both))


RNG = np.random.default_rng(7)
NOTHING = {
    "silence": np.zeros(160_000, np.float32),
    "faint noise": (0.002 * RNG.standard_normal(160_000)).astype(np.float32),
    "loud noise": (0.2 * RNG.standard_normal(160_000)).astype(np.float32),
    "tone": tone(10.0),
    "chords": sum((tone(10.0, hertz=h) / 3 for h in (220, 277, 330)), np.zeros(160_000, np.float32)),
    "hum and clicks": (tone(10.0, hertz=50) + (np.arange(160_000) % 8000 < 20) * 0.5).astype(np.float32),
}


@pytest.mark.models
@pytest.mark.parametrize("name", NOTHING)
def test_sound_without_speech_never_becomes_a_visit(whisper: WhisperTranscriber, name: str) -> None:
    """Silence, noise and music give `no_speech`, not a transcript."""
    with pytest.raises(TranscriptionError) as caught:
        whisper.transcribe(np.asarray(NOTHING[name], dtype=np.float32), language="en")
    assert caught.value.code == "no_speech"


@pytest.mark.models
def test_real_recordings_without_speech(whisper: WhisperTranscriber, test_data: Path) -> None:
    """A real recording in which nobody speaks gives `no_speech`."""
    sound = decode([(test_data / "audio/dev/canvas-silence-02.flac").read_bytes()], max_duration_s=600).samples
    with pytest.raises(TranscriptionError) as caught:
        whisper.transcribe(sound)
    assert caught.value.code == "no_speech"


@pytest.mark.models
@pytest.mark.parametrize(
    ("name", "limit"),
    [("whisper-jfk", 0.05), ("lj-LJ001-0001", 0.1), ("libri-61-70968-0000", 0.1), ("canvas-silence-01", 0.1)],
)
def test_real_speech_is_heard(whisper: WhisperTranscriber, test_data: Path, name: str, limit: float) -> None:
    """Clear real speech is transcribed almost without error, and its language found."""
    lines = (test_data / "audio" / "dev" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    entry = next(e for e in map(json.loads, lines) if e["id"] == name)
    sound = decode([(test_data / "audio" / entry["file"]).read_bytes()], max_duration_s=600).samples
    transcript = whisper.transcribe(sound)
    assert transcript.language == "en"
    assert word_error_rate(entry["reference"], " ".join(s.text for s in transcript.segments)) <= limit


class Skipping(WhisperTranscriber):
    """Jumps over ten seconds in its first pass, as Whisper does now and then."""

    def _hear(
        self,
        audio: NDArray[np.float32],
        block: Span,
        language: str | None,
        *,
        vad: bool,
        names: str | None = None,
        once: bool = False,
    ) -> Iterator[tuple[list[Word], str]]:
        for words, found in super()._hear(audio, block, language, vad=vad, names=names, once=once):
            yield [w for w in words if not (vad and 30 < w.start < 40)], found


@pytest.mark.models
@pytest.mark.parametrize("second_pass", [True, False])
def test_skipped_sentences_are_heard_again(second_pass: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """What the first pass skips (here the allergy) the second one hears; negative control: without it, it is lost."""
    if not second_pass:
        monkeypatch.setattr("clinic.speech.whisper.MIN_UNHEARD_S", 1000.0)
    whisper = Skipping(assemble(WHISPER_BASE, MODELS), threads=1, model_sha256="0")
    sound = decode([SAMPLE.read_bytes()], max_duration_s=600).samples[: 50 * 16_000]
    text = whisper.transcribe(sound, language="en").text
    assert ("allergic to penicillin" in text) is second_pass
    assert "ibuprofen" in text


@pytest.mark.models
def test_unknown_language_is_refused(whisper: WhisperTranscriber) -> None:
    """A language that the model does not know is the caller's mistake."""
    with pytest.raises(InputError) as caught:
        whisper.transcribe(tone(1.0), language="klingon")
    assert caught.value.code == "language_unknown"


def test_incomplete_model_folder_is_refused(tmp_path: Path) -> None:
    """With a file missing, the library would ask the internet for it: refused before."""
    (tmp_path / "model.bin").touch()
    (tmp_path / "config.json").touch()
    with pytest.raises(ConfigError) as caught:
        WhisperTranscriber(tmp_path, threads=1, model_sha256="0")
    assert caught.value.code == "weights_missing"


def test_blocks_hold_all_speech_and_are_cut_in_pauses() -> None:
    """A long recording is taken in blocks of bounded length; no detected speech is cut or left out."""
    speech = tuple(Span(n * 30.0 + 1, n * 30.0 + 28) for n in range(60))
    found = list(blocks(speech, 1800.0))
    assert all(block.end - block.start <= BLOCK_S + 30 for block in found)
    assert all(any(b.start <= span.start and span.end <= b.end for b in found) for span in speech)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))


def test_stretches_without_a_word_are_found() -> None:
    """Speech of more than two seconds without a word is unheard, also behind a word that seems to last too long."""
    speech = (Span(0, 10), Span(10.1, 20))
    assert unheard([word(0, 1), word(1, 2)], speech) == (Span(2, 20),)
    assert unheard([word(n, n + 1) for n in range(20)], speech) == ()
    assert unheard([word(0, 20)], speech) == (Span(1.5, 20),)
    assert unheard([word(n, n + 1) for n in range(20) if n not in (5, 6, 7)], speech) == (Span(5, 8),)


def test_confidence_is_the_geometric_mean() -> None:
    """One doubtful word pulls a sentence down more than it would an average."""
    words = [Word(text="a", start=0, end=1, probability=p) for p in (0.9, 0.1)]
    assert confidence(words) == pytest.approx(0.3)
