"""WebSockets through a real agent: who gets one, what the gateway hears, and what ends them, how fast."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from guest.agent.gateway.lives import SOCKETS, SOCKETS_EACH
from protocol.tokens import sign
from tests.gateway.conftest import Stage, staged
from tests.gateway.test_proxy import FORGED, names
from tests.guest.files import Person
from tests.guest.fleet import TOKEN_SEED, token
from tests.guest.test_cookies import LAPTOP, begin, value
from tests.guest.test_gate import call
from tests.protocol.people import ORIGIN, STRANGER

WHERE = "/gateway/"
EMPTY = sha256(b"").hexdigest()
Socket = aiohttp.ClientWebSocketResponse
Scene = Callable[[Socket], Awaitable[Any]]


def with_socket(person: Person, scene: Scene, path: str = WHERE, **more: str) -> Any:
    """Open one, with a proof for exactly that request, and play ``scene`` on it."""
    headers = person.headers("GET", path, EMPTY)
    headers |= {name.replace("_", "-"): text for name, text in more.items()}
    return asyncio.run(played(person, path, headers, scene))


async def played(person: Person, path: str, headers: dict[str, str], scene: Scene) -> Any:
    url = f"https://127.0.0.1:{person.agent.port}{path}"
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(
            url, headers=headers, ssl=person.site.control_plane.context(), max_msg_size=0
        ) as socket,
    ):
        return await asyncio.wait_for(scene(socket), 30)


def refused(person: Person, path: str = WHERE, **more: str) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as failure:
        with_socket(person, hello, path, **more)
    return int(failure.value.status)


async def hello(socket: Socket) -> dict[str, Any]:
    return dict(json.loads(await socket.receive_str(timeout=10)))


@pytest.fixture
def ready(stage: Stage) -> Stage:
    stage.start()
    return stage


def test_both_ways(ready: Stage) -> None:
    """Text, bytes and the gateway's last word come through unchanged."""

    async def scene(socket: Socket) -> tuple[Any, ...]:
        assert (await hello(socket))["event"] == "connect.challenge"
        await socket.send_str("ä" * 1000)
        await socket.send_bytes(b"\0\xff")
        first, second = await socket.receive(10), await socket.receive(10)
        await socket.send_str("bye")
        return first.data, second.data, (await socket.receive(10)).type, socket.close_code

    assert with_socket(ready.person, scene) == ("ä" * 1000, b"\0\xff", aiohttp.WSMsgType.CLOSE, 4321)


def test_what_the_gateway_hears(ready: Stage) -> None:
    """The same four headers as over HTTP, this runtime's origin, and nothing that the caller says of himself."""
    names_ = names(ready)
    forged = FORGED | {names_["userHeader"]: "somebody", names_["requiredHeaders"][0].upper(): "7"}
    for path in ("/gateway", "/gateway/"):
        for more in ({}, forged, forged | {"Origin": ORIGIN, "Cookie": "a=b"}):
            said = with_socket(ready.person, hello, path, **{k.replace("-", "_"): v for k, v in more.items()})
            told = [(name, text) for name, text in said["headers"]]
            assert {name for name, _ in told} <= {
                *("host", "upgrade", "connection", "sec-websocket-version", "sec-websocket-key", "origin"),
                *("x-forwarded-for", "x-openclaw-scopes", names_["userHeader"], names_["requiredHeaders"][0]),
            }
            assert len(told) == len(dict(told))
            assert dict(told)["origin"] == ORIGIN
            assert dict(told)["x-forwarded-for"] == "203.0.113.5"
            assert dict(told)[names_["userHeader"]] == names_["allowUsers"][0]
            assert said["path"] == "/gateway/"


def test_a_member_may_less(ready: Stage) -> None:
    said = with_socket(ready.another(), hello)
    assert dict(said["headers"])["x-openclaw-scopes"] == "operator.read,operator.write"


