"""Web, both workers, beat, sequencer and the egress keeper under honcho: started in the background, left
alone while they answer and nothing has changed.
"""

import hashlib
import http.client
import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from deploy.portalctl import environments, processes, proxy
from deploy.portalctl.places import Places
from deploy.portalctl.redis import taken
from deploy.portalctl.terminal import Stop, progress

_STAGE = "services"
_START_SECONDS = 90
_SETTLE_SECONDS = 4
# honcho itself allows its children five seconds; then we look for those that are left.
_STOP_SECONDS = 15
_SOURCES = (
    "portal",
    "breakglass",
    "provisioning",
    "tenants",
    "audit",
    "protocol",
    "templates",
    "static",
    "static-built",
    "deploy",
)
_LARGEST_LOG = 50_000_000


def ensure(places: Places, names: list[str]) -> None:
    """Have the named processes of the Procfile run the code and settings of this moment."""
    stamp, wanted = places.run / "services.stamp", fingerprint(places, names)
    if alive(places) and healthy() and stamp.exists() and stamp.read_text() == wanted:
        progress(_STAGE, f"{', '.join(names)} run already")
        return
    stop(places)
    if taken(environments.port()):
        raise Stop(
            f"port {environments.port()} of this machine is taken by another program",
            todo="stop it, or choose another port: make up PORTAL_PORT=8001",
        )
    progress(_STAGE, f"starting {', '.join(names)}")
    began = time.monotonic()
    child = _start(places, names)
    _await_health(places, child)
    stamp.write_text(wanted)
    progress(_STAGE, f"answer after {time.monotonic() - began:.1f} s")


def log_file(places: Places) -> Path:
    return places.log / "services.log"


def alive(places: Places) -> bool:
    return processes.recall(places.run / "honcho.pid") is not None


def healthy() -> bool:
    """Whether web answers `GET /healthz` with 200."""
    line = http.client.HTTPConnection("127.0.0.1", environments.port(), timeout=5)
    try:
        line.request("GET", "/healthz", headers={"Host": urlsplit(environments.base_url()).netloc})
        return line.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()


def stop(places: Places) -> bool:
    """End honcho and whatever of its children outlived it. False if nothing ran."""
    ran = processes.stop_remembered(places.run / "honcho.pid", patience=_STOP_SECONDS)
    (places.run / "services.stamp").unlink(missing_ok=True)
    left = [*stragglers(places), *proxy.left_over(places)]
    processes.stop(left, patience=_STOP_SECONDS)
    return ran or bool(left)


def stragglers(places: Places) -> list[processes.Process]:
    """Service processes of this installation, known by their environment: left over if honcho was killed."""
    state = f"PORTAL_STATE_DIR={places.state}"
    return [
        each
        for role in ("web", "worker", "beat", "sequencer", "egress")
        for each in processes.carrying(state, f"PORTAL_ROLE={role}")
    ]


def fingerprint(places: Places, names: Iterable[str]) -> str:
    """Changes when a source file, a dependency, a role's environment or the set of processes does."""
    digest = hashlib.sha256("\0".join(names).encode())
    plain = [
        places.checkout / "Procfile",
        places.venv / ".requirements.json",
        places.run / "proxy" / "nginx.conf",
        *sorted((places.run / "proxy" / "identity").glob("*")),
        *sorted(places.env.glob("*.*")),
    ]
    trees = (places.checkout / name for name in _SOURCES)
    sources = (path for tree in trees for path in sorted(tree.rglob("*")) if "__pycache__" not in path.parts)
    for path in [*plain, *sources]:
        # Some of the plain ones are written anew each time, so content counts; for sources a date is enough.
        if path in plain and path.is_file():
            digest.update(path.read_bytes())
        elif path.is_file():
            facts = path.stat()
            digest.update(f"{path}\0{facts.st_mtime_ns}\0{facts.st_size}\n".encode())
    return digest.hexdigest()


def _start(places: Places, names: list[str]) -> subprocess.Popen[bytes]:
    log = log_file(places)
    if log.exists() and log.stat().st_size > _LARGEST_LOG:
        log.replace(log.with_suffix(".log.1"))
    honcho = [str(places.venv / "bin" / "honcho"), "start", "--no-colour", "-e", os.devnull, *names]
    # honcho passes these to run-as, which passes none of them on.
    own = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "PORTAL_STATE_DIR": str(places.state),
        "PORTAL_PORT": str(environments.port()),
    }
    return processes.daemon(honcho, cwd=places.checkout, log=log, pid_file=places.run / "honcho.pid", env=own)


def _await_health(places: Places, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not healthy():
        _check_alive(places, child)
        if time.monotonic() > deadline:
            raise _failed(places, f"web does not answer GET /healthz within {_START_SECONDS} s")
        time.sleep(0.3)
    # Only web answers requests. A worker that cannot start takes honcho, and so all, down within moments.
    for _ in range(_SETTLE_SECONDS * 2):
        _check_alive(places, child)
        time.sleep(0.5)


def _check_alive(places: Places, child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        stop(places)
        raise _failed(places, "a service ended right after it started")


def _failed(places: Places, what: str) -> Stop:
    return Stop(what, log=log_file(places), todo="read its log (`make logs`)")
