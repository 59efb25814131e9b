"""A launcher for tests: the gateway's verbs on a Unix socket, the gateway itself a process that a test names."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.guest.fleet import ROOT

Command = Callable[[Path], list[str]]


class Launcher:
    """What it was asked, and the process that runs now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "launcher.sock"
        self.secrets = folder / "secrets.sock"
        self.facts_file = folder / "facts.json"
        self.asked: list[dict[str, Any]] = []
        self.delay = 0.0
        self.result = "success"
        self.refuses = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        self.command: Command = self._fake

    @property
    def facts(self) -> dict[str, Any]:
        """What the fake gateway found at its start."""
        return dict(json.loads(self.facts_file.read_text()))

    @property
    def starts(self) -> int:
        return sum(each["verb"] == "gateway_start" for each in self.asked)

    def kill(self, result: str) -> None:
        """Let the gateway die as systemd would tell it."""
        self.result = result
        self._end(signal.SIGKILL)

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(asked)
        if asked["verb"] == "gateway_status":
            return self._status()
        if asked["verb"] == "gateway_stop":
            self._end(signal.SIGTERM)
            self.process = None
            return {"ok": True}
        if asked["verb"] != "gateway_start" or self.refuses:
            return {"ok": False, "message": self.refuses or "no such verb"}
        if self.process is not None and self.process.poll() is None:
            return {"ok": False, "message": "the gateway runs"}
        config = self.folder / "openclaw.json"
        config.write_text(asked["config"])
        self.result = "success"
        self.process = subprocess.Popen(
            self.command(config),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PORTAL_SECRET_SOCKET": str(self.secrets)} | self.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        return {"ok": True}

    def _status(self) -> dict[str, Any]:
        if self.process is None:
            return {"ok": True, "state": "off", "result": None, "memory_bytes": None}
        ended = self.process.poll() is not None
        return {"ok": True, "state": "ended" if ended else "running", "result": self.result if ended else None,
                "memory_bytes": None}  # fmt: skip

    def _end(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)

    def _fake(self, config: Path) -> list[str]:
        return [
            sys.executable,
            "-m",
            "tests.gateway.fake_gateway",
            str(config),
            str(self.facts_file),
            str(self.delay),
        ]

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as file, suppress(OSError, ValueError):
                connection.sendall(json.dumps(self.answer(json.loads(file.readline()))).encode() + b"\n")


@contextmanager
def launching(folder: Path) -> Iterator[Launcher]:
    """A launcher for the time of the block; its gateway ends with it."""
    launcher = Launcher(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(launcher.path))
        listener.listen()
        thread = threading.Thread(target=launcher.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield launcher
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            launcher.answer({"verb": "gateway_stop"})
