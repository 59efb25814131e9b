"""The stand-in for a model: says back, runs what it is told, tells the key's digest, and breaks on nothing."""

import asyncio
import contextlib
import json
from hashlib import sha256
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from guest.gateway.rehearsal import BODY_LIMIT, REPLY_LIMIT, Reply, answer, application

EXEC = [
    {"type": "function", "function": {"name": "read"}},
    {"type": "function", "function": {"name": "exec"}},
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def said(text: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"model": "rehearsal", "messages": [{"role": role, "content": text}], **more}


@pytest.mark.parametrize(
    ("document", "reply"),
    [
        (said("hello"), Reply("hello")),
        (said([{"type": "text", "text": "hello"}]), Reply("hello")),
        (said("run: id -u", tools=EXEC), Reply(tool="exec", command="id -u")),
        (said("[Thu 2026-11-26 05:46 UTC] run: id", tools=EXEC), Reply(tool="exec", command="id")),
        (said("what does run: do", tools=EXEC), Reply("what does run: do")),
        (said("run: id"), Reply("the gateway offers no tool that runs commands")),
        (said("run: id", "tool", tools=EXEC), Reply("run: id")),
        (said("key?"), Reply(sha256(b"sk-1").hexdigest())),
        (said("[Thu 05:46] key?"), Reply(sha256(b"sk-1").hexdigest())),
        (said(None), Reply("")),
        (said("a" * (REPLY_LIMIT + 1)), Reply("a" * REPLY_LIMIT)),
    ],
)  # fmt: skip
def test_what_it_answers(document: Any, reply: Reply) -> None:
    assert answer(document, "sk-1") == reply


@given(JSON | st.builds(said, JSON, st.sampled_from(["user", "tool"]), tools=JSON))
def test_whatever_comes_is_answered_or_refused(document: Any) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(answer(document, "k"), Reply)


async def _post(body: bytes, headers: dict[str, str]) -> tuple[int, str]:
    async with TestClient(TestServer(application())) as client:
        response = await client.post("/v1/chat/completions", data=body, headers=headers)
        return response.status, await response.text()


def ask(document: Any, **headers: str) -> tuple[int, str]:
    return asyncio.run(_post(json.dumps(document).encode(), {"Content-Type": "application/json", **headers}))


def test_a_whole_answer() -> None:
    status, text = ask(said("run: ls", tools=EXEC))
    choice = json.loads(text)["choices"][0]
    call = choice["message"]["tool_calls"][0]["function"]
    assert (status, choice["finish_reason"]) == (200, "tool_calls")
    assert (call["name"], json.loads(call["arguments"])) == ("exec", {"command": "ls"})


def test_a_streamed_answer() -> None:
    """Each event is a chunk; the text, the reason and the end come in this order."""
    status, text = ask(said("key?", stream=True), Authorization="Bearer sk-2")
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    chunks = [json.loads(each) for each in events[:-1]]
    assert (status, events[-1]) == (200, "[DONE]")
    assert chunks[0]["choices"][0]["delta"]["content"] == sha256(b"sk-2").hexdigest()
    assert chunks[1]["choices"][0]["finish_reason"] == "stop"
    assert all(each["object"] == "chat.completion.chunk" for each in chunks)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"messages": []}', b"[" * 100_000])
def test_what_is_no_request_is_refused(body: bytes) -> None:
    status, _ = asyncio.run(_post(body, {"Content-Type": "application/json"}))
    assert status == 400


def test_too_much_is_refused() -> None:
    status, _ = asyncio.run(_post(b" " * (BODY_LIMIT + 1), {"Content-Type": "application/json"}))
    assert status == 413
