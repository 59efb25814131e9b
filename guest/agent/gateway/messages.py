"""Messages to the gateway's agent as jobs: asked with the member's own rights, the reply in the job's log."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from guest.agent.gateway.errors import GatewayRefused
from guest.agent.gateway.lifecycle import Gateway
from guest.agent.gateway.proxy import Proxy
from guest.agent.jobs.records import Job, JobRefused
from guest.agent.jobs.spoken import MessageFailed, Write
from guest.agent.members import Members

LOOK_SECONDS = 0.5
EVENT_LIMIT = 1 << 20
"""Bytes of one event of the stream."""


class Messages:
    """What `jobs.spoken.Spoken` needs to answer a message."""

    def __init__(self, gateway: Gateway, proxy: Proxy, members: Members) -> None:
        self._gateway, self._proxy, self._members = gateway, proxy, members

    def check(self) -> None:
        """Raises JobRefused while the gateway must not, or cannot, start."""
        try:
            self._gateway.check()
        except GatewayRefused as refusal:
            raise JobRefused(refusal.status, refusal.code, str(refusal)) from None

    async def answer(self, job: Job, write: Write) -> None:
        """Start the gateway if need be, ask, and write the reply as it comes.

        Raises:
            MessageFailed: no reply, or not a whole one; the text says why.
        """
        await self._be_ready()
        with self._gateway.in_use():
            task = asyncio.ensure_future(self._ask(job, write))
            try:
                while not (await asyncio.wait([task], timeout=LOOK_SECONDS))[0]:
                    self._role(job)
                    if not self._gateway.reachable:
                        raise MessageFailed("the gateway was stopped")
                task.result()
            except (aiohttp.ClientError, TimeoutError, OSError):
                if not self._gateway.reachable:
                    raise MessageFailed("the gateway was stopped") from None
                await self._gateway.ended()
                raise MessageFailed("the gateway did not answer; look at its state") from None
            finally:
                task.cancel()
                await asyncio.wait([task])

    async def _be_ready(self) -> None:
        try:
            # What is under way first: a start that somebody else has asked for, or a stop.
            await self._gateway.settled()
            if not self._gateway.reachable:
                self._gateway.start()
                await self._gateway.settled()
        except GatewayRefused as refusal:
            raise MessageFailed(str(refusal)) from None
        if not self._gateway.reachable:
            raise MessageFailed(f"the gateway did not start. {self._gateway.reason}")

    def _role(self, job: Job) -> str:
        member = self._members.member(job.by.fingerprint)
        if member is None:
            raise MessageFailed("whoever asked is no longer a member")
        return member.role

    async def _ask(self, job: Job, write: Write) -> None:
        asked = {
            "model": "openclaw",
            "stream": True,
            "messages": [{"role": "user", "content": job.asked.text}],
        }
        try:
            async with self._proxy.talk(self._role(job), json.dumps(asked).encode()) as answer:
                if answer.status != 200:
                    raise MessageFailed(f"the gateway refused: status {answer.status}")
                async for text in _texts(answer.content):
                    write(text.encode())
        except GatewayRefused as refusal:
            raise MessageFailed(str(refusal)) from None


async def _texts(stream: aiohttp.StreamReader) -> AsyncIterator[str]:
    """What the reply adds, piece by piece, until its end.

    Raises:
        MessageFailed: it breaks off, or reports an error.
    """
    waiting = b""
    async for piece in stream.iter_any():
        *lines, waiting = (waiting + piece).split(b"\n")
        if len(waiting) > EVENT_LIMIT:
            raise MessageFailed("the gateway's answer makes no sense")
        for line in lines:
            if line.strip() == b"data: [DONE]":
                return
            if line.startswith(b"data: "):
                yield _text(line[6:])
    raise MessageFailed("the gateway's answer broke off")


def _text(event: bytes) -> str:
    try:
        document: Any = json.loads(event)
        if "error" in document:
            raise MessageFailed("the gateway reported an error; look at its page")
        return "".join(str(each["delta"].get("content") or "") for each in document["choices"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise MessageFailed("the gateway's answer makes no sense") from None
