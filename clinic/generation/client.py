"""The model client: the one module that opens a connection, and only to a Unix socket.

Rules kept here:

* A prompt is claimed from its `ReleasedPrompt` before a byte of it leaves; there is no other way in.
* The server must answer under the profile's name, which carries the digest of the weights: another model is refused.
* Everything is bounded: the time of the whole generation, the size of every answer, one retry.
* A server's error text may echo the prompt.  It is read by nobody: errors carry a status number at most, and no cause.
* The answer is whole and valid, or there is a `GenerationError`; never an empty or half note.

A retry goes to the same released prompt: the same text, decided and recorded once, sampled a second time.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket as socketlib
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clinic.audit.events import GenerationAuthorized, from_canonical
from clinic.domain import Completion, ModelIdentity, PromptPart, SectionText
from clinic.errors import GenerationError
from clinic.generation.generator import Progress
from clinic.generation.profiles import Engine, Profile
from clinic.generation.schemas import read_note
from clinic.policy.gate import ReleasedPrompt

_MAX_ANSWER_BYTES = 1 << 20
_CONNECT_S = 5.0
_HEALTH_S = 2.0
_SEED = 20
_CANARY_S = 60.0
_CANARY_TOKENS = 16
_HTTP_OK = 200
_HTTP_ERROR = 400
_HTTP_SERVER_ERROR = 500
_HTTP_UNAVAILABLE = 503
_ATTEMPTS = 2
_MOST_STOPS = 4  # the OpenAI-compatible API allows no more; vLLM refuses the whole request

_COMPACT = {"x-guidance": {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}}
"""Without this a model may answer with white space until its tokens are used up."""

_START_HINT = "`clinic doctor` says whether it runs; `clinic serve` starts it"
_AGAIN_HINT = "nothing is lost; generate again"


_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nothing here speaks TLS.  Given once, it keeps httpx from loading the authorities of the internet for every call."""


class _Wire(BaseModel):
    """What is read of an answer; the engines add fields of their own."""

    model_config = ConfigDict(extra="ignore", strict=True)


_Shape = TypeVar("_Shape", bound=_Wire)


class _ChoiceMessage(_Wire):
    content: str | None = None


class _Choice(_Wire):
    text: str | None = None
    message: _ChoiceMessage | None = None
    finish_reason: str


class _Usage(_Wire):
    prompt_tokens: Annotated[int, Field(ge=0)]
    completion_tokens: Annotated[int, Field(ge=0)]


class _Answer(_Wire):
    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage


class _Model(_Wire):
    id: str


class _Models(_Wire):
    data: list[_Model]


@dataclass(slots=True)
class _Tally:
    tokens_in: int = 0
    tokens_out: int = 0
    attempts: int = 0

    def add(self, usage: _Usage) -> None:
        self.tokens_in += usage.prompt_tokens
        self.tokens_out += usage.completion_tokens


