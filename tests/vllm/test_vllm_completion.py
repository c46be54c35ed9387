"""The real vLLM with Gemma 3 270M and our adapter, under the production flags: a recording becomes a note."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clinic.audit.events import GenerationAuthorized, GenerationCompleted, from_canonical
from clinic.domain import Prompt, PromptPart
from clinic.errors import GenerationError
from clinic.generation.client import ModelClient
from clinic.generation.confinement import network_evidence
from clinic.generation.prompts import estimate_tokens, load_template, parse
from tests.conftest import ROOT, SAMPLE
from tests.unit.generation.generation_world import MARKER, VISIT, embedded, prompt_for, release, server, visit
from tests.vllm.vllm_world import VllmClinic, completion_profile, vllm_clinic

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]


def consult(clinic: VllmClinic, recording: Path) -> dict[str, object]:
    """Run `clinic consult --json` as a process of its own."""
    done = subprocess.run(
        [Path(sys.executable).with_name("clinic"), "consult", str(recording), "--consent", "given", "--json"],
        env=os.environ | {"CLINIC_HOME": str(clinic.config.home)},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, object] = json.loads(done.stdout)
    return document


def test_a_recording_becomes_a_note(completion_clinic: VllmClinic) -> None:
    """`clinic consult` on vLLM: what was said stands in the note, decided and recorded before it was generated."""
    document = consult(completion_clinic, SAMPLE)
    text = json.dumps(document["note"]).lower()
    assert "penicillin" in text
    assert "ibuprofen" in text
    records = completion_clinic.records
    assert records.audit.verify().ok
    events = [(entry.seq, from_canonical(entry.event, entry.body)) for entry in records.audit.entries()]
    ((allowed_at, allowed),) = [(seq, event) for seq, event in events if isinstance(event, GenerationAuthorized)]
    ((ended_at, ended),) = [(seq, event) for seq, event in events if isinstance(event, GenerationCompleted)]
    assert allowed_at == ended.authorized_seq < ended_at
    assert allowed.model == completion_clinic.profile.served_name
    assert allowed.model_sha256 == completion_clinic.profile.sha256


def test_the_same_prompt_gives_what_the_embedded_engine_gives(completion_clinic: VllmClinic, tmp_path: Path) -> None:
    """Both engines count the same tokens in every part, and both write what the patient takes and must not have."""
    notes, counts = [], []
    llama = server(tmp_path, embedded())
    llama.start()
    try:
        clients = (completion_clinic.client(), ModelClient(llama.socket, profile=llama.profile, timeout_s=240))
        for client, profile in zip(clients, (completion_clinic.profile, llama.profile), strict=True):
            completion = client.generate(release(prompt_for(profile)))
            counts.append(completion.tokens_in)
            notes.append(" ".join(draft.text for draft in parse(completion, load_template("soap"), visit())).lower())
    finally:
        llama.stop()
    assert counts[0] == counts[1] > 0
    for note in notes:
        assert "ibuprofen" in note
        assert "penicillin" in note


def test_every_process_is_confined(completion_clinic: VllmClinic) -> None:
    """Server, engine core and worker have a network of their own, loopback only; this one has more (the control)."""
    evidence = {item.pid: item for item in completion_clinic.server.evidence()}
    for title in ("vllm\0serve", "VLLM::EngineCore", "VLLM::Worker"):
        item = evidence[completion_clinic.process(title)]
        assert item.separate, title
        assert item.interfaces == ("lo",), title
        assert item.routes == 0, title
    assert not network_evidence(os.getpid()).confined


def test_every_process_is_hardened(completion_clinic: VllmClinic) -> None:
    """No core dumps, no new privileges, telemetry off, offline: in the kernel's own words, for each process."""
    for title in ("vllm\0serve", "VLLM::EngineCore", "VLLM::Worker"):
        process = Path("/proc") / str(completion_clinic.process(title))
        limits = (process / "limits").read_text(encoding="utf-8").splitlines()
        (core,) = [line for line in limits if line.startswith("Max core file size")]
        assert core.split()[4:6] == ["0", "0"], title
        assert "NoNewPrivs:\t1" in (process / "status").read_text(encoding="utf-8"), title
    command = Path(f"/proc/{completion_clinic.process('vllm')}/cmdline").read_text(encoding="utf-8").split("\0")
    assert "--enable-log-requests" not in command
    assert "--enable-log-outputs" not in command
    variables = Path(f"/proc/{completion_clinic.process('vllm')}/environ").read_text(encoding="utf-8").split("\0")
    assert {"VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1", "HF_HUB_OFFLINE=1"} <= set(variables)


