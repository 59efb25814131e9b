"""A call to a guest has an end, however the guest drips: time-outs begin anew with each byte."""

import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from provisioning.deadlines import Clock
from provisioning.models import Runtime
from provisioning.runtime_client import AgentUnreachable, RuntimeClient, _answer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: 2\r\n\r\n{}"
BETWEEN = 0.1
"""Seconds between two bytes: far less than any time-out."""
DEADLINE = 0.6
DRIPPED = pytest.mark.usefixtures("db", "enough")


def papers(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "guest")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "guest.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form)
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


class Dripping:
    """Answers the first ``whole`` requests, then a byte now and then, after ``begun``."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context, self.begun, self.whole = context, b"", 0
        self.connections = 0
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while not self.over.is_set():
            raw, _ = self.listener.accept()
            with raw, suppress(OSError), self.context.wrap_socket(raw, server_side=True) as connection:
                self.connections += 1
                self.answer(connection)

    def answer(self, connection: ssl.SSLSocket) -> None:
        while self.whole and connection.recv(65536):
            self.whole -= 1
            connection.sendall(WHOLE)
        connection.recv(65536)
        connection.sendall(self.begun)
        while not self.over.wait(BETWEEN):
            connection.sendall(b" " if b"\r\n\r\n" in self.begun else b"X")

    def close(self) -> None:
        self.over.set()
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            pass
        self.thread.join(10)
        self.listener.close()


@pytest.fixture
def dripping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dripping]:
    def trusting(client: RuntimeClient, *, verified: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    monkeypatch.setattr(RuntimeClient, "_context", trusting)
    monkeypatch.setattr(RuntimeClient, "_record", lambda *args: None)
    for name in ("DEADLINE", "URGENT_DEADLINE"):
        monkeypatch.setattr(f"provisioning.runtime_client.{name}", DEADLINE)
    found = Dripping(papers(tmp_path))
    yield found
    found.close()


@pytest.fixture
def row(dripping: Dripping) -> Runtime:
    """A runtime whose agent is said to be there; no row is needed to call it."""
    return Runtime(tenant_id=uuid.uuid4(), agent_address=f"127.0.0.1:{dripping.port}")


def gives_up(client: RuntimeClient) -> None:
    """Within its deadline and a moment. Not endlessly where it fails: the server stops after a while."""
    began = time.monotonic()
    with pytest.raises(AgentUnreachable, match="too long"):
        client.receipts(0)
    assert time.monotonic() - began < DEADLINE + 2


@pytest.fixture
def enough(dripping: Dripping) -> Iterator[None]:
    """A call that knows no end has one in the test."""
    timer = threading.Timer(DEADLINE + 6, dripping.over.set)
    timer.start()
    yield
    timer.cancel()


@DRIPPED
@pytest.mark.parametrize("begun", [b"", HEAD + b"X-", HEAD + b"\r\n", HEAD + b"Content-Length: 9999\r\n\r\n"])
@pytest.mark.parametrize("urgent", [True, False])
def test_a_guest_that_drips(dripping: Dripping, row: Runtime, begun: bytes, urgent: bool) -> None:
    """In the status line, a header, a body without length, and one with."""
    dripping.begun = begun
    given = RuntimeClient.urgent(row) if urgent else RuntimeClient(row, "127.0.0.1", dripping.port)
    gives_up(given)
    assert dripping.connections == 1, "what was too slow once is not tried again at once"


@DRIPPED
def test_a_guest_that_drips_on_a_kept_connection(dripping: Dripping, row: Runtime) -> None:
    """The earlier call opened it; no word of its socket comes again."""
    dripping.begun, dripping.whole = HEAD + b"\r\n", 2
    client = RuntimeClient.urgent(row)
    assert client.receipts(0) == client.receipts(0) == {}
    gives_up(client)
    assert dripping.connections == 1


@DRIPPED
def test_an_urgent_client_has_an_end_of_its_own(
    dripping: Dripping, row: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest that answers each call just in time, and has ever more to tell, keeps no thread for good."""
    monkeypatch.setattr("provisioning.runtime_client.URGENT_PATIENCE", 0.0)
    with pytest.raises(AgentUnreachable, match="too long"):
        RuntimeClient.urgent(row).receipts(0)
    assert dripping.connections == 0


def test_an_answer_as_deep_as_it_is_long() -> None:
    body = b'{"receipts":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with pytest.raises(AgentUnreachable, match="not JSON"):
        _answer(httpx.Response(200, content=body), 2 * len(body), Clock())