class ModelClient:
    """Answers released prompts with the model behind a Unix socket.

    Args:
        socket: where the server listens.
        profile: what is expected there, and how it wants to be asked.
        timeout_s: longest time for one whole generation, all parts and retries together.
        api_key: sent as a bearer token, for servers that ask for one.
    """

    def __init__(self, socket: Path, *, profile: Profile, timeout_s: float, api_key: str | None = None) -> None:
        self._socket = socket
        self._profile = profile
        self._timeout_s = timeout_s
        self._api_key = api_key

    @property
    def identity(self) -> ModelIdentity:
        """The model that the profile names; `generate` makes sure that it is the one that answers."""
        return self._profile.identity

    def confirm(self) -> bool:
        """Ask the server whether it serves the model that the profile pins.

        The launcher has checked the weights against the profile's digest, and the served name carries that digest.

        Raises:
            GenerationError: `model_unavailable` and the like if nothing usable answers.
        """
        return bool(self._profile.sha256) and self._serves(time.monotonic() + _CONNECT_S)

    def generate(self, released: ReleasedPrompt, *, progress: Progress | None = None) -> Completion:
        """Claim the prompt and have the model answer every part.

        Raises:
            GenerationError: `model_unavailable`, `model_mismatch`, `model_interrupted`, `model_timeout`,
                `model_refused`, `output_invalid`, `output_truncated`.
        """
        deadline = time.monotonic() + self._timeout_s
        self._check_model(deadline)
        prompt = released.claim()
        if prompt.model != self.identity:
            raise RuntimeError("the prompt was built for another model")
        salt = _cache_salt(released)
        tally = _Tally()
        sections: list[SectionText] = []
        for part in prompt.parts:
            sections.append(self._answer(part, salt, tally, deadline))
            if progress is not None:
                progress(len(sections), len(prompt.parts))
        return Completion(
            sections=tuple(sections),
            tokens_in=tally.tokens_in,
            tokens_out=tally.tokens_out,
            attempts=max(tally.attempts, 1),
        )

    def complete_canary(self, canary: str, model: str) -> str:
        """Return how `model` goes on with the profile's canary, an invented text of ours that no patient is in."""
        body = {"model": model, "prompt": canary, "max_tokens": _CANARY_TOKENS, "temperature": 0, "seed": _SEED}
        reply = self._request("POST", "/v1/completions", body, time.monotonic() + self._timeout_s)
        return _read(_Answer, reply).choices[0].text or ""

    def _check_model(self, deadline: float) -> None:
        soon = min(deadline, time.monotonic() + _CONNECT_S)  # a released prompt does not wait long
        if not self._serves(soon):
            raise GenerationError(
                f"the model server does not serve `{self._profile.served_name}`",
                code="model_mismatch",
                hint="the server runs another model than the configuration names: restart it (`clinic serve`)",
            )

    def _serves(self, deadline: float) -> bool:
        models = _read(_Models, self._request("GET", "/v1/models", None, deadline))
        return self._profile.served_name in [model.id for model in models.data]

    def _answer(self, part: PromptPart, salt: str, tally: _Tally, deadline: float) -> SectionText:
        problem = GenerationError("no attempt was made")
        for attempt in range(_ATTEMPTS):
            tally.attempts += 1
            path, body = self._call(part, salt, attempt)
            reply = self._request("POST", path, body, deadline)
            try:
                answer = _read(_Answer, reply)
                tally.add(answer.usage)
                return _section_text(part, answer.choices[0])
            except GenerationError as error:
                problem = error
        raise problem

    def _call(self, part: PromptPart, salt: str, attempt: int) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {
            "model": self._profile.served_name,
            "max_tokens": part.max_tokens,
            "temperature": 0 if attempt == 0 else 0.3,  # the same answer a second time would help nobody
            "seed": _SEED + attempt,
            "stream": False,
        }
        if part.stop:
            most = None if self._profile.engine is Engine.LLAMA_CPP else _MOST_STOPS
            body["stop"] = list(part.stop[:most])  # the others are kept by `_section_text`
        if self._profile.engine is Engine.VLLM:
            body["cache_salt"] = salt
        if self._profile.engine is Engine.LLAMA_CPP:
            body["cache_prompt"] = True
        if part.text is not None:
            return "/v1/completions", body | {"prompt": part.text}
        body["messages"] = [message.model_dump() for message in part.messages]
        if part.json_schema is not None:
            body |= self._constraint(part.json_schema)
        return "/v1/chat/completions", body

    def _constraint(self, schema: dict[str, Any]) -> dict[str, Any]:
        if self._profile.engine is Engine.LLAMA_CPP:  # `response_format` there allows endless white space
            return {"grammar": f"%llguidance {{}}\nstart: %json {json.dumps(schema | _COMPACT)}"}
        constraint: dict[str, Any] = {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "note", "schema": schema, "strict": True},
            }
        }
        if self._profile.engine is Engine.VLLM:
            constraint["chat_template_kwargs"] = {"enable_thinking": False}
        return constraint

    def _request(self, method: str, path: str, body: dict[str, Any] | None, deadline: float) -> bytes:
        headers = {"Connection": "close", "Accept-Encoding": "identity"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        _require_listener(self._socket)
        with (
            _plain_errors(),
            _connection(self._socket, deadline) as client,
            client.stream(method, path, json=body, headers=headers) as response,
        ):
            _check_status(response.status_code)
            return _bounded(response, deadline)


def is_healthy(socket: Path) -> bool:
    """Say whether a server answers at `socket` and has loaded its model."""
    try:
        _require_listener(socket)
        with _connection(socket, time.monotonic() + _HEALTH_S) as client:
            return client.get("/health", headers={"Connection": "close"}).status_code == _HTTP_OK
    except (httpx.HTTPError, GenerationError):
        return False


def adapter_changes_answer(socket: Path, profile: Profile) -> bool:
    """Ask vLLM the profile's canary with the adapter and without it; True if the answers differ.

    vLLM answers with the bare weights, and says nothing, where the names in an adapter do not fit.

    Raises:
        GenerationError: the server does not answer under both names.
    """
    if profile.adapter is None:
        raise RuntimeError("the profile has no adapter")
    client = ModelClient(socket, profile=profile, timeout_s=_CANARY_S)
    names = (profile.served_name, profile.base_name)
    with_adapter, without = (client.complete_canary(profile.adapter.canary, name) for name in names)
    return with_adapter != without


def _cache_salt(released: ReleasedPrompt) -> str:
    """Return what keeps cached prompts of patients apart: the same for one patient, and no name of theirs.

    It is made from the patient's pseudonym in the audit log, a keyed hash of the id, and is not that pseudonym.
    """
    event = from_canonical(released.authorized.event, released.authorized.body)
    if not isinstance(event, GenerationAuthorized):
        raise RuntimeError("a released prompt was authorised by something else")  # noqa: TRY004 - an order mistake
    return hashlib.sha256(b"clinic-cache-salt-v1\0" + event.patient.encode()).hexdigest()


def _require_listener(path: Path) -> None:
    """Look first: httpx leaves a socket open for the garbage collector where nobody listens."""
    with socketlib.socket(socketlib.AF_UNIX, socketlib.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_S)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            raise _unavailable() from None


def _connection(socket: Path, deadline: float) -> httpx.Client:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise _timed_out()
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=str(socket), verify=_NO_TLS),
        base_url="http://model",
        timeout=httpx.Timeout(remaining, connect=min(_CONNECT_S, remaining)),
        trust_env=False,
        follow_redirects=False,
    )


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turn httpx's errors into ours, without their cause: a request hangs on it, and on the request the prompt."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise _unavailable() from None
    except httpx.TimeoutException:
        raise _timed_out() from None
    except httpx.HTTPError:
        raise GenerationError("the model server stopped half-way", code="model_interrupted", hint=_AGAIN_HINT) from None


