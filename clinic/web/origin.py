"""Under which name a browser has reached the box.

Rules kept here:

* Only the names of the server's certificate count; `Host` may say what it likes.
* WebAuthn gives no passkey to an address that is a number: whoever typed one is told the name.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import request

from clinic.crypto.local_ca import server_names
from clinic.errors import AuthenticationError
from clinic.records.passkeys import Site
from clinic.web.ports import services


def site() -> Site:
    """Return under which name this request reached the box.

    Raises:
        AuthenticationError: `passkey_needs_name`: a number, or a name that is not in the certificate.
    """
    name = _asked_for()
    if name not in names_of_the_box():
        raise AuthenticationError(
            "passkeys work where the box is opened by its name",
            code="passkey_needs_name",
            hint=f"open {address_by_name()}",
        )
    return Site(name, f"https://{request.host}")


def works_here() -> bool:
    """Whether a browser can use passkeys under the address of this request."""
    return _asked_for() in names_of_the_box()


def address_by_name() -> str:
    """Return an address of the box under which passkeys work, for people."""
    name = next((name for name in reversed(names_of_the_box()) if name != "localhost"), "localhost")
    return f"https://{name}:{services().config.web.port}"


def names_of_the_box() -> tuple[str, ...]:
    """Return the names that the certificate of the box vouches for."""
    return server_names(services().config.tls_dir)


def _asked_for() -> str:
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:  # brackets that hold no address
        return ""
