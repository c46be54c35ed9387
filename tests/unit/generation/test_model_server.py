"""The real llama.cpp server with the real weights and adapter: started, proven, asked, killed, stopped."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from clinic.domain import Action, Message, Prompt, PromptPart, PromptStyle
from clinic.errors import GenerationError
from clinic.generation import launcher
from clinic.generation.client import ModelClient, is_healthy
from clinic.generation.confinement import network_evidence
from clinic.generation.launcher import ModelServer
from clinic.generation.profiles import Profile
from clinic.generation.prompts import estimate_tokens, load_template, parse
from clinic.generation.schemas import MAX_CITED, note_schema, read_note
from clinic.weights import GEMMA_3_270M, file_sha256
from tests.unit.generation.generation_world import (
    MARKER,
    MODELS,
    VISIT,
    embedded,
    prompt_for,
    release,
    server,
    visit,
    wait_for,
)

pytestmark = [
    pytest.mark.models,
    pytest.mark.skipif(not (MODELS / GEMMA_3_270M.name).is_dir(), reason="the embedded model is not assembled"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short folder for the shared server."""
    return tmp_path_factory.mktemp("ms")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[ModelServer]:
    """One server for the tests that leave it unharmed."""
    shared = server(folder)
    shared.start()
    yield shared
    shared.stop()


def client(of: ModelServer, *, timeout_s: float = 240) -> ModelClient:
    """Return a client for a server."""
    return ModelClient(of.socket, profile=of.profile, timeout_s=timeout_s)


def long_prompt(profile: Profile) -> Prompt:
    """Return a prompt that keeps the model busy for minutes."""
    part = PromptPart(section="plan", text="Count slowly: 1, 2, 3,", max_tokens=6000)
    template = load_template("soap")
    return Prompt(
        action=Action.DRAFT_NOTE,
        template=template.id,
        template_sha256=template.sha256,
        model=profile.identity,
        parts=(part,),
    )


def test_a_visit_becomes_statements(running: ModelServer) -> None:
    """A released prompt is answered section by section, with the engine's own counts, and only what was asked."""
    done: list[tuple[int, int]] = []
    prompt = prompt_for(running.profile)
    completion = client(running).generate(release(prompt), progress=lambda *state: done.append(state))
    assert done[-1] == (len(prompt.parts), len(prompt.parts))
    assert [s.section for s in completion.sections] == [p.section for p in prompt.parts]
    estimates = [estimate_tokens(prompt.model_copy(update={"parts": (part,)})) for part in prompt.parts]
    assert 0 < completion.tokens_in <= sum(estimates)
    assert completion.tokens_out > 0
    text = " ".join(draft.text for draft in parse(completion, load_template("soap"), visit())).lower()
    assert "ibuprofen" in text
    assert "penicillin" in text
    assert "consultation:" not in text
    assert "section" not in text


def test_nothing_of_a_visit_is_left_in_a_log(running: ModelServer, folder: Path) -> None:
    """Prompt and answer leave no trace in any file that the server writes."""
    turns = (*VISIT[:3], ("Patient", f"I take {MARKER}, 5 milligrams once a day."))
    prompt = prompt_for(running.profile, visit(*turns))
    assert any(MARKER in (part.text or "") for part in prompt.parts)
    client(running).generate(release(prompt))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "model.log" for path in files)
    for path in files:
        assert MARKER.encode() not in path.read_bytes()


def test_every_process_is_confined(running: ModelServer) -> None:
    """Each process of the server sees only loopback; this test's own process sees more (the control)."""
    evidence = running.evidence()
    assert evidence
    assert all(item.confined for item in evidence)
    assert not network_evidence(os.getpid()).confined


def test_socket_log_and_folder_are_private(running: ModelServer, folder: Path) -> None:
    """The socket lies in a 0700 folder and is 0600, as is the log."""
    assert running.socket.parent.stat().st_mode & 0o777 == 0o700
    assert running.socket.stat().st_mode & 0o777 == 0o600
    assert (folder / "logs" / "model.log").stat().st_mode & 0o777 == 0o600


def test_a_second_server_on_the_same_socket_is_refused(running: ModelServer, folder: Path) -> None:
    """A running server is never pushed aside."""
    with pytest.raises(GenerationError) as caught:
        server(folder).start()
    assert caught.value.code == "model_running"
    assert is_healthy(running.socket)


def test_sections_about_one_passage_share_their_prefix(running: ModelServer) -> None:
    """A second question about the same dialogue costs the engine a few tokens only."""
    dialogue = "\n".join(f"{who}: {text}" for who, text in VISIT * 2)
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(running.socket)), base_url="http://m", timeout=60) as raw:
        usage = []
        for header in ("GENHX", "PLAN"):
            body = {"prompt": f"Consultation:\n{dialogue}\n\nClinical note, section {header}:\n", "max_tokens": 1}
            reply = raw.post("/v1/completions", json=body | {"cache_prompt": True}, headers={"Connection": "close"})
            usage.append(reply.json()["usage"])
    assert usage[0]["prompt_tokens"] > 200
    assert usage[1]["prompt_tokens"] - usage[1]["prompt_tokens_details"]["cached_tokens"] < 10


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(" ".join(text for _, text in VISIT), id="a visit"),
        pytest.param("BP 145/92, 1.000.000 IU, 38.4 C; (x) -- ... !!! 20 mg/kg", id="digits and signs"),
        pytest.param("Levothyroxine hydrochlorothiazide pneumonoultramicroscopic", id="long words"),
        pytest.param("مرحبا كيف حالك 頭が痛いです पेट में दर्द है", id="other scripts"),
        pytest.param("aaaa qqqq xzxz Zz Qx", id="nonsense"),
    ],
)
def test_tokens_are_never_underestimated(running: ModelServer, text: str) -> None:
    """The estimate is at least what the engine counts."""
    part = PromptPart(section="plan", text=text, max_tokens=1)
    prompt = long_prompt(running.profile).model_copy(update={"parts": (part,)})
    assert client(running).generate(release(prompt)).tokens_in <= estimate_tokens(prompt)


