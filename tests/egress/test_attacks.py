"""A guest's attacks on the proxy, against the real Squid. For each: what the guest gets, that nothing reached the
outside, and what the record says.
"""

import contextlib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from provisioning.egress.records import REASONS, Record
from provisioning.egress.squid import MAX_TUNNELS
from tests.egress.hello import hello, in_records, renamed, two_extensions, two_names
from tests.egress.outside import AAAA, SERVFAIL, Answer
from tests.egress.world import (
    ALICE,
    API,
    BOB,
    EVIL,
    METADATA,
    PORT,
    PRIVATE,
    RAW,
    SITE,
    USER,
    KeeperProcess,
    Tunnel,
    World,
    ask,
    connect,
    fetch,
    wait_for,
)

ODD = tuple(f"odd{number}.github.com" for number in range(40))
"""Allowed, and leading wherever a test wants; each test takes one of its own, since Squid remembers answers."""
_odd = iter(ODD)


@pytest.fixture(scope="module")
def standing(whole_world: World) -> Iterator[KeeperProcess]:
    """One keeper for all attacks: Alice may reach GitHub's names, Bob another one."""
    keeper = KeeperProcess.fresh(whole_world)
    keeper.start()
    keeper.obey(ALICE.rules(API, SITE, RAW, *ODD), BOB.rules(EVIL))
    yield keeper
    keeper.stop()


@pytest.fixture
def keeper(standing: KeeperProcess, world: World) -> KeeperProcess:
    """The same, known to work in both directions before the attack."""
    assert fetch(world, ALICE, API) == b"hello\n"
    wait_for(
        "the positive control's record",
        lambda: standing.records()[-1:] and standing.records()[-1].host == API,
    )
    world.outside.arrivals.clear()
    return standing


def new_record(keeper: KeeperProcess, before: int) -> Record:
    """The one record after ``before`` others."""
    found = wait_for("a record", lambda: keeper.records()[before:])
    assert len(found) == 1
    return found[0]


def refused(keeper: KeeperProcess, before: int, reason: str, host: str | None = None) -> None:
    record = new_record(keeper, before)
    assert (record.verdict, record.reason) == ("refused", reason)
    assert record.reason in REASONS
    assert host is None or record.host == host
    assert record.runtime == ALICE.runtime or reason == "invalid"
    assert record.listen == ALICE.listen


def dead(tunnel: Tunnel, payload: bytes) -> bytes:
    """Everything that comes back after ``payload`` until the proxy hangs up."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        tunnel.line.sendall(payload)
        while more := tunnel.line.recv(65536):
            answer += more
    return answer


# -- at CONNECT ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("203.0.113.10:443", "name"),
        (f"{PRIVATE}:443", "name"),
        (f"{METADATA}:80", "name"),
        ("127.0.0.1:3128", "name"),
        ("localhost:443", "name"),
        ("[2001:db8:77::1]:443", "name"),
        ("[::ffff:203.0.113.10]:443", "name"),
        ("3405803786:443", "name"),
        ("0xcb00710a:443", "name"),
        ("203.0.113.266:443", "name"),
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
        (Answer(a=("203.0.113.10", PRIVATE)), "range"),
        (Answer(a=(*(f"203.0.113.{n}" for n in range(10, 30)), PRIVATE)), "range"),
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
    assert [each.address for each in world.outside.arrivals] == ["203.0.113.12"]
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
        return Answer(a=("203.0.113.10",) if len(given) == 1 else (PRIVATE,), ttl=0)

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


@pytest.mark.parametrize(("record", "size"), [(2000, 1), (2000, 7), (100, 100), (100, 1), (40, 2000)])
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


def test_two_extensions_of_names_reach_only_the_place_in_connect(world: World, keeper: KeeperProcess) -> None:
    """Squid reads the last one, a TLS server refuses both; either way it is the server that CONNECT named."""
    tunnel = connect(world, ALICE, f"{API}:443")
    answer = dead(tunnel, two_extensions(hello(EVIL), EVIL, API))
    assert answer.startswith(b"\x15")  # a TLS alert
    assert {each.address for each in world.outside.arrivals} == {"203.0.113.10"}
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
    world.outside.answers[name] = Answer(a=("203.0.113.99",))  # nobody: Squid waits for seconds
    before = len(keeper.records())
    for target in (name, API):
        tunnel = connect(world, ALICE, f"{name}:443")
        tunnel.line.sendall(hello(name))
        wait_for(
            "Squid tries to connect",
            lambda: "203.0.113.99" in world.command("h", "ss", "-Htn", "state", "syn-sent").stdout,
        )
        answer = dead(tunnel, f"CONNECT {target}:443 HTTP/1.1\r\n\r\n".encode() + hello(EVIL))
        assert b"200" not in answer
    assert world.outside.arrivals == []
    found = wait_for("both records", lambda: keeper.records()[before + 1 :] and keeper.records()[before:])
    assert {(each.host, each.verdict, each.reason) for each in found} == {(name, "allowed", "unreachable")}


# -- tenants against each other --------------------------------------------------------------------------------


def test_a_neighbours_port_or_address_is_of_no_use(world: World, keeper: KeeperProcess) -> None:
    """Alice asks Bob's proxy port, from her own address, and from Bob's."""
    assert fetch(world, BOB, EVIL) == b"hello\n"
    world.outside.arrivals.clear()
    for name in (EVIL, API):
        assert connect(world, ALICE, f"{name}:443", proxy=BOB.listen).status == 403
    assert connect(world, BOB, f"{API}:443", proxy=ALICE.listen).status == 403
    assert world.command("a", "ip", "addr", "add", f"{BOB.address}/32", "dev", "lo").returncode == 0
    try:
        line = world.socket("a")
        line.settimeout(2)
        line.bind((BOB.address, 0))
        with pytest.raises(OSError, match="timed out"):  # the answer goes to the real Bob
            line.connect((BOB.listen, PORT))
    finally:
        world.command("a", "ip", "addr", "del", f"{BOB.address}/32", "dev", "lo")
    assert world.outside.arrivals == []


def test_five_thousand_tunnels_of_one_guest_leave_the_other_alone(
    world: World, keeper: KeeperProcess
) -> None:
    """A guest gets so many connections and no more; the neighbour's take no longer than a second."""
    open_ones: list[socket.socket] = []
    before = time.monotonic()
    for _ in range(5000):
        line = world.socket("a") if not open_ones else _another(world)
        line.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            line.connect((ALICE.listen, PORT))
        open_ones.append(line)
    taken = wait_for("Squid took some", lambda: _established(world))
    took = []
    for _ in range(20):
        began = time.monotonic()
        assert fetch(world, BOB, EVIL) == b"hello\n"
        took.append(time.monotonic() - began)
    assert _established(world) <= MAX_TUNNELS
    assert max(took) < 2.0, took
    for line in open_ones:
        line.close()
    assert taken
    assert time.monotonic() - before < 60
    wait_for("Alice is served again", lambda: connect(world, ALICE, f"{API}:443").status == 200)


