"""The agent's client of the launcher: what it passes on, and what it makes of silence and nonsense."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from guest.agent.launcher import ANSWER_LIMIT, Launcher, LauncherRefused, LauncherUnavailable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
QUESTION = {"verb": "job_status", "id": "x"}


@asynccontextmanager
async def launcher(folder: Path, serve: Serve, timeout: float = 5.0) -> AsyncIterator[Launcher]:
    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(closing, folder / "launcher.sock")
    async with server:
        yield Launcher(folder / "launcher.sock", timeout)


def says(answer: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        await writer.drain()

    return serve


def test_a_question_is_one_line_and_the_answer_comes_without_its_ok(tmp_path: Path) -> None:
    heard = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readline())
        writer.write(b'{"ok": true, "state": "running"}\n')

    async def case() -> None:
        async with launcher(tmp_path, serve) as client:
            assert client.exists
            assert await client.ask(QUESTION | {"more": "a\nb"}) == {"state": "running"}

    asyncio.run(case())
    assert heard == [b'{"verb": "job_status", "id": "x", "more": "a\\nb"}\n']


def test_a_refusal_is_passed_on_in_its_words(tmp_path: Path) -> None:
    async def case() -> None:
        async with launcher(tmp_path, says(b'{"ok": false, "message": "the job is running"}\n')) as client:
            with pytest.raises(LauncherRefused, match="the job is running"):
                await client.ask(QUESTION)

    asyncio.run(case())


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b'{"ok": true}', b"[]\n", b"{}\n", b'{"ok": 1}\n', b"\xff\n", b"[" * 60_000 + b"\n"),
        b" " * (ANSWER_LIMIT + 1) + b'{"ok": true}\n',
    ],
)
def test_nonsense_is_no_answer(answer: bytes, tmp_path: Path) -> None:
    async def case() -> None:
        async with launcher(tmp_path, says(answer)) as client:
            with pytest.raises(LauncherUnavailable):
                await client.ask(QUESTION)

    asyncio.run(case())


def test_silence_ends(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def case() -> None:
        async with launcher(tmp_path, silent, timeout=0.1) as client:
            with pytest.raises(LauncherUnavailable, match="in time"):
                await client.ask(QUESTION)

    asyncio.run(case())


def test_where_there_is_no_launcher(tmp_path: Path) -> None:
    async def case() -> None:
        client = Launcher(tmp_path / "launcher.sock")
        assert not client.exists
        with pytest.raises(LauncherUnavailable):
            await client.ask(QUESTION)

    asyncio.run(case())


def test_questions_wait_for_each_other(tmp_path: Path) -> None:
    """The launcher serves one at a time, and the wait counts against nobody's time limit."""
    at_once, most = 0, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await reader.readline()
        await asyncio.sleep(0.1)
        at_once -= 1
        writer.write(b'{"ok": true}\n')

    async def case() -> None:
        async with launcher(tmp_path, serve, timeout=0.3) as client:
            await asyncio.gather(*(client.ask(QUESTION) for _ in range(8)))

    asyncio.run(case())
    assert most == 1
