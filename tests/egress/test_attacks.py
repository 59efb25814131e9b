"""A guest's attacks on the proxy, against the real Squid. For each: what the guest gets, that nothing reached the
outside, and what the record says.
"""

import contextlib
import socket
import ssl
import time

import pytest

from tests.egress.attacking import ODD, dead, new_record, refused
from tests.egress.hello import hello, in_records, renamed, two_extensions, two_names
from tests.egress.outside import AAAA, SERVFAIL, Answer
from tests.egress.world import (
    ALICE,
    API,
    EVIL,
    METADATA,
    PRIVATE,
    RAW,
    SITE,
    KeeperProcess,
    World,
    ask,
    connect,
    fetch,
    wait_for,
)

_odd = iter(ODD)


@pytest.fixture
def keeper(attacked: KeeperProcess) -> KeeperProcess:
    return attacked


# -- at CONNECT ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("198.51.100.10:443", "name"),
        (f"{PRIVATE}:443", "name"),
        (f"{METADATA}:80", "name"),
        ("127.0.0.1:3128", "name"),
        ("localhost:443", "name"),
        ("[2001:db8:77::1]:443", "name"),
        ("[::ffff:198.51.100.10]:443", "name"),
        ("3405803786:443", "name"),
        ("0xcb00710a:443", "name"),
        ("198.51.100.266:443", "name"),
        (f"{EVIL}:443", "name"),  # Bob's, and so known to the proxy
        ("unknown.example:443", "name"),
        (f"x.{API}:443", "name"),
        (f"{API}.evil.example:443", "name"),
        ("com:443", "name"),
        (f"{API}:80", "name"),
        (f"{API}:22", "name"),
        (f"{API}:8443", "name"),
        (f"{API}:3128", "name"),
        (f"evil.example@{API}:443", "name"),
        ("%61pi.github.com:443", "name"),
        ("xn--pi-8ka.github.com:443", "name"),
    ],
)
def test_a_place_that_is_not_allowed_is_refused_in_the_clear(
    world: World, keeper: KeeperProcess, target: str, reason: str
) -> None:
    before = len(keeper.records())
    tunnel = connect(world, ALICE, target)
    assert tunnel.status == 403
    assert dead(tunnel, hello(API)) is not None
    refused(keeper, before, reason)
    assert world.outside.arrivals == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(a=(PRIVATE,)), "range"),
        (Answer(a=(METADATA,)), "range"),
        (Answer(a=("127.0.0.1",)), "range"),
        (Answer(a=("0.0.0.0",)), "range"),  # noqa: S104
        (Answer(a=("10.99.0.5",)), "range"),
        (Answer(a=("100.64.0.1",)), "range"),
        (Answer(a=("172.31.255.255",)), "range"),
        (Answer(a=("192.168.0.1",)), "range"),
        (Answer(a=("198.19.0.1",)), "range"),
        (Answer(a=("224.0.0.1",)), "range"),
        (Answer(a=("255.255.255.255",)), "range"),
        (Answer(a=("198.51.100.10", PRIVATE)), "range"),
        (Answer(a=(*(f"198.51.100.{n}" for n in range(10, 30)), PRIVATE)), "range"),
        (Answer(aaaa=("2001:db8:77::1",)), "dns"),
        (Answer(aaaa=("::1",)), "dns"),
        (Answer(aaaa=(f"::ffff:{PRIVATE}",)), "dns"),
        (Answer(), "dns"),
        (Answer(code=SERVFAIL), "dns"),
    ],
)  # fmt: skip
def test_an_allowed_name_that_leads_nowhere_good_is_refused(
    world: World, keeper: KeeperProcess, answer: Answer, reason: str
) -> None:
    name = next(_odd)
    world.outside.answers[name] = answer
    before = len(keeper.records())
    tunnel = connect(world, ALICE, f"{name}:443")
    assert tunnel.status == 403
    refused(keeper, before, reason, name)
    assert world.outside.arrivals == []


def test_a_name_of_both_kinds_is_reached_by_ipv4_and_never_asked_for_the_other(
    world: World, keeper: KeeperProcess
) -> None:
    assert fetch(world, ALICE, RAW) == b"hello\n"
    assert [each.address for each in world.outside.arrivals] == ["198.51.100.12"]
    assert AAAA not in {kind for _, kind in world.outside.asked}
    assert keeper.state()["capabilities"] == ["ipv4-only"]


