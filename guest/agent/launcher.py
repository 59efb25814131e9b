"""The agent's side of the launcher's socket: one question, one answer, both a line of JSON."""

import asyncio
import json
from pathlib import Path
from typing import Any

SOCKET = Path("/run/portal/launcher.sock")
TIMEOUT_SECONDS = 45.0
"""More than the launcher's own calls to systemd may take together."""
ANSWER_LIMIT = 64 * 1024


class LauncherError(Exception):
    """What was asked has not happened, or nobody knows; the message says why and repeats nothing of it."""


class LauncherUnavailable(LauncherError):
    """No answer. The launcher may still have done it: ask again, for every verb can be repeated."""


class LauncherRefused(LauncherError):
    """It has answered: no. The message is its own."""


class Launcher:
    """Asks one thing at a time, for the launcher serves one at a time."""

    def __init__(self, path: Path = SOCKET, timeout: float = TIMEOUT_SECONDS) -> None:
        """``timeout``: seconds for one answer, the wait for earlier questions not counted."""
        self._path, self._timeout = path, timeout
        self._turn = asyncio.Lock()

    @property
    def exists(self) -> bool:
        """Whether this machine has one; a simulated guest has not."""
        return self._path.is_socket()

    async def ask(self, document: dict[str, Any]) -> dict[str, Any]:
        """The launcher's answer to one request, without its ``ok``.

        Raises:
            LauncherUnavailable: no answer, none in time, or none that makes sense.
            LauncherRefused: the answer is no.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(self._timeout):
                    line = await self._exchange(json.dumps(document, ensure_ascii=False).encode() + b"\n")
            except TimeoutError:
                raise LauncherUnavailable("the launcher did not answer in time") from None
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as failure:
                raise LauncherUnavailable(f"the launcher does not answer: {type(failure).__name__}") from None
        return _checked(line)

    async def _exchange(self, line: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._path, limit=ANSWER_LIMIT)
        try:
            writer.write(line)
            await writer.drain()
            return await reader.readuntil(b"\n")
        finally:
            writer.close()


def _checked(line: bytes) -> dict[str, Any]:
    try:
        answer: Any = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
        raise LauncherUnavailable("the launcher's answer makes no sense")
    if not answer.pop("ok"):
        raise LauncherRefused(str(answer.get("message", "no reason given"))[:500])
    return answer