def _check_status(status: int) -> None:
    if status == _HTTP_OK:
        return
    message = f"the model server answered with status {status}"
    if status == _HTTP_UNAVAILABLE:
        raise GenerationError(message, code="model_unavailable", hint="it is still loading, or overloaded; try again")
    if status >= _HTTP_SERVER_ERROR:
        raise GenerationError(message, code="model_interrupted", hint=_AGAIN_HINT)
    hint = "the server and the profile do not fit together: `clinic doctor`"
    raise GenerationError(message, code="model_refused" if status >= _HTTP_ERROR else "output_invalid", hint=hint)


def _bounded(response: httpx.Response, deadline: float) -> bytes:
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > _MAX_ANSWER_BYTES:
            raise GenerationError("the model's answer is too large", code="output_invalid", hint=_AGAIN_HINT)
        if time.monotonic() > deadline:  # a server that drips keeps every single read within its time
            raise _timed_out()
    return bytes(body)


def _read(shape: type[_Shape], body: bytes) -> _Shape:
    try:
        return shape.model_validate_json(body)
    except ValidationError:
        raise _invalid() from None


def _section_text(part: PromptPart, choice: _Choice) -> SectionText:
    if part.text is not None:
        if choice.text is None:
            raise _invalid()
        answered, stopped = _up_to_stop(choice.text, part.stop)
        # A section is bounded on purpose; the parser drops what `length` left unfinished.
        return SectionText(
            section=part.section, text=answered, finish_reason="stop" if stopped else choice.finish_reason
        )
    text = None if choice.message is None else choice.message.content
    if choice.finish_reason == "length":
        raise GenerationError(
            "the model's answer was cut off", code="output_truncated", hint="a shorter recording may be needed"
        )
    if text is None or (part.json_schema is not None and read_note(text, part.json_schema) is None):
        raise _invalid()
    return SectionText(section=part.section, text=text, finish_reason=choice.finish_reason)


def _up_to_stop(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    ends = [end for end in (text.find(stop) for stop in stops) if end >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


def _unavailable() -> GenerationError:
    return GenerationError("the model server does not answer", code="model_unavailable", hint=_START_HINT)


def _invalid() -> GenerationError:
    return GenerationError("the model's answer was not a usable note", code="output_invalid", hint=_AGAIN_HINT)


def _timed_out() -> GenerationError:
    return GenerationError(
        "the model server took too long", code="model_timeout", hint="try again, or raise `generation.timeout_s`"
    )
