"""A small fleet for the tests: a CA, certificates of every kind, and an agent as a real process."""

import datetime as dt
import http.client
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from protocol.enrolment import CONTROL_PLANE_URI, Limits, Personalisation, Trust, runtime_dns_name
from protocol.tokens import RuntimeToken, new_runtime_token, public_key, sign

ROOT = Path(__file__).resolve().parents[2]
RUNTIME_ID = "6a1c3f1e-0d1b-4a55-9c1f-2f6f6f0f9a01"
TENANT_ID = "0b9a4d8e-4f53-4b0e-8f0c-8d1d5a0b7c02"
SECRET = "5a" * 32
TOKEN_SEED = bytes(range(32))
ROUTE_SEED = bytes(range(32, 64))
CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH


@dataclass
class Authority:
    """A certificate authority."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test fleet")])
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = _builder(name, name, self.key.public_key(), days=30)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage, critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        self.certificate = builder.add_extension(identifier, critical=False).sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(
        self,
        key: ec.EllipticCurvePublicKey,
        names: list[x509.GeneralName],
        usage: ObjectIdentifier | None,
        *,
        ca: bool = False,
        days: int = 1,
    ) -> x509.Certificate:
        """A leaf; ``days`` below zero gives one that has expired."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
        builder = _builder(subject, self.certificate.subject, key, days=days)
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return builder.add_extension(identifier, critical=False).sign(self.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=days))
    )


@dataclass
class Caller:
    """One identity that knocks at agents, with its certificate and key in files."""

    folder: Path
    name: str
    certificate: x509.Certificate

    def context(self) -> ssl.SSLContext:
        """A client context that takes any server certificate, as before enrolment."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(self.folder / f"{self.name}.crt", self.folder / f"{self.name}.key")
        return context


def caller(
    folder: Path,
    name: str,
    authority: Authority,
    *,
    uri: str = CONTROL_PLANE_URI,
    usage: ObjectIdentifier | None = CLIENT_AUTH,
    ca: bool = False,
    days: int = 1,
) -> Caller:
    """Issue a client identity and store it in ``folder``."""
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    leaf = authority.issue(key.public_key(), names, usage, ca=ca, days=days)
    (folder / f"{name}.crt").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / f"{name}.key").write_bytes(pem)
    return Caller(folder, name, leaf)


def runtime_name(runtime_id: str = RUNTIME_ID) -> list[x509.GeneralName]:
    return [x509.DNSName(runtime_dns_name(runtime_id))]


LIMITS = Limits(memory_mib=512, processes=512, jobs_running=2, jobs_waiting=20, gateway_idle_seconds=1800)


def personalise(
    folder: Path,
    authority: Authority,
    secret: str | None = SECRET,
    limits: Limits = LIMITS,
    proxy: str | None = None,
    log_vkey: str = "",
) -> Path:
    """Write a personalisation file for an agent on loopback."""
    path = folder / "personalisation.json"
    document = Personalisation(
        runtime_id=RUNTIME_ID,
        tenant_id=TENANT_ID,
        guest_address="127.0.0.1",
        host_address="127.0.0.1",
        prefix=8,
        agent_port=0,
        trust=trust(authority),
        limits=limits,
        enrolment_secret=secret,
        proxy=proxy,
        rp_id="portal.localhost",
        portal_origin="http://portal.localhost:8000",
        origin="http://acme.portal.localhost:8000",
        log_vkey=log_vkey,
    )
    path.write_bytes(document.to_bytes())
    return path


def trust(*authorities: Authority, **changed: Any) -> Trust:
    """What a guest of these authorities believes, but for what is ``changed``."""
    usual = Trust(
        ca_certificates=[authority.pem for authority in authorities],
        token_keys=[public_key(TOKEN_SEED).hex()],
        route_keys=[public_key(ROUTE_SEED).hex()],
        revoked_serials=[],
        issued_at=int(time.time()),
    )
    return replace(usual, **changed)


@dataclass
class Agent:
    """A running agent."""

    process: subprocess.Popen[str]
    port: int

    def call(
        self,
        context: ssl.SSLContext,
        method: str,
        path: str,
        body: Any = None,
        timeout: float = 5.0,
        *,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """One request on a connection of its own: the status and the decoded answer.

        An answer that is not JSON comes as text. A ``body`` of bytes is sent as it is, anything else as JSON. Carries a perfect token unless
        ``headers`` holds an Authorization of its own.
        """
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=timeout)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            perfect = {"Authorization": f"Bearer {sign(token(method, path, data or b''), TOKEN_SEED)}"}
            connection.request(method, path, data, perfect | (headers or {}))
            response = connection.getresponse()
            text = response.read()
            if not response.getheader("Content-Type", "").startswith("application/json"):
                return response.status, text.decode() or None
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()


def token(method: str, path: str, body: bytes | None = b"", **changed: Any) -> RuntimeToken:
    """A perfect token for this request, but for what is ``changed``."""
    perfect = new_runtime_token(
        issuer=CONTROL_PLANE_URI,
        runtime_id=RUNTIME_ID,
        tenant_id=TENANT_ID,
        actor="user:7",
        role="owner",
        method=method,
        path=path,
        body=body,
        now=int(time.time()),
    )
    return replace(perfect, **changed)


def start(personalisation: Path, data: Path, *more: str) -> "subprocess.Popen[str]":
    """Start an agent process on a free port."""
    command = [sys.executable, "-m", "guest.agent", "--personalisation", str(personalisation)]
    command += ["--data", str(data), "--listen", "127.0.0.1:0", *more]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )


@contextmanager
def running(personalisation: Path, data: Path, *more: str) -> Iterator[Agent]:
    """An agent that listens, for the time of the block."""
    process = start(personalisation, data, *more)
    try:
        yield Agent(process, _port(process))
    finally:
        process.terminate()
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise


def _port(process: "subprocess.Popen[str]") -> int:
    assert process.stderr is not None
    said = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (line := process.stderr.readline()):
        said.append(line)
        if "listening on" in line:
            return int(line.rsplit(":", 1)[1])
    raise AssertionError(f"the agent did not start: {''.join(said)}")
