"""Squid as a child of the keeper: it ends with it, and has none of its rights."""

import http.client
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from provisioning.egress.nft import KEEPERS_MARK
from provisioning.egress.squid import MARK_HEADER
from provisioning.egress.system import WITHOUT_RIGHTS

_CONFIRM_SECONDS = 10.0
_STOP_SECONDS = 5.0
_LOOK_SECONDS = 0.05
_LINE_SECONDS = 2.0
_WITH_US = ("--pdeathsig", "KILL")


class NotConfirmed(Exception):
    """Squid does not say that it obeys the configuration it was given."""


@dataclass
class Server:
    """One Squid."""

    program: str
    configuration: Path
    keeper_port: int
    """Where it is asked which configuration it obeys."""
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    @property
    def pid(self) -> int | None:
        """Its process id while it lives."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def obey(self, mark: str) -> None:
        """Start it, or let it read its configuration again, and wait until it answers with ``mark``.

        Raises:
            NotConfirmed: it ended, or does not answer in ten seconds.
        """
        if self.pid is None:
            self._start()
        else:
            self._signal(signal.SIGHUP)
        self._confirm(mark)

    def reopen(self) -> None:
        """Let it open its logs anew."""
        self._signal(signal.SIGUSR1)

    def stop(self) -> None:
        """End it; after five seconds for good."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def end_strays(self) -> None:
        """Kill a Squid of an earlier keeper that was killed between starting it and tying it to itself."""
        argument = os.fsencode(self.configuration)
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if argument in words and b"-N" in words:
                    os.kill(int(path.parent.name), signal.SIGKILL)

    @property
    def service(self) -> str:
        """Squid's name for its shared memory. Its own, or somebody else's Squid would be in its way."""
        return f"portal{sha256(os.fsencode(self.configuration)).hexdigest()[:16]}"

    def _start(self) -> None:
        given = ["-N", "-n", self.service, "-f", str(self.configuration)]
        self._process = subprocess.Popen(
            [*WITHOUT_RIGHTS, *_WITH_US, "--", self.program, *given],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.configuration.parent,
        )

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None and self._process is not None:
            self._process.send_signal(number)

    def _confirm(self, mark: str) -> None:
        deadline = time.monotonic() + _CONFIRM_SECONDS
        while self._mark() != mark:
            if self.pid is None:
                raise NotConfirmed("squid ended at once; its cache.log says why")
            if time.monotonic() > deadline:
                raise NotConfirmed("squid does not take over its configuration")
            time.sleep(_LOOK_SECONDS)

    def _mark(self) -> str | None:
        """What Squid answers at the keeper's own port: a refusal, with the mark of its configuration."""
        line = http.client.HTTPConnection("127.0.0.1", self.keeper_port, timeout=_LINE_SECONDS)
        try:
            line.sock = _marked(self.keeper_port)
            line.request("GET", "http://keeper/")
            return line.getresponse().getheader(MARK_HEADER)
        except (OSError, http.client.HTTPException):
            return None
        finally:
            line.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now; somebody may a moment later."""
    with socket.create_server(("127.0.0.1", 0)) as line:
        port: int = line.getsockname()[1]
        return port


def _marked(port: int) -> socket.socket:
    """A connection that the keeper's own wall lets through to this machine's loopback."""
    line = socket.socket()
    try:
        line.settimeout(_LINE_SECONDS)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, KEEPERS_MARK)
        line.connect(("127.0.0.1", port))
    except OSError:
        line.close()
        raise
    return line
