"""What the tests of the JSON API share: tokens, a client over WSGI, plain requests."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from flask import Flask
from werkzeug.test import Client, TestResponse

from clinic.api.app import OPERATIONS
from clinic.api.openapi import PREFIX
from clinic.api.operations import Operation
from clinic.domain import OPERATOR, Role, Scope, new_id, utc_now
from clinic.records.tokens import ApiToken
from deploy.clinic_client import Clinic, Reply, Request
from tests.functional.web_world import ORIGIN, World

BODIES: Mapping[str, object] = {
    "create_patient": {"name": "Nobody Inparticular"},
    "search_patients": {"text": ""},
    "change_patient": {"name": "Nobody Inparticular"},
    "open_encounter": {"template": "soap"},
    "record_consent": {"consent": "given"},
    "submit_text": {"text": "Cough for three days. No fever. Paracetamol as needed."},
    "start_recording": {"mime": "audio/webm"},
    "complete_recording": {"chunks": 1},
    "add_statement": {"version": 1, "section": "plan", "text": "Rest at home."},
    "edit_statement": {"version": 1, "text": "Rest at home."},
}
"""A good body for each operation that takes JSON."""

CHUNK = b"\x1aE\xdf\xa3 some bytes of a recording"


def digest(data: bytes) -> str:
    """Return the Content-Digest of bytes."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def over_wsgi(app: Flask) -> Any:
    """Return a transport of the client that calls the application itself."""
    web = Client(app)

    def send(request: Request) -> Reply:
        response = web.open(
            request.path, method=request.method, headers=dict(request.headers), data=request.body, base_url=ORIGIN
        )
        lines = iter(response.get_data().splitlines(keepends=True))
        response.close()
        return Reply(response.status_code, dict(response.headers), lines, lambda: None)

    return send


@dataclass
class Program:
    """A program with a token."""

    world: World
    secret: str
    pauses: list[float] = field(default_factory=list)

    @property
    def client(self) -> Clinic:
        """The typed client."""
        return Clinic("", token=self.secret, transport=over_wsgi(self.world.app), pause=self.pauses.append)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        data: bytes | None = None,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> TestResponse:
        """Send a request as it is."""
        sent = {"Authorization": f"Bearer {self.secret}"} | dict(headers or {})
        if method == "POST" and key != "":
            sent.setdefault("Idempotency-Key", key or str(uuid.uuid4()))
        if data is not None:
            sent.setdefault("Content-Type", "application/octet-stream")
            sent.setdefault("Content-Digest", digest(data))
        web = Client(self.world.app)
        return web.open(PREFIX + path, method=method, headers=sent, json=body, data=data, base_url=ORIGIN)

    def ask(self, operation: Operation, ids: Mapping[str, object] | None = None) -> TestResponse:
        """Call an operation with a good body, and ids that name nothing unless they are given."""
        path = operation.path
        for name in operation.parameters:
            value = {"number": 0, "statement_id": "n1"}.get(name, new_id()) if ids is None else ids.get(name, 0)
            path = path.replace(f"{{{name}}}", str(value))
        data = CHUNK if isinstance(operation.body, str) else None
        return self.call(operation.method, path, BODIES.get(operation.name), data=data)


def program(world: World, *, scopes: Iterable[Scope] = Scope, username: str = Role.CLINICIAN.value) -> Program:
    """Return a program that acts for an account."""
    return Program(world, make_token(world, scopes=scopes, username=username)[1])


def make_token(
    world: World, *, scopes: Iterable[Scope] = Scope, username: str = Role.CLINICIAN.value
) -> tuple[ApiToken, str]:
    """Return a new token and its secret."""
    with world.records.write() as tx:
        user = tx.users.by_username(username)
        assert user is not None
        return tx.tokens.create(user, name="EMR", scopes=scopes, days=30, actor=OPERATOR)


def later(world: World, **delta: float) -> None:
    """Let so much time pass for the records; the audit log keeps its own clock."""
    now = utc_now() + timedelta(**delta)
    world.records._parts = replace(world.records._parts, clock=lambda: now)


def operation(name: str) -> Operation:
    """Return an operation by its name."""
    return next(item for item in OPERATIONS if item.name == name)


def code(response: TestResponse) -> str:
    """Return the code of a problem."""
    assert response.content_type == "application/problem+json", (response.status, response.text)
    document = response.get_json(force=True)
    assert set(document) == {"type", "title", "status", "code", "hint", "errors"}
    assert document["status"] == response.status_code
    assert document["type"] == f"urn:clinic:problem:{document['code']}"
    return str(document["code"])
