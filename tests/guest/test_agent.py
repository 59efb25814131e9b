"""Enrolment, keys and status, against a real agent process."""

import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from protocol.enrolment import certificate_mac, check_mac, request_mac, runtime_dns_name
from tests.guest.conftest import Site
from tests.guest.fleet import (
    CLIENT_AUTH,
    RUNTIME_ID,
    SECRET,
    SERVER_AUTH,
    TENANT_ID,
    Agent,
    Authority,
    personalise,
    running,
    runtime_name,
    start,
)

NONCE = "c3" * 32
OTHER_RUNTIME = "11111111-2222-4333-8444-555555555555"


def ask(agent: Agent, site: Site, nonce: str = NONCE) -> tuple[int, Any]:
    return agent.call(site.control_plane.context(), "POST", "/v1/enrol", {"nonce": nonce})


def own_key(answer: dict[str, str]) -> ec.EllipticCurvePublicKey:
    key = x509.load_pem_x509_csr(answer["csr"].encode()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def deliver(
    agent: Agent, site: Site, certificate: x509.Certificate, *, secret: str = SECRET, nonce: str = NONCE
) -> tuple[int, Any]:
    """Send a certificate under a MAC made with ``secret``."""
    der = certificate.public_bytes(Encoding.DER)
    body = {
        "nonce": nonce,
        "certificate": certificate.public_bytes(Encoding.PEM).decode(),
        "mac": certificate_mac(bytes.fromhex(secret), bytes.fromhex(nonce), der).hex(),
    }
    return agent.call(site.control_plane.context(), "PUT", "/v1/enrol/certificate", body)


def enrol(agent: Agent, site: Site, secret: str = SECRET) -> x509.Certificate:
    """Enrol an agent the way the control plane does."""
    status, answer = ask(agent, site)
    assert status == 200
    certificate = site.authority.issue(own_key(answer), runtime_name(), SERVER_AUTH)
    assert deliver(agent, site, certificate, secret=secret) == (204, None)
    return certificate


def served(agent: Agent, site: Site) -> x509.Certificate:
    """The certificate that the agent shows."""
    plain = socket.create_connection(("127.0.0.1", agent.port), timeout=5)
    with site.control_plane.context().wrap_socket(plain) as stream:
        der = stream.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def report(agent: Agent, site: Site) -> dict[str, Any]:
    status, document = agent.call(site.control_plane.context(), "GET", "/v1/status")
    assert status == 200
    assert isinstance(document, dict)
    return document


def test_request_is_authentic(agent: Agent, site: Site) -> None:
    """The CSR names this runtime only, and the MAC covers it together with the nonce and the sealing key."""
    _, answer = ask(agent, site)
    csr = x509.load_pem_x509_csr(answer["csr"].encode())
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName(runtime_dns_name(RUNTIME_ID))]
    assert csr.is_signature_valid
    sealing = bytes.fromhex(answer["sealing_public_key"])
    expected = request_mac(
        bytes.fromhex(SECRET), bytes.fromhex(NONCE), csr.public_bytes(Encoding.DER), sealing
    )
    check_mac(expected, bytes.fromhex(answer["mac"]))


def test_certificate_is_served_at_once(agent: Agent, site: Site) -> None:
    """After enrolment the same process serves the issued certificate, and it verifies."""
    certificate = enrol(agent, site)
    assert served(agent, site) == certificate
    context = ssl.create_default_context(cadata=site.authority.pem)
    context.load_cert_chain(site.folder / "control-plane.crt", site.folder / "control-plane.key")
    with socket.create_connection(("127.0.0.1", agent.port), timeout=5) as plain:
        stream = context.wrap_socket(plain, server_hostname=runtime_dns_name(RUNTIME_ID))
        assert stream.version() == "TLSv1.3"
        stream.close()
    health = agent.call(site.control_plane.context(), "GET", "/v1/health")
    assert health == (200, {"status": "live", "enrolled": True})


def test_request_may_be_repeated(agent: Agent, site: Site) -> None:
    """A worker that died between the two calls starts over with a new nonce, and the old nonce is void."""
    _, first = ask(agent, site, "01" * 32)
    _, second = ask(agent, site)
    assert own_key(first) == own_key(second)
    certificate = site.authority.issue(own_key(second), runtime_name(), SERVER_AUTH)
    status, answer = deliver(agent, site, certificate, nonce="01" * 32)
    assert (status, answer["error"]) == (409, "unknown_nonce")
    assert deliver(agent, site, certificate) == (204, None)


