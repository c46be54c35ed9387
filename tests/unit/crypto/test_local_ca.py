"""The local CA: browsers on the LAN trust the box, and the CA is good for nothing else."""

import os
import ssl
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from clinic.crypto import local_ca
from clinic.crypto.local_ca import (
    AUTHORITY_LIFETIME,
    SERVER_LIFETIME,
    Authority,
    IpAddress,
    create_authority,
    expires_in,
    fingerprint,
    issue_server_certificate,
    lan_addresses,
    write_server_files,
)
from clinic.domain import utc_now
from clinic.errors import ConfigError

LAN: list[IpAddress] = [IPv4Address("192.168.7.20"), IPv6Address("fd12::20")]
FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 192.168.7.0/24 2 0 2
        |-- 192.168.7.0
           /24 link UNICAST
        |-- 192.168.7.20
           /32 host LOCAL
        |-- 192.168.7.255
           /32 link BROADCAST
Local:
        |-- 192.168.7.20
           /32 host LOCAL
        |-- 203.0.113.9
           /32 host LOCAL
"""
IF_INET6 = """00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000000000000000001 02 40 20 80     eth0
fd120000000000000000000000000020 02 40 00 00     eth0
20010db8000000000000000000000020 02 40 00 00     eth0
"""


@pytest.fixture
def authority() -> Authority:
    """Create an authority for one configured name."""
    return create_authority(names=["clinic.example.org"])


def handshake(folder: Path, authority: Authority, server_file: Path, host: str) -> None:
    """Run a TLS handshake in memory, as a browser that trusts `authority` and asks for `host`."""
    ca_file = folder / "trusted.crt"
    ca_file.write_bytes(authority.certificate_pem)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(server_file)
    client_context = ssl.create_default_context(cafile=str(ca_file))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() == "TLSv1.3"


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "::1", os.uname().nodename, "clinic.example.org", "box.lan", "192.168.7.20", "fd12::20"],
)
def test_a_browser_that_trusts_the_authority_accepts_the_server(
    tmp_path: Path, authority: Authority, host: str
) -> None:
    """Every way to call the box on the LAN is in the certificate."""
    server = issue_server_certificate(authority, names=["clinic.example.org", "Box.lan"], ips=LAN)
    server_file, _ = write_server_files(tmp_path, server, authority)
    handshake(tmp_path, authority, server_file, host)


def test_addresses_among_the_configured_names_are_addresses(tmp_path: Path) -> None:
    """An administrator may write an address, a public one too, where names are configured."""
    names = ["198.51.100.7", "2001:db8::7"]
    authority = create_authority(names=names)
    server_file, _ = write_server_files(tmp_path, issue_server_certificate(authority, names=names), authority)
    for host in names:
        handshake(tmp_path, authority, server_file, host)


def test_other_names_and_other_authorities_are_refused(tmp_path: Path, authority: Authority) -> None:
    """A name that is not in the certificate, or a CA that was not installed, is an error in the browser."""
    server_file, _ = write_server_files(tmp_path, issue_server_certificate(authority), authority)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(tmp_path, authority, server_file, "other.lan")
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        handshake(tmp_path, create_authority(), server_file, "localhost")


def forged(folder: Path, authority: Authority, names: Sequence[x509.GeneralName]) -> Path:
    """Sign a certificate for any name with the authority's stolen key."""
    issuer = x509.load_pem_x509_certificate(authority.certificate_pem)
    issuer_key = serialization.load_pem_private_key(authority.key_pem, password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        local_ca._builder(
            issuer.subject.__class__([]), issuer.subject, key.public_key(), lifetime=timedelta(days=9), now=utc_now()
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    path = folder / "forged.pem"
    path.write_bytes(local_ca._key_pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("bank.example", x509.DNSName("bank.example")),
        ("example.org", x509.DNSName("example.org")),
        ("9.9.9.9", x509.IPAddress(IPv4Address("9.9.9.9"))),
    ],
)
def test_a_stolen_authority_cannot_impersonate_the_world(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, host: str, name: x509.GeneralName
) -> None:
    """Name constraints stop a forged certificate; without them it would pass (negative control)."""
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(tmp_path, authority, forged(tmp_path, authority, [name]), host)
    permit_all = x509.NameConstraints(None, [x509.DNSName("nothing.invalid")])
    monkeypatch.setattr(local_ca, "_constraints", lambda _names, _ips: permit_all)
    unbounded = create_authority()
    handshake(tmp_path, unbounded, forged(tmp_path, unbounded, [name]), host)


@pytest.mark.parametrize(
    ("names", "ips"),
    [
        pytest.param(["bank.example"], [], id="other domain"),
        pytest.param(["example.org"], [], id="parent domain"),
        pytest.param(["notclinic.example.org"], [], id="longer label"),
        pytest.param([], [IPv4Address("9.9.9.9")], id="public address"),
        pytest.param([], [IPv6Address("2001:db8::1")], id="public v6 address"),
    ],
)
def test_a_name_beyond_the_constraints_is_refused_here(
    authority: Authority, names: list[str], ips: list[IpAddress]
) -> None:
    """A certificate that no browser would accept is not issued; the message says what to do."""
    with pytest.raises(ConfigError) as caught:
        issue_server_certificate(authority, names=names, ips=ips)
    assert caught.value.code == "name_not_permitted"


@pytest.mark.parametrize(
    "name", ["", "*.lan", "https://box", "box:8443", "-box", "box-", "a..b", "x" * 64, "é.lan", "a." * 130 + "b", "a b"]
)
def test_what_is_no_host_name_is_refused(name: str) -> None:
    """Schemes, ports, wildcards and the like are named as such."""
    with pytest.raises(ConfigError) as caught:
        create_authority(names=[name])
    assert caught.value.code == "hostname_invalid"


@pytest.mark.parametrize(
    ("nodename", "expected"),
    [("Box", ["box", "box.local"]), ("box.clinic.lan", ["box.clinic.lan", "box.local"]), ("bad_name", [])],
)
def test_the_machines_name_is_taken_if_it_can_be(
    monkeypatch: pytest.MonkeyPatch, nodename: str, expected: list[str]
) -> None:
    """A machine name that cannot stand in a certificate is left out rather than fatal."""
    uname = os.uname_result(("Linux", nodename, "", "", ""))
    monkeypatch.setattr(os, "uname", lambda: uname)
    issued = x509.load_pem_x509_certificate(issue_server_certificate(create_authority()).certificate_pem)
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", *expected]


def test_lifetimes(authority: Authority) -> None:
    """Ten years for the authority, 397 days for the server, both valid an hour back for slow clocks."""
    server = issue_server_certificate(authority)
    for pem, lifetime in ((authority.certificate_pem, AUTHORITY_LIFETIME), (server.certificate_pem, SERVER_LIFETIME)):
        certificate = x509.load_pem_x509_certificate(pem)
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == lifetime
        assert certificate.not_valid_before_utc < utc_now() - timedelta(minutes=59)
        assert timedelta(0) < lifetime - expires_in(pem) < timedelta(hours=1, minutes=2)


def test_a_server_certificate_does_not_outlive_its_authority(authority: Authority) -> None:
    """Near the authority's end the server's certificate ends with it; after it none is issued."""
    end = x509.load_pem_x509_certificate(authority.certificate_pem).not_valid_after_utc
    late = issue_server_certificate(authority, clock=lambda: end - timedelta(days=3))
    assert expires_in(late.certificate_pem, clock=lambda: end) == timedelta(0)
    with pytest.raises(ConfigError) as caught:
        issue_server_certificate(authority, clock=lambda: end)
    assert caught.value.code == "authority_expired"


def test_expiry_is_negative_after_the_end(authority: Authority) -> None:
    """An expired certificate shows as such."""
    assert expires_in(authority.certificate_pem, clock=lambda: datetime(2100, 1, 1, tzinfo=UTC)) < timedelta(0)


def test_the_servers_key_is_private_and_the_authoritys_key_is_nowhere(tmp_path: Path, authority: Authority) -> None:
    """`server.pem` is 0600, `ca.crt` may be read; no file holds the authority's key; a second write replaces both."""
    write_server_files(tmp_path, issue_server_certificate(authority), authority)
    server = issue_server_certificate(authority)
    server_file, ca_file = write_server_files(tmp_path, server, authority)
    assert server_file.read_bytes() == server.key_pem + server.certificate_pem
    assert stat.S_IMODE(server_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(ca_file.stat().st_mode) == 0o644
    assert ca_file.read_bytes() == authority.certificate_pem
    secret = authority.key_pem.splitlines()[1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["ca.crt", "server.pem"]
    assert all(secret not in each.read_bytes() for each in tmp_path.iterdir())
    assert expires_in(server_file.read_bytes()) > timedelta(days=396)


def test_no_private_key_shows(authority: Authority) -> None:
    """Neither value shows its private key."""
    server = issue_server_certificate(authority)
    assert "PRIVATE" not in repr(authority) + str(server)


def test_an_authority_with_another_kind_of_key_is_refused(authority: Authority) -> None:
    """A key that is not the one this program makes is the caller's mistake."""
    other = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(TypeError, match="elliptic curve"):
        issue_server_certificate(Authority(authority.certificate_pem, other))


def test_a_constraint_of_another_kind_covers_nothing() -> None:
    """A name is only covered by a subtree of its own kind."""
    assert not local_ca._covers(x509.DNSName("lan"), x509.IPAddress(IPv4Address("10.0.0.1")))


def test_the_fingerprint_reads_as_browsers_show_it(authority: Authority) -> None:
    """Thirty-two pairs of capital digits, apart by colons."""
    pairs = fingerprint(authority.certificate_pem).split(":")
    digest = x509.load_pem_x509_certificate(authority.certificate_pem).fingerprint(hashes.SHA256())
    assert bytes.fromhex("".join(pairs)) == digest
    assert all(pair == pair.upper() for pair in pairs)


def test_lan_addresses_are_the_private_ones(tmp_path: Path) -> None:
    """From the kernel's tables: private addresses once each; no loopback, link-local v6, broadcast or public ones."""
    (tmp_path / "fib_trie").write_text(FIB_TRIE, encoding="ascii")
    (tmp_path / "if_inet6").write_text(IF_INET6, encoding="ascii")
    assert lan_addresses(tmp_path) == tuple(LAN)


def test_without_the_kernels_tables_there_are_no_addresses(tmp_path: Path) -> None:
    """A confined service names fewer addresses instead of failing."""
    assert lan_addresses(tmp_path) == ()


def test_this_machines_addresses_can_be_certified(authority: Authority) -> None:
    """Whatever is found on the machine that runs this, the authority may vouch for it."""
    found = lan_addresses()
    assert all(ip_address(str(ip)) == ip for ip in found)
    issue_server_certificate(authority, ips=found)
