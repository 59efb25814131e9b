"""The hand-over of secrets: only to the gateway's user, only while it starts."""

import asyncio
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from guest.agent.resolver import StartWindow
from guest.image import recipe

PROGRAM = recipe.OVERLAY / "usr/lib/portal/gateway-secret"
SECRETS = {"model-key": b"s3cr3t-marker", "binary": b"\xff\xfe"}


async def _ask(path: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(line)
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def _program(path: Path, request: object) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["/usr/bin/python3", "-SEs", PROGRAM],
        input=json.dumps(request).encode(),
        env={"PORTAL_SECRET_SOCKET": str(path)},
        capture_output=True,
        timeout=20,
        check=False,
    )


def test_the_program_gets_what_it_names(tmp_path: Path) -> None:
    async def scene() -> "subprocess.CompletedProcess[bytes]":
        window = StartWindow(tmp_path / "s", os.getuid(), SECRETS.__getitem__)
        await window.open()
        request = {"protocolVersion": 1, "provider": "portal", "ids": ["model-key", "absent", "binary"]}
        done = await asyncio.to_thread(_program, tmp_path / "s", request)
        window.close()
        return done

    done = asyncio.run(scene())
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert answer["values"] == {"model-key": "s3cr3t-marker"}
    assert answer["errors"].keys() == {"absent", "binary"}


def test_another_user_gets_nothing(tmp_path: Path) -> None:
    async def scene() -> bytes:
        window = StartWindow(tmp_path / "s", os.getuid() + 1, SECRETS.__getitem__)
        await window.open()
        try:
            return await _ask(tmp_path / "s", b'{"ids": ["model-key"]}\n')
        finally:
            window.close()

    assert asyncio.run(scene()) == b""


def test_nothing_after_the_window(tmp_path: Path) -> None:
    """Not by a new connection, not by one that was open, and not by opening it again."""

    async def scene() -> bytes:
        window = StartWindow(tmp_path / "s", os.getuid(), SECRETS.__getitem__)
        await window.open()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        await asyncio.sleep(0.05)
        window.close()
        assert window.closed
        with pytest.raises((ConnectionError, FileNotFoundError)):
            await asyncio.open_unix_connection(tmp_path / "s")
        with pytest.raises(RuntimeError):
            await window.open()
        try:
            writer.write(b'{"ids": ["model-key"]}\n')
            return await asyncio.wait_for(reader.read(), 5)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    assert b"s3cr3t" not in asyncio.run(scene())


def test_the_window_closes_by_itself(tmp_path: Path) -> None:
    async def scene() -> bool:
        window = StartWindow(tmp_path / "s", os.getuid(), SECRETS.__getitem__)
        await window.open(seconds=0.05)
        await asyncio.sleep(0.3)
        return window.closed and not (tmp_path / "s").exists()

    assert asyncio.run(scene())


@pytest.mark.parametrize(
    "line",
    [b"\n", b"[]\n", b'{"ids": 1}\n', b'{"ids": ["../x"]}\n', b'{"ids": ["a\\u0000"]}\n', b"x" * 20000 + b"\n",
     json.dumps({"ids": ["a"] * 65}).encode() + b"\n", b"\xff\n"],
)  # fmt: skip
def test_what_is_no_request_is_not_answered(tmp_path: Path, line: bytes) -> None:
    async def scene() -> bytes:
        window = StartWindow(tmp_path / "s", os.getuid(), SECRETS.__getitem__)
        await window.open()
        try:
            return await _ask(tmp_path / "s", line)
        finally:
            window.close()

    assert asyncio.run(scene()) == b""


def test_the_program_says_plainly_that_it_got_nothing(tmp_path: Path) -> None:
    done = _program(tmp_path / "absent", {"ids": ["model-key"]})
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Traceback" not in done.stderr


def test_a_silent_server_is_not_waited_for_long(tmp_path: Path) -> None:
    """A half answer is no answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        child = subprocess.Popen(
            ["/usr/bin/python3", "-SEs", PROGRAM],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={"PORTAL_SECRET_SOCKET": str(tmp_path / "s")},
        )  # fmt: skip
        assert child.stdin is not None
        child.stdin.write(b'{"ids": ["model-key"]}')
        child.stdin.close()
        connection, _ = server.accept()
        connection.sendall(b'{"values"')
        connection.close()
        assert child.stdout is not None
        assert child.stdout.read() == b""
        assert child.wait(10) == 1
        child.stdout.close()