def test_a_name_that_turns_private_between_connect_and_hello_is_refused(
    world: World, keeper: KeeperProcess
) -> None:
    """DNS rebinding: the first answer is good, each later one private, and none may be kept."""
    name = next(_odd)
    given: list[int] = []

    def rebinding(kind: int) -> Answer:
        given.append(kind)
        return Answer(a=("198.51.100.10",) if len(given) == 1 else (PRIVATE,), ttl=0)

    world.outside.answers[name] = rebinding
    before = len(keeper.records())
    tunnel = connect(world, ALICE, f"{name}:443", seconds=20)
    while len(given) == 1:  # Squid keeps an answer for some seconds, whatever its time to live
        assert tunnel.status == 200
        last, tunnel = tunnel, connect(world, ALICE, f"{name}:443", seconds=20)
        time.sleep(0.1)
    assert tunnel.status == 403
    dead(last, hello(name))
    found = wait_for(
        "both records", lambda: [r for r in keeper.records()[before:] if r.reason == "range"][1:]
    )
    assert {each.verdict for each in found} == {"refused"}
    assert PRIVATE not in {each.address for each in world.outside.arrivals}


# -- at the hello ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (hello(EVIL), "sni"),
        (hello(SITE), "sni"),  # allowed too, but not what was asked for
        (hello(f"x.{API}"), "sni"),
        (hello(None), "no_sni"),
        (renamed(hello(API), API, b"api.github.co\x00"), "sni"),
        (renamed(hello(API), API, b"-" * len(API)), "sni"),
        (two_names(hello(EVIL), EVIL, API), "sni"),
        (b"GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n", "not_tls"),
        (b"CONNECT evil.example:443 HTTP/1.1\r\n\r\n", "not_tls"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not_tls"),
        (b"\x00" * 600, "not_tls"),
        (b"\x16\x03\x01\x00\x05hello" * 100, "not_tls"),
        (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\x01" * 40, None),  # SSL 2
    ],
    # Each hello is random, and so would its name be.
    ids=[str(number) for number in range(13)],
)
def test_a_hello_that_is_not_for_the_name_in_connect_ends_the_connection(
    world: World, keeper: KeeperProcess, payload: bytes, reason: str | None
) -> None:
    before = len(keeper.records())
    tunnel = connect(world, ALICE, f"{API}:443")
    assert tunnel.status == 200
    answer = dead(tunnel, payload)
    assert b"hello" not in answer
    record = new_record(keeper, before)
    assert record.verdict == "refused"
    assert reason is None or record.reason == reason
    assert world.outside.arrivals == []


@pytest.mark.parametrize(("record", "size"), [(2000, 1), (2000, 7), (100, 100), (40, 2000)])
def test_a_hello_in_many_pieces_is_still_read(
    world: World, keeper: KeeperProcess, record: int, size: int
) -> None:
    """Cut into TLS records and TCP segments: the name is found, so another name is refused."""
    for name, arrives in ((EVIL, False), (API, True)):
        world.outside.arrivals.clear()
        tunnel = connect(world, ALICE, f"{API}:443")
        tunnel.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pieces = in_records(hello(name), record)
        with contextlib.suppress(ConnectionError):
            for place in range(0, len(pieces), size):
                tunnel.line.sendall(pieces[place : place + size])
            tunnel.line.recv(10)
        tunnel.line.close()
        assert bool(world.outside.arrivals) is arrives


def test_a_hello_that_pauses_between_two_records_is_refused(world: World, keeper: KeeperProcess) -> None:
    """Squid reads what it has at a record's end as if no record followed: the tunnel ends, nothing passes."""
    before = len(keeper.records())
    tunnel = connect(world, ALICE, f"{API}:443")
    pieces = in_records(hello(API), 100)
    answer = dead(tunnel, pieces[:105])  # a header of 5 bytes and 100 of the hello
    assert b"hello" not in answer
    record = new_record(keeper, before)
    assert (record.verdict, record.reason) == ("refused", "not_tls")
    assert world.outside.arrivals == []


def test_two_extensions_of_names_reach_only_the_place_in_connect(world: World, keeper: KeeperProcess) -> None:
    """Squid reads the last one, a TLS server refuses both; either way it is the server that CONNECT named."""
    tunnel = connect(world, ALICE, f"{API}:443")
    answer = dead(tunnel, two_extensions(hello(EVIL), EVIL, API))
    assert answer.startswith(b"\x15")  # a TLS alert
    assert {each.address for each in world.outside.arrivals} == {"198.51.100.10"}
    assert {each.name for each in world.outside.arrivals} == {None}
    world.outside.arrivals.clear()
    dead(connect(world, ALICE, f"{API}:443"), two_extensions(hello(API), API, EVIL))
    assert world.outside.arrivals == []


