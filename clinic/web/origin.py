"""Under which name a browser has reached the box.

Rules kept here:

* Only the names of the server's certificate count; `Host` may say what it likes.
* WebAuthn gives no passkey to an address that is a number: whoever typed one is told the name.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import request

from clinic.crypto.local_ca import server_addresses, server_names
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


def addresses_for_others() -> tuple[str, ...]:
    """Return one or two addresses for people at other devices: the one of this request first, then one by name.

    One that the certificate does not vouch for is left out, and so is one that leads only to the device it is typed at.
    """
    numbers = server_addresses(services().config.tls_dir)
    vouched = _plain(_asked_for()) in {*names_of_the_box(), *numbers}
    here = [f"https://{request.host}"] if vouched and not _is_loopback(_asked_for()) else []
    name = [address_by_name()] if any(name != "localhost" for name in names_of_the_box()) else []
    port = services().config.web.port
    by_number = [f"https://{f'[{n}]' if ':' in n else n}:{port}" for n in numbers if not _is_loopback(n)]
    return tuple(dict.fromkeys([*here, *name, *by_number]))[:2] or (address_by_name(),)


def names_of_the_box() -> tuple[str, ...]:
    """Return the names that the certificate of the box vouches for."""
    return server_names(services().config.tls_dir)


def _asked_for() -> str:
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:  # brackets that hold no address
        return ""


def _plain(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:  # a name
        return host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