def test_secret_works_once(agent: Agent, site: Site) -> None:
    """Once a certificate is in, the same secret starts no second enrolment, nor installs another."""
    first = enrol(agent, site)
    status, answer = ask(agent, site)
    assert (status, answer["error"]) == (409, "already_enrolled")
    key = first.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    status, answer = deliver(agent, site, site.authority.issue(key, runtime_name(), SERVER_AUTH))
    assert (status, answer["error"]) == (409, "already_enrolled")
    assert served(agent, site) == first


def test_delivery_may_be_repeated(agent: Agent, site: Site) -> None:
    """A worker that did not see the 204 sends the same certificate again and gets it."""
    assert deliver(agent, site, enrol(agent, site)) == (204, None)


def test_tampered_mac(agent: Agent, site: Site) -> None:
    """A certificate under a MAC of another secret is refused, and a good one is still accepted after it."""
    _, answer = ask(agent, site)
    certificate = site.authority.issue(own_key(answer), runtime_name(), SERVER_AUTH)
    status, refusal = deliver(agent, site, certificate, secret="5b" * 32)
    assert (status, refusal["error"]) == (403, "not_authentic")
    assert deliver(agent, site, certificate) == (204, None)


@pytest.mark.parametrize("wrong", ["key", "name", "more names", "authority", "usage", "expired"])
def test_unfit_certificate(agent: Agent, site: Site, wrong: str) -> None:
    """An authentic message with a certificate that does not fit is refused and changes nothing."""
    _, answer = ask(agent, site)
    key = ec.generate_private_key(ec.SECP256R1()).public_key() if wrong == "key" else own_key(answer)
    names = runtime_name(OTHER_RUNTIME) if wrong == "name" else runtime_name()
    if wrong == "more names":
        names += runtime_name(OTHER_RUNTIME)
    authority = Authority() if wrong == "authority" else site.authority
    usage = CLIENT_AUTH if wrong == "usage" else SERVER_AUTH
    certificate = authority.issue(key, names, usage, days=-1 if wrong == "expired" else 1)
    status, refusal = deliver(agent, site, certificate)
    assert (status, refusal["error"]) == (422, "certificate_refused")
    assert report(agent, site)["enrolled"] is False