def test_a_proxy_never_shows_a_certificate_of_its_own(world: World, keeper: KeeperProcess) -> None:
    """Even a client that would take any certificate gets none but the outside's."""
    for target, name in ((f"{EVIL}:443", EVIL), (f"{PRIVATE}:443", API), (f"{API}:443", EVIL)):
        tunnel = connect(world, ALICE, target)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            tunnel.tls(world, name, verify=False)
    with connect(world, ALICE, f"{API}:443").tls(world, API) as line:
        assert line.getpeercert()


def test_who_connects_and_says_nothing_is_put_out(world: World, keeper: KeeperProcess) -> None:
    before = len(keeper.records())
    began = time.monotonic()
    tunnel = connect(world, ALICE, f"{API}:443", seconds=30)
    assert tunnel.line.recv(1) == b""
    assert 5 < time.monotonic() - began < 20
    refused(keeper, before, "no_hello", API)


# -- the request itself ----------------------------------------------------------------------------------------

_HOST = f"Host: {API}:443\r\n".encode()
_CONNECT = f"CONNECT {API}:443 HTTP/1.1\r\n".encode()


@pytest.mark.parametrize(
    ("request_bytes", "statuses"),
    [
        (b"GET http://api.github.com/ HTTP/1.1\r\nHost: api.github.com\r\n\r\n", {403}),
        (b"GET https://api.github.com/ HTTP/1.1\r\nHost: api.github.com\r\n\r\n", {403}),
        (b"POST http://evil.example/ HTTP/1.1\r\nHost: api.github.com\r\nContent-Length: 3\r\n\r\nabc", {403}),
        (b"GET / HTTP/1.1\r\nHost: api.github.com\r\n\r\n", {400, 403}),
        (b"GET ftp://api.github.com/ HTTP/1.1\r\nHost: x\r\n\r\n", {403}),
        (b"GET urn:isbn:0 HTTP/1.1\r\nHost: x\r\n\r\n", {400, 403}),
        (b"GET ws://api.github.com/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", {400, 403}),
        (b"GET gopher://api.github.com/ HTTP/1.1\r\nHost: x\r\n\r\n", {400, 403}),
        (b"GET whois://api.github.com/ HTTP/1.1\r\nHost: x\r\n\r\n", {400, 403}),
        (b"GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", {400, 403}),
        (b"GET cache_object://egress/info HTTP/1.1\r\nHost: egress\r\n\r\n", {403}),
        (b"GET http://egress:3128/squid-internal-mgr/info HTTP/1.1\r\nHost: egress\r\n\r\n", {403}),
        (b"GET /squid-internal-mgr/info HTTP/1.1\r\nHost: egress\r\n\r\n", {400, 403}),
        (b"GET /squid-internal-static/icons/SN.png HTTP/1.1\r\nHost: egress\r\n\r\n", {400, 403}),
        (b"GET /squid-internal-periodic/store_digest HTTP/1.1\r\nHost: egress\r\n\r\n", {400, 403}),
        (b"PURGE http://api.github.com/ HTTP/1.1\r\nHost: api.github.com\r\n\r\n", {403}),
        (b"TRACE http://api.github.com/ HTTP/1.1\r\nHost: api.github.com\r\nMax-Forwards: 0\r\n\r\n", {403}),
        (b"OPTIONS * HTTP/1.1\r\nHost: egress\r\nMax-Forwards: 0\r\n\r\n", {400, 403, 501}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 403}),
        (b"connect api.github.com:443 HTTP/1.1\r\n\r\n", {400, 403}),
        (b"CONNECT http://api.github.com:443/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", {400, 403}),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: api.github.com:443\r\n\r\n", {403}),
        (b"CONNECT api.github.com:0 HTTP/1.1\r\n\r\n", {400, 403}),
        (b"CONNECT api.github.com:65979 HTTP/1.1\r\n\r\n", {400, 403}),
        (b"CONNECT api.github.com:443\r\n\r\n", {400, 403}),
        (b"CONNECT api.github.com\x00.evil.example:443 HTTP/1.1\r\n\r\n", {400, 403}),
        (b"CONNECT api.github.com:443 HTTP/1.1\r\nX: a\x00b\r\n\r\n", {400, 403}),
        (b"CONNECT api.github.com:443 evil.example:443 HTTP/1.1\r\n\r\n", {400, 403}),
        (_CONNECT + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\n", {400}),
        (_CONNECT + b"Content-Length: -1\r\n\r\n", {400}),
        (_CONNECT + b"X: " + b"a" * 65536 + b"\r\n\r\n", {400, 431}),
        (_CONNECT + b"X: a\r\n" * 11000 + b"\r\n", {400, 431}),
        (b"CONNECT " + b"a" * 65536 + b":443 HTTP/1.1\r\n\r\n", {400, 414, 431}),
        (b"\x16\x03\x01\x02\x00\x01\x00", {400, 0}),
        (b"\x05\x01\x00\x05\x01\x00\x03\x0eapi.github.com\x01\xbb\r\n\r\n", {400, 0}),  # SOCKS 5
        (b"PROXY TCP4 10.99.0.6 10.99.0.5 1 3128\r\nCONNECT evil.example:443 HTTP/1.1\r\n\r\n", {400}),
    ],
)  # fmt: skip
def test_a_request_that_is_no_plain_connect_gets_nowhere(
    world: World, keeper: KeeperProcess, request_bytes: bytes, statuses: set[int]
) -> None:
    before = len(keeper.records())
    tunnel = ask(world, ALICE, request_bytes, seconds=25)
    assert tunnel.status in statuses, tunnel.head
    tunnel.line.close()
    if tunnel.status:
        found = wait_for("a record", lambda: keeper.records()[before:])
        assert {each.verdict for each in found} == {"refused"}
    assert world.outside.arrivals == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        _CONNECT + _HOST + b"Content-Length: 34\r\n\r\nCONNECT evil.example:443 HTTP/1.1\r\n\r\n",
        _CONNECT + _HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nCONNECT evil.example:443 HTTP/1.1\r\n\r\n",
        _CONNECT + _HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        _CONNECT + b"Host: api.github.com\r\n evil.example\r\n\r\n",
        _CONNECT + _HOST + b"Host: evil.example\r\n\r\n",
        _CONNECT + _HOST + b"\r\nCONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
        _CONNECT + _HOST + b"Connection: keep-alive\r\nProxy-Connection: keep-alive\r\n\r\n\r\n\r\n",
        f"CONNECT {API}:443@evil.example:443 HTTP/1.1\r\n\r\n".encode(),
        f"CONNECT {API}:443#evil.example HTTP/1.1\r\n\r\n".encode(),
        f"CONNECT {API}:443/../evil.example HTTP/1.1\r\n\r\n".encode(),
        f"CONNECT\t{API}:443\tHTTP/1.1\r\n\r\n".encode(),
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n" + _CONNECT + _HOST + b"\r\n",
    ],
)  # fmt: skip
def test_smuggling_brings_nothing_anywhere(world: World, keeper: KeeperProcess, request_bytes: bytes) -> None:
    """However the proxy reads such a request, a hello for another name behind it goes nowhere, nor does plain text."""
    tunnel = ask(world, ALICE, request_bytes)
    dead(tunnel, hello(EVIL) + b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    tunnel.line.close()
    assert world.outside.arrivals == []
    assert EVIL not in {name for name, _ in world.outside.asked}


def test_a_second_connect_on_a_refused_connection_is_judged_by_itself(
    world: World, keeper: KeeperProcess
) -> None:
    before = len(keeper.records())
    request = (
        f"GET http://{EVIL}/ HTTP/1.1\r\nHost: {EVIL}\r\n\r\nCONNECT {EVIL}:443 HTTP/1.1\r\n\r\n".encode()
    )
    tunnel = ask(world, ALICE, request)
    answer = dead(tunnel, b"")
    assert b"200" not in answer.split(b"\r\n", 1)[0]
    wait_for("records", lambda: len(keeper.records()) >= before + 1)
    assert {each.verdict for each in keeper.records()[before:]} == {"refused"}
    assert world.outside.arrivals == []


def test_what_follows_a_good_hello_to_a_dead_place_is_no_request(world: World, keeper: KeeperProcess) -> None:
    """The connection has passed the hello by then; if Squid read on, a second CONNECT would be judged by it."""
    name = next(_odd)
    world.outside.answers[name] = Answer(a=("198.51.100.99",))  # nobody: Squid waits for seconds
    before = len(keeper.records())
    for target in (name, API):
        tunnel = connect(world, ALICE, f"{name}:443")
        tunnel.line.sendall(hello(name))
        wait_for(
            "Squid tries to connect",
            lambda: "198.51.100.99" in world.command("h", "ss", "-Htn", "state", "syn-sent").stdout,
        )
        answer = dead(tunnel, f"CONNECT {target}:443 HTTP/1.1\r\n\r\n".encode() + hello(EVIL))
        assert b"200" not in answer
    assert world.outside.arrivals == []
    found = wait_for("both records", lambda: keeper.records()[before + 1 :] and keeper.records()[before:])
    assert {(each.host, each.verdict, each.reason) for each in found} == {(name, "allowed", "unreachable")}
