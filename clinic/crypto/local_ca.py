"""The clinic's own certificate authority, so that browsers on the LAN can trust the box without the internet.

Rules kept here:

* The authority's private key is returned to the caller, who seals it; it is never written here.
* The authority can vouch for the clinic's own names and private addresses only (critical name constraints): whoever
  steals it cannot impersonate a bank to the clinic's browsers.
* The server's key and certificate are one file, replaced at once: they always fit each other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from clinic.crypto.durable import exclusive, replace_private
from clinic.domain import Clock, utc_now
from clinic.errors import ConfigError

IpAddress = IPv4Address | IPv6Address
AUTHORITY_LIFETIME = timedelta(days=3652)
SERVER_LIFETIME = timedelta(days=397)  # what browsers accept at most
_SKEW = timedelta(hours=1)  # tablets without a time server lag behind
_LOCAL_DOMAINS = ("localhost", "local", "lan", "internal", "home.arpa")
_LAN_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7")
_PRIVATE_NETWORKS = (*_LAN_NETWORKS, "fe80::/10", "127.0.0.0/8", "::1/128")
_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_HOSTNAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_MAX_HOSTNAME = 253


@dataclass(frozen=True, slots=True)
class Authority:
    """The local CA.  `key_pem` is sealed by the caller under `Purpose.LOCAL_CA` and lives nowhere else."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """The web server's certificate and private key."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


def create_authority(*, names: Sequence[str] = (), ips: Sequence[IpAddress] = (), clock: Clock = utc_now) -> Authority:
    """Return a new authority for local names, private addresses, this machine's name, and the given ones.

    `names` may hold addresses too, as a person writes them in the configuration.

    Raises:
        ConfigError: `hostname_invalid`.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Clinic"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Clinic local CA {os.urandom(4).hex()}"),
        ]
    )
    usage = _key_usage(certificate_sign=True)
    certificate = (
        _builder(subject, subject, key.public_key(), lifetime=AUTHORITY_LIFETIME, now=clock())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(_constraints(*_sorted_out(names, ips)), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def issue_server_certificate(
    authority: Authority, *, names: Sequence[str] = (), ips: Sequence[IpAddress] = (), clock: Clock = utc_now
) -> ServerCertificate:
    """Return a certificate for localhost, this machine's name, and the given names and addresses.

    Raises:
        ConfigError: `hostname_invalid`, `name_not_permitted`, `authority_expired`, `authority_incomplete`.
    """
    now = clock()
    issuer = x509.load_pem_x509_certificate(authority.certificate_pem)
    if issuer.not_valid_after_utc <= now:
        raise _expired(issuer)
    alternatives = _alternatives(names, ips)
    _require_permitted(issuer, alternatives)
    issuer_key = serialization.load_pem_private_key(authority.key_pem, password=None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise TypeError("the authority's key is not an elliptic curve key")
    if issuer_key.public_key() != issuer.public_key():
        raise ConfigError(
            "key and certificate of the local CA do not belong together",
            code="authority_incomplete",
            hint="making a new CA was interrupted: `clinic certificate new-authority` once more",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Clinic server")])
    lifetime = min(SERVER_LIFETIME, issuer.not_valid_after_utc - now + _SKEW)
    certificate = (
        _builder(subject, issuer.subject, key.public_key(), lifetime=lifetime, now=now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificate_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return ServerCertificate(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def write_server_files(directory: Path, server: ServerCertificate, authority: Authority) -> tuple[Path, Path]:
    """Write `server.pem` (key and certificate, owner only) and `ca.crt` (for the browsers); return both paths.

    Raises:
        ConfigError: `home_missing`.
        StorageError: `disk_full`; the old files are still there.
    """
    server_file, ca_file = directory / "server.pem", directory / "ca.crt"
    with exclusive(directory):
        replace_private(ca_file, authority.certificate_pem, mode=0o644)
        replace_private(server_file, server.key_pem + server.certificate_pem)
    return server_file, ca_file


def expires_in(certificate_pem: bytes, *, clock: Clock = utc_now) -> timedelta:
    """Return how long a certificate is still valid (negative: expired).  Other PEM blocks before it are skipped."""
    return x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc - clock()


def fingerprint(certificate_pem: bytes) -> str:
    """Return the SHA-256 fingerprint as browsers show it, for a person to compare."""
    return x509.load_pem_x509_certificate(certificate_pem).fingerprint(hashes.SHA256()).hex(":").upper()


def server_names(directory: Path) -> tuple[str, ...]:
    """Return the host names that the server certificate in `directory` vouches for; none if there is no certificate."""
    alternatives = _vouched_for(directory)
    return () if alternatives is None else tuple(n.lower() for n in alternatives.get_values_for_type(x509.DNSName))


def server_addresses(directory: Path) -> tuple[str, ...]:
    """Return the IP addresses that the server certificate in `directory` vouches for; none if there is none."""
    alternatives = _vouched_for(directory)
    return () if alternatives is None else tuple(map(str, alternatives.get_values_for_type(x509.IPAddress)))


def _vouched_for(directory: Path) -> x509.SubjectAlternativeName | None:
    try:
        certificate = x509.load_pem_x509_certificate((directory / "server.pem").read_bytes())
    except (OSError, ValueError):
        return None
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def lan_addresses(tables: Path = Path("/proc/net")) -> tuple[IpAddress, ...]:
    """Return this machine's private addresses, those that the authority may vouch for; opens no socket.

    Empty if the kernel does not show them.  Public addresses and names are for the configuration to say.
    """
    found = [*_ipv4_addresses(tables / "fib_trie"), *_ipv6_addresses(tables / "if_inet6")]
    local = [ip_network(each) for each in _LAN_NETWORKS]
    return tuple(dict.fromkeys(ip for ip in found if any(ip in network for network in local)))


def _ipv4_addresses(table: Path) -> Iterable[IpAddress]:
    address = ""
    for line in _lines(table):
        if "|-- " in line:
            address = line.split("|-- ")[1].strip()
        elif "host LOCAL" in line:
            yield ip_address(address)


def _ipv6_addresses(table: Path) -> Iterable[IpAddress]:
    for line in _lines(table):
        yield IPv6Address(bytes.fromhex(line.split()[0]))


def _lines(table: Path) -> list[str]:
    try:
        return table.read_text(encoding="ascii").splitlines()
    except OSError:  # no IPv6, or a confined service: the certificate simply names fewer addresses
        return []


def _alternatives(names: Sequence[str], ips: Sequence[IpAddress]) -> list[x509.GeneralName]:
    hostnames, given = _sorted_out(names, ips)
    dns = dict.fromkeys(["localhost", *hostnames])
    addresses = dict.fromkeys([IPv4Address("127.0.0.1"), IPv6Address("::1"), *given])
    return [*map(x509.DNSName, dns), *map(x509.IPAddress, addresses)]


def _machine_names() -> list[str]:
    """Return this machine's name, alone and under `.local`; none if it cannot stand in a certificate."""
    name = os.uname().nodename.lower()
    if not _is_hostname(name):
        return []
    return [name, f"{name.split('.')[0]}.local"]


