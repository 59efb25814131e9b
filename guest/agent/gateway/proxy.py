"""Carries members' requests to the gateway and its answers back: pages, the API, and sockets."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from guest.agent.answers import body_of, error
from guest.agent.gate import LARGER, SESSION, Gate
from guest.agent.gateway.errors import GatewayRefused
from guest.agent.gateway.lifecycle import Gateway, State
from guest.agent.gateway.lives import End, Kind, Lives
from guest.agent.gateway.passing import answered, asked, fence, upstream
from guest.agent.gateway.ready import LOOPBACK
from guest.agent.gateway.sockets import carry
from guest.agent.gateway.waiting import AGAIN, page
from guest.gateway.config import Headers

CONNECT_SECONDS = 5.0
PAGE_SECONDS = 30.0
TALK_SECONDS = 300.0
"""How long the gateway may say nothing: a tool of its may work so long."""
STALL_SECONDS = 30.0
"""How long a caller may take no bytes."""
HEAD_LIMIT = 16 * 1024
SOCKET_PATHS = frozenset({"/gateway", "/gateway/"})
API_HEADERS = {"Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'"}
_API_TYPES = re.compile(r"(application/json|text/event-stream)(\s*;.*)?", re.IGNORECASE)
_NOT_SCRIPTS = frozenset({"serviceworker", "sharedworker", "worker", "iframe", "frame", "embed", "object"})


class Proxy:
    """The handlers of everything that the gateway itself answers."""

    def __init__(self, gateway: Gateway, gate: Gate, lives: Lives, *, port: int, user: str) -> None:
        self._gateway, self._gate, self._lives, self._user = gateway, gate, lives, user
        self._base = f"http://{LOOPBACK}:{port}"
        self._fence = fence(gate.origin)
        self._client: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Be able to ask the gateway, for the time of the block."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_line_size=HEAD_LIMIT,
            max_field_size=HEAD_LIMIT,
        ) as client:
            self._client = client
            yield

    async def page(self, request: web.Request) -> web.StreamResponse:
        """``/gateway`` and what lies below it: the gateway's own page, or its socket."""
        path = upstream(request.raw_path)
        self._check_origin(request)
        if request.headers.get("Sec-Fetch-Dest", "") in _NOT_SCRIPTS or "Service-Worker" in request.headers:
            raise GatewayRefused(403, "not_in_a_page", "this is no page to embed, and no worker's script")
        if "Upgrade" in request.headers:
            return await self._socket(request, path)
        if not self._gateway.reachable and request.path in {"/gateway", "/gateway/"}:
            return self._wait(request)
        return await self._exchange(request, "GET", path, b"", Kind.FILE)

    async def models(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/models`` of the gateway."""
        self._check_origin(request)
        return await self._exchange(request, "GET", upstream(request.raw_path), b"", Kind.TALK)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/chat/completions`` of the gateway; starts it, if it does not run."""
        self._check_origin(request)
        path = upstream(request.raw_path)
        body = await body_of(request, LARGER["POST", "/gateway-api/v1/chat/completions"])
        if not self._gateway.reachable and self._gateway.state in {State.OFF, State.FAILED}:
            self._gateway.start()
        return await self._exchange(request, "POST", path, body, Kind.TALK)

    def talk(self, role: str, body: bytes) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Ask the gateway's API, for a member of ``role``, without any request of theirs.

        Raises:
            GatewayRefused: it does not answer now.
        """
        headers = asked({"Content-Type": "application/json"}, self._names(), self._user, role)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=TALK_SECONDS)
        url = URL(f"{self._base}/v1/chat/completions")
        return self._asking().post(url, headers=headers, data=body, allow_redirects=False, timeout=timeout)

    def _wait(self, request: web.Request) -> web.Response:
        """Somebody opens the page of a gateway that does not run: start it, have the browser come again."""
        refusal = ""
        if self._gateway.state in {State.OFF, State.FAILED} and AGAIN not in request.query:
            try:
                self._gateway.start()
            except GatewayRefused as refused:
                refusal = f"It cannot start: {refused}."
        return page(self._gateway.state, refusal or self._gateway.reason)

    def _check_origin(self, request: web.Request) -> None:
        """Whoever names an origin names this one: the gateway is told no other."""
        if request.headers.getall("Origin", [self._gate.origin]) != [self._gate.origin]:
            raise GatewayRefused(403, "cross_origin", "only this machine's own pages may ask that")

    def _headers(self, request: web.Request) -> CIMultiDict[str]:
        return asked(request.headers, self._names(), self._user, request[SESSION].member.role)

    def _names(self) -> Headers:
        """Raises GatewayRefused while the gateway does not answer."""
        names = self._gateway.headers
        if names is None or not self._gateway.reachable:
            starts = self._gateway.state in {State.STARTING, State.STOPPING}
            text = (
                "the gateway is starting; ask again soon"
                if starts
                else "the gateway is not running; start it"
            )
            raise GatewayRefused(503, f"gateway_{self._gateway.state}", f"the gateway is {text}")
        return names

    async def _exchange(
        self, request: web.Request, method: str, path: str, body: bytes, kind: Kind
    ) -> web.StreamResponse:
        headers = self._headers(request)
        if "Origin" in request.headers:
            headers["Origin"] = self._gate.origin
        ended: list[End] = []
        begun: list[web.StreamResponse] = []
        task = asyncio.ensure_future(self._forward(request, method, path, headers, body, kind, begun))

        def cut(end: End) -> None:
            ended.append(end)
            task.cancel()

        with self._gateway.in_use(), self._lives.living(request, kind, cut):
            try:
                return await task
            except asyncio.CancelledError:
                task.cancel()
                if not ended:
                    raise
        if begun:
            # After the head is sent no error can be told: the connection ends before the announced end.
            _abort(request)
            return begun[0]
        if ended[0] is End.SESSION:
            return error(403, "session_required", str(End.SESSION))
        return error(503, "gateway_cut", str(ended[0]))

    async def _forward(
        self,
        request: web.Request,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        kind: Kind,
        begun: list[web.StreamResponse],
    ) -> web.StreamResponse:
        silence = TALK_SECONDS if kind is Kind.TALK else PAGE_SECONDS
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence)
        url = URL(self._base + path, encoded=True)
        try:
            async with self._asking().request(
                method, url, headers=headers, data=body or None, allow_redirects=False, timeout=timeout
            ) as answer:
                response = self._answer(answer, kind)
                begun.append(response)
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    async with asyncio.timeout(STALL_SECONDS):
                        await response.write(piece)
                await response.write_eof()
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            if not begun:
                return await self._nobody(failure)
            _abort(request)
        return begun[0]

    def _answer(self, answer: aiohttp.ClientResponse, kind: Kind) -> web.StreamResponse:
        if kind is Kind.FILE:
            headers = answered(answer.headers, self._fence)
        else:
            headers = answered(answer.headers, API_HEADERS)
            if not _API_TYPES.fullmatch(headers.get("Content-Type", "")):
                headers["Content-Type"] = "application/octet-stream"
        status = answer.status if 200 <= answer.status <= 599 else 502
        response = web.StreamResponse(status=status, headers=headers)
        if answer.content_length is not None:
            response.content_length = answer.content_length
        return response

    async def _socket(self, request: web.Request, path: str) -> web.StreamResponse:
        if request.path not in SOCKET_PATHS or path.partition("?")[2]:
            raise GatewayRefused(404, "no_socket", "the gateway's socket is at /gateway/")
        headers = self._headers(request)
        kept = {name: value for name, value in headers.items() if not name.lower().startswith("accept")}
        return await carry(
            self._asking(),
            URL(f"{self._base}/gateway/"),
            request,
            CIMultiDict(kept | {"Origin": self._gate.origin}),
            self._gateway,
            self._gate,
            self._lives,
        )

    def _asking(self) -> aiohttp.ClientSession:
        if self._client is None:
            raise RuntimeError("the proxy is not open")
        return self._client

    async def _nobody(self, failure: BaseException) -> web.Response:
        with suppress(Exception):
            await self._gateway.ended()
        if isinstance(failure, TimeoutError):
            return error(504, "gateway_silent", "the gateway did not answer in time")
        return error(502, "gateway_unreachable", "the gateway did not answer; look at its state")


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
