"""A small client of the clinic's JSON API, version 1.  One file, standard library only: copy it into your program.

    clinic = Clinic("https://clinic.lan:8443", token=token, ca_file="clinic-ca.pem")
    patient = clinic.create_patient(name="Ada Example", record_number="MRN-7")
    encounter = clinic.open_encounter(patient, template="soap", language="en")
    clinic.record_consent(encounter["id"], "given")
    clinic.upload(encounter["id"], chunks, mime="audio/webm;codecs=opus")
    if clinic.wait(encounter["id"])["state"] == "drafted":
        note = clinic.note(encounter["id"])

What is sent again after a broken connection, a busy or a stopped clinic carries the same idempotency key: it is done
once.  `Refused` carries the problem document; its `code` is in docs/errors.md.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypedDict, cast
from urllib.parse import urlencode, urlsplit

PREFIX: Final = "/api/v1"
WORKING: Final = ("open", "queued", "running")
_TRANSIENT: Final = (429, 503)
_IN_PROGRESS: Final = "request_in_progress"
_OK: Final = 300
_TRIES: Final = 8
"""With pauses of 1, 2, 4 ... 30 seconds: some minute and a half, in which a clinic that lost power is back."""

_LONGEST_PAUSE_S: Final = 30.0

Answer = Literal["given", "refused", "withdrawn"]


class Patient(TypedDict):
    """Who a patient is."""

    id: str
    name: str
    date_of_birth: str | None
    sex: str | None
    record_number: str | None
    created_at: str


class StopReason(TypedDict):
    """Why a job stopped."""

    code: str
    message: str
    hint: str
    reasons: list[str]


class Encounter(TypedDict):
    """Where an encounter stands."""

    id: str
    patient_id: str
    clinician_id: str
    own: bool
    kind: str
    template: str
    language: str | None
    consent: str
    state: str
    stage: str | None
    stopped: StopReason | None
    created_at: str
    updated_at: str


class Recording(TypedDict):
    """A recording, and the numbers of the chunks that are there."""

    id: str
    encounter_id: str
    complete: bool
    received: list[int]
    size: int


class Changed(TypedDict):
    """A note's new version, and the statements on which a person has still to decide."""

    encounter: str
    version: int
    open_flags: list[str]


class Refused(Exception):  # noqa: N818 - it reads as what happened: `except Refused`
    """The clinic refused.

    Attributes:
        status: the HTTP status.
        code: the stable code.
        hint: what to do.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(f"{problem.get('title', 'no reason given')} ({problem.get('code', status)})")
        self.status = status
        self.code = str(problem.get("code", ""))
        self.hint = str(problem.get("hint", ""))


@dataclass(frozen=True)
class Request:
    """What goes to the clinic."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Reply:
    """What comes back; `lines` yields the body piece by piece, `close` lets go of the connection."""

    status: int
    headers: Mapping[str, str]
    lines: Iterator[bytes] = field(repr=False)
    close: Callable[[], None] = field(repr=False)

    def read(self) -> bytes:
        """Return the whole body."""
        try:
            return b"".join(self.lines)
        finally:
            self.close()


Transport = Callable[[Request], Reply]
"""Sends a request; raises OSError or `http.client.HTTPException` where the connection breaks."""


def https(url: str, *, ca_file: str | None, timeout_s: float) -> Transport:
    """Return a transport over HTTPS that trusts `ca_file` only (`https://clinic.lan:8443/ca` gives it out)."""
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.hostname is None:
        raise ValueError("the address of the clinic begins with https://")
    host, port = parts.hostname, parts.port or 443
    context = ssl.create_default_context(cafile=ca_file)

    def send(request: Request) -> Reply:
        connection = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
        try:
            connection.request(request.method, request.path, request.body, dict(request.headers))
            answer = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        return Reply(answer.status, dict(answer.getheaders()), iter(answer), connection.close)

    return send


