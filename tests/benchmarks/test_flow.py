"""The numbers in README: seconds to a draft, real-time factor, tokens a second, and what the safeguards cost.

Run with `make bench`; each line is printed with its baseline from the same run.  Nothing here passes or fails by time.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from clinic.config import Config
from clinic.domain import OPERATOR, Completion, Consent, EncounterId, EncounterKind, ModelIdentity, Prompt, Transcript
from clinic.domain import Segment as Said
from clinic.generation.client import ModelClient
from clinic.generation.generator import Progress
from clinic.headless import consult_audio, running_model_server
from clinic.policy.gate import ReleasedPrompt
from clinic.records.patients import PatientData
from clinic.records.records import Records
from clinic.services import build_consultation, model_client
from tests.conftest import SAMPLE
from tests.functional.test_audit_first import FakeGenerator

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

ROUNDS = 300
PAIRS = 15
DICTATION = (
    "Patient has had a cough for three days.",
    "No fever.",
    "Take paracetamol five hundred milligrams twice a day.",
)


@pytest.fixture
def served(config: Config) -> Iterator[Config]:
    """A data folder whose model server answers."""
    with running_model_server(config):
        yield config


def say(line: str) -> None:
    """Print one result."""
    print(f"\n{line}", flush=True)  # noqa: T201 - the result is the output


def machine() -> str:
    """Name the machine."""
    cores = os.cpu_count()
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return f"{cores} cores, {model}, Python {platform.python_version()}"


class Stopwatch:
    """A generator that notes how long the model itself took and which prompt it was sent."""

    def __init__(self, client: ModelClient) -> None:
        self._client = client
        self.seconds = 0.0
        self.prompt: Prompt | None = None
        self.completion: Completion | None = None

    @property
    def identity(self) -> ModelIdentity:
        """The model behind."""
        return self._client.identity

    def confirm(self) -> bool:
        """Pass the question on."""
        return self._client.confirm()

    def generate(self, released: ReleasedPrompt, *, progress: Progress | None = None) -> Completion:
        """Answer, and remember the time."""
        self.prompt = released.prompt
        begun = time.perf_counter()
        self.completion = self._client.generate(released, progress=progress)
        self.seconds = time.perf_counter() - begun
        return self.completion


def test_sample_to_draft(served: Config, records: Records) -> None:
    """Seconds from the end of the recording to the draft, real-time factor, tokens a second."""
    data = SAMPLE.read_bytes()
    outcome = consult_audio(
        served,
        records,
        (data[at : at + (1 << 19)] for at in range(0, len(data), 1 << 19)),
        mime="audio/flac",
        patient_id=None,
        template="soap",
        language="en",
        consent=Consent.GIVEN,
        progress=lambda _stage, _done: None,
        heard=lambda _transcript: None,
    )
    duration = outcome.transcript.duration_s or 0.0
    with records.read() as tx:
        generation = tx.generations.completed_for(outcome.encounter)
    assert generation is not None
    assert generation.completion is not None
    timings = outcome.timings
    say(f"machine: {machine()}")
    say(f"end of audio to draft: {timings['total_s']:.1f} s for {duration:.0f} s of speech (model loading included)")
    say(f"transcription: {duration / timings['transcribe_s']:.1f} x real time (recogniser loading included)")
    tokens = generation.completion.tokens_out
    say(f"generation: {tokens} tokens in {timings['generate_s']:.1f} s, {tokens / timings['generate_s']:.1f} tokens/s")


def dictated(records: Records) -> EncounterId:
    """Store one short dictation, ready for generation."""
    transcript = Transcript(
        segments=tuple(Said(id=f"s{n}", text=t) for n, t in enumerate(DICTATION, start=1)), language="en"
    )
    with records.write() as tx:
        patient = tx.patients.create(PatientData(name="Bench Mark"), actor=OPERATOR)
        encounter = tx.encounters.open(
            patient.id, kind=EncounterKind.DICTATION, template="dictation", language="en", actor=OPERATOR
        )
        tx.encounters.record_consent(encounter.id, Consent.GIVEN, actor=OPERATOR)
        tx.transcripts.store(encounter.id, transcript)
    return encounter.id


def ask_directly(config: Config, prompt: Prompt) -> Callable[[], float]:
    """Return a function that sends the same parts straight to the model server and says how long it took."""
    transport = httpx.HTTPTransport(uds=str(config.model_socket))

    def ask() -> float:
        begun = time.perf_counter()
        with httpx.Client(transport=transport, base_url="http://model", timeout=600) as client:
            for part in prompt.parts:
                body = {
                    "model": prompt.model.id,
                    "prompt": part.text,
                    "max_tokens": part.max_tokens,
                    "temperature": 0,
                    "stop": list(part.stop),
                }
                assert client.post("/v1/completions", json=body, headers={"Connection": "close"}).status_code == 200
        return time.perf_counter() - begun

    return ask


def test_what_the_safeguards_cost(config: Config, records: Records) -> None:
    """Time that policy, audit and sealing add to one generation: the flow with a model that answers at once."""
    generator = FakeGenerator()
    flow = build_consultation(config, records, generator=lambda: generator)
    added = []
    for _ in range(ROUNDS):
        encounter = dictated(records)
        begun = time.perf_counter()
        flow.generate(encounter, actor=OPERATOR)
        added.append(1000 * (time.perf_counter() - begun))
    cuts = statistics.quantiles(added, n=100)
    say(f"added by policy, audit and sealing: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms over {ROUNDS} generations")


def test_against_the_model_server_called_directly(served: Config, records: Records) -> None:
    """The same prompt through the flow and straight to the model server, in pairs."""
    watch = Stopwatch(model_client(served))
    flow = build_consultation(served, records, generator=lambda: watch)
    ratios = []
    for _ in range(PAIRS):
        encounter = dictated(records)
        begun = time.perf_counter()
        flow.generate(encounter, actor=OPERATOR)
        whole = time.perf_counter() - begun
        assert watch.prompt is not None
        ratios.append(whole / ask_directly(served, watch.prompt)())
    say(f"one generation against the model server called directly: {statistics.median(ratios):.3f} x ({PAIRS} pairs)")
