"""Bad input and broken parts, from the command line: one clear error with code and hint each, and nothing lost."""

from __future__ import annotations

import gc
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner

from clinic.cli import main
from clinic.config import Config
from clinic.domain import OPERATOR, EncounterState, Stage
from clinic.errors import AuthenticationError, GenerationError
from clinic.headless import running_model_server
from clinic.records.records import Records
from clinic.services import build_consultation
from tests.conftest import SAMPLE
from tests.functional.test_crash import store_text


@dataclass(frozen=True)
class Result:
    """What a command did."""

    exit_code: int
    error: dict[str, Any]


def clinic(config: Config, *arguments: str) -> Result:
    """Run one command with `--json` on this data folder."""
    run = CliRunner().invoke(main, [*arguments, "--home", str(config.home), "--json"])
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    document = json.loads(run.stdout)
    return Result(run.exit_code, document.get("error", {}))


def flac(samples: np.ndarray[Any, np.dtype[np.int16]]) -> bytes:
    """Return mono 16 kHz samples as FLAC."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as sink:
        stream = sink.add_stream("flac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="s16", layout="mono")
        frame.rate = 16_000
        sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return buffer.getvalue()


def silence(seconds: float) -> bytes:
    """Return digital silence."""
    return flac(np.zeros(round(16_000 * seconds), np.int16))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(
            lambda: b"this is a text file, whatever its name says\n" * 20, "audio_unreadable", id="text-named-wav"
        ),
        pytest.param(lambda: b"", "audio_empty", id="empty"),
        pytest.param(lambda: silence(0.1), "audio_too_short", id="no-length"),
        pytest.param(lambda: SAMPLE.read_bytes()[:30], "audio_unreadable", id="header-only"),
    ],
)
def test_unusable_file(
    config: Config, records: Records, tmp_path: Path, content: Callable[[], bytes], code: str
) -> None:
    """A file that is no usable recording is refused in one line, and makes no note."""
    file = tmp_path / "recording.wav"
    file.write_bytes(content())
    result = clinic(config, "consult", str(file))
    assert (result.exit_code, result.error["code"]) == (1, code)
    assert result.error["hint"]
    assert_no_note(records)


def assert_no_note(records: Records) -> None:
    """No note was drafted, nothing was generated, and the log verifies."""
    events = [entry.event for entry in records.audit.entries()]
    assert "note.drafted" not in events
    assert "generation.authorized" not in events
    assert records.audit.verify().ok


def test_missing_file(config: Config) -> None:
    """A file that does not exist is named."""
    result = clinic(config, "consult", "/nowhere/recording.wav")
    assert (result.exit_code, result.error["code"]) == (1, "audio_missing")


@pytest.mark.models
def test_silence_makes_no_note(config: Config, records: Records, tmp_path: Path) -> None:
    """Ten seconds of silence give `no_speech`, not a note; the recording is kept and the failure recorded."""
    file = tmp_path / "silence.flac"
    file.write_bytes(silence(10))
    result = clinic(config, "consult", str(file))
    assert (result.exit_code, result.error["code"]) == (1, "no_speech")
    assert_no_note(records)
    with records.read() as tx:
        encounter = tx.encounters.recent(limit=1)[0]
        assert encounter.state is EncounterState.FAILED
        assert encounter.error_code == "no_speech"
        recording = tx.recordings.for_encounter(encounter.id)
    assert recording is not None
    assert recording.size == file.stat().st_size
    assert "transcription.failed" in [entry.event for entry in records.audit.entries()]


def test_three_hours_are_refused_not_cut(config: Config, records: Records, tmp_path: Path) -> None:
    """A recording over the limit is refused as too long (here with the limit lowered), never cut silently."""
    (config.home / "clinic.toml").write_text(
        (config.home / "clinic.toml").read_text(encoding="utf-8") + "\n[speech]\nmax_duration_s = 20\n",
        encoding="utf-8",
    )
    file = tmp_path / "long.flac"
    file.write_bytes(silence(40))
    result = clinic(config, "consult", str(file))
    assert (result.exit_code, result.error["code"]) == (1, "audio_too_long")
    assert_no_note(records)


def test_unknown_patient(config: Config, records: Records) -> None:
    """A patient id that does not exist is refused before anything is stored."""
    result = clinic(config, "consult", str(SAMPLE), "--patient", "nobody")
    assert (result.exit_code, result.error["code"]) == (1, "record_unknown")
    with records.read() as tx:
        assert tx.encounters.recent(limit=5) == ()


@pytest.mark.models
def test_no_consent_is_denied(config: Config, records: Records, tmp_path: Path) -> None:
    """Without consent the policy denies: exit 4, the policy named, nothing authorised, the denial recorded."""
    transcript = tmp_path / "t.json"
    said = "I have had a cough for three days and no fever at all. Please take paracetamol twice a day and come back."
    transcript.write_text(
        json.dumps({"segments": [{"id": "s1", "speaker": "patient", "text": said}]}), encoding="utf-8"
    )
    result = clinic(config, "note", "draft", "--transcript", str(transcript), "--consent", "refused")
    assert (result.exit_code, result.error["code"]) == (4, "denied")
    assert result.error["policies"] == ["consent-refused"]
    assert_no_note(records)
    assert "generation.denied" in [entry.event for entry in records.audit.entries()]


def test_wrong_password(records: Records) -> None:
    """A wrong password is refused and recorded; after five the account pauses."""
    from clinic.domain import Role

    with records.write() as tx:
        tx.users.create(
            "ada", display_name="Ada", role=Role.CLINICIAN, password="correct horse battery", actor=OPERATOR
        )
    codes = []
    for _ in range(7):
        with pytest.raises(AuthenticationError) as caught:
            records.authenticate("ada", "wrong horse battery")
        codes.append(caught.value.code)
    assert codes[0] == "login_failed"
    assert codes[-1] == "login_locked"


def test_no_key(config: Config) -> None:
    """Without its key the data folder stays sealed: exit 3, with the hint where the key belongs."""
    config.insecure_key_file.unlink()
    result = clinic(config, "audit", "verify")
    assert (result.exit_code, result.error["code"]) == (3, "key_missing")
    assert result.error["hint"]


def test_wrong_key(config: Config) -> None:
    """Another key opens nothing: exit 3."""
    config.insecure_key_file.write_text("ab" * 32 + "\n", encoding="ascii")
    result = clinic(config, "audit", "verify")
    assert (result.exit_code, result.error["code"]) == (3, "key_wrong")


@pytest.mark.models
def test_model_server_down(config: Config, records: Records) -> None:
    """With nothing on the socket the step fails as `model_unavailable` before anything is authorised; a retry works."""
    encounter = store_text(records)
    flow = build_consultation(config, records)
    with pytest.raises(GenerationError) as caught:
        flow.run(encounter, actor=OPERATOR)
    assert caught.value.code == "model_unavailable"
    assert_no_note(records)
    with running_model_server(config):
        assert flow.run(encounter, actor=OPERATOR).statements


# httpcore leaves its socket to the garbage collector where the server dies between our knock and its connection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.models
def test_model_server_dies_half_way(config: Config, records: Records) -> None:
    """A server killed during generation fails the step visibly; it is started again and a retry gives the one note."""
    encounter = store_text(records)
    with running_model_server(config) as server:
        assert server is not None
        doomed = list(server.processes())

        def progress(stage: Stage, done: float) -> None:
            if stage is Stage.GENERATE and done > 0 and doomed:
                while doomed:
                    os.kill(doomed.pop(), signal.SIGKILL)

        with pytest.raises(GenerationError) as caught:
            build_consultation(config, records, progress=progress).run(encounter, actor=OPERATOR)
        assert caught.value.code in {"model_interrupted", "model_unavailable"}
        with records.read() as tx:
            assert tx.transcripts.current(encounter) is not None
            assert tx.notes.get(encounter) is None
    with running_model_server(config):
        build_consultation(config, records).run(encounter, actor=OPERATOR)
    events = [entry.event for entry in records.audit.entries()]
    assert events.count("generation.authorized") == 2
    assert events.count("generation.failed") == 1
    assert events.count("note.drafted") == 1
    gc.collect()


def test_full_disk(config: Config, tmp_path: Path) -> None:
    """When the disk takes no more, the command stops and says why; what was stored before is intact and verifies."""
    file = tmp_path / "noise.flac"
    file.write_bytes(flac(np.random.default_rng(1).integers(-9000, 9000, 16_000 * 120).astype(np.int16)))
    limit = config.database.stat().st_size + (1 << 20)

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "clinic", "consult", str(file), "--home", str(config.home), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, preexec_fn=full, timeout=120, check=False)
    assert run.returncode == 5, run.stderr
    assert json.loads(run.stdout)["error"]["code"] == "audit_latched"
    refused = CliRunner().invoke(main, ["patient", "list", "--home", str(config.home)])
    assert refused.exit_code == 5
    verified = CliRunner().invoke(main, ["audit", "verify", "--clear", "--home", str(config.home)])
    assert verified.exit_code == 0
    assert "it was stopped since" in verified.stdout
    assert CliRunner().invoke(main, ["patient", "list", "--home", str(config.home)]).exit_code == 0
