"""Whisper on CTranslate2 (faster-whisper): sequential decoding with every guard on.

Rules kept here:

* Local files only: nothing is looked up or fetched anywhere, progress bars and telemetry are off.
* Voice activity comes first: where nobody speaks the recogniser is not asked at all, and no speech is an error.
* A long recording is taken in blocks of some minutes, cut in pauses: memory stays bounded, earlier text is never fed
  back (`condition_on_previous_text` off), so an invention cannot breed the next one.
* Nothing that was said is skipped without a second try: where the detector hears speech and the recogniser gave no
  word, that stretch is recognised again on its own (Whisper jumps over whole sentences now and then).
* What may be the name of a drug is heard a second time with such names at hand (`second_hearing.py`), in English.
* A segment is a sentence; its confidence is the geometric mean of its words' probabilities.
* No speaker is named here: who spoke is told by the voices (`speakers.py`), not guessed from pauses.

Raises `TranscriptionError` (`no_speech`, `transcription_failed`), `InputError` (`language_unknown`) and `ConfigError`
(`weights_missing`).
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinic.config import Config
from clinic.domain import Segment, Transcript, Word
from clinic.errors import ConfigError, InputError, TranscriptionError
from clinic.speech.decode_child import RATE
from clinic.speech.guards import Span, check
from clinic.speech.names import Names
from clinic.speech.second_hearing import hear_again
from clinic.speech.sentences import split_words
from clinic.speech.transcriber import Overheard, Progress
from clinic.weights import WHISPER_BASE, assemble, file_sha256

BLOCK_S = 300.0
MIN_SPEECH_S = 0.25
# Speech without a word for longer than this is heard a second time, on its own.
MIN_UNHEARD_S = 2.0
_LONGEST_WORD_S = 1.5
_FIRST_PASS = 0.9
_MARGIN_S = 0.4
_FILES = ("model.bin", "config.json", "tokenizer.json")
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
_SEED = 20_250_701  # decoding is retried with sampling where the first try repeats itself: the same each time
# Measured: shorter silences and padding cost words at the edges; the detector's own 2 s would hand over long pauses.
_VAD = {"min_silence_duration_ms": 1000, "speech_pad_ms": 400, "max_speech_duration_s": 30}


class WhisperTranscriber:
    """A loaded Whisper model.  One at a time per process; `transcribe` is not for concurrent calls."""

    def __init__(
        self, model_dir: Path, *, threads: int, model_sha256: str, model: str = "whisper", names: Names | None = None
    ) -> None:
        self.model = model
        self.model_sha256 = model_sha256
        self._names = names
        self._whisper = _load(model_dir, threads)

    def transcribe(
        self, audio: NDArray[np.float32], *, language: str | None = None, progress: Progress | None = None
    ) -> Transcript:
        """Return what was said; see `clinic.speech.transcriber.Transcriber`."""
        if language is not None and language not in self._whisper.supported_languages:
            raise InputError(
                "the speech model does not know this language",
                code="language_unknown",
                hint="use a two-letter code such as `en`, or leave the language open",
            )
        report = _rising(progress)
        report(0.0)
        speech = voice_activity(audio)
        if sum(span.end - span.start for span in speech) < MIN_SPEECH_S:
            raise _no_speech()
        words, language = self._recognise(audio, speech, language, report)
        sentences = list(split_words(words))
        checked = check(sentences, speech, confidence=[confidence(s) for s in sentences])
        if not checked.kept:
            raise _no_speech()
        kept = self._second_hearing(audio, checked.kept, language)
        report(1.0)
        return Transcript(
            segments=tuple(_segment(number, s) for number, s in enumerate(kept, start=1)),
            language=language,
            duration_s=round(len(audio) / RATE, 3),
            model=self.model,
            model_sha256=self.model_sha256,
        )

    def overhear(
        self, audio: NDArray[np.float32], *, language: str | None = None, unless: Callable[[], bool] = lambda: False
    ) -> Overheard | None:
        """Hear some seconds of a recording that still runs: once, quickly, with the same guards.

        Args:
            audio: mono samples at 16 kHz, at most half a minute.
            language: ISO 639-1 code; None lets the recogniser find out.
            unless: asked between segments; once it says yes, nothing is returned.

        Raises:
            TranscriptionError: `transcription_failed`.
        """
        speech = voice_activity(audio)
        if sum(span.end - span.start for span in speech) < MIN_SPEECH_S:
            return Overheard((), language)
        words: list[Word] = []
        found = language
        for segment, heard in self._hear(audio, _whole(audio), language, vad=True, once=True):
            if unless():
                return None
            words += segment
            found = heard
        sentences = list(split_words(words))
        kept = check(sentences, speech, confidence=[confidence(s) for s in sentences]).kept
        return Overheard(tuple(_segment(number, s) for number, s in enumerate(kept, start=1)), found)

    def plain(self, audio: NDArray[np.float32], *, language: str | None = None) -> str:
        """Return what the recogniser writes by itself, with the library's own settings and not one guard.

        For measuring only: this is the baseline of `clinic eval speech`.
        """
        segments, _ = self._whisper.transcribe(audio, language=language)
        return " ".join(segment.text.strip() for segment in segments)

    def _recognise(
        self, audio: NDArray[np.float32], speech: Sequence[Span], language: str | None, report: Progress
    ) -> tuple[list[Word], str | None]:
        words: list[Word] = []
        whole = len(audio) / RATE
        for block in blocks(speech, whole):
            for segment, found in self._hear(audio, block, language, vad=True):
                words += segment
                language = found  # heard once, then kept: a language does not change from block to block
                if segment:
                    report(min(_FIRST_PASS, segment[-1].end / whole))
        missed = unheard(words, speech)
        for number, gap in enumerate(missed, start=1):
            around = Span(start=max(0.0, gap.start - _MARGIN_S), end=min(whole, gap.end + _MARGIN_S))
            for segment, _ in self._hear(audio, around, language, vad=False):
                words += [word for word in segment if not _overlaps(word, words)]
            report(_FIRST_PASS + (0.99 - _FIRST_PASS) * number / len(missed))
        return sorted(words, key=lambda word: (word.start, word.end)), language

    def _second_hearing(
        self, audio: NDArray[np.float32], sentences: Sequence[tuple[Word, ...]], language: str | None
    ) -> Sequence[tuple[Word, ...]]:
        if self._names is None or language != "en":
            return sentences

        def hear(span: Span, names: str) -> list[Word]:
            return [w for words, _ in self._hear(audio, span, language, vad=False, names=names) for w in words]

        return hear_again(sentences, self._names, hear, duration=len(audio) / RATE)

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
        """Yield the words of each segment in `block`, with times in the whole recording, and the language.

        `once`: quickly, without looking for a better wording, and without a second try.
        """
        again = names is None and not once  # what repeats itself has no name in it
        try:
            segments, info = self._whisper.transcribe(
                audio[int(block.start * RATE) : int(block.end * RATE)],
                language=language,
                beam_size=1 if once else 5,
                temperature=(0.0, 0.2, 0.4, 0.6) if again else 0.0,
                hotwords=names,
                condition_on_previous_text=False,
                word_timestamps=True,
                hallucination_silence_threshold=2.0,
                vad_filter=vad,
                vad_parameters=_VAD if vad else None,
            )
            for segment in segments:
                yield list(_words(segment.words or (), block)), info.language
        except (RuntimeError, ValueError, MemoryError):  # the cause may quote what was said
            raise TranscriptionError(
                "the speech model failed", hint="try again; if it happens again, run `clinic doctor`"
            ) from None


def load_transcriber(config: Config, names: Names | None = None) -> WhisperTranscriber:
    """Load the model that the configuration names, the embedded one or a folder; `names` are heard a second time.

    Raises:
        ConfigError: `weights_missing` or `weights_damaged`.
    """
    threads = config.speech.threads or max(1, len(os.sched_getaffinity(0)) - 1)
    if config.speech.model == "embedded":
        folder = assemble(WHISPER_BASE, config.models_dir)
        return WhisperTranscriber(
            folder, threads=threads, model_sha256=WHISPER_BASE.sha256, model=WHISPER_BASE.name, names=names
        )
    folder = Path(config.speech.model)
    _require_files(folder)
    return WhisperTranscriber(
        folder, threads=threads, model_sha256=folder_sha256(folder), model=folder.name, names=names
    )


def _whole(audio: NDArray[np.float32]) -> Span:
    return Span(start=0.0, end=len(audio) / RATE)


def folder_sha256(folder: Path) -> str:
    """Return the digest over the digests of a model folder's files (the same rule as `WeightSet.sha256`)."""
    files = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.name)
    lines = "".join(f"{file_sha256(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def voice_activity(
    audio: NDArray[np.float32], *, pause_ms: int = _VAD["min_silence_duration_ms"], pad_ms: int = _VAD["speech_pad_ms"]
) -> tuple[Span, ...]:
    """Return the seconds in which somebody speaks (Silero, inside the faster-whisper package).

    Args:
        audio: mono samples at 16 kHz.
        pause_ms: a shorter silence does not end a stretch of speech.
        pad_ms: what is added before and after each.
    """
    _go_offline()
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(
        min_speech_duration_ms=100,
        min_silence_duration_ms=pause_ms,
        speech_pad_ms=pad_ms,
        max_speech_duration_s=_VAD["max_speech_duration_s"],
    )
    found = get_speech_timestamps(audio, options)
    return tuple(Span(start=s["start"] / RATE, end=s["end"] / RATE) for s in found)


