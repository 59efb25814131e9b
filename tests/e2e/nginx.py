"""nginx as `make up` runs it, in front of a test's portal, for the time of a block."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.management import call_command

from deploy.portalctl.proxy import render


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def proxy(folder: Path, port: int, web: str) -> Iterator[int]:
    """nginx on ``port`` of loopback; ``web``: the portal's ``address:port`` behind it."""
    identity = folder / "identity"
    identity.mkdir(parents=True)
    call_command("proxy_identity", str(identity), verbosity=0)
    text = render(
        host="portal.localhost",
        portal=settings.BASE_URL,
        listen=f"127.0.0.1:{port}",
        web=web,
        run=folder,
        identity=identity,
    )
    # Its own user could not walk into pytest's folders.
    (folder / "nginx.conf").write_text("user root;\n" + text)
    command = ["nginx", "-e", "stderr", "-p", str(folder), "-c", "nginx.conf"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _await(process, port)
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _await(process: "subprocess.Popen[str]", port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise AssertionError(f"nginx did not start: {process.communicate()[1]}")
