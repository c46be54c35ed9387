"""What the web process speaks on the LAN: TLS of today, with keys that are forgotten."""

from __future__ import annotations

import ssl
import warnings
from contextlib import suppress

import pytest
from flask import Flask
from gunicorn import sock

from clinic.config import Config
from clinic.home import unlock_home
from clinic.web.server import WebServer

FORWARD_SECRET = ("ECDHE-", "DHE-", "TLS_")  # TLS 1.3 knows no other


@pytest.fixture
def server(config: Config) -> ssl.SSLContext:
    """Return the context that gunicorn makes from our options."""
    assert unlock_home(config) is not None
    context: ssl.SSLContext = sock.ssl_context(WebServer(lambda: Flask("nothing"), config).cfg)
    return context


def spoken(server: ssl.SSLContext, newest: ssl.TLSVersion) -> str | None:
    """Shake hands with a client that knows nothing newer; return the version, or None if there is none in common."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):  # Python warns of old versions, which is the point here
        client.minimum_version, client.maximum_version = ssl.TLSVersion.TLSv1, newest
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True))
    for _ in range(4):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                try:
                    end.do_handshake()
                except ssl.SSLError as error:
                    if isinstance(error, ssl.SSLWantReadError):
                        raise
                    return None
    return ends[0].version()


def test_only_todays_tls_is_spoken(server: ssl.SSLContext) -> None:
    """TLS 1.3 where the browser knows it, 1.2 else, nothing older; a laxer server is the control."""
    assert spoken(server, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert spoken(server, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert spoken(server, ssl.TLSVersion.TLSv1_1) is None
    with warnings.catch_warnings(action="ignore"):
        server.minimum_version = ssl.TLSVersion.TLSv1
    server.set_ciphers("ALL:@SECLEVEL=0")
    assert spoken(server, ssl.TLSVersion.TLSv1_1) == "TLSv1.1"


def test_only_ciphers_with_forward_secrecy_are_offered(server: ssl.SSLContext) -> None:
    """A key that is stolen later opens nothing that was recorded; the control is a list without that."""
    names = [cipher["name"] for cipher in server.get_ciphers()]
    assert names
    assert [name for name in names if not name.startswith(FORWARD_SECRET)] == []
    server.set_ciphers("AES256-GCM-SHA384")
    assert [cipher["name"] for cipher in server.get_ciphers() if not cipher["name"].startswith(FORWARD_SECRET)]