def test_nothing_of_a_prompt_is_left_in_a_file(completion_clinic: VllmClinic) -> None:
    """Good requests and refused ones leave no trace of the patient's words in any file that the server writes."""
    turns = (*VISIT[:3], ("Patient", f"I take {MARKER}, 5 milligrams once a day."))
    prompt = prompt_for(completion_clinic.profile, visit(*turns))
    assert any(MARKER in (part.text or "") for part in prompt.parts)
    completion_clinic.client().generate(release(prompt))
    with completion_clinic.raw() as raw:
        bad = (
            {"model": MARKER, "prompt": MARKER},
            {"model": completion_clinic.profile.served_name, "prompt": {MARKER: MARKER}},
            {"model": completion_clinic.profile.served_name, "prompt": MARKER, "max_tokens": MARKER},
            {"model": completion_clinic.profile.served_name, "prompt": MARKER, "temperature": -7},
            {"model": completion_clinic.profile.served_name, "prompt": MARKER * 9000, "max_tokens": 4},
        )
        answers = [raw.post("/v1/completions", json=body).status_code for body in bad]
        answers.append(raw.post("/v1/completions", content=f'{{"prompt": "{MARKER}'.encode()).status_code)
    assert all(400 <= status < 500 for status in answers), answers
    files = list(completion_clinic.files())
    assert any(path.name == "model.log" and path.stat().st_size for path in files)
    # Only an unknown model's name is logged; our client sends one name, the profile's.
    found = [path for path in files if MARKER.encode() in path.read_bytes().replace(f"`{MARKER}`".encode(), b"")]
    assert found == []


def test_a_prompt_beyond_the_context_is_refused(completion_clinic: VllmClinic) -> None:
    """What does not fit is refused in one clear error, and never cut to size behind our back."""
    shortest = prompt_for(completion_clinic.profile)
    for words, fits in ((300, True), (9000, False)):
        part = PromptPart(section="plan", text="word " * words, max_tokens=8)
        prompt = shortest.model_copy(update={"parts": (part,)})
        if fits:
            assert completion_clinic.client().generate(release(prompt)).tokens_in >= words
            continue
        with pytest.raises(GenerationError) as caught:
            completion_clinic.client().generate(release(prompt))
        assert caught.value.code == "model_refused"
        assert "word word" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("BP 145/92, 1.000.000 IU, 38.4 C; (x) -- ... !!! 20 mg/kg", id="digits and signs"),
        pytest.param("مرحبا كيف حالك 頭が痛いです पेट में दर्द है", id="other scripts"),
        pytest.param("line\n\n\n  and   spaces <b>", id="white space and marks"),
    ],
)
def test_tokens_are_never_underestimated(completion_clinic: VllmClinic, text: str) -> None:
    """The estimate that the policy decides on is at least what vLLM counts."""
    prompt = _one_part(completion_clinic, PromptPart(section="plan", text=text, max_tokens=1))
    assert completion_clinic.client().generate(release(prompt)).tokens_in <= estimate_tokens(prompt)


def test_socket_and_log_are_private(completion_clinic: VllmClinic) -> None:
    """Socket, folder and log are their owner's alone, and no socket is left from the start."""
    socket = completion_clinic.server.socket
    assert socket.stat().st_mode & 0o777 == 0o600
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert (completion_clinic.config.logs_dir / "model.log").stat().st_mode & 0o777 == 0o600
    assert list(socket.parent.glob("*.starting.sock")) == []


def test_an_adapter_whose_names_do_not_fit_is_refused(gemma3_folder: Path, tmp_path: Path) -> None:
    """The engine takes such an adapter without a word and answers as without it; the canary does not let it pass."""
    folder = tmp_path / "misnamed"
    folder.mkdir()
    adapter = gemma3_folder / "adapter"
    (folder / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    weights = (adapter / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(weights.replace(b"model.layers.", b"model.lovers."))
    with (
        pytest.raises(GenerationError) as caught,
        vllm_clinic(tmp_path, completion_profile(tmp_path, gemma3_folder, adapter=folder)),
    ):
        pytest.fail("it must not start")
    assert caught.value.code == "adapter_without_effect"
    assert list((tmp_path / "home" / "run").glob("*.sock")) == []


def _one_part(clinic: VllmClinic, part: PromptPart) -> Prompt:
    return prompt_for(clinic.profile).model_copy(update={"parts": (part,)})
