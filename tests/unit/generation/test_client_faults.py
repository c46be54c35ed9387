"""The client against a server that misbehaves: every fault is one plain error, and none of it repeats the prompt."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clinic.domain import Completion, Prompt
from clinic.errors import GenerationError
from clinic.generation.client import ModelClient, is_healthy
from clinic.generation.profiles import Engine, Profile
from clinic.generation.prompts import load_template, parse
from tests.unit.generation.generation_world import (
    MARKER,
    chat_profile,
    embedded,
    faulty_server,
    http,
    prompt_for,
    release,
    visit,
)

Reply = Callable[[bytes], Iterator[bytes]]
MARKED = visit((None, f"Patient {MARKER} has a cough."))
NOTE = {"statements": [{"section": "plan", "text": "Rest.", "segments": ["s1"]}]}


def models(name: str) -> bytes:
    """Return the list of served models."""
    return http(json.dumps({"data": [{"id": name}]}).encode())


def answer(content: str, finish_reason: str = "stop") -> bytes:
    """Return a chat answer."""
    choice = {"message": {"content": content}, "text": content, "finish_reason": finish_reason}
    return http(json.dumps({"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}).encode())


def serving(profile: Profile, *pieces: bytes) -> Reply:
    """Serve the right model list, and these pieces to every prompt."""

    def reply(request: bytes) -> Iterator[bytes]:
        if request.startswith(b"GET"):
            yield models(profile.served_name)
        else:
            yield from pieces

    return reply


def ask(socket: Path, profile: Profile, *, timeout_s: float = 20, prompt: Prompt | None = None) -> Completion:
    """Release the marked prompt and have it answered."""
    client = ModelClient(socket, profile=profile, timeout_s=timeout_s)
    return client.generate(release(prompt or prompt_for(profile, MARKED)))


def endless() -> Iterator[bytes]:
    """Yield an answer without an end."""
    yield http(b"", length=1 << 40)
    while True:
        yield b" " * 65536


@pytest.mark.parametrize(
    ("pieces", "code", "attempts"),
    [
        pytest.param([http(b'{"choices": [')], "output_invalid", 2, id="broken JSON"),
        pytest.param([http(b"<html>")], "output_invalid", 2, id="no JSON"),
        pytest.param([answer("no JSON")], "output_invalid", 2, id="free text"),
        pytest.param([answer('{"statements": 3}')], "output_invalid", 2, id="against the schema"),
        pytest.param([answer(json.dumps(NOTE), "length")], "output_truncated", 2, id="cut off"),
        pytest.param([http(b'{"choices": ', length=500)], "model_interrupted", 1, id="connection lost"),
        pytest.param([b""], "model_interrupted", 1, id="no answer at all"),
        pytest.param([http(f"you said {MARKER}".encode(), status=500)], "model_interrupted", 1, id="500 with echo"),
        pytest.param([http(f"you said {MARKER}".encode(), status=400)], "model_refused", 1, id="400 with echo"),
        pytest.param([http(b"", status=503)], "model_unavailable", 1, id="still loading"),
        pytest.param([http(b"", status=302)], "output_invalid", 1, id="redirect"),
    ],
)
def test_every_fault_is_a_plain_error(tmp_path: Path, pieces: list[bytes], code: str, attempts: int) -> None:
    """A fault has its stable code, is retried once where that can help, and shows nothing of prompt or answer."""
    profile = chat_profile()
    with (
        faulty_server(tmp_path / "m.sock", serving(profile, *pieces)) as requests,
        pytest.raises(GenerationError) as caught,
    ):
        ask(tmp_path / "m.sock", profile)
    assert caught.value.code == code
    assert sum(request.startswith(b"POST") for request in requests) == attempts
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert MARKER not in shown
    assert caught.value.__cause__ is None


def test_the_marker_does_reach_the_server(tmp_path: Path) -> None:
    """Negative control: the prompt with the marker is what is sent, so its absence elsewhere means something."""
    profile = chat_profile()
    with faulty_server(tmp_path / "m.sock", serving(profile, answer(json.dumps(NOTE)))) as requests:
        completion = ask(tmp_path / "m.sock", profile)
    assert MARKER.encode() in requests[-1]
    assert (completion.tokens_in, completion.tokens_out, completion.attempts) == (7, 3, 1)
    (draft,) = parse(completion, load_template("soap"), MARKED)
    assert draft.cited == ("s1",)


def test_an_endless_answer_is_cut(tmp_path: Path) -> None:
    """An answer above one megabyte is refused, however large it says it is."""
    profile = chat_profile()

    def reply(request: bytes) -> Iterator[bytes]:
        yield from [models(profile.served_name)] if request.startswith(b"GET") else endless()

    with faulty_server(tmp_path / "m.sock", reply), pytest.raises(GenerationError) as caught:
        ask(tmp_path / "m.sock", profile)
    assert caught.value.code == "output_invalid"


def test_a_dripping_answer_ends_with_the_time(tmp_path: Path) -> None:
    """A server that sends a byte now and then does not outlast the timeout of the whole generation."""
    profile = chat_profile()

    def reply(request: bytes) -> Iterator[bytes]:
        import time

        if request.startswith(b"GET"):
            yield models(profile.served_name)
            return
        yield http(b"", length=1000)
        for _ in range(100):
            time.sleep(0.1)
            yield b" "

    with faulty_server(tmp_path / "m.sock", reply), pytest.raises(GenerationError) as caught:
        ask(tmp_path / "m.sock", profile, timeout_s=1)
    assert caught.value.code == "model_timeout"


def test_another_model_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """A server of another model than the profile names never sees the prompt, and the prompt is not used up."""
    profile = chat_profile()
    released = release(prompt_for(profile, MARKED))
    client = ModelClient(tmp_path / "m.sock", profile=profile, timeout_s=5)
    other = faulty_server(tmp_path / "m.sock", lambda _request: iter([models("gemma-other")]))
    with other as requests, pytest.raises(GenerationError) as caught:
        client.generate(released)
    assert caught.value.code == "model_mismatch"
    assert all(request.startswith(b"GET") for request in requests)
    assert released.claim().model == profile.identity


def test_no_server_is_a_plain_error(tmp_path: Path) -> None:
    """Without a socket, or with a dead one, the error says that the server does not answer."""
    import socket

    for path in (tmp_path / "none.sock", tmp_path / "dead.sock"):
        if path.name == "dead.sock":
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(path))
        with pytest.raises(GenerationError) as caught:
            ask(path, chat_profile())
        assert caught.value.code == "model_unavailable"
        assert not is_healthy(path)


def test_a_released_prompt_is_used_once(tmp_path: Path) -> None:
    """The same released prompt cannot be sent twice."""
    profile = chat_profile()
    released = release(prompt_for(profile, MARKED))
    client = ModelClient(tmp_path / "m.sock", profile=profile, timeout_s=5)
    with faulty_server(tmp_path / "m.sock", serving(profile, answer(json.dumps(NOTE)))) as requests:
        client.generate(released)
        with pytest.raises(RuntimeError):
            client.generate(released)
    assert sum(request.startswith(b"POST") for request in requests) == 1


def test_a_retry_may_succeed(tmp_path: Path) -> None:
    """An invalid first answer is followed by a second try at another seed and temperature."""
    profile = chat_profile()
    replies = [answer("sorry"), answer(json.dumps(NOTE))]

    def reply(request: bytes) -> Iterator[bytes]:
        yield models(profile.served_name) if request.startswith(b"GET") else replies.pop(0)

    with faulty_server(tmp_path / "m.sock", reply) as requests:
        completion = ask(tmp_path / "m.sock", profile)
    assert (completion.attempts, completion.tokens_in) == (2, 14)
    bodies = [json.loads(request.split(b"\r\n\r\n", 1)[1]) for request in requests if request.startswith(b"POST")]
    assert bodies[0]["temperature"] == 0
    assert bodies[1]["temperature"] > 0
    assert bodies[0]["seed"] != bodies[1]["seed"]


@pytest.mark.parametrize(
    ("profile", "present", "absent"),
    [
        pytest.param(
            chat_profile(Engine.VLLM), {"response_format", "chat_template_kwargs", "cache_salt"}, {"grammar"}, id="vllm"
        ),
        pytest.param(chat_profile(Engine.LLAMA_CPP), {"grammar", "cache_prompt"}, {"response_format"}, id="llama.cpp"),
        pytest.param(chat_profile(), {"response_format"}, {"grammar", "cache_salt"}, id="external"),
        pytest.param(embedded(), {"prompt", "stop", "cache_prompt"}, {"messages", "grammar"}, id="completion"),
    ],
)
def test_each_engine_is_asked_in_its_own_way(
    tmp_path: Path, profile: Profile, present: set[str], absent: set[str]
) -> None:
    """Constraints go to each engine in the form that it enforces, on connections that are not kept."""
    with faulty_server(tmp_path / "m.sock", serving(profile, answer(json.dumps(NOTE)))) as requests:
        ask(tmp_path / "m.sock", profile)
    head, body = requests[-1].split(b"\r\n\r\n", 1)
    assert b"connection: close" in head.lower()
    keys = set(json.loads(body))
    assert present <= keys
    assert not absent & keys


def test_cached_prompts_are_shared_by_one_patient_only(tmp_path: Path) -> None:
    """The salt is one for a patient, another for another, and is not the pseudonym of the audit log."""
    salts = []
    profile = chat_profile(Engine.VLLM)
    with faulty_server(tmp_path / "m.sock", serving(profile, answer(json.dumps(NOTE)))) as requests:
        client = ModelClient(tmp_path / "m.sock", profile=profile, timeout_s=10)
        for patient in ("ab" * 16, "ab" * 16, "cd" * 16):
            client.generate(release(prompt_for(profile), patient=patient))
            salts.append(json.loads(requests[-1].split(b"\r\n\r\n", 1)[1])["cache_salt"])
    assert salts[0] == salts[1] != salts[2]
    assert "ab" * 16 not in salts[0]


def test_an_engine_that_takes_four_stops_ends_at_the_fifth_all_the_same(tmp_path: Path) -> None:
    """The API allows four stop texts: the client keeps those that cannot be sent, and cuts the answer itself."""
    profile = embedded().model_copy(update={"engine": Engine.VLLM})
    prompt = prompt_for(profile)
    fifth = prompt.parts[0].stop[4]
    with faulty_server(
        tmp_path / "m.sock", serving(profile, answer(f"Sore throat.{fifth} more", "length"))
    ) as requests:
        completion = ModelClient(tmp_path / "m.sock", profile=profile, timeout_s=10).generate(release(prompt))
    assert len(json.loads(requests[-1].split(b"\r\n\r\n", 1)[1])["stop"]) == 4
    assert {(section.text, section.finish_reason) for section in completion.sections} == {("Sore throat.", "stop")}
