"""One call of a program: who it is, what it may, what it sent, and how what it does is recorded.

Rules kept here:

* The token is looked at first; what is wrong with it is told only to who has it.  A refusal is an audit event.
* Refusals beyond `REFUSALS` a minute of one token or address are not written any more: they must not fill the log.
  A good token from the same address still opens.
* What a program reads or changes is in one transaction with the entry `token.used`, which counts the entries before it.
* The audited functions of `records` and `capture` do the rest: nothing is decided here about a record.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final, TypeVar

from flask import Response, request
from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import UnsupportedMediaType

from clinic.api.operations import Answer, Operation
from clinic.api.ports import Services
from clinic.api.problems import BodyError, FieldProblem, HeaderError, RateError
from clinic.domain import Actor
from clinic.errors import AuthenticationError, InputError, JobError, RecordError
from clinic.records.answers import StoredAnswer
from clinic.records.recordings import MAX_CHUNK
from clinic.records.records import Transaction
from clinic.records.tokens import ApiToken, Presented

REQUESTS: Final = parse("600/minute")
"""Of one token: an upload in chunks of 1 MiB and a page that polls each second stay far below."""

REFUSALS: Final = parse("30/minute")

Body = TypeVar("Body", bound=BaseModel)

_BEARER: Final = re.compile(r"Bearer +([\x21-\x7e]{1,200}) *", re.ASCII | re.IGNORECASE)
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_JSON: Final = "application/json"
_WORDS: Final = {
    "token_invalid": ("this is not a token of this clinic", "`clinic token create` makes one"),
    "token_revoked": ("this token was revoked", "ask the administrator for a new one"),
    "token_expired": ("this token has expired", "ask the administrator for a new one"),
    "account_disabled": ("the account that this token acts for is disabled", "ask the administrator"),
}


class Rates:
    """Counts what each token and address asked lately; one for each process."""

    def __init__(self) -> None:
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def allows(self, limit: RateLimitItem, *names: str) -> bool:
        """Count one more; False if that is too many."""
        return self._window.hit(limit, *names)


class UnderWay:
    """The idempotency keys whose requests are being answered."""

    def __init__(self) -> None:
        self._keys: set[tuple[str, str]] = set()
        self._lock = Lock()

    @contextmanager
    def hold(self, token_id: str, key: str) -> Iterator[None]:
        """Hold a key.

        Raises:
            RecordError: `request_in_progress` if it is held.
        """
        held = (token_id, key)
        with self._lock:
            if held in self._keys:
                raise RecordError(
                    "the same request is being answered", code="request_in_progress", hint="wait, then send it again"
                )
            self._keys.add(held)
        try:
            yield
        finally:
            with self._lock:
                self._keys.discard(held)


class Call:
    """One admitted call.

    Attributes:
        services: the wired system.
        operation: what is asked for.
        token: who asks.
        actor: for whom they act.
        patient_id: whom it is about, once that is known: the entry `token.used` is linked to this patient.
    """

    def __init__(
        self, services: Services, operation: Operation, token: ApiToken, actor: Actor, under_way: UnderWay
    ) -> None:
        self.services = services
        self.operation = operation
        self.token = token
        self.actor = actor
        self.patient_id: str | None = None
        self._under_way = under_way
        self._raw: bytes | None = None

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """Yield a transaction in which what is done is this program's doing, and is recorded as such."""
        with self.services.records.write() as tx:
            yield tx
            tx.tokens.used(self.token, self.operation.name, actor=self.actor, patient_id=self.patient_id)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Yield a transaction for what shows nothing of a patient: states, ids, numbers."""
        with self.services.records.read() as tx:
            yield tx

    def raw(self) -> bytes:
        """Return the body's bytes.

        Raises:
            UnsupportedMediaType: it is compressed, or not of the type that the operation takes.
        """
        if self._raw is None:
            wanted = self.operation.body if isinstance(self.operation.body, str) else _JSON
            if request.mimetype != wanted or request.headers.get("Content-Encoding", "identity") != "identity":
                raise UnsupportedMediaType
            if wanted != _JSON:
                request.max_content_length = MAX_CHUNK
            self._raw = request.get_data(cache=False)
        return self._raw

    def body(self, model: type[Body]) -> Body:
        """Return the body as what it must be.

        Raises:
            BodyError: without a cause, which would hold what was sent.
        """
        if model is not self.operation.body:
            raise RuntimeError("the table of operations names another body")
        data = self.raw()
        try:
            return model.model_validate_json(data)
        except ValidationError as error:
            fields = _fields(error)
        raise BodyError(fields)

    def query(self, model: type[Body]) -> Body:
        """Return the query string as what it must be; a parameter that we do not know is refused.

        Raises:
            BodyError: without a cause, which would hold what was sent.
        """
        if model is not self.operation.query:
            raise RuntimeError("the table of operations names another query")
        try:
            values = {name: found[0] if len(found) == 1 else found for name, found in request.args.lists()}
            return model.model_validate(values)
        except ValidationError as error:
            fields = _fields(error)
        raise BodyError(fields)

    def once(self, work: Callable[[Transaction], Answer], *, then: Callable[[], None] | None = None) -> Response:
        """Do `work`, once for an idempotency key; answer the same request again with the same answer.

        Args:
            work: runs inside the transaction in which its answer is kept.
            then: what is started after the commit; if no worker takes it, the answer is not kept.

        Raises:
            HeaderError: `idempotency_key_missing`, `idempotency_key_invalid`.
            InputError: `idempotency_key_reused` for another request.
            RecordError: `request_in_progress`.
        """
        key = _idempotency_key()
        digest = _digest(self.operation.name, request.path, b"" if self.operation.body is None else self.raw())
        with self._under_way.hold(self.token.id, key):
            with self.writing() as tx:
                stored = tx.answers.find(self.token.id, key)
                if stored is not None:
                    if stored.request_sha256 != digest:
                        raise InputError(
                            "this idempotency key was used for another request",
                            code="idempotency_key_reused",
                            hint="make a new key for each new request",
                        )
                    return _json(stored.status, stored.body, replayed=True)
                answer = work(tx)
                body = answer.body.model_dump_json()
                tx.answers.keep(
                    self.token.id, key, StoredAnswer(request_sha256=digest, status=answer.status, body=body)
                )
            if then is not None:
                self._go_on(then, key)
        return _json(answer.status, body)

    def _go_on(self, then: Callable[[], None], key: str) -> None:
        try:
            then()
        except JobError:
            with self.services.records.write() as tx:
                tx.answers.forget(self.token.id, key)
            raise


def admit(services: Services, operation: Operation, rates: Rates, under_way: UnderWay) -> Call:
    """Let a request in, if its token may do this.

    Raises:
        AuthenticationError: `token_missing`, `token_invalid`, `token_revoked`, `token_expired`, `account_disabled`
            (401), `scope_missing` (403).
        RateError: `too_many_requests`.
        BodyError: a parameter in the address of an operation that takes none.
    """
    presented, seen = _look_up(services)
    token, user = presented.token, presented.user
    if token is None or user is None or presented.refusal is not None:
        code = presented.refusal or "token_invalid"
        _refuse(services, operation, rates, presented, code)
        raise AuthenticationError(_WORDS[code][0], code=code, hint=_WORDS[code][1])
    if not rates.allows(REQUESTS, "requests", token.id):
        raise RateError("this token asks too often", hint="at most 600 requests a minute")
    if operation.scope is not None and operation.scope not in token.scopes:
        _refuse(services, operation, rates, presented, "scope_missing")
        raise AuthenticationError(
            "this token may not do that", code="scope_missing", hint=f"it needs the scope `{operation.scope.value}`"
        )
    if operation.query is None and request.args:
        raise BodyError((FieldProblem(field="", problem="extra_forbidden"),))
    if not seen:
        with services.records.write() as tx:
            tx.tokens.touch(token.id)
    return Call(services, operation, token, user.actor, under_way)


def respond(answer: Answer | Response) -> Response:
    """Return an answer as a response."""
    return answer if isinstance(answer, Response) else _json(answer.status, answer.body.model_dump_json())


def _look_up(services: Services) -> tuple[Presented, bool]:
    header = request.headers.get("Authorization")
    if header is None:
        raise AuthenticationError("this needs a token", code="token_missing", hint="send `Authorization: Bearer TOKEN`")
    bearer = _BEARER.fullmatch(header)
    with services.records.read() as tx:
        presented = tx.tokens.look_up(bearer[1] if bearer else "")
        return presented, presented.token is not None and tx.tokens.seen(presented.token)


def _refuse(services: Services, operation: Operation, rates: Rates, presented: Presented, code: str) -> None:
    whose = presented.token.id if presented.token else f"from {request.remote_addr}"
    if not rates.allows(REFUSALS, "refusals", whose):
        raise RateError("too many refused requests", hint="mend the token or its scopes, then wait a minute")
    with services.records.write() as tx:
        tx.tokens.refused(presented, operation.name, code)


def _idempotency_key() -> str:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        raise HeaderError(
            "the header Idempotency-Key is missing",
            code="idempotency_key_missing",
            hint="send a new UUID with each new request, and the same one when you send it again",
        )
    if _UUID.fullmatch(key) is None:
        raise HeaderError("the header Idempotency-Key is no UUID", code="idempotency_key_invalid", hint="send a UUID")
    return key.lower()


def _digest(operation: str, path: str, body: bytes) -> str:
    """Return what tells a request from another one under the same idempotency key.

    Keyed by the token, of which only a hash is stored: whoever has the clinic's keys cannot guess a patient's name by
    trying names, also not once the patient's record is destroyed.
    """
    bearer = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    secret = bearer[1].encode() if bearer else b""
    return hmac.new(secret, json.dumps([operation, path]).encode() + b"\n" + body, "sha256").hexdigest()


def _json(status: int, body: str, *, replayed: bool = False) -> Response:
    headers = {"Idempotency-Replayed": "true"} if replayed else {}
    return Response(body, status, headers, content_type=_JSON)


def _fields(error: ValidationError) -> tuple[FieldProblem, ...]:
    """Name what is wrong by field and kind; a name or value that was sent is not repeated."""
    found = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        kind = str(problem["type"])
        place = problem["loc"][:-1] if kind == "extra_forbidden" else problem["loc"]
        found.append(FieldProblem(field=".".join(str(part) for part in place), problem=kind))
    return tuple(dict.fromkeys(found))
