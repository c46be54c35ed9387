"""A model server in a process of its own that keeps, durably, what it was asked, before it answers.

It speaks as much HTTP as `ModelClient` needs.  Whoever asks may die at any moment: that ends one connection only.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.campaigns.audited_requests import PROFILE, asked

_ANSWER = {"statements": [{"section": "subjective", "text": "Cough for three days.", "segments": ["s1"]}]}


def serve(path: Path, journal: Path) -> None:
    """Answer for ever; the process is killed when it is no longer needed."""
    kept = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(16)
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError, ValueError):
                connection.settimeout(5)
                connection.sendall(http(_reply(*read_request(connection), kept)))


def _reply(head: bytes, body: bytes, kept: int) -> dict[str, object]:
    if head.startswith(b"GET"):
        return {"data": [{"id": PROFILE.served_name}]}
    os.write(kept, f"{asked(json.loads(body)['messages'])}\n".encode())
    os.fdatasync(kept)
    message = {"content": json.dumps(_ANSWER)}
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}


def http(answer: Mapping[str, object], *, status: int = 200) -> bytes:
    """Return one HTTP answer."""
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_request(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return head and body of one request."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < length:
        body += _receive(connection)
    return head, body


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:  # somebody only looked whether we listen, or died
        raise ConnectionResetError
    return data
