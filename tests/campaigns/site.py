"""The web form of a running clinic, as a browser without scripts uses it: over HTTPS, with cookies and CSRF tokens."""

from __future__ import annotations

import http.cookiejar
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request  # noqa: TID251 - the campaign asks the server under test
from dataclasses import dataclass

from clinic.config import Config

_LONGEST_WAIT_S = 120


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, after redirects."""

    status: int
    url: str
    text: str


class Site:
    """One browser."""

    def __init__(self, config: Config) -> None:
        self._base = f"https://localhost:{config.web.port}"
        context = ssl.create_default_context(cafile=str(config.tls_dir / "ca.crt"))
        self._opener = urllib.request.build_opener(  # noqa: TID251 - as above
            urllib.request.HTTPSHandler(context=context),  # noqa: TID251 - as above
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()),  # noqa: TID251 - as above
        )
        self._token = ""

    def get(self, path: str) -> Answer:
        """Load a page, and remember its token."""
        return self._ask(path, None, {"Accept": "text/html"})

    def post(self, path: str, **fields: str) -> Answer:
        """Send a form."""
        data = urllib.parse.urlencode({"csrf_token": self._token, **fields}).encode()
        return self._ask(path, data, {"Accept": "text/html"})

    def send(self, path: str, body: bytes, content_type: str, method: str = "POST") -> Answer:
        """Send bytes as our scripts do."""
        headers = {"Accept": "application/json", "X-CSRFToken": self._token, "Content-Type": content_type}
        return self._ask(path, body, headers, method)

    def json(self, path: str) -> dict[str, object]:
        """Ask for JSON."""
        found: dict[str, object] = json.loads(self._ask(path, None, {"Accept": "application/json"}).text)
        return found

    def sign_in(self, username: str, password: str) -> Answer:
        """Sign in."""
        self.get("/login")
        return self.post("/login", username=username, password=password)

    def wait_until_up(self) -> None:
        """Wait until the clinic answers."""
        deadline = time.monotonic() + _LONGEST_WAIT_S
        while True:
            try:
                if self.get("/health").status == 200:
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, "the web form did not come up"
            time.sleep(0.2)

    def wait_until_done(self, encounter: str) -> str:
        """Wait until no job works on an encounter; return its state."""
        deadline = time.monotonic() + _LONGEST_WAIT_S
        while True:
            status = self.json(f"{encounter}/status")
            if not status["working"]:
                return str(status["state"])
            assert time.monotonic() < deadline, status
            time.sleep(0.1)

    def _ask(self, path: str, data: bytes | None, headers: dict[str, str], method: str | None = None) -> Answer:
        url = path if path.startswith("https:") else self._base + path
        all_headers = {"Origin": self._base, "Referer": f"{self._base}/", **headers}
        asked = urllib.request.Request(url, data=data, headers=all_headers, method=method)  # noqa: TID251, S310 - as above
        try:
            with self._opener.open(asked, timeout=60) as reply:
                answer = Answer(reply.status, reply.url, reply.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                answer = Answer(error.code, url, error.read().decode())
        found = re.search(r'name="csrf-token" content="([^"]+)"', answer.text)
        self._token = found.group(1) if found else self._token
        return answer
