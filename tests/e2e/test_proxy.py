"""The only door from outside: nginx, asked as a member, as a stranger and as a liar, before a live agent."""

import re
import socket
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.contrib.auth.models import User
from django.test import Client

from audit.context import command
from audit.models import Entry
from portal.routing import COOKIE
from protocol.persons import Purpose
from protocol.sessions import Request, prove
from provisioning.fleet_keys import issue_server_certificate
from provisioning.models import GuestImage, Host, Operation, Runtime
from provisioning.runtime_client import RuntimeClient
from provisioning.services import runtime_create
from tenants.models import Membership, Plan, Tenant
from tests.e2e.conftest import Portal
from tests.guest.fleet import SERVER_AUTH, Authority, runtime_name
from tests.protocol.people import OWNER, Passkey, entry, keyring
from tests.provisioning.workers import drain

pytestmark = [pytest.mark.django_db(transaction=True)]
TESTER = command("test")
ACME = "acme.portal.localhost"
LAPTOP = Passkey()


@pytest.fixture
def runtime(portal: Portal, simulated_host: Host, tenant: Tenant, owner: User, image: GuestImage) -> Runtime:
    """A machine whose keyring names an owner's device key and a passkey."""
    done = drain(runtime_create(actor=TESTER, tenant=tenant))
    assert done.state == Operation.State.SUCCEEDED, done.error_message
    runtime = Runtime.objects.get()
    document = keyring(str(tenant.pk), entry(OWNER.key), entry(LAPTOP.key, name="Laptop"))
    RuntimeClient.dial(runtime).deliver_keyring(document, OWNER.sign(Purpose.KEYRING, document))
    return runtime


@pytest.fixture
def way(portal: Portal, runtime: Runtime, owner: User) -> dict[str, str]:
    """The cookie of a member who has opened the machine."""
    browser = Client()
    browser.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    url = browser.post("/t/acme/open/").headers["Location"]
    assert url.startswith(portal.origin("acme"))
    entered = portal.ask(ACME, "GET", url.partition(f":{portal.port}")[2])
    assert (entered.status_code, entered.headers["location"]) == (302, "/")
    return {COOKIE: entered.cookies[COOKIE]}


def cookies(way: dict[str, str], **more: str) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in {**way, **more}.items())}


def device_session(portal: Portal, way: dict[str, str]) -> str:
    challenge = portal.ask(ACME, "POST", "/v1/sessions/challenge", headers=cookies(way)).json()
    signature = {**OWNER.sign(Purpose.SESSION, challenge), "nonce": challenge["nonce"]}
    begun = portal.ask(ACME, "POST", "/v1/sessions", headers=cookies(way), json={"signature": signature})
    return str(begun.json()["session"])


def proven(session: str, method: str, path: str, counter: int) -> dict[str, str]:
    return {
        "Portal-Session": session,
        "Portal-Proof": prove(OWNER.seed, session, Request.of(method, path), counter),
    }


def passkey_session(portal: Portal, way: dict[str, str]) -> str:
    """The guest's cookie, as a browser on the runtime's own origin gets it."""
    challenge = portal.ask(ACME, "POST", "/v1/sessions/challenge", headers=cookies(way)).json()
    signed = LAPTOP.sign(Purpose.SESSION, challenge, origin=portal.origin("acme"))
    signature = {**signed, "nonce": challenge["nonce"]}
    begun = portal.ask(ACME, "POST", "/v1/sessions", headers=cookies(way), json={"signature": signature})
    assert begun.status_code == 200, begun.text
    return begun.cookies["__Host-guest"]


SAME = {"Sec-Fetch-Site": "same-origin"}


def test_a_device_key_comes_through(portal: Portal, way: dict[str, str]) -> None:
    """Ticket, cookie, guest's challenge, a proof per request; and each request is on record."""
    session = device_session(portal, way)
    before = Entry.objects.filter(action="request.routed").count()
    headers = cookies(way) | proven(session, "GET", "/v1/workspace", 1)
    listed = portal.ask(ACME, "GET", "/v1/workspace", headers=headers)
    assert (listed.status_code, listed.json()) == (200, {"entries": [], "complete": True})
    assert Entry.objects.filter(action="request.routed").count() == before + 1


def test_a_used_up_minute_is_429_with_a_time(portal: Portal, way: dict[str, str]) -> None:
    """For programs and for browsers alike: neither is sent in a circle, and nothing reaches the guest."""
    Plan.objects.update(routed_per_minute=30)
    for accept in ("application/json", "text/html"):
        headers = cookies(way) | {"Accept": accept}
        for _ in range(40):
            answer = portal.ask(ACME, "GET", "/", headers=headers)
            if answer.status_code == 429:
                break
        assert (answer.status_code, answer.json()["error"]) == (429, "too_many_requests"), accept
        assert 1 <= int(answer.headers["Retry-After"]) <= 62
    assert portal.ask("portal.localhost", "GET", "/healthz").status_code == 200