class Clinic:
    """One clinic, through one token.

    Args:
        url: where the clinic is, such as `https://clinic.lan:8443`.
        token: what `clinic token create` showed.
        ca_file: the clinic's own certificate authority.
        transport: how requests travel; tests give their own.
        pause: waits so many seconds; tests give their own.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str,
        ca_file: str | None = None,
        timeout_s: float = 60.0,
        transport: Transport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._token = token
        self._send = transport or https(url, ca_file=ca_file, timeout_s=timeout_s)
        self._pause = pause

    # --- about the clinic -----------------------------------------------------------------------------

    def token(self) -> dict[str, Any]:
        """Return what this token may do, for whom, until when."""
        return cast("dict[str, Any]", self._get("/token"))

    def service(self) -> dict[str, Any]:
        """Return kinds of note, audio formats and limits."""
        return cast("dict[str, Any]", self._get("/service"))

    # --- patients -------------------------------------------------------------------------------------

    def create_patient(
        self,
        *,
        name: str,
        date_of_birth: str | None = None,
        sex: Literal["female", "male", "other", "unknown"] | None = None,
        record_number: str | None = None,
        key: str | None = None,
    ) -> str:
        """Add a patient and return the id.  Keep `key` if you must be able to send it again after a restart."""
        body = {"name": name, "date_of_birth": date_of_birth, "sex": sex, "record_number": record_number}
        return str(self._post("/patients", body, key=key)["id"])

    def patient(self, patient_id: str) -> Patient:
        """Return a patient."""
        return cast("Patient", self._get(f"/patients/{patient_id}"))

    def search(self, text: str, *, limit: int = 50) -> Iterator[Patient]:
        """Yield all patients that fit, page by page."""
        cursor: str | None = None
        while True:
            body = json.dumps({"text": text, "limit": limit, "cursor": cursor}).encode()
            page = self._json("POST", "/patients/search", body, {"Content-Type": "application/json"})
            yield from cast("list[Patient]", page["patients"])
            cursor = page["next"]
            if cursor is None:
                return

    # --- encounters -----------------------------------------------------------------------------------

    def open_encounter(
        self,
        patient_id: str,
        *,
        kind: Literal["consultation", "dictation"] = "consultation",
        template: str = "soap",
        language: str | None = None,
        key: str | None = None,
    ) -> Encounter:
        """Open an encounter of the clinician for whom the token acts."""
        body = {"kind": kind, "template": template, "language": language}
        return cast("Encounter", self._post(f"/patients/{patient_id}/encounters", body, key=key))

    def encounter(self, encounter_id: str) -> Encounter:
        """Return where an encounter stands."""
        return cast("Encounter", self._get(f"/encounters/{encounter_id}"))

    def encounters(self, *, state: str | None = None, limit: int = 50) -> Iterator[Encounter]:
        """Yield the clinician's own encounters, newest first."""
        cursor: str | None = None
        while True:
            query = {"limit": limit, "state": state, "cursor": cursor}
            page = self._get("/encounters?" + urlencode({name: value for name, value in query.items() if value}))
            yield from cast("list[Encounter]", page["encounters"])
            cursor = page["next"]
            if cursor is None:
                return

    def record_consent(self, encounter_id: str, consent: Answer) -> Encounter:
        """Record the patient's answer."""
        return cast("Encounter", self._post(f"/encounters/{encounter_id}/consent", {"consent": consent}))

    def submit_text(self, encounter_id: str, text: str) -> Encounter:
        """Hand over dictated or pasted text; the job starts."""
        return cast("Encounter", self._post(f"/encounters/{encounter_id}/text", {"text": text}))

    def retry(self, encounter_id: str) -> Encounter:
        """Start a stopped job again."""
        return cast("Encounter", self._post(f"/encounters/{encounter_id}/retry", None))

    def watch(self, encounter_id: str) -> Iterator[Encounter]:
        """Yield where an encounter stands, as it changes, until the clinic ends the stream."""
        try:
            reply = self._reply(Request("GET", f"{PREFIX}/encounters/{encounter_id}/events", self._headers({}), None))
        except _Later as later:
            raise later.refused from None
        try:
            for line in reply.lines:
                if line.startswith(b"data: "):
                    yield cast("Encounter", json.loads(line[6:]))
        finally:
            reply.close()

    def wait(self, encounter_id: str, *, timeout_s: float = 600.0) -> Encounter:
        """Return the encounter once its job has ended, one way or another.

        Raises:
            TimeoutError: it has not ended by then.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                for encounter in self.watch(encounter_id):
                    if encounter["state"] not in WORKING:
                        return encounter
            except (OSError, http.client.HTTPException):
                self._pause(1.0)
            except Refused as refused:
                if refused.status not in _TRANSIENT:
                    raise
                self._pause(2.0)
        raise TimeoutError("the job has not ended")

    # --- recordings -----------------------------------------------------------------------------------

    def start_recording(self, encounter_id: str, *, mime: str, key: str | None = None) -> Recording:
        """Start a recording."""
        return cast("Recording", self._post(f"/encounters/{encounter_id}/recordings", {"mime": mime}, key=key))

    def recording(self, recording_id: str) -> Recording:
        """Return which chunks are there: after a restart, send the others."""
        return cast("Recording", self._get(f"/recordings/{recording_id}"))

    def put_chunk(self, recording_id: str, number: int, data: bytes) -> str:
        """Send a chunk (at most 1 MiB) and return its SHA-256: once this returns, it is durable."""
        digest = hashlib.sha256(data)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Digest": f"sha-256=:{base64.b64encode(digest.digest()).decode()}:",
        }
        ack = self._json("PUT", f"/recordings/{recording_id}/chunks/{number}", data, headers)
        if ack["sha256"] != digest.hexdigest():
            raise OSError("the clinic acknowledged other bytes than were sent")
        return str(ack["sha256"])

    def complete_recording(self, recording_id: str, *, chunks: int) -> Encounter:
        """Close a recording of so many chunks; the job starts."""
        return cast("Encounter", self._post(f"/recordings/{recording_id}/complete", {"chunks": chunks}))

    def upload(self, encounter_id: str, chunks: Iterable[bytes], *, mime: str) -> Encounter:
        """Send a whole recording, chunk by chunk; the job starts."""
        recording = self.start_recording(encounter_id, mime=mime)
        count = 0
        for count, data in enumerate(chunks, start=1):
            self.put_chunk(recording["id"], count - 1, data)
        return self.complete_recording(recording["id"], chunks=count)

    # --- notes ----------------------------------------------------------------------------------------

    def transcript(self, encounter_id: str) -> dict[str, Any]:
        """Return what was said."""
        return cast("dict[str, Any]", self._get(f"/encounters/{encounter_id}/transcript"))

    def note(self, encounter_id: str) -> dict[str, Any]:
        """Return the note with evidence and flags."""
        return cast("dict[str, Any]", self._get(f"/encounters/{encounter_id}/note"))

    def add_statement(self, encounter_id: str, *, version: int, section: str, text: str) -> Changed:
        """Add a statement to a draft; a person decides on it in the form."""
        body = {"version": version, "section": section, "text": text}
        return cast("Changed", self._post(f"/encounters/{encounter_id}/note/statements", body))

    def edit_statement(self, encounter_id: str, statement_id: str, *, version: int, text: str) -> Changed:
        """Give a statement of a draft other words; a person decides on it in the form."""
        body = json.dumps({"version": version, "text": text}).encode()
        path = f"/encounters/{encounter_id}/note/statements/{statement_id}"
        return cast("Changed", self._json("PUT", path, body, {"Content-Type": "application/json"}))

    def document(self, encounter_id: str) -> dict[str, Any]:
        """Return the signed note as a FHIR R4 document."""
        return cast("dict[str, Any]", self._get(f"/encounters/{encounter_id}/note/document"))

    # --- how it travels -------------------------------------------------------------------------------

    def _get(self, path: str) -> Any:
        return self._json("GET", path, None, {})

    def _post(self, path: str, body: Mapping[str, Any] | None, *, key: str | None = None) -> Any:
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        if body is None:
            return self._json("POST", path, None, headers)
        return self._json(
            "POST", path, json.dumps(body, ensure_ascii=False).encode(), headers | {"Content-Type": "application/json"}
        )

    def _json(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Any:
        request = Request(method, PREFIX + path, self._headers(headers), body)
        for number in range(1, _TRIES + 1):
            try:
                reply = self._reply(request)
                return json.loads(reply.read())
            except (OSError, http.client.HTTPException):
                if number == _TRIES:
                    raise
                self._pause(min(2.0 ** (number - 1), _LONGEST_PAUSE_S))
            except _Later as later:
                if number == _TRIES:
                    raise later.refused from None
                self._pause(later.seconds)
        raise AssertionError

    def _reply(self, request: Request) -> Reply:
        reply = self._send(request)
        if reply.status < _OK:
            return reply
        text = reply.read()
        try:
            problem = json.loads(text)
        except ValueError:
            problem = {}
        refused = Refused(reply.status, problem)
        if reply.status in _TRANSIENT or refused.code == _IN_PROGRESS:
            raise _Later(refused, _pause(reply.headers.get("Retry-After", "1")))
        raise refused

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Accept": "application/json", **more}


def _pause(retry_after: str) -> float:
    """Return the seconds to wait; one, where a proxy in between sends a date or nonsense."""
    return min(float(retry_after), _LONGEST_PAUSE_S) if retry_after.isascii() and retry_after.isdigit() else 1.0


class _Later(Exception):  # noqa: N818
    """The clinic cannot answer now."""

    def __init__(self, refused: Refused, seconds: float) -> None:
        super().__init__(str(refused))
        self.refused = refused
        self.seconds = seconds
