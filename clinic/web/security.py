"""What protects every page: headers, cookie, CSRF, rate limits.

Rules kept here:

* Every response carries the same headers; scripts and styles come from this origin's files only.
* Nothing but static files may be kept by a browser.
* Every state change carries a CSRF token, and comes from this origin as far as the browser says so.
"""

from __future__ import annotations

from flask import Flask, Response, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_wtf.csrf import CSRFError, CSRFProtect

from clinic.web.request import CHUNK_LIMIT

COOKIE = "__Host-clinic"
INSECURE_COOKIE = "insecure-clinic"
LOGIN_LIMIT = "20 per minute"

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": (
        "microphone=(self), screen-wake-lock=(self), clipboard-write=(self), "
        "camera=(), geolocation=(), usb=(), serial=(), payment=(), browsing-topics=()"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATE_CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})

csrf = CSRFProtect()
limiter = Limiter(get_remote_address, storage_uri="memory://", strategy="moving-window")


def configure(app: Flask, *, secret_key: bytes, insecure_http: bool) -> None:
    """Set the cookie, CSRF and rate limits of an application."""
    app.config.update(
        SECRET_KEY=secret_key,
        SESSION_COOKIE_NAME=INSECURE_COOKIE if insecure_http else COOKIE,
        SESSION_COOKIE_SECURE=not insecure_http,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_PATH="/",
        MAX_CONTENT_LENGTH=CHUNK_LIMIT,
        MAX_FORM_MEMORY_SIZE=CHUNK_LIMIT,
        # A token lives as long as its session: a consultation may last longer than Flask-WTF's hour.
        WTF_CSRF_TIME_LIMIT=None,
        # That check needs a Referer, which `Referrer-Policy: no-referrer` withholds; `same_origin` replaces it.
        WTF_CSRF_SSL_STRICT=False,
    )
    limiter.init_app(app)
    app.before_request(same_origin)
    csrf.init_app(app)
    app.after_request(set_headers)


def same_origin() -> None:
    """Refuse a state change that the browser says was started by another site."""
    if request.method in _STATE_CHANGES and request.headers.get("Sec-Fetch-Site", "none") not in {
        "same-origin",
        "none",
    }:
        raise CSRFError("the request comes from another site")


def set_headers(response: Response) -> Response:
    """Put the headers on a response; views cannot weaken them."""
    response.headers.update(HEADERS)
    response.headers["Cache-Control"] = "no-cache" if request.endpoint == "static" else "no-store"
    return response
