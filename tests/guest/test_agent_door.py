"""Who gets in: the agent's TLS, and its limits on those whom it lets in."""

import socket
import ssl
import time

import pytest

from tests.guest.conftest import Site
from tests.guest.fleet import SERVER_AUTH, Agent, Authority, caller, running

REFUSED = (ssl.SSLError, ConnectionError)


def refused(agent: Agent, context: ssl.SSLContext) -> None:
    """The connection ends without an answer."""
    with pytest.raises(REFUSED):
        agent.call(context, "GET", "/v1/health")


def raw(agent: Agent, site: Site, sent: bytes, timeout: float = 5.0) -> bytes:
    """Everything the agent answers to ``sent`` until it closes the connection."""
    plain = socket.create_connection(("127.0.0.1", agent.port), timeout=timeout)
    with site.control_plane.context().wrap_socket(plain) as stream:
        stream.sendall(sent)
        received = b""
        try:
            while block := stream.recv(4096):
                received += block
        except (ConnectionError, ssl.SSLEOFError):
            return received
        return received


def test_control_plane_is_let_in(agent: Agent, site: Site) -> None:
    """The control plane's certificate gets an answer, and a fresh guest says that it is not enrolled."""
    answer = agent.call(site.control_plane.context(), "GET", "/v1/health")
    assert answer == (200, {"status": "live", "enrolled": False})


def test_no_certificate(agent: Agent) -> None:
    """Without a client certificate not even the health route answers."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    refused(agent, context)


def test_old_tls(agent: Agent, site: Site) -> None:
    """TLS 1.2 is refused."""
    context = site.control_plane.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    refused(agent, context)


def test_another_fleet(agent: Agent, site: Site) -> None:
    """The right name from a CA that the personalisation does not hold is refused."""
    refused(agent, caller(site.folder, "stranger", Authority()).context())


def test_expired_client(agent: Agent, site: Site) -> None:
    """An expired client certificate is refused."""
    refused(agent, caller(site.folder, "old", site.authority, days=-1).context())


def test_server_certificate_as_client(agent: Agent, site: Site) -> None:
    """A certificate for servers, such as every guest holds, opens no other guest."""
    refused(agent, caller(site.folder, "server", site.authority, usage=SERVER_AUTH).context())


def test_no_stated_usage(agent: Agent, site: Site) -> None:
    """A certificate that does not say that it is for clients is refused."""
    refused(agent, caller(site.folder, "any", site.authority, usage=None).context())


def test_another_name(agent: Agent, site: Site) -> None:
    """A client certificate of the same CA for another part of the system is refused."""
    refused(agent, caller(site.folder, "other", site.authority, uri="urn:something:else").context())


def test_authority_as_client(agent: Agent, site: Site) -> None:
    """A certificate that may issue others is refused as a client."""
    refused(agent, caller(site.folder, "authority", site.authority, ca=True).context())


def test_no_session_to_resume(agent: Agent, site: Site) -> None:
    """The agent hands out no session, so that every connection shows its certificate again."""
    with socket.create_connection(("127.0.0.1", agent.port), timeout=5) as plain:
        stream = site.control_plane.context().wrap_socket(plain)
        stream.sendall(b"GET /v1/health HTTP/1.1\r\nHost: guest\r\n\r\n")
        assert stream.recv(4096).startswith(b"HTTP/1.1 200")
        session = stream.session
        assert session is None or not session.has_ticket


def test_connection_limit(agent: Agent, site: Site) -> None:
    """The 65th connection at once is turned away; when one closes, there is room again."""
    context = site.control_plane.context()
    held = []
    for _ in range(64):
        plain = socket.create_connection(("127.0.0.1", agent.port), timeout=5)
        stream = context.wrap_socket(plain)
        stream.sendall(b"GET /v1/health HTTP/1.1\r\nHost: guest\r\n\r\n")
        assert stream.recv(4096).startswith(b"HTTP/1.1 200")
        held.append(stream)
    refused(agent, context)
    held.pop().close()
    time.sleep(0.2)
    assert agent.call(context, "GET", "/v1/health")[0] == 200
    for stream in held:
        stream.close()


def test_silence(site: Site) -> None:
    """A caller that does not finish its request head in time is cut off without an answer."""
    with running(site.personalisation, site.data, "--patience", "0.5") as agent:
        began = time.monotonic()
        assert raw(agent, site, b"GET /v1/health HTTP/1.1\r\nHost: gue") == b""
        assert 0.4 < time.monotonic() - began < 3


def test_idle_connection(site: Site) -> None:
    """A connection kept open after an answer is closed when nothing more comes."""
    with running(site.personalisation, site.data, "--patience", "0.5") as agent:
        answer = raw(agent, site, b"GET /v1/health HTTP/1.1\r\nHost: guest\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


def test_slow_body(site: Site) -> None:
    """A body that does not arrive in time is answered with 408."""
    head = b"POST /v1/enrol HTTP/1.1\r\nHost: guest\r\nContent-Length: 90\r\n\r\n{"
    with running(site.personalisation, site.data, "--patience", "0.5") as agent:
        assert raw(agent, site, head).startswith(b"HTTP/1.1 408")


def test_long_head(agent: Agent, site: Site) -> None:
    """A header line beyond 8 KiB is answered with 400, and without inner detail."""
    answer = raw(agent, site, b"GET /v1/health HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n")
    assert answer.split(b" ")[1] == b"400"
    assert b"Traceback" not in answer


def test_large_body(agent: Agent, site: Site) -> None:
    """A body beyond 64 KiB is answered with 413."""
    status, answer = agent.call(site.control_plane.context(), "POST", "/v1/enrol", b"x" * (64 * 1024 + 1))
    assert (status, answer["error"]) == (413, "too_large")


NOT_WHAT_IS_EXPECTED = [
    b"",
    b"{",
    b"[]",
    b'"nonce"',
    b"{}",
    b'{"nonce": 1}',
    b'{"nonce": "ab"}',
    b'{"nonce": "' + b"Z" * 64 + b'"}',
    b'{"nonce": "' + b"a" * 64 + b'", "more": 1}',
    b"[" * 60000,
    b"\xff\xfe",
]


def test_malformed_request(agent: Agent, site: Site) -> None:
    """A body that is not the expected JSON is answered with 400 and a message that says what is expected."""
    for body in NOT_WHAT_IS_EXPECTED:
        status, answer = agent.call(site.control_plane.context(), "POST", "/v1/enrol", body)
        assert (status, answer["error"]) == (400, "bad_request"), body
        assert answer["message"]


@pytest.mark.parametrize(
    ("method", "path", "expected"), [("GET", "/v1/nothing", 404), ("PUT", "/v1/enrol", 405)]
)
def test_wrong_address(agent: Agent, site: Site, method: str, path: str, expected: int) -> None:
    """An unknown path or verb is refused in the same shape as everything else."""
    status, answer = agent.call(site.control_plane.context(), method, path)
    assert status == expected
    assert set(answer) == {"error", "message"}
