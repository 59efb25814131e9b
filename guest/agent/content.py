"""The handlers of the workspace. Disk work is done by threads of its own; streams are never held whole."""

import asyncio
import ctypes
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import quote

from aiohttp import web

from guest.agent.answers import BadRequest, json_fields
from guest.agent.archive import CHUNK, Cut, archive, measure
from guest.agent.beneath import WorkspaceRefused, checked
from guest.agent.breakglass.refusals import BreakGlassRefused
from guest.agent.queries import query
from guest.agent.sessions import SessionRefused
from guest.agent.streams import BROKEN_OFF, HASH_HEADER, RANGE, stated_hash
from guest.agent.workspace import Going, Opened, Workspace

THREADS = 4
STALL_SECONDS = 30.0
"""How long a reader may take no bytes."""
SLOWEST = 4096
"""Bytes a second that an upload must reach, on the whole, after its first minute."""
SLACK_SECONDS = 60.0
CLONE_FS = 0x200
SANDBOX = "default-src 'none'; sandbox; frame-ancestors 'none'"

GOING = web.RequestKey("going", Going)
"""Where a deletion leaves how far it has come."""

T = TypeVar("T")
Passing = Callable[[web.Request, bytes], None]
"""Sees each piece before it is sent or kept; raises what refuses a request that has lost its right."""


class Content:
    """Handlers, bound to this guest's workspace."""

    def __init__(self, workspace: Workspace, passing: Passing, patience: float) -> None:
        """``patience``: the seconds that an upload may send nothing."""
        self._workspace, self._passing, self._patience = workspace, passing, patience
        self._threads = ThreadPoolExecutor(THREADS, "disk", initializer=_own_umask)

    def handlers(self) -> dict[tuple[str, str], Callable[[web.Request], Awaitable[web.StreamResponse]]]:
        """As in ``gate.ACCESS``."""
        return {
            ("GET", "/v1/workspace"): self.top,
            ("GET", "/v1/workspace/list"): self.listing,
            ("GET", "/v1/workspace/files"): self.read,
            ("PUT", "/v1/workspace/files"): self.write,
            ("DELETE", "/v1/workspace/files"): self.delete,
            ("POST", "/v1/workspace/folders"): self.make_folder,
            ("GET", "/v1/workspace/archive"): self.archive,
        }

    async def top(self, _request: web.Request) -> web.Response:
        return web.json_response(await self._run(self._workspace.listing, ""))

    async def listing(self, request: web.Request) -> web.Response:
        asked = query(request, "path", "after")
        found = await self._run(
            self._workspace.listing, asked.get("path", ""), checked(asked.get("after", ""))
        )
        return web.json_response(found)

    async def make_folder(self, request: web.Request) -> web.Response:
        (path,) = await json_fields(request, "path")
        await self._run(self._workspace.make_folder, path)
        return web.json_response({"path": path}, status=201)

    async def delete(self, request: web.Request) -> web.Response:
        asked = query(request, "path", "recursive")
        if asked.get("recursive", "0") not in {"0", "1"}:
            raise BadRequest("recursive must be 0 or 1")
        path, recursive = asked.get("path", ""), asked.get("recursive") == "1"
        going = request[GOING] = Going()
        done = await self._run(
            lambda: self._workspace.delete(path, recursive=recursive, going=going), stopping=going.stopped.set
        )
        return web.json_response(done)

    async def write(self, request: web.Request) -> web.Response:
        """Stream the body into a file that gets its name only when it is whole and what was stated.

        ``If-Match``: the ETag of the file that it is to replace, and of no other state of it.
        """
        stated = stated_hash(request)
        if stated is None:
            raise BadRequest(f"state the body's SHA-256 in {HASH_HEADER}: 64 lower-case hexadecimal digits")
        path = query(request, "path").get("path", "")
        upload = await self._run(self._workspace.begin, path, request.content_length)
        try:
            async for data in self._arriving(request):
                await self._run(upload.write, data)
            self._passing(request, b"")
            if (instead := request.headers.get("If-Match")) is not None:
                await self._run(self._check_unchanged, path, instead)
            told = await self._run(upload.finish, stated)
        finally:
            await self._run(upload.abort)
        return web.json_response({"path": path, **told}, status=201 if told["created"] else 200)

    def _check_unchanged(self, path: str, tag: str) -> None:
        """Between this and the new name are microseconds, in which nothing is asked of the disk."""
        file = self._workspace.open_file(path)
        os.close(file.descriptor)
        if file.tag != tag:
            raise WorkspaceRefused(412, "changed", "the file has changed since it was read; read it again")

    async def read(self, request: web.Request) -> web.StreamResponse:
        """A file, or the one range of it that is asked for; always as something to keep, never to show."""
        path = query(request, "path").get("path", "")
        file = await self._run(self._workspace.open_file, path)
        try:
            span = _span(request, file)
            if span is None:
                text = f"the file has {file.size} bytes"
                refused = web.json_response({"error": "bad_range", "message": text}, status=416)
                refused.headers["Content-Range"] = f"bytes */{file.size}"
                return refused
            return await self._send_file(request, file, *span)
        finally:
            os.close(file.descriptor)

    async def archive(self, request: web.Request) -> web.StreamResponse:
        """A folder as a tar stream. It has no announced length: one that was cut ends without its end."""
        path = query(request, "path").get("path", "")
        await self._run(measure, self._workspace, path)
        name = (path.rpartition("/")[2] or "workspace") + ".tar"
        response = web.StreamResponse(headers=_kept(name, "application/x-tar"))
        await response.prepare(request)
        pieces = archive(self._workspace, path)
        try:
            with _whole_or_cut(request):
                while data := await self._run(_gathered, pieces):
                    await self._send(request, response, data)
                await response.write_eof()
        finally:
            await self._run(pieces.close)
        return response

    async def _send_file(
        self, request: web.Request, file: Opened, first: int, count: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            status=200 if count == file.size else 206,
            headers=_kept(file.name, "application/octet-stream")
            | {"ETag": file.tag, "Accept-Ranges": "bytes", "Content-Length": str(count)},
        )
        if response.status == 206:
            response.headers["Content-Range"] = f"bytes {first}-{first + count - 1}/{file.size}"
        await response.prepare(request)
        with _whole_or_cut(request):
            at, end = first, first + count
            while at < end:
                data = await self._run(os.pread, file.descriptor, min(CHUNK, end - at), at)
                if not data:
                    raise Cut  # It has become shorter.
                at += len(data)
                await self._send(request, response, data)
            await response.write_eof()
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, data: bytes) -> None:
        self._passing(request, data)
        async with asyncio.timeout(STALL_SECONDS):
            await response.write(data)

    async def _arriving(self, request: web.Request) -> AsyncIterator[bytes]:
        began, size, waiting = time.monotonic(), 0, bytearray()
        while True:
            async with asyncio.timeout(self._patience):
                data = await request.content.readany()
            waiting += data
            size += len(data)
            if time.monotonic() - began > SLACK_SECONDS + size / SLOWEST:
                raise TimeoutError
            if waiting and (not data or len(waiting) >= CHUNK):
                piece = bytes(waiting)
                self._passing(request, piece)
                yield piece
                waiting.clear()
            if not data:
                return

    async def _run(
        self, deed: Callable[..., T], *given: object, stopping: Callable[[], None] | None = None
    ) -> T:
        """Have a thread do it, and see its end even if nobody waits any more: it holds descriptors.

        ``stopping``: is called when nobody waits any more, and makes that end come soon.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, deed, *given)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if stopping is not None:
                stopping()
            await asyncio.wait([future])
            raise


def _own_umask() -> None:
    """The agent's own files are nobody else's, the workspace's its group's: this thread has its own umask."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_FS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    os.umask(0o007)