def test_who_gets_none(ready: Stage) -> None:
    """No session, a proof for another request, another origin, another place."""
    assert refused(ready.person, Origin="http://zebra.portal.localhost:8000") == 403
    assert refused(ready.person, Origin="null") == 403
    assert refused(ready.person, "/gateway/other") == 404
    assert refused(ready.person, "/gateway/?x=1") == 404
    used = ready.person.headers("GET", "/gateway/x", EMPTY)
    assert refused(ready.person, Portal_Proof=used["Portal-Proof"]) == 403
    nobody = {"Authorization": f"Bearer {sign(token('GET', WHERE), TOKEN_SEED)}"}
    with pytest.raises(aiohttp.WSServerHandshakeError) as failure:
        asyncio.run(played(ready.person, WHERE, nobody, hello))
    assert failure.value.status == 403
    assert (
        ready.person.ask("GET", "/v1/session", b"", Upgrade="websocket", Connection="Upgrade").status == 200
    )


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[tuple[Stage, str]]:
    with staged(tmp_path, laptop=LAPTOP.key) as stage:
        stage.start()
        yield stage, value(begin(stage.agent, stage.site)[2])


@pytest.mark.parametrize(
    ("more", "allowed"),
    [
        ({"Origin": ORIGIN}, True),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": ORIGIN, "Sec-Fetch-Site": "none"}, False),
        ({"Origin": ORIGIN.replace("acme", "zebra")}, False),
        ({"Origin": "http://portal.localhost:8000", "Sec-Fetch-Site": "same-origin"}, False),
        ({"Origin": "null"}, False),
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin"}, False),
    ],
)
def test_a_browsers_socket(browser: tuple[Stage, str], more: dict[str, str], allowed: bool) -> None:
    """A cookie comes with any page's request, so the page's origin must be this one; browsers always say it."""
    stage, cookie = browser
    headers = {
        "Authorization": f"Bearer {sign(token('GET', WHERE), TOKEN_SEED)}",
        "Cookie": f"__Host-guest={cookie}",
    }
    if allowed:
        assert cookie not in json.dumps(asyncio.run(played(stage.person, WHERE, headers | more, hello)))
    else:
        with pytest.raises(aiohttp.WSServerHandshakeError) as failure:
            asyncio.run(played(stage.person, WHERE, headers | more, hello))
        assert failure.value.status == 403


def end_of_session(stage: Stage) -> None:
    call(stage.agent, stage.site, "DELETE", "/v1/sessions")


def other_keyring(stage: Stage) -> None:
    from protocol.persons import Purpose
    from tests.guest.fleet import TENANT_ID
    from tests.protocol.people import MEMBER, OWNER, entry, keyring

    pinned = call(stage.agent, stage.site, "GET", "/v1/status")[1]["keyring"]["hash"]
    # The owner's key stays, as a member's.
    document = keyring(
        TENANT_ID,
        entry(STRANGER.key),
        entry(MEMBER.key),
        entry(OWNER.key, "member"),
        version=2,
        previous=pinned,
    )
    body = {"document": document, "signature": OWNER.sign(Purpose.KEYRING, document)}
    assert call(stage.agent, stage.site, "PUT", "/v1/keyring", body)[0] == 200


ENDS: dict[str, tuple[Callable[[Stage], object], int]] = {
    "session ended": (end_of_session, 1008),
    "signed out": (lambda stage: stage.person.ask("DELETE", "/v1/session"), 1008),
    "another role": (other_keyring, 1008),
    "suspended": (lambda stage: stage.suspend(), 1008),
    "consent withdrawn": (lambda stage: stage.agree(agents=False), 1001),
    "gateway stopped": (lambda stage: stage.person.ask("POST", "/v1/gateway/stop"), 1001),
    "gateway killed": (lambda stage: stage.launcher.kill("oom-kill"), 0),
}


@pytest.mark.parametrize("why", ENDS)
def test_what_cuts_a_socket(ready: Stage, why: str) -> None:
    """Within a second, from either end, with a code that says whether to come again."""
    deed, code = ENDS[why]

    async def scene(socket: Socket) -> tuple[float, int | None]:
        await hello(socket)
        began = time.monotonic()
        await asyncio.to_thread(deed, ready)
        asked = time.monotonic()
        while (await socket.receive(10)).type not in {
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.ERROR,
        }:
            pass
        return time.monotonic() - (asked if why == "gateway stopped" else began), socket.close_code

    seconds, told = with_socket(ready.person, scene)
    assert seconds < 1
    assert not code or told == code