def test_a_large_file_comes_through(portal: Portal, way: dict[str, str]) -> None:
    """Up and down, past what anything else may send; a range of it; and another body than was stated."""
    session = device_session(portal, way)
    path, body = "/v1/workspace/files?path=a.bin", bytes(range(256)) * 20_000
    stated = Request.of("PUT", path, body)
    shown = {"Portal-Session": session, "Portal-Proof": prove(OWNER.seed, session, stated, 1)}
    headers = cookies(way) | shown | {"X-Content-SHA256": stated.body_sha256}
    made = portal.ask(ACME, "PUT", path, headers=headers, content=body)
    assert made.status_code == 201, made.text
    headers = cookies(way) | proven(session, "GET", path, 2)
    got = portal.ask(ACME, "GET", path, headers=headers)
    assert got.content == body
    assert got.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in got.headers["content-security-policy"]
    headers = cookies(way) | proven(session, "GET", path, 3) | {"Range": "bytes=5119998-"}
    part = portal.ask(ACME, "GET", path, headers=headers)
    assert (part.status_code, part.content) == (206, body[-2:])
    shown = {"Portal-Session": session, "Portal-Proof": prove(OWNER.seed, session, stated, 4)}
    headers = cookies(way) | shown | {"X-Content-SHA256": stated.body_sha256}
    assert portal.ask(ACME, "PUT", path, headers=headers, content=body[:-1] + b"!").status_code == 422


def test_a_passkey_comes_through(portal: Portal, way: dict[str, str]) -> None:
    """The page, then a session that is a cookie of the runtime's origin alone."""
    page = portal.ask(ACME, "GET", "/", headers=cookies(way))
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    session = passkey_session(portal, way)
    headers = cookies(way, **{"__Host-guest": session}) | SAME
    assert portal.ask(ACME, "GET", "/v1/workspace", headers=headers).status_code == 200


def test_whoever_has_not_opened_the_machine(portal: Portal, runtime: Runtime) -> None:
    """Programs are told, people are led to the button; the guest hears of neither."""
    for headers in ({}, {"Cookie": f"{COOKIE}=guess"}):
        refused = portal.ask(ACME, "GET", "/v1/workspace", headers=headers)
        assert (refused.status_code, refused.json()["error"]) == (401, "route_required")
        led = portal.ask(ACME, "GET", "/", headers={**headers, "Accept": "text/html"})
        assert (led.status_code, led.headers["location"]) == (303, f"{portal.base}/t/acme/open/")


def test_what_the_caller_says_of_himself_is_not_passed_on(portal: Portal, way: dict[str, str]) -> None:
    """A token, an address or a path of the caller's own choice changes nothing."""
    lies = {
        "Authorization": "Bearer made.up.token",
        "Portal-Token": "made.up.token",
        "Portal-Guest": "127.0.0.1:1",
        "Portal-Path": "/v1/status",
        "Portal-Method": "PUT",
        "Portal-Address": "192.0.2.1",
        "X-Original-URI": "/v1/status",
    }
    assert portal.ask(ACME, "GET", "/v1/door", headers=cookies(way) | lies).json() == {"signed_in": False}


def test_no_control_route_from_outside(portal: Portal, way: dict[str, str]) -> None:
    """Whoever comes through the proxy comes with its certificate, which opens no control route."""
    for method, path in (("GET", "/v1/status"), ("PUT", "/v1/suspended"), ("PUT", "/v1/trust")):
        refused = portal.ask(ACME, method, path, headers=cookies(way))
        assert (refused.status_code, refused.json()["error"]) == (403, "not_for_this_caller")


def test_the_question_cannot_be_asked_from_outside(portal: Portal, way: dict[str, str]) -> None:
    """Who could ask nginx's question would get a token for his hands."""
    for path in (
        "/.portal/authorize",
        "/.portal/authorize?x",
        "/x/../.portal/authorize",
        "//.portal/authorize",
    ):
        answer = portal.ask(ACME, "GET", path, headers=cookies(way))
        assert "portal-token" not in answer.headers
        assert answer.status_code in {401, 403, 404, 502}
    assert "portal-token" not in portal.ask(ACME, "GET", "/v1/door", headers=cookies(way)).headers


def test_a_sibling_page_cannot_use_the_cookie(portal: Portal, way: dict[str, str]) -> None:
    """Another tenant's page is the same site, so the browser sends the cookie; the guest looks who asks."""
    session = passkey_session(portal, way)
    mine = cookies(way, **{"__Host-guest": session})
    for site in ("same-site", "cross-site", ""):
        refused = portal.ask(ACME, "GET", "/v1/workspace", headers=mine | {"Sec-Fetch-Site": site})
        assert (refused.status_code, refused.json()["error"]) == (403, "cross_origin")
    foreign = mine | SAME | {"Origin": portal.origin("zebra")}
    assert portal.ask(ACME, "POST", "/v1/sessions/end", headers=foreign).status_code == 403
    own = mine | SAME | {"Origin": portal.origin("acme")}
    assert portal.ask(ACME, "POST", "/v1/sessions/end", headers=own).status_code == 200


