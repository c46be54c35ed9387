"""What the generation tests share: prompts released by the real gate, transcripts, profiles, a faulty server.

The misbehaving server exists for faults only; everything that llama.cpp can show is shown with llama.cpp.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clinic.audit.entry import Entry
from clinic.audit.events import GenerationAuthorized
from clinic.domain import Action, Prompt, PromptStyle, Segment, Transcript, new_id
from clinic.generation.launcher import ModelServer
from clinic.generation.profiles import Engine, Profile, Weights, load_profile
from clinic.generation.prompts import build_prompt
from clinic.generation.template import load_template
from clinic.policy.decision import Permit
from clinic.policy.gate import ReleasedPrompt, ReleaseGate

ROOT = Path(__file__).resolve().parents[3]
PROFILES = ROOT / "deploy" / "profiles"
MODELS = ROOT / ".cache" / "models"
DIGEST = "0123456789abcdef" * 4
MARKER = "zanzibarquokka"
"""A word that stands for patient text: it must turn up nowhere but in the prompt and the answer."""

VISIT = (
    ("Doctor", "Good morning. What brings you in today?"),
    ("Patient", "I have had a very sore throat for four days."),
    ("Doctor", "Any cough or fever?"),
    ("Patient", "No cough, but I feel hot at night."),
    ("Doctor", "Do you take any medicine?"),
    ("Patient", "I take ibuprofen, 400 milligrams three times a day."),
    ("Doctor", "Are you allergic to anything?"),
    ("Patient", "Yes, to penicillin."),
    ("Doctor", "Your temperature is 38.4 degrees. Your tonsils are red and swollen."),
    ("Doctor", "This looks like tonsillitis. I will prescribe azithromycin, 500 milligrams once a day for three days."),
)


class CommittedLog:
    """Stands for an audit log whose commits always succeed; the log itself has tests of its own."""

    def confirm(self, entry: Entry) -> None:
        """Confirm everything."""


def visit(*turns: tuple[str | None, str]) -> Transcript:
    """Return a transcript of these turns, or of the sample visit."""
    spoken = turns or VISIT
    segments = tuple(Segment(id=f"s{n}", speaker=who, text=text) for n, (who, text) in enumerate(spoken, start=1))
    return Transcript(segments=segments, language="en")


def embedded() -> Profile:
    """Return the profile that ships as the default."""
    return load_profile("embedded", PROFILES)


def chat_profile(engine: Engine = Engine.EXTERNAL) -> Profile:
    """Return a pinned profile of a chat model."""
    return Profile(
        id="chat",
        label="chat",
        licence="none",
        engine=engine,
        style=PromptStyle.CHAT,
        context_tokens=8192,
        weights=Weights(path=Path("/nowhere"), sha256=DIGEST),
    )


def prompt_for(profile: Profile, transcript: Transcript | None = None) -> Prompt:
    """Return the SOAP prompt for a transcript."""
    return build_prompt(load_template("soap"), transcript or visit(), profile.identity, Action.DRAFT_NOTE)


def release(prompt: Prompt, *, patient: str = "ab" * 16) -> ReleasedPrompt:
    """Release a prompt through the real gate; `patient`: a pseudonym."""
    decision = Permit(
        policies=("all",), obligations=("evidence:required", "label:draft", "max_tokens:32768"), policy_set=DIGEST
    )
    event = GenerationAuthorized(
        generation=new_id(),
        encounter=new_id(),
        patient=patient,
        action=prompt.action.value,
        purpose="treatment",
        policy_set=DIGEST,
        policies=decision.policies,
        obligations=decision.obligations,
        prompt_sha256=prompt.sha256,
        model=prompt.model.id,
        model_sha256=prompt.model.sha256,
        template=prompt.template,
        template_sha256=prompt.template_sha256,
        transcript_sha256=DIGEST,
    )

    def record(authorized: GenerationAuthorized) -> Entry:
        body = authorized.to_canonical()
        return Entry(
            1, "2026-01-02T03:04:05.678Z", "operator", "clinician", authorized.name, body, bytes(32), bytes(32)
        )

    return ReleaseGate(CommittedLog()).release(decision, prompt, event, record=record)


def server(
    run_dir: Path,
    profile: Profile | None = None,
    say: Callable[[str], None] | None = None,
    *,
    socket_mode: int = 0o600,
) -> ModelServer:
    """Return a model server, not started, with everything it writes below `run_dir`."""
    return ModelServer(
        profile or embedded(),
        models_dir=MODELS,
        socket=run_dir / "run" / "m.sock",
        log=run_dir / "logs" / "model.log",
        cache=run_dir / "run" / "cache",
        socket_mode=socket_mode,
        say=say,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait until the condition holds; False if it does not in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def http(body: bytes, status: int = 200, length: int | None = None) -> bytes:
    """Return one HTTP answer; `length` overrides the true content length."""
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode() + body


@contextmanager
def faulty_server(path: Path, replies: Callable[[bytes], Iterator[bytes]]) -> Iterator[list[bytes]]:
    """Serve `replies(request)` piece by piece on a Unix socket; yields the list of requests that came."""
    requests: list[bytes] = []
    stop = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(8)
        listener.settimeout(0.1)

        def serve() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection, suppress(OSError):
                    _talk(connection, replies, requests, stop)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield requests
        finally:
            stop.set()
            thread.join()


def _talk(
    connection: socket.socket,
    replies: Callable[[bytes], Iterator[bytes]],
    requests: list[bytes],
    stop: threading.Event,
) -> None:
    connection.settimeout(5)
    request = _read_request(connection)
    requests.append(request)
    for piece in replies(request):
        if stop.is_set():
            return
        connection.sendall(piece)


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line.lower() for line in head.split(b"\r\n")]
    length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += _receive(connection)
    return head + b"\r\n\r\n" + body


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:  # somebody only looked whether we listen
        raise ConnectionResetError
    return data
