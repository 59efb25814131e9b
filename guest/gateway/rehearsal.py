"""A stand-in for a model: an OpenAI-compatible server that thinks nothing and does what it is told.

It lets an owner try the gateway, and an image be checked, without any model provider. On the last thing that
the person said it answers so: ``run: COMMAND`` calls the exec tool, then repeats what the tool gave back;
``key?`` gives the SHA-256, in hex, of the key that it was asked with; anything else comes back as it is.
"""

import argparse
import json
import re
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import uuid4

from aiohttp import web

PORT = 18790
NAME = "rehearsal"
BODY_LIMIT = 8 << 20
"""A gateway sends its instructions, its tools and the whole conversation with every request."""
REPLY_LIMIT = 64 * 1024
TOOLS = ("exec", "bash", "shell")
# A gateway may put the time in brackets before what a person says.
_SAID = r"^(?:\[[^\]\n]*\][ ]?)?"
_RUN = re.compile(_SAID + r"run: (.+)$", re.MULTILINE)
_KEY = re.compile(_SAID + r"key\?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Reply:
    """What the stand-in says: a text, or a command for the tool named."""

    text: str = ""
    tool: str | None = None
    command: str = ""


def application(name: str = NAME) -> web.Application:
    """The server, with one model called ``name``. It keeps nothing and reaches nothing."""

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"}]})

    async def completions(request: web.Request) -> web.StreamResponse:
        try:
            document = await request.json()
            reply = answer(document, _bearer(request))
        except (ValueError, RecursionError):
            told = {
                "error": {"message": "the body must be a chat completion request", "type": "invalid_request"}
            }
            return web.json_response(told, status=400)
        if document.get("stream") is True:
            return await _stream(request, name, reply)
        return web.json_response(_whole(name, reply))

    served = web.Application(client_max_size=BODY_LIMIT)
    served.router.add_get("/v1/models", models)
    served.router.add_post("/v1/chat/completions", completions)
    return served


def answer(document: Any, key: str) -> Reply:
    """The reply to a chat completion request that came with ``key``.

    Raises:
        ValueError: it is none.
    """
    messages = document.get("messages") if isinstance(document, dict) else None
    if not isinstance(messages, list) or not messages:
        raise ValueError("no messages")
    if not all(isinstance(each, dict) for each in messages):
        raise ValueError("a message must be an object")
    said = _text(messages[-1].get("content"))[:REPLY_LIMIT]
    if messages[-1].get("role") == "tool":
        return Reply(said)
    if found := _RUN.findall(said):
        return _call(document.get("tools"), found[-1])
    if _KEY.search(said):
        return Reply(sha256(key.encode()).hexdigest())
    return Reply(said)


def _call(tools: Any, command: str) -> Reply:
    offered = {_name(each) for each in tools} if isinstance(tools, list) else set()
    tool = next((each for each in TOOLS if each in offered), None)
    if tool is None:
        return Reply("the gateway offers no tool that runs commands")
    return Reply(tool=tool, command=command)


def _name(tool: Any) -> str | None:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [each.get("text") for each in content if isinstance(each, dict)]
    return "\n".join(each for each in parts if isinstance(each, str))


def _bearer(request: web.Request) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _message(reply: Reply) -> tuple[dict[str, Any], str]:
    """The message's members but its role, and why it ended."""
    if reply.tool is None:
        return {"content": reply.text}, "stop"
    function = {"name": reply.tool, "arguments": json.dumps({"command": reply.command})}
    call = {"index": 0, "id": f"call_{uuid4().hex}", "type": "function", "function": function}
    return {"content": None, "tool_calls": [call]}, "tool_calls"


_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def _whole(name: str, reply: Reply) -> dict[str, Any]:
    message, reason = _message(reply)
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    return {**_head(name, "chat.completion"), "choices": [choice], "usage": _USAGE}


def _head(name: str, kind: str) -> dict[str, Any]:
    return {"id": f"rehearsal-{uuid4().hex}", "object": kind, "created": int(time.time()), "model": name}


async def _stream(request: web.Request, name: str, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    head = _head(name, "chat.completion.chunk")
    message, reason = _message(reply)
    for delta, ended in (({"role": "assistant", **message}, None), ({}, reason)):
        choices = [{"index": 0, "delta": delta, "finish_reason": ended}]
        await response.write(_event({**head, "choices": choices}))
    await response.write(_event({**head, "choices": [], "usage": _USAGE}))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def main() -> None:
    """``python -m guest.gateway.rehearsal``: serve it on loopback until ended."""
    parser = argparse.ArgumentParser(description="A stand-in for a model, on loopback.")
    parser.add_argument("--port", type=int, default=PORT)
    web.run_app(application(), host="127.0.0.1", port=parser.parse_args().port, print=None)


if __name__ == "__main__":
    main()