def test_a_prompt_beyond_the_context_is_refused(running: ModelServer) -> None:
    """The engine refuses what does not fit; it is not cut to size behind our back."""
    part = PromptPart(section="plan", text="word " * 9000, max_tokens=8)
    prompt = long_prompt(running.profile).model_copy(update={"parts": (part,)})
    with pytest.raises(GenerationError) as caught:
        client(running).generate(release(prompt))
    assert caught.value.code == "model_refused"


def test_a_chat_answer_is_bound_to_its_schema(running: ModelServer) -> None:
    """llama.cpp enforces the note's schema on a chat, even on a model that knows nothing of chats."""
    profile = running.profile.model_copy(update={"style": PromptStyle.CHAT})
    schema = note_schema(sections=["plan", "objective"], segments=["s1", "s2"])
    statements = schema["properties"]["statements"]
    statements["maxItems"] = 2
    statements["items"]["properties"]["text"]["maxLength"] = 40
    statements["items"]["properties"]["segments"]["maxItems"] = 2
    message = Message(role="user", content="Write the note. [s1] Doctor: rest at home. [s2] Patient: yes.")
    part = PromptPart(section="note", messages=(message,), json_schema=schema, max_tokens=300)
    prompt = long_prompt(profile).model_copy(update={"parts": (part,)})
    completion = ModelClient(running.socket, profile=profile, timeout_s=240).generate(release(prompt))
    note = read_note(completion.sections[0].text, schema)
    assert note is not None
    assert len(note.statements) <= 2 < MAX_CITED
    assert "  " not in re.sub(r'"[^"]*"', "", completion.sections[0].text)


def test_killed_half_way(tmp_path: Path) -> None:
    """A server killed during a request gives one plain error; it comes up again and answers the next prompt."""
    said: list[str] = []
    with_restart = server(tmp_path, say=said.append)
    with_restart.start()
    try:
        (pid,) = with_restart.processes()
        threading.Timer(1.0, os.kill, (pid, signal.SIGKILL)).start()
        with pytest.raises(GenerationError) as caught:
            client(with_restart).generate(release(long_prompt(with_restart.profile)))
        assert caught.value.code == "model_interrupted"
        assert wait_for(lambda: "the model server runs again" in said, 90)
        assert with_restart.processes() != (pid,)
        prompt = prompt_for(with_restart.profile, visit(("Patient", "I am allergic to nuts.")))
        assert client(with_restart).generate(release(prompt)).tokens_out > 0
    finally:
        with_restart.stop()


def test_stopped_during_a_request(tmp_path: Path) -> None:
    """Stopping ends a busy server in eight seconds at most; its client reads a plain error, and no socket is left."""
    busy = server(tmp_path)
    busy.start()
    (pid,) = busy.processes()
    errors: list[GenerationError] = []

    def ask() -> None:
        try:
            client(busy).generate(release(long_prompt(busy.profile)))
        except GenerationError as error:
            errors.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(1.5)
    started = time.monotonic()
    busy.stop()
    assert time.monotonic() - started < 9
    asking.join(10)
    assert [error.code for error in errors] == ["model_interrupted"]
    assert not (Path("/proc") / str(pid)).exists()
    assert list(busy.socket.parent.glob("*.sock")) == []
    with pytest.raises(GenerationError) as caught:
        client(busy).generate(release(prompt_for(busy.profile)))
    assert caught.value.code == "model_unavailable"


def test_an_adapter_without_effect_is_refused(tmp_path: Path) -> None:
    """An adapter whose matrices are all zero, though its digest is pinned, does not get past the canary."""
    profile = embedded()
    assert profile.adapter is not None
    data = bytearray(profile.adapter.file.read_bytes())
    data[1 << 16 :] = bytes(len(data) - (1 << 16))  # names and shapes stay; every second factor becomes zero
    idle = tmp_path / "idle.gguf"
    idle.write_bytes(data)
    adapter = profile.adapter.model_copy(update={"file": idle, "sha256": file_sha256(idle)})
    refused = server(tmp_path, profile.model_copy(update={"adapter": adapter}))
    with pytest.raises(GenerationError) as caught:
        refused.start()
    assert caught.value.code == "adapter_without_effect"
    assert not refused.alive
    assert not refused.socket.exists()


def test_a_server_that_is_not_confined_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the namespace were missing although it is required, the evidence after the start would stop the server."""
    unsafe = embedded().model_copy(update={"network": "host-unsafe"})
    monkeypatch.setattr(launcher, "keeper_command", lambda _profile, command: _unsafe_keeper(unsafe, command))
    refused = server(tmp_path)
    with pytest.raises(GenerationError) as caught:
        refused.start()
    assert caught.value.code == "model_not_confined"
    assert not refused.alive


def _unsafe_keeper(profile: Profile, command: list[str]) -> list[str]:
    from clinic.generation.commands import keeper_command

    return keeper_command(profile, command)