_sockets: list[socket.socket] = []


def _another(world: World) -> socket.socket:
    """Many sockets of Alice's at once; entering the namespace for each would take long."""
    if not _sockets:
        _sockets.extend(world.inside("a", lambda: [socket.socket() for _ in range(5000)]))
    return _sockets.pop()


def _established(world: World) -> int:
    """Connections that Squid holds of Alice's."""
    answer = world.command(
        "h", "ss", "-Htnp", "state", "established", "src", ALICE.listen, "sport", "=", f":{PORT}"
    )
    return sum("squid" in line for line in answer.stdout.splitlines())


def test_slow_requests_end_and_the_neighbour_does_not_wait(world: World, keeper: KeeperProcess) -> None:
    lines = world.inside("a", lambda: [socket.create_connection((ALICE.listen, PORT)) for _ in range(100)])
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.5):
            for line in lines:
                with contextlib.suppress(OSError):
                    line.send(b"X")

    threading.Thread(target=drip, daemon=True).start()
    try:
        began = time.monotonic()
        assert fetch(world, BOB, EVIL) == b"hello\n"
        assert time.monotonic() - began < 2
        lines[0].settimeout(25)
        with contextlib.suppress(ConnectionError):
            while lines[0].recv(4096):
                pass
        assert time.monotonic() - began < 25
    finally:
        stop.set()
        for line in lines:
            line.close()


# -- past the proxy --------------------------------------------------------------------------------------------


def test_what_goes_past_the_proxy_goes_nowhere_and_is_counted(world: World, keeper: KeeperProcess) -> None:
    def dropped() -> int:
        return int(keeper.state()["dropped"].get(str(ALICE.runtime), {}).get("packets", 0))

    before, bobs = dropped(), keeper.state()["dropped"][str(BOB.runtime)]
    for address in ("203.0.113.10", PRIVATE, METADATA, "8.8.8.8"):
        line = world.socket("a", kind=socket.SOCK_DGRAM)
        line.sendto(b"x" * 100, (address, 443))
    line = world.socket("a")
    line.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        line.connect(("203.0.113.10", 443))
    wait_for("they are counted", lambda: dropped() >= before + 5)
    assert keeper.state()["dropped"][str(BOB.runtime)] == bobs
    assert world.outside.arrivals == []


@pytest.mark.parametrize("address", [PRIVATE, METADATA])
def test_the_wall_stops_what_squid_would_not(world: World, keeper: KeeperProcess, address: str) -> None:
    """The proxy's user cannot open a connection to a forbidden range; another user can, so there is a way."""
    attempt = [sys.executable, "-c", f"import socket; socket.create_connection(('{address}', 443), 5)"]
    own = ["setpriv", "--reuid", str(USER), "--clear-groups"]
    before = keeper.state()["walled"]["packets"]
    said = world.command("h", *own, *attempt)
    assert "ConnectionRefusedError" in said.stderr or "No route" in said.stderr, said.stderr
    assert world.outside.arrivals == []
    wait_for("it is counted", lambda: keeper.state()["walled"]["packets"] > before)
    assert world.command("h", *attempt).returncode == 0
    wait_for("the positive control arrives", lambda: world.outside.arrivals)


def test_the_keepers_own_port_gives_nothing(world: World, keeper: KeeperProcess) -> None:
    """Whoever is on the host may ask it; it answers a refusal."""
    port = next(
        line.split()[1].rpartition(":")[2]
        for line in (keeper.run / "squid.conf").read_text().splitlines()
        if line.endswith("name=keeper")
    )
    for request in ("GET http://egress/squid-internal-mgr/info", f"CONNECT {API}:443"):
        script = (
            f"import socket; s=socket.create_connection(('127.0.0.1',{port}),5);"
            f"s.sendall(b'{request} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(99)[:12])"
        )
        assert "403" in world.command("h", sys.executable, "-c", script).stdout
    assert world.outside.arrivals == []
