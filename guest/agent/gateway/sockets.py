"""One WebSocket carried through: both ways, bounded, and cut when its member may no longer."""

import asyncio
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from guest.agent.answers import error
from guest.agent.gate import Gate
from guest.agent.gateway.lifecycle import Gateway
from guest.agent.gateway.lives import End, Kind, Lives
from guest.agent.sessions import SessionRefused

MESSAGE_IN = 4 << 20
"""Bytes of one message from a member: a picture fits."""
MESSAGE_OUT = 8 << 20
"""Bytes of one message from the gateway: a long history fits."""
PING_SECONDS = 30.0
OPEN_SECONDS = 20.0
STALL_SECONDS = 30.0
CLOSING_SECONDS = 0.3
CODES = {
    End.SESSION: 1008,  # policy violation: signed out
    End.GATEWAY: 1001,  # going away
    End.AGE: 1012,  # service restart: come again
    End.CALLER: 1001,
}
_PASSED_ON = frozenset({1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 1013, *range(4000, 5000)})

_Socket = aiohttp.ClientWebSocketResponse | web.WebSocketResponse


async def carry(
    client: aiohttp.ClientSession,
    url: URL,
    request: web.Request,
    headers: CIMultiDict[str],
    gateway: Gateway,
    gate: Gate,
    lives: Lives,
) -> web.StreamResponse:
    """Open a socket at the gateway, then the caller's, and carry messages until either ends.

    Raises:
        GatewayRefused: too many at once.
    """
    caller = web.WebSocketResponse(
        timeout=CLOSING_SECONDS, heartbeat=PING_SECONDS, max_msg_size=MESSAGE_IN, compress=False
    )
    if not caller.can_prepare(request):
        return error(400, "bad_request", "that is no WebSocket request")
    ended: asyncio.Future[End] = asyncio.get_running_loop().create_future()

    def cut(end: End) -> None:
        if not ended.done():
            ended.set_result(end)

    with lives.living(request, Kind.SOCKET, cut):
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                inner = await client.ws_connect(
                    url, headers=headers, max_msg_size=MESSAGE_OUT, heartbeat=PING_SECONDS, compress=0,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSING_SECONDS),
                )  # fmt: skip
        except (aiohttp.ClientError, OSError):  # TimeoutError is an OSError
            await gateway.ended()
            return error(502, "gateway_unreachable", "the gateway did not take the socket")
        try:
            await caller.prepare(request)
            await _both_ways(caller, inner, request, gateway, gate, ended)
        finally:
            await _close(inner, 1000)
            if request.transport is not None:
                request.transport.abort()
    return caller


async def _both_ways(
    caller: web.WebSocketResponse,
    inner: aiohttp.ClientWebSocketResponse,
    request: web.Request,
    gateway: Gateway,
    gate: Gate,
    ended: "asyncio.Future[End]",
) -> None:
    gateway.used()
    tasks: list[asyncio.Future[None]] = [
        asyncio.ensure_future(_from_caller(caller, inner, request, gateway, gate)),
        asyncio.ensure_future(_pump(inner, caller)),
    ]
    try:
        waited: list[asyncio.Future[Any]] = [*tasks, ended]
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if ended.done():
        await _close(caller, CODES[ended.result()], str(ended.result()))
    else:
        code = inner.close_code if inner.close_code in _PASSED_ON else 1011
        await _close(caller, code or 1011)


async def _from_caller(
    caller: web.WebSocketResponse,
    inner: aiohttp.ClientWebSocketResponse,
    request: web.Request,
    gateway: Gateway,
    gate: Gate,
) -> None:
    async for message in caller:
        try:
            gate.check_standing(request)
        except SessionRefused:
            return
        if not gateway.reachable:
            return
        gateway.used()
        if not await _pass_on(message, inner):
            return


async def _pump(inner: aiohttp.ClientWebSocketResponse, caller: web.WebSocketResponse) -> None:
    async for message in inner:
        if not await _pass_on(message, caller):
            return


async def _pass_on(message: aiohttp.WSMessage, to: _Socket) -> bool:
    """Whether it went on in time; what is neither text nor bytes ends the socket."""
    try:
        async with asyncio.timeout(STALL_SECONDS):
            if message.type is aiohttp.WSMsgType.TEXT:
                await to.send_str(message.data)
            elif message.type is aiohttp.WSMsgType.BINARY:
                await to.send_bytes(message.data)
            else:
                return False
    except (OSError, aiohttp.ClientError):
        return False
    return True


async def _close(socket: _Socket, code: int, text: str = "") -> None:
    with suppress(OSError, aiohttp.ClientError, RuntimeError):
        async with asyncio.timeout(CLOSING_SECONDS):
            await socket.close(code=code, message=text.encode()[:120])