def test_not_one_message_after_the_end(ready: Stage) -> None:
    """A message that comes between the end and the cut is not carried."""

    async def scene(socket: Socket) -> list[str]:
        await hello(socket)
        await asyncio.to_thread(end_of_session, ready)
        heard = []
        for number in range(50):
            try:
                await socket.send_str(f"late {number}")
                message = await socket.receive(0.05)
            except (TimeoutError, ConnectionError):
                continue
            if message.type is aiohttp.WSMsgType.TEXT:
                heard.append(message.data)
            else:
                break
        return heard

    assert with_socket(ready.person, scene) == []


def test_a_socket_grows_old(tmp_path: Path) -> None:
    """Then its browser comes again, past the portal, which may have shut the way since."""
    with staged(tmp_path, "--gateway-socket-lifetime", "1") as stage:
        stage.start()

        async def scene(socket: Socket) -> tuple[float, int | None]:
            await hello(socket)
            began = time.monotonic()
            await socket.receive(10)
            return time.monotonic() - began, socket.close_code

        seconds, code = with_socket(stage.person, scene)
        assert (code, 0.5 < seconds < 3) == (1012, True)


def test_how_many(ready: Stage) -> None:
    """So many for each person, so many in all; a closed one makes room."""
    people = [ready.person, ready.another()]
    assert SOCKETS_EACH < SOCKETS

    async def scene() -> list[int]:
        statuses = []
        async with aiohttp.ClientSession() as client:
            open_ = []
            for person in [people[0]] * (SOCKETS_EACH + 1) + [people[1]]:
                url = f"https://127.0.0.1:{person.agent.port}{WHERE}"
                headers = person.headers("GET", WHERE, EMPTY)
                try:
                    made = await client.ws_connect(
                        url, headers=headers, ssl=person.site.control_plane.context()
                    )
                    open_.append(made)
                    statuses.append(101)
                except aiohttp.WSServerHandshakeError as failure:
                    statuses.append(failure.status)
            await open_[0].close()
            await asyncio.sleep(0.6)
            made = await client.ws_connect(
                url,
                headers=people[0].headers("GET", WHERE, EMPTY),
                ssl=people[0].site.control_plane.context(),
            )
            for each in [*open_, made]:
                await each.close()
        return statuses

    assert asyncio.run(scene()) == [101] * SOCKETS_EACH + [429, 101]


def test_messages_have_a_size(ready: Stage) -> None:
    """Larger ones end the socket, and the agent lives on; large ones are carried."""

    async def large(socket: Socket) -> tuple[int, int | None]:
        await hello(socket)
        await socket.send_str("large 6000000")
        first = await socket.receive(20)
        await socket.send_bytes(b"x" * (5 << 20))
        await socket.receive(20)
        return len(first.data), socket.close_code

    carried, code = with_socket(ready.person, large)
    assert (carried, code in {1006, 1009}) == (6_000_000, True)

    async def larger(socket: Socket) -> aiohttp.WSMsgType:
        await hello(socket)
        await socket.send_str("large 9000000")
        return (await socket.receive(20)).type

    assert with_socket(ready.person, larger) is aiohttp.WSMsgType.CLOSE
    assert ready.get("/gateway/x").status == 200


def test_off_means_no_socket(stage: Stage) -> None:
    """An open page that connects again and again does not start what was stopped for idleness."""
    stage.agree()
    assert refused(stage.person) == 503
    time.sleep(0.5)
    assert stage.launcher.starts == 0


def test_messages_are_use(tmp_path: Path) -> None:
    """Of a member's, not of the gateway's; an open socket alone is none."""
    with staged(tmp_path, gateway_idle_seconds=2) as stage:
        stage.start()

        async def scene(socket: Socket) -> tuple[float, float]:
            await hello(socket)
            began = time.monotonic()
            for _ in range(4):
                await socket.send_str("x")
                await socket.receive(5)
                await asyncio.sleep(1)
            lasted = time.monotonic() - began
            await socket.receive(10)
            return lasted, time.monotonic() - began

        busy, idle = with_socket(stage.person, scene)
        assert busy > 3.9, "used every second, it outlasts two idle seconds"
        assert idle - busy < 3
