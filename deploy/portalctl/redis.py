"""Redis, the broker: use the one that answers, or start one on the loopback.

It keeps nothing; operations live in the database.
"""

import os
import pwd
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deploy.portalctl import processes
from deploy.portalctl.commands import end, is_root
from deploy.portalctl.places import Places
from deploy.portalctl.run_as import dropped
from deploy.portalctl.terminal import Stop, progress

_STAGE = "Redis"
_DEFAULT_PORT = 6379


def ping(url: str, *, timeout: float = 2) -> bool:
    """Whether a Redis that admits us answers at `url`."""
    parts = urlsplit(url)
    words = ["PING"]
    if parts.password:
        account = [unquote(parts.username)] if parts.username else []
        words = ["AUTH", *account, unquote(parts.password)]
    try:
        with socket.create_connection(
            (parts.hostname or "127.0.0.1", parts.port or _DEFAULT_PORT), timeout
        ) as line:
            line.sendall(_encode(words))
            return line.recv(16).startswith((b"+PONG", b"+OK"))
    except OSError:
        return False


def ensure(places: Places, url: str) -> None:
    """Have a Redis that answers at `url`."""
    if ping(url):
        progress(_STAGE, "answers")
        return
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost") or parts.password:
        raise Stop(
            f"no Redis answers at {parts.hostname}:{parts.port or _DEFAULT_PORT}",
            todo="start it, or unset REDIS_URL",
        )
    port = parts.port or _DEFAULT_PORT
    if taken(port):
        raise Stop(
            f"port {port} is taken by something that is not an open Redis",
            todo="set REDIS_URL to a free port",
        )
    progress(_STAGE, f"starting on 127.0.0.1:{port}")
    log = places.log / "redis.log"
    user = _user()
    folder = _folder(places.state / "redis", user)
    processes.daemon(
        dropped(_arguments(port, folder), user),
        cwd=places.state,
        log=log,
        pid_file=places.run / "redis.pid",
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )
    _await(url, log)


def stop(places: Places) -> None:
    if processes.stop_remembered(places.run / "redis.pid", patience=10):
        progress(_STAGE, "stopped")


class Private:
    """A Redis of its own for one test run: `with Private(folder) as url`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> str:
        port, user = free_port(), _user()
        log = self._folder / "redis.log"
        data = _folder(self._folder / "redis", user)
        with log.open("w") as sink:
            self._process = subprocess.Popen(dropped(_arguments(port, data), user), stdout=sink, stderr=sink)
        url = f"redis://127.0.0.1:{port}/0"
        try:
            _await(url, log)
        except BaseException:
            end(self._process)
            raise
        return url

    def __exit__(self, *_: object) -> None:
        end(self._process)


def free_port() -> int:
    """A port of the loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def taken(port: int) -> bool:
    """Whether something listens on that port of the loopback."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _arguments(port: int, folder: Path) -> list[str]:
    # No snapshots, no append-only file: a broker may forget.
    listen = ["--bind", "127.0.0.1", "--port", str(port)]
    return ["redis-server", *listen, "--dir", str(folder), "--save", "", "--appendonly", "no"]


def _await(url: str, log: Path) -> None:
    deadline = time.monotonic() + 15
    while not ping(url):
        if time.monotonic() > deadline:
            raise Stop("Redis does not answer", log=log, todo="read its log")
        time.sleep(0.1)


def _user() -> str | None:
    """Debian's own user for it, where we may become that."""
    if not is_root():
        return None
    try:
        return pwd.getpwnam("redis").pw_name
    except KeyError:
        return None


def _folder(path: Path, user: str | None) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if user:
        account = pwd.getpwnam(user)
        os.chown(path, account.pw_uid, account.pw_gid)
    return path


def _encode(words: list[str]) -> bytes:
    """A command in Redis' own protocol, safe for any password."""
    raw = [word.encode() for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in raw)
