"""A small world outside a guest: a proxy that takes CONNECT only, and one server that plays every name by TLS.

A double for what the host's real proxy does, with none of its walls: here it is the guest's side that is tested.
"""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from guest.gateway import rehearsal
from tests.guest.fleet import SERVER_AUTH, Authority

HOSTS = ("github.com", "api.github.com", "model.test")
REPOSITORY = "acme/hello.git"
CONTENT = "well met\n"
FREEBIND = 15
"""A socket option of Linux: the address need not be there yet, as a guest's link is not."""
HEAD_LIMIT = 8192


@dataclass
class Outside:
    """Where it listens, and what it was asked."""

    address: str
    port: int = 0
    authority: Path = Path()
    """The certificate that programs must believe, as PEM."""
    asked: list[str] = field(default_factory=list)
    """First lines of requests to the proxy, in order."""
    served: list[str] = field(default_factory=list)
    """Names and paths that were asked for inside the tunnels."""

    def tunnels(self) -> set[str]:
        """Where somebody asked to be let through to."""
        return {line.split()[1] for line in self.asked if line.startswith("CONNECT ")}


@contextmanager
def outside(folder: Path, address: str = "127.0.0.1", port: int = 0) -> Iterator[Outside]:
    """Serve it for the time of the block, in a thread of its own."""
    made = Outside(address, port)
    _repository(folder)
    context = _certificates(folder, made)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    closing = asyncio.run_coroutine_threadsafe(_start(folder, made, context), loop).result(20)
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(closing.aclose(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)


async def _start(folder: Path, made: Outside, context: ssl.SSLContext) -> AsyncExitStack:
    """Returns what closes it."""
    closing = AsyncExitStack()
    runner = web.AppRunner(_application(folder, made), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    closing.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    inner = runner.addresses[0][1]
    listener = _listener(made)
    proxy = await asyncio.start_server(lambda r, w: _serve(made, inner, r, w), sock=listener)
    closing.callback(proxy.close)
    made.port = listener.getsockname()[1]
    return closing


def _listener(made: Outside) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.IPPROTO_IP, FREEBIND, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((made.address, made.port))
    return listener


async def _serve(
    made: Outside, inner: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        head = (await reader.readuntil(b"\r\n\r\n"))[:HEAD_LIMIT].decode("latin-1")
        made.asked.append(head.split("\r\n", 1)[0])
        method, target, _ = head.split(" ", 2)
        if method == "CONNECT" and target in {f"{host}:443" for host in HOSTS}:
            further, back = await asyncio.open_connection("127.0.0.1", inner)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_pass(reader, back), _pass(further, writer))
        else:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
    writer.close()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    writer.close()


def _application(folder: Path, made: Outside) -> web.Application:
    app = rehearsal.application()

    @web.middleware
    async def noting(request: web.Request, handler: Handler) -> web.StreamResponse:
        made.served.append(f"{request.host} {request.path}")
        return await handler(request)

    async def hello(_: web.Request) -> web.Response:
        return web.json_response({"said": "hello"})

    app.middlewares.append(noting)
    app.router.add_get("/hello", hello)
    app.router.add_static(f"/{REPOSITORY}", folder / "bare.git")
    return app


def _certificates(folder: Path, made: Outside) -> ssl.SSLContext:
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    made.authority = folder / "authority.pem"
    made.authority.write_text(authority.pem)
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in HOSTS]
    leaf = authority.issue(key.public_key(), names, SERVER_AUTH)
    pair = folder / "leaf.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pair.write_bytes(private + leaf.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    return context


def _repository(folder: Path) -> None:
    """One commit with one file, in a form that a plain file server can serve."""
    work, bare = folder / "work", folder / "bare.git"
    work.mkdir()
    (work / "hello.txt").write_text(CONTENT)
    stamp = dt.datetime(2026, 1, 1, tzinfo=dt.UTC).isoformat()
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
           for what, value in (("NAME", "a"), ("EMAIL", "a@a.test"), ("DATE", stamp))}  # fmt: skip
    environment = {**who, "PATH": "/usr/bin:/bin", "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    for line in (
        ["init", "-q", "-b", "main", "."],
        ["add", "."],
        ["commit", "-q", "-m", "first"],
        ["clone", "-q", "--bare", str(work), str(bare)],
        ["-C", str(bare), "update-server-info"],
    ):
        subprocess.run(["git", *line], cwd=work, env=environment, check=True, capture_output=True, timeout=30)