def blocks(speech: Sequence[Span], duration: float) -> Iterator[Span]:
    """Yield stretches of at most about `BLOCK_S` that hold all speech; every cut lies in a pause."""
    first, last = speech[0], speech[0]
    for span in speech[1:]:
        if span.end - first.start > BLOCK_S:
            yield _block(first, last, duration, before=span.start)
            first = span
        last = span
    yield _block(first, last, duration, before=duration)


def unheard(words: Sequence[Word], speech: Sequence[Span]) -> tuple[Span, ...]:
    """Return the stretches of speech for which there is not one word: the recogniser skipped them."""
    gaps: list[Span] = []
    for span in _joined(speech):
        at = span.start
        inside = sorted((w for w in words if w.end > span.start and w.start < span.end), key=lambda w: w.start)
        for word in inside:
            if word.start - at > MIN_UNHEARD_S:
                gaps.append(Span(start=at, end=word.start))
            # A word that seems to last for seconds hides what was skipped after it.
            at = max(at, min(word.end, word.start + _LONGEST_WORD_S))
        if span.end - at > MIN_UNHEARD_S:
            gaps.append(Span(start=at, end=span.end))
    return tuple(gaps)


def _joined(speech: Sequence[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in speech:
        if joined and span.start - joined[-1].end < _MARGIN_S:
            span = Span(start=joined.pop().start, end=span.end)  # noqa: PLW2901 - grows while it touches the one before
        joined.append(span)
    return joined


def confidence(words: Sequence[Word]) -> float:
    """Return the geometric mean of the words' probabilities."""
    return math.exp(sum(math.log(max(word.probability, 1e-6)) for word in words) / len(words))


def _block(first: Span, last: Span, duration: float, *, before: float) -> Span:
    return Span(start=max(0.0, first.start - _MARGIN_S), end=min(duration, before, last.end + _MARGIN_S))


def _overlaps(word: Word, others: Sequence[Word]) -> bool:
    middle = (word.start + word.end) / 2
    return any(other.start <= middle <= min(other.end, other.start + _LONGEST_WORD_S) for other in others)


def _words(found: Iterable[Any], block: Span) -> Iterator[Word]:
    """Yield whole words: a piece without a space before it (`.4` after ` 38`) belongs to the word before."""
    current: Word | None = None
    for piece in found:
        if not (text := piece.word.strip()):
            continue
        start = round(piece.start + block.start, 2)
        end = max(start, round(piece.end + block.start, 2))
        probability = min(1.0, max(0.0, round(piece.probability, 4)))
        if current is not None and not piece.word[:1].isspace():
            current = Word(
                text=current.text + text,
                start=current.start,
                end=max(current.end, end),
                probability=min(current.probability, probability),
            )
            continue
        if current is not None:
            yield current
        current = Word(text=text, start=start, end=end, probability=probability)
    if current is not None:
        yield current


def _segment(number: int, words: tuple[Word, ...]) -> Segment:
    return Segment(
        id=f"s{number}",
        text=" ".join(word.text for word in words),
        start=words[0].start,
        end=words[-1].end,
        confidence=round(confidence(words), 4),
        words=words,
    )


def _load(folder: Path, threads: int) -> Any:
    _require_files(folder)
    _go_offline()
    import ctranslate2
    from faster_whisper import WhisperModel

    ctranslate2.set_random_seed(_SEED)
    try:
        return WhisperModel(
            str(folder), device="cpu", compute_type="int8", cpu_threads=threads, num_workers=1, local_files_only=True
        )
    except (RuntimeError, ValueError, OSError) as exc:
        raise ConfigError(
            f"the speech model in `{folder}` cannot be loaded",
            code="weights_damaged",
            hint="run `clinic models verify`, or name another folder in `speech.model`",
        ) from exc


def _require_files(folder: Path) -> None:
    # With a file missing, faster-whisper would ask the Hugging Face hub for it.
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"the speech model in `{folder}` lacks `{missing[0]}`",
            code="weights_missing",
            hint='`speech.model` is "embedded" or a folder with a faster-whisper model',
        )


def _go_offline() -> None:
    os.environ.update(_OFFLINE)
    logging.getLogger("faster_whisper").setLevel(logging.ERROR)


def _rising(progress: Progress | None) -> Progress:
    done = -1.0

    def report(part: float) -> None:
        nonlocal done
        if progress is not None and part > done:
            done = part
            progress(part)

    return report


def _no_speech() -> TranscriptionError:
    return TranscriptionError(
        "no speech was found in the recording",
        code="no_speech",
        hint="listen to the recording: if somebody speaks, check the microphone and record again, or dictate the text",
    )
