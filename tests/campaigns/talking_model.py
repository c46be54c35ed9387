"""A model server that says words of its own, or misbehaves, as a file beside it asks: for what answers may leak."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.campaigns.audited_requests import PROFILE
from tests.campaigns.recording_model import http, read_request

HANG_S = 8.0


def talk(path: Path, orders: Path) -> None:
    """Answer for ever, as `orders` says at that moment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(16)
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError, ValueError):
                connection.settimeout(5)
                head, body = read_request(connection)
                connection.sendall(_reply(head, body, json.loads(orders.read_text())))


def _reply(head: bytes, body: bytes, orders: dict[str, Any]) -> bytes:
    if head.startswith(b"GET"):
        return http({"data": [{"id": PROFILE.served_name}]})
    words = " ".join(orders["words"])
    echo = json.loads(body)["messages"][-1]["content"]
    match orders["mode"]:
        case "error":
            reply = http({"error": f"{words} {echo}"}, status=500)
        case "refusal":
            reply = http({"error": f"{words} {echo}"}, status=400)
        case "garbage":
            reply = http({"choices": [{"message": {"content": f"{words} {echo}"}, "finish_reason": "stop"}]})
        case "no note":
            reply = http(_answer(f"{words} {echo}"))
        case "cut off":
            reply = http(_answer(f"{words} {echo}"))[:-200]
        case "hang":
            time.sleep(HANG_S)
            reply = b""
        case _:
            reply = http(_answer(json.dumps({"statements": [_statement(word) for word in orders["words"]]})))
    return reply


def _statement(word: str) -> dict[str, Any]:
    return {"section": "plan", "text": f"Use the {word}.", "segments": ["s1"]}


def _answer(content: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    return {"choices": [{"message": {"content": content}, "finish_reason": "stop"}], "usage": usage}