@pytest.mark.parametrize(
    "pem", ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_certificate_that_is_none(agent: Agent, site: Site, pem: str) -> None:
    """Text that is not one PEM certificate is answered with 400."""
    body = {"nonce": NONCE, "certificate": pem, "mac": "00" * 32}
    status, answer = agent.call(site.control_plane.context(), "PUT", "/v1/enrol/certificate", body)
    assert (status, answer["error"]) == (400, "bad_request")


def test_boot_without_secret(site: Site) -> None:
    """A guest booted without a secret cannot be enrolled."""
    with running(personalise(site.folder, site.authority, secret=None), site.data) as agent:
        status, answer = ask(agent, site)
    assert (status, answer["error"]) == (403, "no_enrolment_secret")


def test_restart(site: Site) -> None:
    """Keys, certificate and the spent secret outlive the process."""
    with running(site.personalisation, site.data) as agent:
        certificate = enrol(agent, site)
        before = report(agent, site)
    with running(site.personalisation, site.data) as agent:
        assert served(agent, site) == certificate
        assert report(agent, site)["sealing_public_key"] == before["sealing_public_key"]
        assert ask(agent, site)[0] == 409


def test_fresh_secret(site: Site) -> None:
    """A new boot with a fresh secret enrols again with the same key; the first secret stays spent."""
    with running(site.personalisation, site.data) as agent:
        first = enrol(agent, site)
    with running(personalise(site.folder, site.authority, secret="7e" * 32), site.data) as agent:
        second = enrol(agent, site, secret="7e" * 32)
    assert first.public_key() == second.public_key()
    with running(personalise(site.folder, site.authority), site.data) as agent:
        assert ask(agent, site)[0] == 409
        assert served(agent, site) == second


def test_status(agent: Agent, site: Site) -> None:
    """The status names the guest, its keys and its sizes, and its clock agrees with ours."""
    certificate = enrol(agent, site)
    document = report(agent, site)
    assert (document["runtime_id"], document["tenant_id"]) == (RUNTIME_ID, TENANT_ID)
    assert document["certificate"]["serial"] == f"{certificate.serial_number:x}"
    assert document["certificate"]["not_after"].endswith("Z")
    assert document["boot"] is None
    assert document["proxy"] is None
    assert abs(document["clock"] - time.time()) < 5
    assert 0 < document["data_volume"]["free_bytes"] <= document["data_volume"]["size_bytes"]
    assert 0 < document["memory"]["available_bytes"] <= document["memory"]["total_bytes"]
    assert document["jobs"] == {"running": 0, "waiting": 0}
    assert SECRET not in str(document)


def test_the_way_out_is_told(site: Site) -> None:
    """The control plane hears it with the status, a member by a route of their own."""
    with running(personalise(site.folder, site.authority, proxy="127.0.0.1:3128"), site.data) as agent:
        enrol(agent, site)
        assert report(agent, site)["proxy"] == "127.0.0.1:3128"


def test_files_are_private(agent: Agent, site: Site) -> None:
    """Only the agent's user can read what it stores, and nothing unfinished lies about."""
    enrol(agent, site)
    stored = list(site.data.rglob("*"))
    assert {path.name for path in stored} >= {"tls.key", "vault.json", "enrolment.json", "tokens.sqlite3"}
    for path in stored:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path.name
    assert stat.S_IMODE(site.data.stat().st_mode) == 0o700


def test_killed_while_starting(site: Site) -> None:
    """Killed at any moment of its first start, the agent leaves whole keys or none, and starts again."""
    for delay in (0, 0.001, 0.002, 0.004, 0.008, 0.016):
        process = start(site.personalisation, site.data)
        deadline = time.monotonic() + 5
        while not site.data.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.communicate()
        for path in site.data.glob("[!.]*.key"):
            assert path.stat().st_size in {32, 241}
        shutil.rmtree(site.data)
    with running(site.personalisation, site.data) as agent:
        enrol(agent, site)


def test_unfinished_file_is_replaced(site: Site) -> None:
    """Half a key under the temporary name, as a power cut leaves it, does not stop the next start."""
    site.data.mkdir()
    (site.data / ".tls.key.new").write_bytes(b"-----BEGIN PRIV")
    with running(site.personalisation, site.data) as agent:
        assert ask(agent, site)[0] == 200


@pytest.mark.parametrize("name", ["tls.key", "sealing.key", "enrolment.json"])
def test_damaged_file(site: Site, name: str) -> None:
    """A damaged key or record stops the agent with a clear line; it never makes a new one in its place."""
    site.data.mkdir()
    (site.data / name).write_bytes(b"damaged")
    process = start(site.personalisation, site.data)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 1
    assert f"{name} is damaged" in said
    assert "Traceback" not in said
    assert (site.data / name).read_bytes() == b"damaged"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version":2}', b"\xff"])
def test_bad_personalisation(tmp_path: Path, content: bytes) -> None:
    """A personalisation that makes no sense stops the agent with a clear line and no traceback."""
    path = tmp_path / "personalisation.json"
    path.write_bytes(content)
    _, said = (process := start(path, tmp_path / "data")).communicate(timeout=10)
    assert process.returncode == 1
    assert "personalisation" in said
    assert "Traceback" not in said


def test_stops_promptly(site: Site) -> None:
    """SIGTERM ends the agent within two seconds even while a caller holds a connection open."""
    with running(site.personalisation, site.data) as agent:
        plain = socket.create_connection(("127.0.0.1", agent.port), timeout=5)
        with site.control_plane.context().wrap_socket(plain):
            os.kill(agent.process.pid, signal.SIGTERM)
            try:
                assert agent.process.wait(timeout=2) == 0
            except subprocess.TimeoutExpired:
                pytest.fail("still running after 2 seconds")


def test_secret_stays_out_of_the_log(site: Site) -> None:
    """What the agent prints holds neither the secret nor a caller's bytes."""
    with running(site.personalisation, site.data) as agent:
        enrol(agent, site)
        agent.call(site.control_plane.context(), "POST", "/v1/enrol", b"tell-tale")
        agent.process.terminate()
        _, said = agent.process.communicate(timeout=5)
    assert SECRET not in said
    assert "tell-tale" not in said
