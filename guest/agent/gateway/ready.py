"""Whether the gateway is ready, and whether it is the gateway that listens."""

import json
import socket
from pathlib import Path

import aiohttp

LOOPBACK = "127.0.0.1"
ANSWER_LIMIT = 64 * 1024
ASK_SECONDS = 10.0
LISTENERS = Path("/proc/net/tcp")
_LISTENS = "0A"


async def is_ready(client: aiohttp.ClientSession, port: int) -> bool:
    """Whether ``/readyz`` says so in its body. Its status proves nothing: the gateway's page has 200 too."""
    timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
    try:
        # Without any X-Forwarded header: it would be taken for a stranger's question.
        async with client.get(
            f"http://{LOOPBACK}:{port}/readyz", timeout=timeout, allow_redirects=False
        ) as answer:
            said = json.loads(await answer.content.read(ANSWER_LIMIT))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError):
        return False
    return isinstance(said, dict) and said.get("ready") is True


def listener(port: int) -> int | None:
    """The user id of whoever listens on ``port`` of loopback, as the kernel says; None if nobody does."""
    local = f"{socket.inet_aton(LOOPBACK)[::-1].hex().upper()}:{port:04X}"
    for line in LISTENERS.read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == local and fields[3] == _LISTENS:
            return int(fields[7])
    return None