def _span(request: web.Request, file: Opened) -> tuple[int, int] | None:
    """First byte and count; None if nothing is there. Not one range, or another state: all."""
    found = RANGE.fullmatch(request.headers.get("Range", ""))
    if found is None or not (found[1] or found[2]):
        return 0, file.size
    if request.headers.get("If-Range", file.tag) != file.tag:
        return 0, file.size
    if not found[1]:
        count = min(int(found[2]), file.size)
        return (file.size - count, count) if count else None
    first = int(found[1])
    last = min(int(found[2]), file.size - 1) if found[2] else file.size - 1
    return None if first >= file.size or last < first else (first, last - first + 1)


def _kept(name: str, kind: str) -> dict[str, str]:
    """Headers of something that a browser saves and never shows."""
    return {
        "Content-Type": kind,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": SANDBOX,
    }


def _gathered(pieces: Iterator[bytes]) -> bytes:
    """The next few pieces together; empty at the end."""
    found = bytearray()
    for piece in pieces:
        found += piece
        if len(found) >= CHUNK:
            break
    return bytes(found)


@contextmanager
def _whole_or_cut(request: web.Request) -> Iterator[None]:
    """After the head is sent no error can be told: the connection ends before the announced end."""
    try:
        yield
    except (OSError, Cut, SessionRefused, BreakGlassRefused, WorkspaceRefused):  # TimeoutError is an OSError
        request[BROKEN_OFF] = True
        if request.transport is not None:
            request.transport.abort()
