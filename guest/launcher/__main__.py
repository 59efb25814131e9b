"""``python -m guest.launcher``: answer the agent on the socket that systemd passes; end when nobody asks."""

import json
import logging
import os
import pwd
import socket
import struct
import subprocess
import sys
from typing import Any, Protocol

from guest.launcher.units import Units
from guest.launcher.wire import LINE_LIMIT, Gateway, Job, Refused, parse

FIRST_PASSED = 3
IDLE_SECONDS = 60.0
PEER_SECONDS = 5.0
_PEER = struct.Struct("3i")


class Backend(Protocol):
    """What can run jobs and the gateway."""

    def start(self, job: Job) -> None: ...
    def status(self, job: str) -> dict[str, Any]: ...
    def stop(self, job: str) -> None: ...
    def kill(self, job: str) -> None: ...
    def forget(self, job: str) -> None: ...
    def gateway_start(self, gateway: Gateway) -> None: ...
    def gateway_status(self) -> dict[str, Any]: ...
    def gateway_stop(self) -> None: ...
    def journal(self, of: str) -> dict[str, Any]: ...


def answer(backend: Backend, line: bytes) -> dict[str, Any]:
    """Carry out one request; never raises."""
    try:
        verb, subject = parse(line)
        return {"ok": True, **_carry_out(backend, verb, subject)}
    except Refused as refusal:
        return {"ok": False, "message": str(refusal)}
    except (OSError, subprocess.SubprocessError) as failure:
        return {"ok": False, "message": f"the launcher failed: {type(failure).__name__}"}


def _carry_out(backend: Backend, verb: str, subject: Job | Gateway | str) -> dict[str, Any]:
    if isinstance(subject, Job):
        backend.start(subject)
    elif isinstance(subject, Gateway):
        backend.gateway_start(subject)
    elif verb == "job_status":
        return backend.status(subject)
    elif verb == "job_stop":
        backend.stop(subject)
    elif verb == "job_kill":
        backend.kill(subject)
    elif verb == "job_forget":
        backend.forget(subject)
    elif verb == "gateway_status":
        return backend.gateway_status()
    elif verb == "journal":
        return backend.journal(subject)
    else:
        backend.gateway_stop()
    return {}


def serve_one(connection: socket.socket, backend: Backend, uid: int) -> None:
    """One request and one answer, to a process of user ``uid`` only."""
    connection.settimeout(PEER_SECONDS)
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    if _PEER.unpack(peer)[1] != uid:
        said: dict[str, Any] = {"ok": False, "message": "only the agent may ask"}
    else:
        with connection.makefile("rb") as file:
            line = file.readline(LINE_LIMIT + 1)
        if len(line) > LINE_LIMIT or not line.endswith(b"\n"):
            said = {"ok": False, "message": f"a request is one line of at most {LINE_LIMIT} bytes"}
        else:
            said = answer(backend, line)
    connection.sendall(json.dumps(said).encode() + b"\n")


def main() -> int:
    """Serve the passed socket until it was silent for a minute."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="portal-launcher: %(message)s")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        logging.error("started without a socket; start portal-launcher.socket instead")
        return 2
    uid = pwd.getpwnam("agent").pw_uid
    backend = Units()
    with socket.socket(fileno=FIRST_PASSED) as listener:
        listener.settimeout(IDLE_SECONDS)
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                return 0
            with connection:
                try:
                    serve_one(connection, backend, uid)
                except OSError as failure:
                    logging.warning("a request broke off: %s", type(failure).__name__)


if __name__ == "__main__":
    sys.exit(main())
