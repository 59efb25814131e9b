"""Hands secrets to the gateway while it starts, and to nobody afterwards.

Its tools run under its own user id, so only the time tells them apart: before the window closes no tool runs,
because no request has reached the gateway.
"""

import asyncio
import contextlib
import json
import re
import socket
import struct
from collections.abc import Callable
from pathlib import Path

LONGEST_REQUEST = 8192
MAX_NAMES = 64
REQUEST_SECONDS = 10.0
WINDOW_SECONDS = 300.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_CREDENTIALS = struct.Struct("3i")

LookUp = Callable[[str], bytes]
"""Gives a secret's value by its name; raises KeyError when there is none."""


class StartWindow:
    """One start's socket. Once closed it stays closed: another start needs another window."""

    def __init__(self, path: Path, user_id: int, look_up: LookUp) -> None:
        self._path, self._user_id = path, user_id
        self._look_up: LookUp | None = look_up
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def closed(self) -> bool:
        return self._look_up is None

    async def open(self, seconds: float = WINDOW_SECONDS) -> None:
        """Listen; close by itself after ``seconds``.

        Raises:
            RuntimeError: it was opened before.
        """
        if self.closed or self._server is not None:
            raise RuntimeError("a start window opens once")
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LONGEST_REQUEST)
        # Whoever may enter the folder may connect; the kernel tells who it was.
        self._path.chmod(0o666)
        self._timer = asyncio.get_running_loop().call_later(seconds, self.close)

    def close(self) -> None:
        """Stop answering, also those who are being answered. May be called more than once."""
        self._look_up = None
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._connections.add(task)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                if _peer(writer) == self._user_id:
                    writer.write(self._answer(await reader.readuntil(b"\n")))
                    await writer.drain()
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, line: bytes) -> bytes:
        values: dict[str, str] = {}
        errors: dict[str, dict[str, str]] = {}
        for name in _names(line):
            try:
                if self._look_up is None:
                    raise KeyError
                values[name] = self._look_up(name).decode()
            except (KeyError, UnicodeDecodeError):
                errors[name] = {"message": "no such secret"}
        return json.dumps({"protocolVersion": 1, "values": values, "errors": errors}).encode() + b"\n"


def _names(line: bytes) -> list[str]:
    request = json.loads(line)
    names = request.get("ids") if isinstance(request, dict) else None
    if not isinstance(names, list) or len(names) > MAX_NAMES:
        raise ValueError("not a list of names")
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise ValueError("not a name")
    return names


def _peer(writer: asyncio.StreamWriter) -> int:
    connection: socket.socket = writer.get_extra_info("socket")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _process, user, _group = _CREDENTIALS.unpack(raw)
    return int(user)