def _sorted_out(names: Sequence[str], ips: Sequence[IpAddress]) -> tuple[list[str], list[IpAddress]]:
    """Return host names, this machine's included, and addresses."""
    hostnames, addresses = _machine_names(), list(ips)
    for name in map(str.lower, names):
        try:
            addresses.append(ip_address(name))
        except ValueError:
            hostnames.append(_checked(name))
    return hostnames, addresses


def _checked(name: str) -> str:
    if not _is_hostname(name):
        raise ConfigError(
            f"`{name}` is not a host name",
            code="hostname_invalid",
            hint="use letters, digits, hyphens and dots, without a scheme, a port or an asterisk",
        )
    return name


def _is_hostname(name: str) -> bool:
    return len(name) <= _MAX_HOSTNAME and _HOSTNAME.fullmatch(name) is not None


def _constraints(names: Sequence[str], ips: Sequence[IpAddress]) -> x509.NameConstraints:
    networks: list[IPv4Network | IPv6Network] = [ip_network(each) for each in (*_PRIVATE_NETWORKS, *map(str, ips))]
    domains = dict.fromkeys([*_LOCAL_DOMAINS, *names])
    permitted: list[x509.GeneralName] = [*map(x509.DNSName, domains), *map(x509.IPAddress, networks)]
    return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None)


def _require_permitted(issuer: x509.Certificate, alternatives: Sequence[x509.GeneralName]) -> None:
    permitted = issuer.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    for name in alternatives:
        if not any(_covers(subtree, name) for subtree in permitted):
            raise ConfigError(
                f"the local CA may not vouch for `{name.value}`",
                code="name_not_permitted",
                hint="the name is newer than the CA: create a new CA, and install it in the browsers again",
            )


def _covers(subtree: x509.GeneralName, name: x509.GeneralName) -> bool:
    if isinstance(subtree, x509.DNSName) and isinstance(name, x509.DNSName):
        return f".{name.value}".endswith(f".{subtree.value}")
    if isinstance(subtree, x509.IPAddress) and isinstance(name, x509.IPAddress):
        return name.value in subtree.value  # type: ignore[operator] # a constraint holds a network, a name an address
    return False


def _key_usage(*, certificate_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificate_sign,
        key_cert_sign=certificate_sign,
        crl_sign=certificate_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, *, lifetime: timedelta, now: datetime
) -> x509.CertificateBuilder:
    start = now - _SKEW
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _expired(issuer: x509.Certificate) -> ConfigError:
    return ConfigError(
        f"the local CA expired on {issuer.not_valid_after_utc:%Y-%m-%d}",
        code="authority_expired",
        hint="check the machine's clock; then `clinic certificate new-authority`, and trust it on each tablet again",
    )