def test_nobody_at_the_address(portal: Portal, way: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
    Runtime.objects.update(agent_address=address)
    silent = portal.ask(ACME, "GET", "/v1/door", headers=cookies(way))
    assert (silent.status_code, silent.json()["error"]) == (502, "machine_unreachable")


@contextmanager
def imposter(folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Iterator[str]:
    """Somebody who answers everybody at an address of his own."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"tell me all")

    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "imposter.pem").write_bytes(certificate.public_bytes(Encoding.PEM) + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "imposter.pem")
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("who", ["a stranger", "another tenant's guest", "the runtime itself"])
def test_another_guest_at_the_address(
    portal: Portal, way: dict[str, str], runtime: Runtime, tmp_path: Path, who: str
) -> None:
    """nginx speaks to the runtime that the portal named, or to nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    if who == "a stranger":
        certificate = Authority().issue(key.public_key(), runtime_name(str(runtime.pk)), SERVER_AUTH)
    else:
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, SHA256())
        named = runtime if who == "the runtime itself" else Runtime(pk=uuid.uuid4())
        certificate = issue_server_certificate(named, request)
    with imposter(tmp_path, certificate, key) as address:
        Runtime.objects.update(agent_address=address)
        answer = portal.ask(ACME, "GET", "/v1/door", headers=cookies(way))
    if who == "the runtime itself":
        assert answer.text == "tell me all", "so that the refusals mean something"
    else:
        assert (answer.status_code, answer.json()["error"]) == (502, "machine_unreachable")


def test_one_members_way_is_not_anothers_tenants(
    portal: Portal, way: dict[str, str], make_tenant: Any
) -> None:
    """The route's cookie shown at another runtime's origin."""
    make_tenant("zebra")
    refused = portal.ask("zebra.portal.localhost", "GET", "/v1/door", headers=cookies(way))
    assert refused.status_code == 401


def test_a_member_who_leaves_is_stopped_at_once(portal: Portal, way: dict[str, str], owner: User) -> None:
    assert portal.ask(ACME, "GET", "/v1/door", headers=cookies(way)).status_code == 200
    Membership.objects.filter(user=owner).delete()
    assert portal.ask(ACME, "GET", "/v1/door", headers=cookies(way)).status_code == 403


@pytest.mark.parametrize("host", ["portal.localhost.evil", "evil", "a.b.portal.localhost", "127.0.0.1"])
def test_a_host_that_is_nobodys(portal: Portal, host: str) -> None:
    assert portal.ask(host, "GET", "/").status_code == 421


def test_the_portals_own_pages(portal: Portal) -> None:
    """They are where they were, with the caller's real address behind them."""
    assert portal.ask("portal.localhost", "GET", "/healthz").json() == {"status": "ok"}
    assert portal.ask("portal.localhost", "GET", "/.portal/authorize").status_code == 404


def raw(portal: Portal, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", portal.port), timeout=20) as line:
        try:
            line.sendall(sent)
            return line.recv(200)
        except (BrokenPipeError, ConnectionResetError):
            return b""


def test_too_much_of_everything(portal: Portal, way: dict[str, str]) -> None:
    """A header of ten megabytes, a body of two, a path of ten thousand letters."""
    head = f"GET /v1/door HTTP/1.1\r\nHost: {ACME}:{portal.port}\r\n".encode()
    assert re.match(rb"HTTP/1.1 4\d\d|\Z", raw(portal, head + b"X: " + b"x" * 10_000_000 + b"\r\n\r\n"))
    body = portal.ask(ACME, "POST", "/v1/sessions", headers=cookies(way), content=b"x" * 2_000_000)
    assert body.status_code == 413
    assert portal.ask(ACME, "GET", "/" + "x" * 3000, headers=cookies(way)).status_code == 403
    assert portal.ask(ACME, "GET", "/v1/door", headers=cookies(way)).status_code == 200


def test_a_guest_sets_no_cookie_but_its_own(portal: Portal, way: dict[str, str]) -> None:
    """The template passes two names on. What a guest gone bad would set for the portal's domain stays behind."""
    from deploy.portalctl.proxy import TEMPLATE

    text = TEMPLATE.read_text()
    pattern = re.search(r'"~(\^__Host-.*)" \$upstream_http_set_cookie', text)
    assert pattern is not None
    fits = re.compile(pattern[1])
    for name in ("__Host-guest", "__Host-bg"):
        assert fits.search(f"{name}=abc; HttpOnly; Path=/; SameSite=Strict; Secure")
        assert not fits.search(f"{name}=abc; Path=/, csrf=1; Domain=portal.localhost")
    for name in ("csrf", "__Host-route", "__Host-sessionid", "__Host-guests", "x__Host-bg"):
        assert not fits.search(f"{name}=1; Path=/; Secure")
    assert "proxy_hide_header Set-Cookie;" in text


def test_nothing_is_kept_on_disk(portal: Portal) -> None:
    """Bodies stream through; the log holds no address that a member asked for."""
    from deploy.portalctl.proxy import TEMPLATE

    text = TEMPLATE.read_text()
    kept = ("proxy_request_buffering off;", "proxy_buffering off;", "access_log off;")
    for setting in (*kept, "proxy_pass_request_headers off;"):
        assert setting in text
